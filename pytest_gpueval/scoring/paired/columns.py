"""Score parts of many samples -> the columns of their metrics, a step at a time: parts are let go once their figures stand in columns."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Final, Protocol, runtime_checkable

from pytest_gpueval.scoring.task import Parts, Task
from pytest_gpueval.scoring.terms import HasTerms, Key, Ratio, numpy, own_terms

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from pytest_gpueval.scoring.terms import Column

# Samples of a step.
STEP: Final = 1 << 16

# For each metric the numbers of its columns, numerator and denominator; a number that recurs is a column that metrics share.
_Layout = dict[Key, tuple[tuple[int, ...], tuple[int, ...]]]


@runtime_checkable
class Scores(Protocol):
    """The score parts of samples that need not be in memory all at once; iterating gives them one by one, in order."""

    def __len__(self) -> int:
        """How many samples there are."""

    def __iter__(self) -> Iterator[Parts]:
        """Their parts."""

    def steps(self) -> Iterator[tuple[Sequence[Parts], npt.NDArray[np.int64]]]:
        """Some samples after the other: parts that differ, and which of them each sample has."""


def ratios(task: Task, parts: Scores | Sequence[Parts], keys: Collection[Key]) -> dict[Key, Ratio]:
    """The metrics that are ratios of sums, the user's own among them; none without a sample."""
    if not len(parts):
        return {}
    of_task, own = _Joined(len(parts)), _Joined(len(parts))
    at = 0
    for different, places in _steps(parts):
        size = len(different) if places is None else len(places)
        terms = task.terms(different, keys) if isinstance(task, HasTerms) else {}
        if not of_task.add(terms, places, at, size):  # a task whose columns are not the same in every step
            whole = list(parts)
            of_task = _Joined(len(whole))
            of_task.add(task.terms(whole, keys) if isinstance(task, HasTerms) else {}, None, 0, len(whole))
            return {**of_task.ratios(), **own_terms(whole, keys)}
        for key, ratio in own_terms(different, keys).items():
            own.put(key, ratio, places, at, size)
        at += size
    return {**of_task.ratios(), **own.ratios()}


def _steps(parts: Scores | Sequence[Parts]) -> Iterator[tuple[Sequence[Parts], npt.NDArray[np.int64] | None]]:
    if isinstance(parts, Scores):
        yield from parts.steps()
    else:
        yield from ((parts[start : start + STEP], None) for start in range(0, len(parts), STEP))


class _Joined:
    """Columns over all samples, filled step by step; 0 where a step has none."""

    def __init__(self, samples: int) -> None:
        self._samples = samples
        self._layout: _Layout = {}
        self._columns: list[Column] = []

    def add(self, terms: Mapping[Key, Ratio], places: npt.NDArray[np.int64] | None, at: int, size: int) -> bool:
        """Take a step of `size` samples from `at` on. False, and nothing is taken, where its metrics or the columns that they share are others than before."""
        numbers: dict[int, int] = {}
        layout: _Layout = {}
        steps: list[Column] = []
        for key, ratio in terms.items():
            sides = []
            for side in ratio:
                for column in side:
                    if id(column) not in numbers:
                        numbers[id(column)] = len(steps)
                        steps.append(column)
                sides.append(tuple(numbers[id(column)] for column in side))
            layout[key] = (sides[0], sides[1])
        if at and layout != self._layout:
            return False
        self._layout = layout
        if not at:
            self._columns = [numpy().zeros(self._samples) for _ in steps]
        for whole, column in zip(self._columns, steps, strict=True):
            whole[at : at + size] = column if places is None else column[places]
        return True

    def put(self, key: Key, ratio: Ratio, places: npt.NDArray[np.int64] | None, at: int, size: int) -> None:
        """The same for one metric that other steps may lack, each of its columns its own."""
        if key not in self._layout:
            first, count = len(self._columns), len(ratio.numerator) + len(ratio.denominator)
            self._columns += [numpy().zeros(self._samples) for _ in range(count)]
            numbers = tuple(range(first, first + count))
            self._layout[key] = (numbers[: len(ratio.numerator)], numbers[len(ratio.numerator) :])
        for number, column in zip((*self._layout[key][0], *self._layout[key][1]), (*ratio.numerator, *ratio.denominator), strict=True):
            self._columns[number][at : at + size] = column if places is None else column[places]

    def ratios(self) -> dict[Key, Ratio]:
        """All of them."""
        return {key: Ratio(*(tuple(self._columns[number] for number in side) for side in sides)) for key, sides in self._layout.items()}
