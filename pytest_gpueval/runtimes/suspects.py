"""Which rows to ask again together, after a server went away while they were on their way, until one that ends it stands alone. Pure.

All that was in flight is asked again, one half after the other, the rows of each half side by side: a server that ended for reasons of its own costs no
more than that. A half that ends it again is cut in four, and so is each of these, until a single row is asked by itself. Rows that were answered meanwhile
are out. Quarters and not halves: as many groups one after another in the worst case, and half the restarts.

A row is to blame once it has ended the server twice while nothing else was asked. `most_ends` says how often the server ends until then: five times for one
such row among 16, seven times among 256. Several such rows share the first end and some cuts: k of them end it at most 1 + k x (`most_ends` - 1) times.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, TypeVar

R = TypeVar("R")
T = TypeVar("T")

# How often a single row may end a server before it is the row's fault: others end servers too.
_CHANCES = 2
_FIRST_CUT = 2
_CUT = 4


class Suspects(Generic[R]):
    """The rows that a server's end left without answers, in the batches they were asked in; no batch is empty."""

    def __init__(self, batches: Sequence[Sequence[R]]) -> None:
        # The next one last.
        self._groups: list[list[Sequence[R]]] = []
        self._strikes = 0
        self._put(batches, _FIRST_CUT)

    @property
    def group(self) -> list[Sequence[R]]:
        """The batches to ask now, side by side and beside nothing else; none once nobody is suspected any more."""
        return self._groups[-1] if self._groups else []

    def answered(self) -> None:
        """The server has outlived the group."""
        self._groups.pop()
        self._strikes = 0

    def ended(self, left: Sequence[Sequence[R]]) -> R | None:
        """It has ended the server, with these rows unanswered. Returns the row that is to blame; None where that is not known yet."""
        group = self._groups.pop()
        alone = sum(map(len, group)) == 1
        self._strikes = self._strikes + 1 if alone else 0
        if self._strikes == _CHANCES:
            self._strikes = 0
            return group[0][0]
        self._put(left, _CUT)
        return None

    def _put(self, batches: Sequence[Sequence[R]], parts: int) -> None:
        """Before all other groups, these, cut in so many: by batches, or by the rows of the only one."""
        groups = [[piece] for piece in _pieces(batches[0], parts)] if len(batches) == 1 else [list(piece) for piece in _pieces(batches, parts)]
        self._groups += reversed(groups)


def most_ends(batches: int, rows: int = 1) -> int:
    """How often one row ends the server until it is blamed, the first time included, with so many batches of so many rows in flight."""
    ends, parts = 1, _FIRST_CUT
    for many in (batches, rows):
        left = many
        while left > 1:
            left = -(-left // parts)
            ends, parts = ends + 1, _CUT
    return max(ends, 2) + _CHANCES - 1


def _pieces(many: Sequence[T], parts: int) -> list[Sequence[T]]:
    """At most so many pieces, in order and of the same size, the last one perhaps smaller."""
    size = -(-len(many) // parts)
    return [many[start : start + size] for start in range(0, len(many), size)]
