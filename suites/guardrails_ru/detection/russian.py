"""Russian persons, places and organisations: the model's entities, and shapes it tends to miss.

The model was trained on news. In letters, forms and chats it misses names in capitals or without
them, splits a full name from its initials and knows no street addresses; the patterns here cover
those.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from .ner import RussianNer, natasha_file
from .spans import NAMED, NUMBERED, Finding

_KINDS = {"PER": "PERSON", "LOC": "LOCATION", "ORG": "ORGANIZATION"}
_CYRILLIC = re.compile("[А-Яа-яЁё]")
_LATIN = re.compile("[A-Za-z]")
# Field names and abbreviations that news never use as such, and the model takes for names.
_NOT_NAMES_TEXT = """
    инн снилс кпп огрн огрнип бик окпо октмо оквэд фио ф.и.о паспорт серия номер телефон тел
    email e-mail почта адрес дата сайт карта ip url id sms смс пин pin cvc cvv qr р/с к/с кв дом
    ул г д рф. д.р др омс дмс гк нк ук коап здравствуйте привет спасибо уважаемый уважаемая
    уважаемые клиент заказ заявка договор мне вам добрый день поставщик покупатель заказчик
    исполнитель продавец арендатор арендодатель владелец плательщик получатель отправитель
"""
_NOT_NAMES = frozenset(_NOT_NAMES_TEXT.split())
_LONGEST = 200  # characters: no name is longer, only a text without words is
_EDGE = " \t\n\r.,;:!?()[]{}<>|/\\*#@+=~_—–-"
_MALE = "ович(?:а|у|ем|ом|е)?|[еь]вич(?:а|у|ем|ом|е)?|ьич(?:а|у|ом|ем|е)?|[кмф][иу]ч(?:а|у|ом|ем|е)?"
_FEMALE = "[ое]вн(?:а|ы|е|у|ой|ою)|(?:ин|[ие])ичн(?:а|ы|е|у|ой|ою)"
_PATRONYMIC = f"(?:{_MALE}|{_FEMALE})"
_WORD = "[А-ЯЁ][а-яё]{1,24}"
_SURNAME = f"{_WORD}(?:-{_WORD})?"
_FULL_NAME = re.compile(
    rf"(?<![\w\-])(?:(?P<last>{_SURNAME}) {{1,2}})?(?P<first>{_WORD}) {{1,2}}"
    rf"[А-ЯЁ][а-яё]{{0,24}}?{_PATRONYMIC}(?![\w\-])(?P<after> {{1,2}}{_SURNAME}(?![\w\-]))?"
)
_FULL_NAME_CAPITALS = re.compile(
    r"(?<![\w\-])(?:(?P<last>[А-ЯЁ]{2,24}(?:-[А-ЯЁ]{2,24})?) {1,2})?(?P<first>[А-ЯЁ]{2,20}) {1,2}"
    r"[А-ЯЁ]{1,16}(?:ВИЧ|ЬИЧ|ВИЧА|ВИЧУ|ОВНА|ЕВНА|ОВНЫ|ЕВНЫ|ОВНЕ|ЕВНЕ|ИЧНА|ИЧНЫ)(?![\w\-])"
    r"(?P<after> {1,2}[А-ЯЁ]{2,24}(?![\w\-]))?"
)
_LIKE_SURNAME = re.compile(
    r"(?:[оеё]в|[иы]н)(?:а|у|ым|е|ой|ых|ы|ыми?)?$|[сц]к(?:ий|ая|ого|ой|ому|им|ом|ую|их)$"
    r"|(?:енко|ук|юк|чук|ко|дзе|швили|ян|янц|[иы]х|ич|ко|ец|ль|ман|берг|ун|ый|ой|ая)$",
    re.IGNORECASE,
)
_FULL_NAME_SMALL = re.compile(
    rf"(?<![\w\-])(?:(?P<last>[а-яё]{{2,24}}) )?"
    rf"(?P<first>[а-яё]{{2,20}}) [а-яё]{{1,20}}?{_PATRONYMIC}"
    r"(?![\w\-])"
)
_INITIALS = re.compile(rf"(?<![\w\-])(?:{_SURNAME} {{1,2}}[А-ЯЁ]\. ?[А-ЯЁ]\.|[А-ЯЁ]\. ?[А-ЯЁ]\. ?{_SURNAME}(?![\w\-]))")
_INTRODUCED = re.compile(
    r"(?i:меня зовут|моё имя|мое имя|это пишет|с уважением,?|\bфио:?|\bф\.и\.о\.:?"
    r"|\bподпись:?)\s{1,2}"
    rf"(?P<name>{_WORD}(?: {_SURNAME}){{0,2}}|(?i:(?<=зовут )[а-яё]{{2,20}}))(?![\w\-])"
)
_COMPANY = re.compile(
    r"(?<![\w\-])(?:ООО|ОАО|ЗАО|ПАО|НАО|АО|НКО|АНО|ТСЖ|СНТ|ФГУП|ГУП|МУП|ФГБОУ|ГБОУ|МБОУ|МАОУ|ГБУЗ"
    r"|ГБУ|МБУ|ЧОП|КБ|АКБ|ТОО|Банк|банк|[Кк]омпани[яиюей]{1,2}|[Фф]ирм[аыуеой]{1,2})\s{1,2}"
    r"(?:«[^«»\n]{1,80}»|\"[^\"\n]{1,80}\"|“[^“”\n]{1,80}”|„[^„“”\n]{1,80}[“”])"
)
_STREET = (
    r"(?:ул\.|улиц[аыуе]|улицей|пр-т\.?|пр-кт\.?|просп\.|проспект[ауе]?|пр\.|пер\."
    r"|переул[о]?к[ауе]?"
    r"|ш\.|шоссе|б-р\.?|бульвар[ауе]?|наб\.|набережн(?:ая|ой|ую)|пл\.|площад[ьи]|проезд[ауе]?|тупик"
    r"|мкр\.?|микрорайон[ауе]?|кв-л|линия|аллея)"
)
_KIND_AFTER = r"(?: (?:проспект|бульвар|переулок|шоссе|проезд|тупик|набережная|площадь)(?![\w]))"
_NAME_OF_STREET = (
    r"(?:[0-9]{1,3}(?:-?(?:я|й|ая|ой|го|лет|летия))? (?=[А-ЯЁа-яё]))?"
    r"[А-ЯЁ0-9][А-ЯЁа-яё0-9\-.]{0,24}(?: [А-ЯЁ][А-ЯЁа-яё\-.]{1,24}){0,2}(?: (?:года|мая|марта"
    r"|лет [А-Я][а-яё]{2,15}))?"
)
_HOUSE = (
    r"(?:,? {0,2}(?:(?:д\.|дом|вл\.) {0,2})?[0-9]{1,4} ?[А-Яа-я]?(?:[/\-][0-9]{1,4}[А-Яа-я]?)?"
    r"(?![\w])"
    r"(?:,? {0,2}(?:к\.|корп\.|корпус|стр\.|строение|лит\.) {0,2}[0-9А-Я]{1,4}(?![\w])){0,2}"
    r"(?:,? {0,2}(?:кв\.|квартира|оф\.|офис|пом\.|комн\.|этаж|подъезд) {0,2}[0-9]{1,5}"
    r"(?![\w])){0,2})"
)
_ADDRESS = re.compile(
    rf"(?<![\w\-])(?:{_STREET} {{0,2}}{_NAME_OF_STREET}{_KIND_AFTER}?{_HOUSE}?"
    rf"|[А-ЯЁ][а-яё\-]{{2,24}}(?:ая|ий|ый|ой|ский|ого|ом|ому|ую) {_STREET}(?![\w]){_HOUSE}?)"
)
_TOWN = re.compile(
    r"(?<![\w\-.])(?:г\.|гор\.|город[еау]?|пос\.|пгт\.?|посёлок|поселок|дер\.|деревн[яеию]|сел[оае]"
    r"|станиц[аеы]) ?(?P<name>[А-ЯЁ][а-яё]{2,24}(?:[\- ][А-ЯЁ][а-яё]{2,24}"
    r"|-на-[А-ЯЁ][а-яё]{2,24})?)(?![\w])"
)


def load_first_names() -> frozenset[str]:
    """Return the Russian first names in natasha's dictionary, in lower case and without ё."""
    lines = natasha_file("data/dict/first.txt").read_text(encoding="utf-8").splitlines()
    names = (line.partition("#")[0].strip() for line in lines)
    return frozenset(name.replace("ё", "е") for name in names if len(name) > 2)


