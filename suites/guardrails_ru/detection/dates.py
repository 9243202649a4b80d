"""Dates: numeric, ISO 8601, and with Russian or English month names.

The extent is the day, month and year; "г." or "года" after a year stays outside, and so does a
time of day. A day and month without a year, or a month and year, score lower.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date

from .context import announced
from .spans import Finding

_YEAR = r"(?:1[89]|20)[0-9]{2}"
_NUMERIC = re.compile(
    r"(?<![0-9A-Za-z])(?<![0-9][.,\-/])(?P<a>[0-9]{1,2})(?P<sep>[./\-])(?P<b>[0-9]{1,2})(?P=sep)"
    r"(?P<y>" + _YEAR + r"|[0-9]{2})(?![0-9A-Za-z])(?![.,\-/][0-9])"
)
_ISO = re.compile(
    r"(?<![0-9A-Za-z])(?<![0-9][.,\-/])(?P<y>" + _YEAR + r")(?P<sep>[.\-/])(?P<m>[0-9]{1,2})"
    r"(?P=sep)(?P<d>[0-9]{1,2})(?![0-9])(?![.\-/][0-9])"
)
_RU_MONTHS = "январ[яьюе]|феврал[яьюе]|марта?|апрел[яьюе]|ма[яйюе]|июн[яьюе]|июл[яьюе]|августа?|сентябр[яьюе]|октябр[яьюе]|ноябр[яьюе]|декабр[яьюе]"
_RU = re.compile(
    r"(?<![0-9\w.,\-])(?P<q>[«\"]?)(?P<d>[0-9]{1,2})(?(q)[»\"]?)(?:-?(?:го|е|ое))?\s{1,2}"
    r"(?P<m>" + _RU_MONTHS + r")(?!\w)(?:,?\s{1,2}(?P<y>" + _YEAR + r")(?![0-9]))?",
    re.IGNORECASE,
)
_RU_MONTH_YEAR = re.compile(
    r"(?<![\w\-])(?P<m>" + _RU_MONTHS + r"|март[еу]|август[еу])\s{1,2}(?P<y>" + _YEAR + r")(?![0-9])",
    re.IGNORECASE,
)
_EN_MONTHS = "jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?|nov(?:ember)?|dec(?:ember)?"
_EN_MONTH_FIRST = re.compile(
    r"(?<![\w\-])(?P<m>" + _EN_MONTHS + r")\.?\s{1,2}(?P<d>[0-3]?[0-9])(?:st|nd|rd|th)?(?![0-9:%\w])"
    r"(?:,?\s{1,2}(?P<y>" + _YEAR + r")(?![0-9]))?",
    re.IGNORECASE,
)
_EN_DAY_FIRST = re.compile(
    r"(?<![0-9\w.,\-])(?P<d>[0-3]?[0-9])(?:st|nd|rd|th)?[ \-](?:of )?(?P<m>" + _EN_MONTHS + r")(?!\w)\.?(?:,?[ \-]{1,2}(?P<y>" + _YEAR + r")(?![0-9]))?",
    re.IGNORECASE,
)
_EN_MONTH_YEAR = re.compile(
    r"(?<![\w\-])(?P<m>" + _EN_MONTHS + r")\.?,?\s{1,2}(?P<y>" + _YEAR + r")(?![0-9])",
    re.IGNORECASE,
)
_BIRTH_YEAR = re.compile(r"(?<![0-9\w.,\-])" + _YEAR + r"(?=\s?(?:г\.?\s?р\b|год[а]?\s(?:рожд|р\.)))", re.IGNORECASE)
_RU_START = ("янв", "фев", "мар", "апр", "ма", "июн", "июл", "авг", "сен", "окт", "ноя", "дек")
_EN_START = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_NAMED = (
    (_RU, _RU_START),
    (_EN_MONTH_FIRST, _EN_START),
    (_EN_DAY_FIRST, _EN_START),
)


def _exists(year: int, month: int, day: int) -> bool:
    try:
        date(year, month, day)
    except ValueError:
        return False
    return True


def _month(word: str, starts: tuple[str, ...]) -> int:
    """Return the number of a month's name; "мар" is tried before "ма" (May)."""
    lower = word.lower()
    return next(index for index, start in enumerate(starts, 1) if lower.startswith(start))


def _numeric(text: str) -> Iterator[Finding]:
    for match in _NUMERIC.finditer(text):
        first, second, year = int(match["a"]), int(match["b"]), int(match["y"])
        full = len(match["y"]) == 4
        year = year if full else 2000 + year
        slashed = match["sep"] == "/"
        if not (_exists(year, second, first) or (slashed and _exists(year, first, second))):
            continue
        kind = announced(text, match.start(), 25)
        score = 0.95 if full else 0.9 if kind == "DATE" else 0.7
        if not full and (kind == "PHONE" or match["sep"] == "-"):
            score = 0.5
        yield Finding(match.start(), match.end(), "DATE", score)
    for match in _ISO.finditer(text):
        if _exists(int(match["y"]), int(match["m"]), int(match["d"])):
            yield Finding(match.start(), match.end(), "DATE", 0.95)


def find_dates(text: str) -> Iterator[Finding]:
    """All the dates of a text; every supported form has a digit in it."""
    yield from _numeric(text)
    for pattern, starts in _NAMED:
        for match in pattern.finditer(text):
            month = _month(match["m"], starts)
            if _exists(int(match["y"] or 2000), month, int(match["d"])):
                score = 0.95 if match["y"] else 0.65
                yield Finding(match.start(), match.end(), "DATE", score)
    for pattern in (_RU_MONTH_YEAR, _EN_MONTH_YEAR):
        for match in pattern.finditer(text):
            yield Finding(match.start(), match.end(), "DATE", 0.6)
    for match in _BIRTH_YEAR.finditer(text):
        yield Finding(match.start(), match.end(), "DATE", 0.8)
