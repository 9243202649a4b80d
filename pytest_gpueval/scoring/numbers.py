"""Numbers in text, as people and models write them."""

from __future__ import annotations

import math
import re
import unicodedata
from typing import NamedTuple


class Number(NamedTuple):
    """A number, and whether a percent sign follows it."""

    value: float
    percent: bool


# Other signs of minus, the fraction slash; currency symbols and LaTeX's marks say nothing about the value.
_SIGNS = str.maketrans({**dict.fromkeys("\u2212\u2013\u2012", "-"), "\u2044": "/", "\u2019": "'", **dict.fromkeys("$€£¥₽₴₸₹\\"), **dict.fromkeys("{}", " ")})
_VULGAR = re.compile("[\u00bc-\u00be\u2150-\u215e]")
_LATEX_FRACTION = re.compile(r"\\[dt]?frac\s*\{([^{}]{1,40})\}\s*\{([^{}]{1,40})\}")
# Possessive throughout: the time is proportional to the text.
_NUMBER = re.compile(
    r"""
    (?P<sign>(?<![\w)])[-+])?+ (?<!\w)(?<![0-9]\.)
    (?:
        (?<!/) (?:(?P<whole>[0-9]{1,6})\ )?(?P<top>[0-9]{1,15})\s?/\s?(?P<bottom>[0-9]{1,15})(?![0-9/])
      | (?P<digits>(?:[0-9]++|\.(?=[0-9]))(?:[ '_,.][0-9]++|[0-9]++)*+(?:[eE][-+]?[0-9]{1,3}(?!\w))?)
    )
    (?P<percent>\s?%)?
    """,
    re.VERBOSE,
)
_GROUPS = re.compile(r"[0-9]{1,3}(?P<mark>[ '_,.])[0-9]{3}(?:(?P=mark)[0-9]{3})*(?P<rest>[.,][0-9]+)?")
_SEPARATORS = re.compile(r"[ '_,]")


def last_number(text: str) -> Number | None:
    r"""The last number of a text, None if there is none.

    Groups of thousands may be set apart by a comma, point, space, apostrophe or underscore (`1,234.5`, `1 234,5`, `1.234.567`); a single comma is a
    decimal one where what surrounds it cannot be a group (`3,14`, `0,125`). `3/4`, `1 3/4`, `½` and `\frac{3}{4}` are fractions; `1.5e-3` is known.
    A number that is part of a word or follows a letter (`GPT4`) is none. The time is proportional to the text.
    """
    text = _VULGAR.sub(lambda match: f" {match[0]}", text)
    if "frac" in text:
        text = _LATEX_FRACTION.sub(r" \1/\2", text)
    plain = unicodedata.normalize("NFKC", text).replace("{,}", ",").translate(_SIGNS)
    for match in reversed(list(_NUMBER.finditer(plain))):
        value = _fraction(match["whole"], match["top"], match["bottom"]) if match["top"] else _decimal(match["digits"], match["sign"])
        if value is not None and math.isfinite(value):
            return Number(-value if match["top"] and match["sign"] == "-" else value, match["percent"] is not None)
    return None


def equal(found: Number, gold: Number, tolerance: float) -> bool:
    """Whether two numbers are the same within `tolerance` x the gold's size (of 1, where the gold is 0).

    Where only one has a percent sign it may be meant or not: `50 %` is 50 and 0.5.
    """
    pairs = [(found.value, gold.value)]
    if found.percent != gold.percent:
        pairs.append((found.value / 100, gold.value) if found.percent else (found.value, gold.value / 100))
    return any(abs(there - right) <= tolerance * (abs(right) or 1.0) for there, right in pairs)


def _fraction(whole: str | None, top: str, bottom: str) -> float | None:
    return (int(whole or 0) + int(top) / int(bottom)) if int(bottom) else None


def _decimal(digits: str, sign: str | None) -> float | None:
    """The value of digits with separators, None if they are no number (`1.2.3`)."""
    number, exponent, sign = digits, "", sign or ""
    if (at := max(digits.find("e"), digits.find("E"))) >= 0:
        number, exponent = digits[:at], digits[at:]
    grouped = _GROUPS.fullmatch(number)
    if grouped is not None and _is_grouped(number, grouped["mark"], grouped["rest"]):
        number = number.removesuffix(grouped["rest"] or "").replace(grouped["mark"], "") + (grouped["rest"] or "").replace(",", ".")
    elif number.count(",") == 1 and not set(" '_.") & set(number):
        number = number.replace(",", ".")
    else:  # several numbers in a row: the last
        *others, number = _SEPARATORS.split(number)
        sign = "" if others else sign
    try:
        return float(sign + number + exponent)
    except ValueError:
        return None


def _is_grouped(number: str, mark: str, rest: str | None) -> bool:
    """Whether separators of threes are those of thousands: `1,234` and `1.234.567` are, `0,125` and `1.234` are decimals."""
    if number.startswith("0") or (rest or "").startswith(mark):
        return False
    return mark != "." or rest is not None or number.count(".") > 1
