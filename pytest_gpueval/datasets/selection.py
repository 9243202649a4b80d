"""Which rows of a `full` split make the `fast` one: label-balanced, the same on every machine, nested in size. Pure: arrays in, row numbers out.

1. A row's place is `blake2b(key, salt=seed)`, whatever its position and whatever library read it (`hash_order`).
2. Of k rows floor(k * negatives) have no label: the first in hash order. Where there are too few, rows with labels take their place, and the other way round.
3. Rows with labels are chosen one after another. The turn is the label's that the fewest chosen rows have (of several the first by name). It takes the first
   of its next 8 rows in hash order whose labels are not ahead of it, on average, by one each; rows that are passed over wait, and where none of the 8
   will do, the one that was least ahead is taken.

Nothing but the number of steps depends on k, and neither number of step 2 falls as k grows. So, with the same `negatives`, seed and rows, the selection of
k rows is a subset of that of k + 1, in the same order. With l labels and p chosen rows that have any, every label gets min(what there is, ceil(p / l) - 1)
rows or more, however labels occur together: at each count it has at most one turn, and so has every other. Where there are rows enough in which a label
is not beside more frequent ones, counts come within some 2 % of each other; a label that nearly every row has stays ahead. Looking further ahead than 8
rows evens it out a little more, with rows that have fewer labels than is usual.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from hashlib import blake2b
from itertools import accumulate
from typing import TYPE_CHECKING

from pytest_gpueval.errors import MissingExtra, UsageProblem

if TYPE_CHECKING:
    from types import ModuleType

    import numpy as np
    import numpy.typing as npt

    Order = npt.NDArray[np.uint64]
    Rows = npt.NDArray[np.int64]

SEED = "gpueval-1"
ROWS = 2000
NEGATIVES = 0.2
LOOK_AHEAD = 8
_HASH_BYTES = 16
_LABEL_SHIFT = 40  # A place in hash order takes less than so many bits: a label and a place are one number.


@dataclass(frozen=True)
class RowLabels:
    """The labels of rows: row i has `names[j]` for j in `indices[indptr[i]:indptr[i + 1]]`, each once.

    `names` are sorted and may hold labels that no row has. `indptr` has shape (rows + 1,), `indices` that of all labels of all rows.
    Raises ValueError for names out of order or arrays that do not fit together.
    """

    names: tuple[str, ...]
    indptr: npt.NDArray[np.int64]
    indices: npt.NDArray[np.unsignedinteger]

    def __post_init__(self) -> None:
        if list(self.names) != sorted(set(self.names)):
            raise ValueError("names of labels must be sorted and different")
        if not len(self.indptr) or self.indptr[0] != 0 or self.indptr[-1] != len(self.indices):
            raise ValueError("indptr does not fit indices")

    @classmethod
    def of(cls, rows: Iterable[Collection[str]], names: Iterable[str] = ()) -> RowLabels:
        """The labels of a few rows given as collections; `names` are labels beside those that rows have."""
        np = numpy()
        sets = [sorted(set(labels)) for labels in rows]
        every = tuple(sorted({*names, *(label for labels in sets for label in labels)}))
        number = {name: at for at, name in enumerate(every)}
        ends = np.array([0, *accumulate(map(len, sets))], np.int64)
        return cls(every, ends, np.array([number[label] for labels in sets for label in labels], np.uint32))


@dataclass(frozen=True, slots=True)
class Tally:
    """How many rows of a kind there are, and how many of them were selected."""

    available: int
    selected: int


@dataclass(frozen=True, slots=True)
class Selection:
    """Row numbers in output order, which is hash order, out of `total` rows; how many rows of each label they hold; what fell short, in words.

    `level`: every label has at least so many selected rows, or all that there are; 0 without labels.
    """

    rows: tuple[int, ...]
    total: int
    labels: dict[str, Tally]
    positives: Tally
    negatives: Tally
    level: int
    notes: tuple[str, ...]


def numpy() -> ModuleType:
    """The package numpy. Raises MissingExtra."""
    try:
        import numpy as np
    except ImportError:
        raise MissingExtra("numpy", needed_for="selecting rows", extra="hub") from None
    return np


def hash_order(keys: Iterable[bytes], seed: str = SEED) -> Order:
    """Where rows stand: `blake2b(key, digest_size=16, salt=blake2b(seed, digest_size=16))` as two big-endian numbers of 8 bytes, shape (rows, 2)."""
    np = numpy()
    salt = blake2b(seed.encode(), digest_size=_HASH_BYTES).digest()
    digests = b"".join([blake2b(key, digest_size=_HASH_BYTES, salt=salt).digest() for key in keys])
    found: Order = np.frombuffer(digests, dtype=">u8").reshape(-1, 2).astype(np.uint64)
    return found


def sorted_rows(order: Order) -> tuple[Rows, npt.NDArray[np.bool_]]:
    """The row numbers in hash order, and for each place whether its key is that of the place before. Rows of one key keep their order."""
    np = numpy()
    rows = np.argsort(order[:, 0])  # which has one answer only unless some are equal
    high = order[rows, 0]
    tied = high[1:] == high[:-1]
    repeats = np.zeros(len(rows), bool)
    if tied.any():
        rows = np.lexsort((order[:, 1], order[:, 0]))
        low = order[rows, 1]
        repeats[1:] = tied & (low[1:] == low[:-1])
    return rows, repeats


def select(order: Order, labels: RowLabels | None, *, rows: int = ROWS, negatives: float | None = NEGATIVES) -> Selection:
    """Select rows; `order` is of `hash_order`, one for each row of `labels`.

    `negatives` is the share of rows without a label; None leaves such rows out. Without `labels` rows are taken in hash order. Rows of one key are taken
    for copies of each other and count once. Raises UsageProblem where there are too few rows, or for a share outside [0, 1].
    """
    np = numpy()
    if rows < 1:
        raise UsageProblem(f"{rows} rows: at least 1 must be selected")
    if negatives is not None and not 0 <= negatives <= 1:
        raise UsageProblem(f"a share of negatives of {negatives}: it must lie between 0 and 1")
    if labels is not None and len(labels.indptr) != len(order) + 1:
        raise ValueError(f"labels of {len(labels.indptr) - 1} rows, but {len(order)} keys")
    by_hash, repeats = sorted_rows(order)
    total, copies = len(by_hash), int(np.count_nonzero(repeats))
    by_hash = by_hash[~repeats] if copies else by_hash
    notes = [f"{_many(copies)} the copy of another: such rows count once"] if copies else []
    if labels is None:
        if rows > len(by_hash):
            raise UsageProblem(f"{rows:,} rows are asked for, but there are {len(by_hash):,}. Ask for fewer.")
        return Selection(tuple(by_hash[:rows].tolist()), total, {}, Tally(0, 0), Tally(len(by_hash), rows), 0, tuple(notes))
    bare = labels.indptr[by_hash + 1] == labels.indptr[by_hash]
    unlabelled = np.flatnonzero(bare)
    if negatives is None and len(unlabelled):
        notes.append(f"{_many(len(unlabelled))} without a label, and left out")
        unlabelled = unlabelled[:0]
    available = (int(np.count_nonzero(~bare)), len(unlabelled))
    if rows > sum(available):
        kinds = "with a label" if negatives is None else f"{available[0]:,} with a label, {available[1]:,} without"
        raise UsageProblem(f"{rows:,} rows are asked for, but {sum(available):,} can be selected: {kinds}. Ask for fewer.")
    wanted = _share(rows, negatives or 0.0)
    # Neither number falls as `rows` grows, whatever there is of both.
    of_negatives = min(max(wanted, rows - available[0]), available[1])
    places = _Places(by_hash, labels)
    taken, counts = _spread(places, rows - of_negatives)
    chosen = np.sort(np.concatenate([np.fromiter(taken, np.int64, len(taken)), unlabelled[:of_negatives]]))
    table = {name: Tally(*pair) for name, *pair in zip(labels.names, places.available, counts, strict=True)}
    level = min((tally.selected for tally in table.values() if tally.selected < tally.available), default=max(counts, default=0))
    tallies = Tally(available[0], rows - of_negatives), Tally(available[1], of_negatives)
    notes += _shortfalls(table, level, *tallies, wanted)
    return Selection(tuple(by_hash[chosen].tolist()), total, table, *tallies, level, tuple(notes))


def _share(rows: int, negatives: float) -> int:
    """The number of rows without a label: floor(rows * negatives), with the share as it is written, not as its nearest binary number."""
    return int(rows * Fraction(str(negatives)))


class _Places:
    """Rows by their place in hash order: their labels, and the places of each label."""

    def __init__(self, by_hash: Rows, labels: RowLabels) -> None:
        np = numpy()
        self._by_hash, self._labels = by_hash, labels
        place = np.full(len(labels.indptr) - 1, -1, np.int64)
        place[by_hash] = np.arange(len(by_hash))
        # One number for each label of each row, label first: sorted, they are the labels' queues one after another.
        entries = np.repeat(place, np.diff(labels.indptr))
        del place
        copies = entries < 0
        entries |= labels.indices.astype(np.int64) << _LABEL_SHIFT
        if copies.any():
            entries = entries[~copies]
        entries.sort()
        if (entries[1:] == entries[:-1]).any():
            raise ValueError("a row has a label twice")
        self._bounds = np.searchsorted(entries, np.arange(len(labels.names) + 1, dtype=np.int64) << _LABEL_SHIFT).tolist()
        entries &= (1 << _LABEL_SHIFT) - 1
        self._entries = entries
        self.available: list[int] = np.diff(self._bounds).tolist()

    def labels_of(self, place: int) -> list[int]:
        """The numbers of the labels of the row at a place."""
        row = self._by_hash[place]
        found: list[int] = self._labels.indices[self._labels.indptr[row] : self._labels.indptr[row + 1]].tolist()
        return found

    def of_label(self, label: int) -> Iterator[int]:
        """The places of the rows that have a label, ascending."""
        for first in range(self._bounds[label], self._bounds[label + 1], 256):
            yield from self._entries[first : min(first + 256, self._bounds[label + 1])].tolist()


class _Queue:
    """The rows of one label in hash order, less those that were passed over, which wait."""

    def __init__(self, places: Iterator[int]) -> None:
        self._fresh = places
        self._waiting: list[tuple[int, int]] = []  # (how far ahead its labels were, place)

    def take(self, taken: Collection[int], lead: Callable[[int], tuple[int, int]]) -> int | None:
        """The next row to take; None if there is none left. `lead` says how far the labels of a place are ahead together, and how far they may be."""
        looked = 0
        while looked < LOOK_AHEAD and (place := next(self._fresh, None)) is not None:
            if place in taken:
                continue
            looked += 1
            ahead, allowed = lead(place)
            if ahead <= allowed:
                return place
            heapq.heappush(self._waiting, (ahead, place))
        while self._waiting:
            place = heapq.heappop(self._waiting)[1]
            if place not in taken:
                return place
        return None


def _spread(places: _Places, wanted: int) -> tuple[set[int], list[int]]:
    """Take `wanted` places, of which there are as many, so that labels come out even; and how many of them have each label."""
    queues = [_Queue(places.of_label(label)) for label in range(len(places.available))]
    counts, taken = [0] * len(queues), set[int]()
    turns = [(0, label) for label in range(len(queues))]

    def lead(place: int) -> tuple[int, int]:
        labels = places.labels_of(place)
        return sum(counts[label] - count for label in labels if counts[label] > count), len(labels) - 1

    while len(taken) < wanted:
        count, label = heapq.heappop(turns)
        if count < counts[label]:  # other labels' turns have served it since
            heapq.heappush(turns, (counts[label], label))
            continue
        place = queues[label].take(taken, lead)
        if place is None:
            continue
        taken.add(place)
        for other in places.labels_of(place):
            counts[other] += 1
        heapq.heappush(turns, (counts[label], label))
    return taken, counts


def _shortfalls(table: dict[str, Tally], level: int, positives: Tally, negatives: Tally, wanted: int) -> Iterator[str]:
    """What is not as it was asked for, in words."""
    for name, tally in table.items():
        if tally.available and tally.selected < level:
            yield f"label {name!r}: only {tally.available:,} rows have it, and all are selected; the others have {level:,} and more"
    if negatives.selected < wanted:
        yield f"{wanted:,} rows without a label are wanted, but there are {negatives.available:,}: rows with labels take their place"
    if negatives.selected > wanted:
        yield f"only {positives.available:,} rows have a label, and all are selected: {negatives.selected:,} without one fill up, {wanted:,} were wanted"


def _many(rows: int) -> str:
    return "1 row is" if rows == 1 else f"{rows:,} rows are"
