"""What programs print, made harmless for a terminal. Pure."""

from __future__ import annotations

import codecs
import re

# What steers a terminal or hides: controls, what turns the direction of text, what shows nothing, and line ends that only some know.
_ACTIVE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\U000e0000-\U000e007f]")
_LINE_END = re.compile("\r+\n?")


class Harmless:
    """Bytes of a log, piece by piece, as text: line ends and tabs are left, a carriage return alone begins a line, all else that is active is shown escaped."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")
        self._returned = ""

    def feed(self, data: bytes, *, last: bool = False) -> str:
        """The text of a piece; a character, or a line end, that came half waits for the rest."""
        text = self._returned + self._decoder.decode(data, last)
        self._returned = ""
        if not last and text.endswith("\r"):
            kept = text.rstrip("\r")
            text, self._returned = kept, "\r"
        return _ACTIVE.sub(_escaped, _LINE_END.sub("\n", text))


def harmless(said: bytes | str) -> str:
    """The same for a whole."""
    data = said.encode("utf-8", "backslashreplace") if isinstance(said, str) else said
    return Harmless().feed(data, last=True)


def _escaped(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
