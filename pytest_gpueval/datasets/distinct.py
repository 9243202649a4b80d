"""Which splits were found to have no id twice: remembered by content, so that each is searched once and not by every worker of every session."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from pathlib import Path
from typing import Final

from pytest_gpueval.errors import UsageProblem

from .cache import cache_directory

# Changes with what counts as an id.
_MEANING: Final = "1"


def known(content: str, column: str, rows: int) -> bool:
    """Whether the first `rows` rows of the split with this content hash are known to have no value of the column twice."""
    place = _place(content, column, rows)
    return place is not None and place.exists()


def remember(content: str, column: str, rows: int) -> None:
    """Keep that they have none. Where nothing can be kept, the next session searches again."""
    place = _place(content, column, rows)
    if place is not None:
        with suppress(OSError):
            place.parent.mkdir(parents=True, exist_ok=True)
            place.touch()


def _place(content: str, column: str, rows: int) -> Path | None:
    """An empty file, whose name says it all; None where there is no home for it."""
    name = hashlib.sha256("\0".join((_MEANING, content, column, str(rows))).encode()).hexdigest()
    try:
        return cache_directory() / "distinct-ids" / name
    except UsageProblem:
        return None
