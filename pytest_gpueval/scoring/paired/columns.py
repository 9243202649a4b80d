"""Score parts of many samples -> the columns of their metrics, a step at a time: parts are let go once their figures stand in columns."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from pytest_gpueval.scoring.task import Parts, Task
from pytest_gpueval.scoring.terms import HasTerms, Key, Ratio, numpy, own_terms

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from pytest_gpueval.scoring.terms import Column

    Places = npt.NDArray[np.int64]

# For each metric the numbers of its columns, numerator and denominator; a number that recurs is a column that metrics share.
_Layout = dict[Key, tuple[tuple[int, ...], tuple[int, ...]]]


@runtime_checkable
class Scores(Protocol):
    """The score parts of samples that need not be in memory all at once; iterating gives them one by one, in order."""

    def __len__(self) -> int:
        """How many samples there are."""

    def __iter__(self) -> Iterator[Parts]:
        """Their parts."""

    def ratios(self, task: Task, keys: Collection[Key], /) -> dict[Key, Ratio]:
        """Those of the metrics that are ratios of sums, over all samples."""


def ratios(task: Task, parts: Scores | Sequence[Parts], keys: Collection[Key]) -> dict[Key, Ratio]:
    """The metrics that are ratios of sums, the user's own among them; none without a sample."""
    if not len(parts):
        return {}
    if isinstance(parts, Scores):
        return parts.ratios(task, keys)
    own = own_terms(parts, keys)
    return {**(task.terms(parts, keys - own.keys()) if isinstance(task, HasTerms) else {}), **own}


def over_steps(task: Task, steps: Iterable[tuple[Sequence[Parts], Places]], samples: int, keys: Collection[Key]) -> dict[Key, Ratio] | None:
    """The same of some `samples` samples that come in steps: parts that differ, and which of them each sample has.

    None where a task's columns are not the same in every step, which ours are: then all must be looked at together.
    """
    of_task, own = _Joined(samples), _Joined(samples)
    at = 0
    for different, places in steps:
        if isinstance(task, HasTerms) and not of_task.add(task.terms(different, keys), places, at):
            return None
        for key, ratio in own_terms(different, keys).items():
            own.put(key, ratio, places, at)
        at += len(places)
    return {**of_task.ratios(at), **own.ratios(at)}


class _Joined:
    """Columns over all samples, filled step by step; 0 where a step has none. `samples`: how many are expected."""

    def __init__(self, samples: int) -> None:
        self._room = samples
        self._layout: _Layout = {}
        self._columns: list[Column] = []

    def add(self, terms: Mapping[Key, Ratio], places: Places, at: int) -> bool:
        """Take a step, from sample `at` on. False, and nothing is taken, where its metrics or the columns that they share are others than before."""
        layout, columns = _layout(terms)
        if at and layout != self._layout:
            return False
        if not at:
            self._layout, self._columns = layout, [numpy().zeros(self._room) for _ in columns]
        self._fill(range(len(columns)), columns, places, at)
        return True

    def put(self, key: Key, ratio: Ratio, places: Places, at: int) -> None:
        """The same for one metric that other steps may lack, each of its columns its own."""
        if key not in self._layout:
            numbers = tuple(range(len(self._columns), len(self._columns) + len(ratio.numerator) + len(ratio.denominator)))
            self._columns += [numpy().zeros(self._room) for _ in numbers]
            self._layout[key] = numbers[: len(ratio.numerator)], numbers[len(ratio.numerator) :]
        above, below = self._layout[key]
        self._fill((*above, *below), (*ratio.numerator, *ratio.denominator), places, at)

    def _fill(self, numbers: Iterable[int], columns: Iterable[Column], places: Places, at: int) -> None:
        stop = at + len(places)
        if stop > self._room:
            self._grow(max(stop, 2 * self._room))
        for number, column in zip(numbers, columns, strict=True):
            self._columns[number][at:stop] = column[places]

    def _grow(self, room: int) -> None:
        np = numpy()
        self._columns = [np.concatenate([column, np.zeros(room - self._room)]) for column in self._columns]
        self._room = room

    def ratios(self, samples: int) -> dict[Key, Ratio]:
        """All of them, over so many samples."""
        if samples > self._room:
            self._grow(samples)
        return _ratios(self._layout, [column[:samples] for column in self._columns])


def _layout(terms: Mapping[Key, Ratio]) -> tuple[_Layout, list[Column]]:
    """Which metric has which columns, and those columns."""
    numbers: dict[int, int] = {}
    columns: list[Column] = []
    layout: _Layout = {}
    for key, ratio in terms.items():
        for column in (*ratio.numerator, *ratio.denominator):
            if id(column) not in numbers:
                numbers[id(column)] = len(columns)
                columns.append(column)
        above, below = (tuple(numbers[id(column)] for column in side) for side in ratio)
        layout[key] = above, below
    return layout, columns


def taken(ratios: Mapping[Key, Ratio], places: Places) -> dict[Key, Ratio]:
    """The same metrics over the samples at these places; what they share they still share."""
    layout, columns = _layout(ratios)
    return _ratios(layout, [column[places] for column in columns])


def _ratios(layout: _Layout, columns: Sequence[Column]) -> dict[Key, Ratio]:
    return {key: Ratio(*(tuple(columns[number] for number in side) for side in sides)) for key, sides in layout.items()}
