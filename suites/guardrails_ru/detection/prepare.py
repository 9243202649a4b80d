"""Text without marks and invisible characters, and the way back to the original's offsets.

A stress mark (``Ива́нов``), a decomposed ``й``, a soft hyphen or a zero-width space would split a
word for every pattern and for the tokenizer. The finders therefore see a text in which such
characters are composed into the letter before them or left out, and each found extent is mapped
back onto the text as it came.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

_MARKS = "\u0300-\u036f"
_INVISIBLE = "\u00ad\u200b-\u200f\u2060-\u2064\ufe00-\ufe0f\ufeff"
_SPECIAL = re.compile(f"[{_MARKS}{_INVISIBLE}]")
_MARK = re.compile(f"[{_MARKS}]")
# The typographic spaces become one plain character each, so lengths stay as they are.
_SPACES = str.maketrans(dict.fromkeys("\u00a0\u2007\u2009\u200a\u202f", " "))


@dataclass(frozen=True, slots=True)
class Prepared:
    """The text to search, with each character's extent in the original (None: unchanged)."""

    text: str
    starts: list[int] | None = None
    ends: list[int] | None = None

    def original(self, start: int, end: int) -> tuple[int, int]:
        """Map an extent of the prepared text onto the original."""
        if self.starts is None or self.ends is None:
            return start, end
        return self.starts[start], self.ends[end - 1]


def prepare(text: str) -> Prepared:
    """Return the text the finders search; a text without such characters costs one scan."""
    if text.isascii():
        return Prepared(text)
    if _SPECIAL.search(text) is None:
        return Prepared(text.translate(_SPACES))
    letters: list[str] = []
    starts: list[int] = []
    ends: list[int] = []
    for place, char in enumerate(text):
        if _SPECIAL.match(char) is None:
            letters.append(char)
            starts.append(place)
            ends.append(place + 1)
        elif letters and ends[-1] == place and _MARK.match(char):
            ends[-1] = place + 1
            composed = unicodedata.normalize("NFC", letters[-1] + char)
            if len(composed) == 1:
                letters[-1] = composed
    return Prepared("".join(letters).translate(_SPACES), starts, ends)
