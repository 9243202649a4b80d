"""What every task offers: rows to samples, raw answers to predictions, both to score parts, score parts to metrics.

Score parts are plain JSON: they are written with each sample, and every metric is computed from them alone. A resumed or merged run
therefore reaches the same numbers as an undisturbed one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from .estimates import Estimate

Parts = dict[str, Any]


class BadRow(ValueError):
    """A row of a split breaks the task's schema. The text says how, without naming the row."""


class BadPrediction(ValueError):
    """A model's answer for one sample cannot be scored: NaN, offsets outside the text, an unknown label."""


class Sample:
    """One row of a split: its id, what the model sees, and what it should find."""

    __slots__ = ("gold", "id", "inputs")

    def __init__(self, id: str, inputs: Mapping[str, Any], gold: Any) -> None:  # noqa: A002 - the column's name
        self.id = id
        self.inputs = inputs
        self.gold = gold

    def __repr__(self) -> str:
        return f"Sample(id={self.id!r})"


@dataclass(frozen=True, slots=True)
class Metrics:
    """Metrics of a case: over all samples, and per label.

    `tables` are counts by name, row and column, for example `confusion`: gold label -> predicted label -> samples.
    """

    overall: Mapping[str, Estimate]
    labels: Mapping[str, Mapping[str, Estimate]] = field(default_factory=dict)
    tables: Mapping[str, Mapping[str, Mapping[str, int]]] = field(default_factory=dict)


def canonical(labels: Iterable[str], label_map: Mapping[str, str] | None) -> dict[str, str]:
    """What a split calls a label -> the suite's label: itself, or what the map says."""
    return {**{label: label for label in labels}, **(label_map or {})}


class Counts(Protocol):
    """Mergeable counts: adding the parts of shards in any order gives the same metrics."""

    def add(self, parts: Parts, /) -> None:
        """Add one sample's score parts."""

    def merge(self, other: Any, /) -> None:
        """Add another shard's counts."""

    def metrics(self) -> Metrics:
        """The metrics of everything added so far."""


class Task(Protocol):
    """What is asked of a model, and how its answers are judged. Tasks are stateless and pure.

    A task may have `optional_columns` too: those of them that a split has are read as well.
    """

    @property
    def columns(self) -> Sequence[str]:
        """The columns a split must have."""

    @property
    def headline(self) -> str:
        """The metric that tables show first."""

    def sample(self, row: Mapping[str, Any], /) -> Sample:
        """Read a row. Raises BadRow."""

    def prediction(self, answer: Any, sample: Sample, /) -> Any:
        """Check and normalise a model's answer; the result is JSON. Raises BadPrediction."""

    def score(self, sample: Sample, prediction: Any, /) -> Parts:
        """The score parts of one sample."""

    def counts(self) -> Counts:
        """Empty counts."""


# A metric of the user's own: the score of one sample, or None where it has no meaning; the case's figure is the mean.
SampleMetric = Callable[[Sample, Any], float | None]
