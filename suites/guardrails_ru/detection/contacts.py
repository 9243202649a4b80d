"""E-mail addresses, URLs, IP addresses and telephone numbers.

Telephone numbers are cut out by shape and judged by ``phonenumbers``. Its own text matcher finds
the same shapes but costs about ten times as much for each number and reads free numbers in the
default region only, while these texts mix Russian, international and North American ones.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator

import phonenumbers

from .context import announced
from .spans import NUMBERED, STRUCTURED, Finding

_EMAIL = re.compile(
    r"(?<![\w.+%\-])[\w](?:[\w.+%'\-]{0,62}[\w+\-])?@(?:[\w](?:[\w\-]{0,61}[\w])?\.){1,6}"
    r"(?:[A-Za-z]{2,24}|[А-Яа-яЁё]{2,24}|xn--[A-Za-z0-9\-]{2,40})(?![\w@])"
)
_TLD = (
    "com|org|net|edu|gov|mil|int|info|biz|name|pro|online|site|store|shop|club|app|dev|io|ai|me|tv"
    "|cc|co|ru|su|рф|рус|москва|бел|укр|by|kz|ua|uz|am|ge|eu|uk|us|de|fr|it|es|pl|cz|nl|ch|se|no|fi"
    "|cn|jp|in|br|ca|au|tr|xyz|tech|moscow|tatar"
)
_URL = re.compile(r"(?:\b(?:https?|ftp)://|(?<![\w.@\-])www\.)[^\s<>\"«»“”`{}|\\^]{2,2000}", re.IGNORECASE)
_DOMAIN = re.compile(
    r"(?<![\w.@/\-])(?:[\w](?:[\w\-]{0,61}[\w])?\.){1,5}(?:" + _TLD + r")(?![\w@\-]|\.[\w])"
    r"(?::[0-9]{2,5})?(?:/[^\s<>\"«»“”`{}|\\^]{0,2000})?",
    re.IGNORECASE,
)
_IPV4 = re.compile(r"(?<![\w.])(?:[0-9]{1,3}\.){3}[0-9]{1,3}(?![\w]|\.[0-9])")
_IPV6 = re.compile(r"(?<![\w:.])[0-9A-Fa-f:]{2,39}(?:(?:[0-9]{1,3}\.){3}[0-9]{1,3})?(?![\w:])")

_S = r"[ \-‑–.]{0,2}"
_RU_PHONE = re.compile(
    r"(?<![0-9A-Za-z+])(?<![0-9][.,\-/])(?:\+ ?7|[78])" + _S + r"(?:"
    r"\(? ?[0-9]{3} ?\)?" + _S + r"[0-9]{3}" + _S + r"[0-9]{2}" + _S + r"[0-9]{2}"
    r"|\(?[0-9]{4}\)?" + _S + r"[0-9]{2}" + _S + r"[0-9]{2}" + _S + r"[0-9]{2}"
    r"|\(?[0-9]{5}\)?" + _S + r"[0-9]{1}" + _S + r"[0-9]{2}" + _S + r"[0-9]{2}"
    r")(?![0-9]|[\-.][0-9])"
)
_RU_SHORT = re.compile(
    r"(?<![0-9A-Za-z+])(?<![0-9][.,\-/)])(?:\([0-9]{3,5}\)|9[0-9]{2})" + _S + r"[0-9]{1,3}" + _S + r"[0-9]{2}" + _S + r"[0-9]{2}(?![0-9]|[\-.][0-9])"
)
_WORLD_PHONE = re.compile(r"(?<![0-9A-Za-z+])(?:\+|00(?=[1-9]))[1-9](?:[ \-‑–.()]{0,3}[0-9]){6,13}(?![0-9])")
_US_PHONE = re.compile(
    r"(?<![0-9A-Za-z+])(?<![0-9][.,\-/])(?:\(1?[2-9][0-9]{2}\)[ \-.]?|"
    r"(?:1[ \-.])?[2-9][0-9]{2}[ \-.])"
    r"[0-9]{3}[ \-.][0-9]{4}(?:\s?(?:x|ext\.?)\s?[0-9]{1,5})?(?![0-9A-Za-z]|[\-.][0-9])"
)
_LOCAL_PHONE = re.compile(r"(?<![0-9\-+])[0-9]{2,3}-[0-9]{2}-[0-9]{2}(?![0-9\-])")
# Other kinds of number that an undivided Russian telephone number has the length of.
_ELEVEN_DIGITS = frozenset({"SNILS", "OTHER"})
_TEN_DIGITS = frozenset({"SNILS", "INN", "PASSPORT", "OTHER"})
_OPEN_OF = {")": "(", "]": "["}


def find_emails(text: str) -> Iterator[Finding]:
    """E-mail addresses, also with a plus tag or in a Cyrillic domain."""
    if "@" not in text:
        return
    for match in _EMAIL.finditer(text):
        yield Finding(match.start(), match.end(), "EMAIL", 0.95, STRUCTURED)


def _trimmed(text: str, start: int, end: int) -> int:
    """Return the end of a URL without the sentence's own punctuation after it."""
    while end > start:
        last = text[end - 1]
        opening = _OPEN_OF.get(last)
        if last not in ".,;:!?'’…*" and (opening is None or text.count(last, start, end) <= text.count(opening, start, end)):
            break
        end -= 1
    return end


