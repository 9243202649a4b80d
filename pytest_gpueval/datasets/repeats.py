"""Ids that occur more than once in a split: found exactly, at eight bytes an id.

Where no two hashes of 64 bits are equal, no two ids are. Only ids whose hash another one has are looked at as they are, in a second pass.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    Hashes = np.ndarray[tuple[int], np.dtype[np.uint64]]

# Of so few a set is made: numpy need not be imported.
_FEW: Final = 1 << 14
_EXAMPLES: Final = 3
# Bytes of ids that are hashed at a time; each needs some forty bytes meanwhile.
_WINDOW: Final = 1 << 18
# An odd number without a pattern (the golden ratio's digits): ids are polynomials in it, modulo 2^64.
_BASE: Final = 0x9E3779B97F4A7C15

# Ids in order, batch by batch, as texts of Arrow; null is no id.
Batches = Iterable["pa.LargeStringArray"]


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


def find(ids: Callable[[], Batches], count: int, *, few: int = _FEW, hashed: Callable[[Any], Hashes] | None = None) -> Repeats:
    """Look at `count` ids, which `ids` gives anew each time it is called. `hashed` takes the place of `hashes`."""
    if count <= few:
        return _exactly(_numbered(ids()))
    import numpy as np  # noqa: PLC0415 - heavy

    hashed = hashed or hashes
    table, filled = np.empty(count, np.uint64), 0
    for batch in ids():
        found = hashed(batch.drop_null())
        table[filled : filled + len(found)] = found
        filled += len(found)
    table = table[:filled]
    table.sort()
    twice = np.unique(table[1:][table[1:] == table[:-1]])
    del table
    return _exactly(_suspects(ids(), twice, hashed)) if len(twice) else Repeats()


def hashes(texts: pa.LargeStringArray) -> Hashes:
    """A hash of 64 bits for each text, none of which is null; the same texts have the same."""
    import numpy as np  # noqa: PLC0415 - heavy

    result = np.zeros(len(texts), np.uint64)
    if not len(texts):
        return result
    buffers: list[Any] = texts.buffers()
    offsets = np.frombuffer(buffers[1], np.int64)[texts.offset : texts.offset + len(texts) + 1]
    data = np.frombuffer(buffers[2] or b"", np.uint8)
    begin = 0
    while begin < len(texts):
        end = max(begin + 1, int(np.searchsorted(offsets, offsets[begin] + _WINDOW, "right")) - 1)
        here = offsets[begin : end + 1] - offsets[begin]
        lengths = np.diff(here)
        places = np.arange(here[-1]) - np.repeat(here[:-1], lengths)
        terms = (data[offsets[begin] : offsets[end]].astype(np.uint64) + np.uint64(1)) * _powers(int(lengths.max(initial=0)))[places]
        full = np.flatnonzero(lengths)  # reduceat would give an empty text the first byte of the next one
        if len(full):
            result[begin + full] = np.add.reduceat(terms, here[:-1][full])
        begin = end
    result ^= result >> np.uint64(31)
    return result


def _powers(count: int) -> Hashes:
    import numpy as np  # noqa: PLC0415 - heavy

    return np.cumprod(np.full(max(count, 1), _BASE, np.uint64), dtype=np.uint64)


def _numbered(ids: Batches) -> Iterator[tuple[int, str | None]]:
    """(row, id) of all rows."""
    row = 0
    for batch in ids:
        yield from enumerate(batch.to_pylist(), row)
        row += len(batch)


def _suspects(ids: Batches, twice: Hashes, hashed: Callable[[Any], Hashes]) -> Iterator[tuple[int, str | None]]:
    """(row, id) of the rows whose hash occurs more than once."""
    import numpy as np  # noqa: PLC0415 - heavy

    row = 0
    for batch in ids:
        there = np.flatnonzero(batch.is_valid().to_numpy(zero_copy_only=False))
        for at in there[np.isin(hashed(batch.drop_null()), twice)]:
            yield row + int(at), batch[int(at)].as_py()
        row += len(batch)


def _exactly(rows: Iterable[tuple[int, str | None]]) -> Repeats:
    """Of (row, id), in order, the rows whose id an earlier one has."""
    first: dict[str, int] = {}
    found, examples = array("Q"), list[tuple[str, int, int]]()
    for row, one in rows:
        if one is not None and first.setdefault(one, row) != row:
            found.append(row)
            if len(examples) < _EXAMPLES:
                examples.append((one, first[one], row))
    return Repeats(found, examples)
