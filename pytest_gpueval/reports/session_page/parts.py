"""A stretch of a case's samples that another process has packed, and how it joins those before it: the page comes out as if one process had gone through all.

What a stretch cannot know is how much room the ones before it leave: where that may run out it packs its chunks with their texts and without, and the one
choice or the other is made when it is joined.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from .curves import ByLabel

# Shares of the room: up to the first texts will fit in all likelihood, from the second on they will not.
_SURELY: Final = 0.8
_HARDLY: Final = 1.2


@dataclass(frozen=True, slots=True)
class Chunk:
    """Packed samples with their texts and without, either of which may not have been made; `held`: texts there are."""

    full: str | None
    bare: str | None
    held: int


@dataclass(frozen=True, slots=True)
class Part:
    """What a collector of one stretch has found."""

    chunks: Sequence[Chunk]
    columns: Mapping[str, list[Any]]
    counts: Sequence[int]
    bins: Counter[int]
    support: Counter[str]
    labels: int
    scores: ByLabel


def wanted(room: int, used: int, chunks: int, before: int) -> tuple[bool, bool]:
    """Whether to pack a chunk with texts, and whether without: `used` bytes went into `chunks` of this stretch, `before` chunks are in front of it."""
    expected = used / chunks * (before + chunks + 1) / room if chunks and room > 0 else 1.0 if before else 0.0
    return expected < _HARDLY, expected > _SURELY


def chosen(chunks: Sequence[Chunk], left: int, *, full: bool) -> tuple[list[tuple[str, int]], bool] | None:
    """The blocks that fit into what is left, each with the texts that it holds, and whether all have theirs; None where one was not made.

    `full`: whether all texts fitted so far.
    """
    blocks: list[tuple[str, int]] = []
    for chunk in chunks:
        if full and chunk.full is None:
            return None
        if full and chunk.full is not None and len(chunk.full) > left and chunk.held:
            full = False
        block = chunk.full if full else chunk.bare
        if block is None:
            return None
        left -= len(block)
        blocks.append((block, chunk.held if full else 0))
    return blocks, full