def find_urls(text: str) -> Iterator[Finding]:
    """Links with a scheme or ``www.``, and bare domains under a well-known ending."""
    if "." not in text and "://" not in text:
        return
    for match in _URL.finditer(text):
        end = _trimmed(text, match.start(), match.end())
        if end - match.start() > 5:
            yield Finding(match.start(), end, "URL", 0.95, STRUCTURED)
    for match in _DOMAIN.finditer(text):
        end = _trimmed(text, match.start(), match.end())
        yield Finding(match.start(), end, "URL", 0.7 if "/" in match.group() else 0.6, STRUCTURED)


def find_ips(text: str) -> Iterator[Finding]:
    """IPv4 and IPv6 addresses that ``ipaddress`` accepts; a port or prefix stays outside."""
    if text.count(".") >= 3:
        for match in _IPV4.finditer(text):
            kind = announced(text, match.start(), 20)
            try:
                ipaddress.IPv4Address(match.group())
            except ValueError:
                continue
            score = 0.4 if kind == "OTHER" else 0.99 if kind == "IP_ADDRESS" else 0.9
            yield Finding(match.start(), match.end(), "IP_ADDRESS", score, STRUCTURED)
    if text.count(":") >= 2:
        for match in _IPV6.finditer(text):
            surface = match.group()
            if surface.count(":") < 2 or not any(char.isdigit() for char in surface):
                continue
            try:
                ipaddress.IPv6Address(surface)
            except ValueError:
                continue
            yield Finding(match.start(), match.end(), "IP_ADDRESS", 0.9, STRUCTURED)


def _verdict(number: str, region: str | None) -> str:
    """Return what ``phonenumbers`` says about a number: valid, possible or neither."""
    try:
        parsed = phonenumbers.parse(number, region)
    except phonenumbers.NumberParseException:
        return "none"
    if phonenumbers.is_valid_number(parsed):
        return "valid"
    return "possible" if phonenumbers.is_possible_number(parsed) else "none"


def _phone(text: str, start: int, end: int, region: str | None, base: float) -> Finding | None:
    """Score one candidate: ``base`` is what a valid number of this shape earns by itself."""
    verdict = _verdict(text[start:end], region)
    if verdict == "none":
        return None
    kind = announced(text, start)
    score = base if verdict == "valid" else min(base, 0.65)
    if kind == "PHONE":
        score = 0.99 if verdict == "valid" else 0.9
    elif base < 0.95 and kind in (_ELEVEN_DIGITS if base > 0.8 else _TEN_DIGITS):
        score *= 0.6
    return Finding(start, end, "PHONE", score, NUMBERED)


def _world_phone(text: str, start: int, end: int, region: str) -> Finding | None:
    """Judge a number with a plus; digits after a space may belong to the sentence, not to it."""
    possible: Finding | None = None
    for _ in range(4):
        found = _phone(text, start, end, region, 0.97)
        if found and found.score >= 0.97:
            return found
        possible = possible or found
        end = text.rfind(" ", start, end)
        if end - start < 8:
            break
    return possible


def find_phones(text: str, region: str = "RU") -> Iterator[Finding]:
    """Telephone numbers: Russian, in the international form, North American, local after a word."""
    shapes = ((_RU_PHONE, "RU", 0.95), (_RU_SHORT, "RU", 0.65), (_US_PHONE, "US", 0.7))
    for pattern, country, base in shapes:
        for match in pattern.finditer(text):
            surface = match.group()
            bare = surface.isdigit() or (surface[0] in "78" and base > 0.9 and " " not in surface)
            worth = 0.85 if bare and base > 0.9 else base
            found = _phone(text, match.start(), match.end(), country, worth)
            if found:
                yield found
    for match in _WORLD_PHONE.finditer(text):
        found = _world_phone(text, match.start(), match.end(), region)
        if found:
            yield found
    for match in _LOCAL_PHONE.finditer(text):
        if announced(text, match.start(), 25) == "PHONE":
            yield Finding(match.start(), match.end(), "PHONE", 0.75)