def _trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    """Cut punctuation off both ends, but keep the point after an initial."""
    while start < end and text[start] in _EDGE:
        start += 1
    while end > start and text[end - 1] in _EDGE:
        if text[end - 1] == "." and end - start > 2 and text[end - 2].isupper():
            break
        end -= 1
    return start, end


def find_entities(text: str, model: RussianNer) -> Iterator[Finding]:
    """The model's entities, less what cannot be one."""
    for entity in model.tag(text):
        start, end = _trimmed(text, entity.start, entity.end)
        surface = text[start:end]
        label = _KINDS[entity.kind]
        if not 2 <= end - start <= _LONGEST or surface.lower() in _NOT_NAMES:
            continue
        if label == "ORGANIZATION" and surface.split()[0].lower() in _NOT_NAMES:
            continue
        if label == "PERSON" and any(char.isdigit() or char == "@" for char in surface):
            continue
        score = entity.score
        if not _CYRILLIC.search(surface):
            left = max(text.rfind("\n", 0, start) + 1, start - 200)
            around = text[left : end + 200].split("\n", 1)[0]
            latin = len(_LATIN.findall(around))
            # The model knows Latin names only as guests in a Russian sentence.
            if latin == 0 or len(_CYRILLIC.findall(around)) < latin:
                continue
            score = max(0.01, score * 0.9)
        yield Finding(start, end, label, score, NAMED)


