"""Numbers with a published structure: ИНН, СНИЛС, bank cards and passports.

Sources of the checksums:

* ИНН: order of the Federal Tax Service ММВ-7-6/435 of 29.06.2012, as in ``stdnum.ru.inn``.
* СНИЛС: resolution 318п of the Pension Fund's board of 21.07.2016: the sum of the nine digits
  times 9 down to 1; a sum under 100 is the check number itself, 100 and 101 give 00, above that
  the remainder by 101 counts. It holds for numbers above 001-001-998.
* Cards: ISO/IEC 7812-1, annex B (the Luhn formula), as in ``stdnum.luhn``.
* The internal passport of Russia: a series of 4 digits (region, year of the form) and a number of
  6, without a checksum; the passport for travel abroad has 2 and 7.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from stdnum import luhn
from stdnum.ru import inn

from .context import announced
from .spans import Finding

_LEFT = r"(?<![0-9A-Za-z+])(?<![0-9][.,\-/])"
_RIGHT = r"(?![0-9A-Za-z])(?![.,\-/][0-9])"

_INN = re.compile(_LEFT + r"(?:[0-9]{12}|[0-9]{10})" + _RIGHT)
_SNILS = re.compile(
    _LEFT + r"(?:[0-9]{3}-[0-9]{3}-[0-9]{3}[ -]?[0-9]{2}|[0-9]{3} [0-9]{3} [0-9]{3} [0-9]{2}"
    r"|[0-9]{11})" + _RIGHT
)
_CARD = re.compile(
    _LEFT + r"(?:[0-9]{4}([ \-])[0-9]{4}\1[0-9]{4}\1[0-9]{4}(?:\1[0-9]{1,3})?"
    r"|3[0-9]{3}([ \-])[0-9]{6}\2[0-9]{4,5}|[0-9]{13,19})" + _RIGHT
)
_PASSPORT = re.compile(
    _LEFT + r"[0-9]{2}(?:(?P<gap>[ \-])?)[0-9]{2}"
    r"(?P<join>[ ,]{0,2}(?:(?:№|N[o°]?\.?|номер|number)[ :]{0,2})?)[0-9]{6}" + _RIGHT,
    re.IGNORECASE,
)
_PASSPORT_ABROAD = re.compile(_LEFT + r"[0-9]{2} ?(?:№ ?)?[0-9]{7}" + _RIGHT)
_PASSPORT_FOREIGN = re.compile(_LEFT + r"[A-Z]{1,2} ?[0-9]{6,8}" + _RIGHT)
_ISSUED_AFTER = re.compile(r"[,;.]?\s{0,2}\(?(?:выдан|issued\b)", re.IGNORECASE)
# First digits of the systems in use: Мир, Visa, Mastercard, Maestro, Amex, JCB, UnionPay, Diners.
_ISSUER = re.compile(r"4|220[0-4]|5[0-8]|2[3-6]|222|22[7-9]|27[0-2]|3[4-8]|6")


def snils_is_valid(digits: str) -> bool:
    """Say whether eleven digits carry the check number of a СНИЛС."""
    if len(digits) != 11 or not digits.isdigit() or digits[:9] <= "001001998":
        return False
    total = sum(int(digit) * weight for digit, weight in zip(digits, range(9, 0, -1), strict=False))
    return total % 101 % 100 == int(digits[9:])


def find_inn(text: str) -> Iterator[Finding]:
    """Taxpayer numbers. Ten free digits pass the check once in ten, so alone they score low."""
    for match in _INN.finditer(text):
        digits = match.group()
        named = announced(text, match.start()) == "INN"
        if inn.is_valid(digits):
            score = 0.99 if named else 0.9 if len(digits) == 12 else 0.45
        elif named:
            score = 0.7
        else:
            continue
        yield Finding(match.start(), match.end(), "INN", score)


def find_snils(text: str) -> Iterator[Finding]:
    """Insurance numbers of individual accounts, with their usual dashes or as eleven digits."""
    for match in _SNILS.finditer(text):
        surface = match.group()
        shaped = "-" in surface
        named = announced(text, match.start()) == "SNILS"
        if snils_is_valid(re.sub("[ -]", "", surface)):
            score = 0.99 if named or shaped else 0.6
        elif named:
            score = 0.8 if shaped else 0.7
        elif shaped:
            score = 0.6
        else:
            continue
        yield Finding(match.start(), match.end(), "SNILS", score)


def find_cards(text: str) -> Iterator[Finding]:
    """Payment card numbers: Luhn-valid ones, and invalid ones that look or are called like one."""
    for match in _CARD.finditer(text):
        surface = match.group()
        digits = re.sub("[ -]", "", surface)
        kind = announced(text, match.start())
        if len(set(digits)) == 1:
            continue
        if luhn.is_valid(digits):
            score = 0.99 if kind == "BANK_CARD" or _ISSUER.match(digits) else 0.7
            if kind in ("OTHER", "SNILS", "INN") and surface == digits:
                score = 0.5
        elif kind == "BANK_CARD":
            score = 0.7
        elif surface != digits and _ISSUER.match(digits):
            score = 0.6
        else:
            continue
        yield Finding(match.start(), match.end(), "BANK_CARD", score)


def find_passports(text: str) -> Iterator[Finding]:
    """Passports; the extent runs from the series to the number, a "№" or "номер" between too."""
    for match in _PASSPORT.finditer(text):
        kind = announced(text, match.start())
        spaced = match.group("gap") == " " and bool(match.group("join"))
        if kind == "PASSPORT" or _ISSUED_AFTER.match(text, match.end()):
            score = 0.9
        elif kind is not None and kind != "DATE":
            continue
        elif spaced or len(match.group("join")) > 2:
            score = 0.65
        elif match.group("join") and not match.group("gap"):
            score = 0.5
        else:
            continue
        yield Finding(match.start(), match.end(), "PASSPORT", score)
    for pattern, score in ((_PASSPORT_ABROAD, 0.85), (_PASSPORT_FOREIGN, 0.8)):
        for match in pattern.finditer(text):
            if announced(text, match.start()) == "PASSPORT":
                yield Finding(match.start(), match.end(), "PASSPORT", score)
