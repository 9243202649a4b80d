"""Metrics that are ratios of two sums over samples, sample by sample: what a paired comparison draws again and again.

A task that offers `terms` says, for many samples at once, what each of them adds to a metric's numerator and denominator; what it leaves out is no such ratio.
Tasks do so next to their counts, and the tests compare both.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

from pytest_gpueval.errors import MissingExtra

from .task import Parts

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Column = npt.NDArray[np.float64]

# A metric, and the label that it is of; None for the one over all samples.
Key = tuple[str, str | None]

# Where the score parts of a sample hold the figures of the user's own metrics, by name.
OWN = "extra"


class Ratio(NamedTuple):
    """A metric as sum(numerator) / sum(denominator), each the sum of columns with a number for each sample. It is undefined where the denominator is 0.

    Metrics share columns (the very same arrays) where they can: a column is drawn once, however many metrics use it.
    """

    numerator: tuple[Column, ...]
    denominator: tuple[Column, ...]


@runtime_checkable
class HasTerms(Protocol):
    """A task that says the terms of its metrics."""

    def terms(self, parts: Sequence[Parts], wanted: Collection[Key], /) -> dict[Key, Ratio]:
        """The wanted metrics that are ratios, in columns as long as `parts`. A label that no sample has gives columns of 0. Raises MissingExtra."""


def numpy() -> ModuleType:
    """The package numpy. Raises MissingExtra."""
    try:
        import numpy as np  # noqa: PLC0415 - of an extra
    except ModuleNotFoundError:
        raise MissingExtra("numpy", needed_for="the comparison with a baseline", extra="gates") from None
    return np


def special() -> ModuleType:
    """The module scipy.special: distributions without the slow import of scipy.stats. Raises MissingExtra."""
    try:
        from scipy import special as module  # noqa: PLC0415 - of an extra
    except ModuleNotFoundError:
        raise MissingExtra("scipy", needed_for="the comparison with a baseline", extra="gates") from None
    found: ModuleType = module
    return found


def total(columns: Sequence[Column]) -> Column:
    """The sum of columns, unit by unit."""
    found = columns[0]
    for column in columns[1:]:
        found = found + column
    return found


def figures(hits: Column, possible: Column, actual: Column) -> dict[str, Ratio]:
    """Precision, recall and F1 from the columns that `estimates.Moments` adds up."""
    return {"precision": Ratio((hits,), (actual,)), "recall": Ratio((hits,), (possible,)), "f1": Ratio((hits, hits), (possible, actual))}


def mean(values: Iterable[float | None]) -> Ratio:
    """The mean of a figure of each sample; None: the sample has no say."""
    np = numpy()
    column = np.array([np.nan if value is None else value for value in values], dtype=np.float64)
    has = ~np.isnan(column)
    return Ratio((np.where(has, column, 0.0),), (has.astype(np.float64),))


def share(hits: Iterable[bool]) -> Ratio:
    """The share of samples for which something holds."""
    np = numpy()
    column = np.fromiter(hits, dtype=np.float64)
    return Ratio((column,), (np.ones(len(column)),))


def means(parts: Sequence[Parts], wanted: Collection[Key], of: Mapping[str, Callable[[Parts], float | None]]) -> dict[Key, Ratio]:
    """The wanted ones of metrics that are means of what `of` says of a sample's parts."""
    return {(name, label): mean(map(of[name], parts)) for name, label in wanted if label is None and name in of}


def own_terms(parts: Sequence[Parts], wanted: Collection[Key]) -> dict[Key, Ratio]:
    """The means of the user's own metrics, among those wanted that any sample has."""
    names = {name for figures in [one[OWN] for one in parts if OWN in one] for name in figures}

    def of(name: str) -> Callable[[Parts], Any]:
        return lambda one: one.get(OWN, {}).get(name)

    return means(parts, wanted, {name: of(name) for name in names})
