"""When is a generated text right: normalisation, extraction, and the forms in which a choice is named."""

from __future__ import annotations

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Sequence

# A pattern is applied to so many characters at the end of a text, where answers stand: a pattern may be slow, and texts are of any length.
LONGEST = 20_000
LETTERS = string.ascii_uppercase
_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
# "B", "(B)", "B.", "b)"; and at the beginning of a text, with what follows it: "B) Paris".
_LETTER = re.compile(r"\(?([A-Za-z])\)?[.:]?")
_LETTER_FIRST = re.compile(r"\(?([A-Z])[).:]\s")


class _Punctuation(dict[int, str | None]):
    """For str.translate: drops punctuation of every script, and ASCII's symbols."""

    def __missing__(self, code: int) -> str | None:
        character = chr(code)
        drop = character in string.punctuation or unicodedata.category(character).startswith("P")
        self[code] = kept = None if drop else character
        return kept


_PUNCTUATION = _Punctuation()


def normalized(text: str) -> str:
    """Text as SQuAD compares it: lower case, without punctuation and English articles, words one space apart.

    After the official script (Rajpurkar et al. 2016, *SQuAD: 100,000+ questions for machine comprehension of text*, evaluate-v1.1.py), with case
    folding, NFKC and the punctuation of every script instead of ASCII's alone. Diacritics stay.
    """
    plain = unicodedata.normalize("NFKC", text).casefold().translate(_PUNCTUATION)
    return " ".join(_ARTICLES.sub(" ", plain).split())


def token_f1(found: str, gold: str) -> float:
    """2 x shared words / words of both, of texts already `normalized`; without any words, 1 if both have none (as in SQuAD 2.0)."""
    words, gold_words = found.split(), gold.split()
    if not words or not gold_words:
        return float(words == gold_words)
    shared = (Counter(words) & Counter(gold_words)).total()
    return 2 * shared / (len(words) + len(gold_words))


def extracted(pattern: re.Pattern[str], text: str) -> str | None:
    """The first group of the first match, or the whole match of a pattern without groups, in the last LONGEST characters; None without a match."""
    match = pattern.search(text[-LONGEST:])
    if match is None:
        return None
    return match[1] if pattern.groups else match[0]


def chosen(text: str, choices: Sequence[str]) -> int | None:
    """The index of the choice that a text names: by its own words (`normalized`), by its Latin letter, or by both (`B) Paris`). None if unclear."""
    text = text.strip()
    plain = normalized(text)
    same = [index for index, choice in enumerate(choices) if choice.strip() == text] or [
        index for index, choice in enumerate(choices) if plain and normalized(choice) == plain
    ]
    if len(same) == 1:
        return same[0]
    match = _LETTER.fullmatch(text) or _LETTER_FIRST.match(text)
    index = LETTERS.index(match[1].upper()) if match else len(choices)
    return index if index < len(choices) else None
