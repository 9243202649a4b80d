"""Which kind of number the words before a number announce."""

from __future__ import annotations

import re

WINDOW = 40

_KEYWORDS = re.compile(
    r"""
    (?P<INN>\bинн\b|\binn\b|\btin\b|налогоплательщика)
    |(?P<SNILS>снилс|\bsnils\b|страхов\w{2,4}\s(?:номер|свидетельств)|пенсионн\w{2,4}\sстрахован)
    |(?P<PASSPORT>паспорт|\bpassport|\bсери[яиюей]\b|документ\w{0,3}[,:]?\sудостоверяющ)
    |(?P<BANK_CARD>\bкарт[аыуеой]{1,2}\b|\bcard\b|\bvisa\b|mastercard|\bмир\b|\bpan\b|\bmaestro\b)
    |(?P<PHONE>\bтел\b|телефон|\bмоб\b|мобильн|\b(?:по|пере)?звон|\bсотов|whatsapp|ватсап|telegram
        |\bphone|\bmobile|\bcell\b|\bcall\b|\btel\b|\bfax|\bфакс|\btext\sme\b|\bдозвон|набер)
    |(?P<IP_ADDRESS>\bip\b|айпи|\bhost\b|\bхост|\bсервер|\bserver)
    |(?P<DATE>рожд|\bдата|\bborn\b|\bdate|\bdob\b|выдан)
    |(?P<OTHER>\bогрн(?:ип)?\b|\bкпп\b|\bбик\b|\bок(?:по|тмо|ато|вэд)\b|\b[рк]/с\b|\bсч[её]т
        |\bдоговор|\bзаказ|\bартикул|\border\b|\binvoice\b|\baccount\b|\biban\b|\bтрек
        |\bверси[яию]|\bversion|\bv\.?\s?$|\bimei\b|\bполис|\bisbn\b|\bзаявк|\bticket\b)
    """,
    re.IGNORECASE | re.VERBOSE,
)


def announced(text: str, start: int, window: int = WINDOW) -> str | None:
    """Return the kind named by the last keyword in the characters before ``start``, if any.

    The *last* one, because in "паспорт 4508 123456, ИНН 770708389312" each number belongs to the
    word next to it; the window ends at a line break, because a form has one field a line.
    """
    before = text[max(0, start - window) : start]
    line = before.rfind("\n", 0, len(before.rstrip()))
    kind: str | None = None
    for match in _KEYWORDS.finditer(before, line + 1):
        kind = match.lastgroup
    return kind