def find_persons(text: str, first_names: frozenset[str]) -> Iterator[Finding]:
    """Full names by their patronymic, surnames with initials, and introduced names."""
    for pattern in (_FULL_NAME, _FULL_NAME_CAPITALS):
        for match in pattern.finditer(text):
            last = match["last"]
            # "Вчера Анна Петровна Смирнова": a capital opens the sentence, not the name.
            led = last and not match["after"] and _LIKE_SURNAME.search(last)
            start = match.start() if led else match.start("first")
            yield Finding(start, match.end(), "PERSON", 0.93, NAMED)
    for match in _INITIALS.finditer(text):
        yield Finding(match.start(), match.end(), "PERSON", 0.9, NAMED)
    for match in _FULL_NAME_SMALL.finditer(text):
        if match["first"].replace("ё", "е") in first_names:
            last = match["last"]
            led = last and _LIKE_SURNAME.search(last)
            start = match.start() if led else match.start("first")
            yield Finding(start, match.end(), "PERSON", 0.75, NAMED)
    for match in _INTRODUCED.finditer(text):
        name = match["name"]
        if name[0].isupper() or name.replace("ё", "е") in first_names:
            yield Finding(match.start("name"), match.end("name"), "PERSON", 0.8, NAMED)


def find_places(text: str) -> Iterator[Finding]:
    """Street addresses down to the flat as one span, and towns after their abbreviation."""
    for match in _ADDRESS.finditer(text):
        start, end = _trimmed(text, match.start(), match.end())
        numbered = any(char.isdigit() for char in match.group())
        yield Finding(start, end, "LOCATION", 0.9 if numbered else 0.75, NUMBERED)
    for match in _TOWN.finditer(text):
        yield Finding(match.start("name"), match.end("name"), "LOCATION", 0.85, NAMED)


def find_companies(text: str) -> Iterator[Finding]:
    """A legal form and the quoted name after it."""
    for match in _COMPANY.finditer(text):
        yield Finding(match.start(), match.end(), "ORGANIZATION", 0.92, NAMED)
