"""How far a run is, from what its host read: whoever wrote that may have written anything. Pure."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from .text import harmless

_MOST_UNIT: Final = 20
_MOST_NOTE: Final = 120
_Count = Annotated[int, Field(ge=0, le=10**15)]


class _Told(BaseModel):
    """progress.json."""

    model_config = ConfigDict(strict=True)

    done: _Count
    total: _Count | None = None
    failed: _Count = 0
    unit: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is. Of a run that tells nothing `percent` alone is known, from its log; `age_s` says how long ago it told."""

    percent: int | None
    done: int | None = None
    total: int | None = None
    failed: int = 0
    unit: str = ""
    note: str = ""
    age_s: float | None = None


def progress(read: Mapping[str, Any], now: float) -> Progress | None:
    """Of what an agent read; `now` is the host's clock, seconds since the epoch. What is not as it should be says nothing."""
    try:
        told = _Told.model_validate_json(base64.b64decode(read["told"]))
    except ValidationError:
        return None if read["percent"] is None else Progress(read["percent"])
    age_s = None if read["at"] is None else max(0.0, now - read["at"])
    percent = min(100, 100 * told.done // told.total) if told.total else None
    return Progress(percent, told.done, told.total, told.failed, _line(told.unit, _MOST_UNIT), _line(told.note, _MOST_NOTE), age_s)


def _line(text: str, most: int) -> str:
    """One harmless line of at most so many characters."""
    words = " ".join(harmless(text[: 4 * most].encode("utf-8", "replace")).split())
    return words if len(words) <= most else f"{words[: most - 1]}…"
