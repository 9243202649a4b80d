"""Ids that occur more than once in a split: found exactly, at eight bytes an id.

Where no two hashes of 64 bits are equal, no two ids are. Only ids whose hash another one has are looked at as they are, in a second pass.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    Hashes = np.ndarray[tuple[int], np.dtype[np.uint64]]

# Of so few a set is made, of some ten MB: that is done before numpy is imported.
FEW: Final = 1 << 17
_EXAMPLES: Final = 3
# Ids that are hashed at a time; each needs some fifty bytes meanwhile.
_WINDOW: Final = 1 << 13
# Ids are taken eight bytes at a time, all at once; what is longer than so many words, one by one.
_WORDS: Final = 32
# Multipliers of the finalisers of splitmix64 (Steele, Lea & Flood 2014): odd, without a pattern.
_ODD, _OTHER = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9

# Ids in order, batch by batch, as texts of Arrow; null is no id.
Texts: TypeAlias = "pa.StringArray | pa.LargeStringArray"
Batches: TypeAlias = Iterable[Texts]


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


def find(ids: Callable[[], Batches], count: int, *, few: int = FEW, hashed: Callable[[Any], Hashes] | None = None) -> Repeats:
    """Look at `count` ids, which `ids` gives anew each time it is called. `hashed` takes the place of `hashes`."""
    if count <= few:
        return Repeats() if _all_differ(ids()) else _exactly(_numbered(ids()))
    import numpy as np  # noqa: PLC0415 - heavy

    hashed = hashed or hashes
    table, filled = np.empty(count, np.uint64), 0
    for batch in ids():
        found = hashed(_there(batch))
        table[filled : filled + len(found)] = found
        filled += len(found)
    table = table[:filled]
    table.sort()
    twice = np.unique(table[1:][table[1:] == table[:-1]])
    del table
    return _exactly(_suspects(ids(), twice, hashed)) if len(twice) else Repeats()


def hashes(texts: Texts) -> Hashes:
    """A hash of 64 bits for each text, none of which is null; in one process the same texts have the same."""
    import numpy as np  # noqa: PLC0415 - heavy

    windows = [_hashes(texts[at : at + _WINDOW]) for at in range(0, len(texts), _WINDOW)]
    return np.concatenate(windows) if windows else np.empty(0, np.uint64)


def _hashes(texts: Texts) -> Hashes:
    import numpy as np  # noqa: PLC0415 - heavy
    import pyarrow as pa  # noqa: PLC0415 - heavy

    buffers: list[Any] = texts.buffers()
    width = np.int64 if pa.types.is_large_string(texts.type) else np.int32
    offsets = np.frombuffer(buffers[1], width)[texts.offset : texts.offset + len(texts) + 1].astype(np.int64)
    data = np.frombuffer(buffers[2] or b"", np.uint8)[offsets[0] : offsets[-1]]
    # The word that begins at each byte; the last ones end in zeros.
    words: Hashes = np.ndarray((len(data) + 1,), np.dtype("<u8"), np.append(data, np.zeros(8, np.uint8)), strides=(1,))
    masks = np.array([(1 << 8 * count) - 1 for count in range(9)], np.uint64)
    starts, lengths = offsets[:-1] - offsets[0], np.diff(offsets)
    result = _mixed(lengths.astype(np.uint64))
    for done in range(0, 8 * _WORDS, 8):
        left = np.flatnonzero(lengths > done)
        if not len(left):
            break
        word = words[starts[left] + done] & masks[np.minimum(lengths[left] - done, 8)]
        result[left] = _mixed(result[left] ^ word)
    for at in np.flatnonzero(lengths > 8 * _WORDS):
        result[at] ^= np.int64(hash(texts[int(at)].as_py())).astype(np.uint64)
    return result


def _mixed(words: Hashes) -> Hashes:
    """Words whose every bit depends on every bit, two of which are equal only where they were."""
    import numpy as np  # noqa: PLC0415 - heavy

    words = words * np.uint64(_ODD)
    words = (words ^ (words >> np.uint64(29))) * np.uint64(_OTHER)
    return words ^ (words >> np.uint64(32))


def _all_differ(ids: Batches) -> bool:
    """Whether no id occurs twice."""
    seen, count = set[str | None](), 0
    for batch in ids:
        there = _there(batch)
        seen.update(there.to_pylist())
        count += len(there)
    return len(seen) == count


def _there(texts: Texts) -> Texts:
    """Those that are not null."""
    return texts.drop_null() if texts.null_count else texts


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
        for at in there[np.isin(hashed(_there(batch)), twice)]:
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
