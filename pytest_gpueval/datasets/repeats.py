"""Ids that occur more than once in a split: found exactly, in memory that hardly grows with the split.

Few ids are put into a set. Of many, a table of their hashes, eight bytes an id, says of most that they are new; the others (one in 16 by chance, and
all that do repeat) are then counted as they are. Of very many, that is done for a slice of the hashes at a time, with two passes over the ids each.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

_FEW = 1 << 17
_MOST_BYTES = 1 << 25
_BYTES_AN_ID = 8
_EXAMPLES = 3

# Ids in order, batch by batch; None, and what is no text, is no id.
Batches = Iterable[Sequence[object]]


@dataclass(frozen=True, slots=True)
class Repeats:
    """Rows, counted from 0, whose id an earlier row has: all of them in order, and the first few as (id, the first row that has it, this row)."""

    rows: Sequence[int] = ()
    examples: Sequence[tuple[str, int, int]] = ()

    def has(self, row: int) -> bool:
        """Whether a row is one of them."""
        place = bisect_left(self.rows, row)
        return place < len(self.rows) and self.rows[place] == row

    def within(self, first: int, stop: int) -> int:
        """How many there are from row `first` to before `stop`."""
        return bisect_left(self.rows, stop) - bisect_left(self.rows, first)


def find(ids: Callable[[], Batches], count: int, *, few: int = _FEW, most_bytes: int = _MOST_BYTES) -> Repeats:
    """Look at `count` ids, which `ids` gives anew each time it is called."""
    if count <= few and len(set().union(*ids())) == count:
        return Repeats()
    size = 1 << max(3, (min(count * _BYTES_AN_ID, most_bytes) - 1).bit_length())
    slices = -(-count * _BYTES_AN_ID // size)
    rows, examples = array("Q"), list[tuple[str, int, int]]()
    for number in range(slices):
        suspects = _suspects(ids(), size, number, slices)
        if suspects:
            found, shown = _repeating(ids(), suspects)
            rows.extend(found)
            examples += shown
    return Repeats(array("Q", sorted(rows)) if slices > 1 else rows, sorted(examples, key=lambda one: one[2])[:_EXAMPLES])


def _suspects(ids: Batches, size: int, number: int, slices: int) -> set[object]:
    """Ids of a slice whose place in the table an earlier one has taken: all that repeat are among them. `size` is a power of 2."""
    table, mask = bytearray(size), size - 1
    suspects: set[object] = set()
    for batch in ids:
        for one, key in zip(batch, map(hash, batch), strict=True):
            if slices > 1:
                key, rest = divmod(key, slices)  # noqa: PLW2901 - what is left of it
                if rest != number:
                    continue
            place = key & mask
            if table[place]:
                suspects.add(one)
            else:
                table[place] = 1
    return suspects


def _repeating(ids: Batches, suspects: set[object]) -> tuple[array[int], list[tuple[str, int, int]]]:
    """The rows whose id, one of the suspects, an earlier row has."""
    first: dict[str, int] = {}
    rows, examples, row = array("Q"), list[tuple[str, int, int]](), 0
    for batch in ids:
        for at, one in [(at, one) for at, one in enumerate(batch) if one in suspects]:
            if not isinstance(one, str):
                continue
            if first.setdefault(one, row + at) != row + at:
                rows.append(row + at)
                if len(examples) < _EXAMPLES:
                    examples.append((one, first[one], row + at))
        row += len(batch)
    return rows, examples
