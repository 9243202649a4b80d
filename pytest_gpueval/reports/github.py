"""What GitHub Actions shows beside a log: annotations, and the summary of a step.

Commands and their escaping: "Workflow commands for GitHub Actions" (docs.github.com) and actions/toolkit, `packages/core/src/command.ts`.
"""

from __future__ import annotations

from typing import Final, Literal

from .table import plain

# Bytes that the summary of one step may have.
MOST_BYTES: Final = 1 << 20
# Errors of one step that GitHub shows.
MOST_ANNOTATIONS: Final = 10
_LONGEST: Final = 4000
_FENCES: Final = ("```", "~~~")


def annotation(level: Literal["error", "warning", "notice"], text: str, *, title: str, file: str | None = None, line: int | None = None) -> str:
    """One line that makes an annotation. What it says cannot end the command, or begin another one."""
    file = " ".join(plain(file).split()) if file else None
    places = {"file": file, "line": None if file is None or line is None else str(line), "title": " ".join(plain(title).split())}
    properties = ",".join(f"{key}={_property(value)}" for key, value in places.items() if value)
    text = plain(text).strip()
    return f"::{level} {properties}::{_data(text if len(text) <= _LONGEST else text[: _LONGEST - 3] + '...')}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


def shortened(text: str, room: int, rest: str) -> str:
    """Markdown in at most `room` bytes of UTF-8: whole lines from its beginning, and `rest`, which says where all of it is. Empty where not even that fits."""
    if len(text.encode()) <= room:
        return text
    room -= len(f"\n```\n\n{rest}\n".encode())
    kept: list[str] = []
    fence = False
    for line in text.splitlines():
        room -= len(line.encode()) + 1
        if room < 0:
            break
        kept.append(line)
        fence ^= line.startswith(_FENCES)
    if not kept:
        return ""
    return "\n".join([*kept, *(["```"] if fence else []), "", rest, ""])
