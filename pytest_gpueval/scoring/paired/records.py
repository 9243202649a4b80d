"""What is asked of a paired comparison, and what it finds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pytest_gpueval.scoring.terms import Key

Sides = Literal["one", "two"]


@dataclass(frozen=True, slots=True)
class Asked:
    """One metric, perhaps of one label, and how much worse it may truly be: by `margin` (in its unit) plus `relative` x the baseline.

    Worse is lower, or with `lower_is_better` higher. Raises ValueError for a margin or a share that is negative.
    """

    metric: str
    label: str | None = None
    margin: float = 0.0
    relative: float = 0.0
    lower_is_better: bool = False

    def __post_init__(self) -> None:
        if not (0 <= self.margin < float("inf") and 0 <= self.relative < float("inf")):
            raise ValueError(f"{self.metric}: margin {self.margin} and relative {self.relative} must be numbers of at least 0")

    @property
    def key(self) -> Key:
        """The metric and its label."""
        return self.metric, self.label


@dataclass(frozen=True, slots=True)
class Level:
    """The error that a test may make, split over its sides.

    With one side, `level` is that of each of the two questions (worse? better?), and intervals have confidence 1 - 2 level: their end lies beyond the margin
    where p is below `level`, or nearly so. With two sides both questions share it: p values are doubled, intervals have confidence 1 - level.
    Raises ValueError for a level outside (0, 0.5).
    """

    level: float = 0.05
    sides: Sides = "one"

    def __post_init__(self) -> None:
        if not 0 < self.level < 0.5:
            raise ValueError(f"level {self.level} is not between 0 and 0.5")
        if self.sides not in ("one", "two"):
            raise ValueError(f"sides {self.sides!r} is neither 'one' nor 'two'")

    @property
    def tail(self) -> float:
        """The error on one side."""
        return self.level if self.sides == "one" else self.level / 2

    def p(self, one_sided: float) -> float:
        """A p value of one side as this level compares it."""
        return min(1.0, one_sided if self.sides == "one" else 2 * one_sided)


@dataclass(frozen=True, slots=True)
class Difference:
    """Current minus baseline of one metric, over the samples that both have. All figures are in the metric's unit.

    None says that something is undefined: the metric on one side (then `difference`, `low`, `high`, both p and `detectable` are None too), or
    its variance (then the interval and both p are None). It is never 0 and never NaN.

    `low`, `high`: the interval of the difference, of confidence `confidence`.
    `p`: of the hypothesis that the true worsening is at most the margin. Identical predictions have 1.
    `p_improved`: of the hypothesis that nothing is truly better.
    `n`: samples, or clusters, that had a say. `changed`: samples that add something else to this metric than before.
    `detectable`: the smallest true worsening that is found with 80 % power at this level.
    """

    metric: str
    label: str | None
    baseline: float | None
    value: float | None
    difference: float | None
    low: float | None
    high: float | None
    confidence: float
    p: float | None
    p_improved: float | None
    n: int
    changed: int
    detectable: float | None
    method: str


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a method says about one metric: `low` and `high` of the difference, one-sided p values, the smallest detectable worsening."""

    low: float | None
    high: float | None
    p: float | None
    p_improved: float | None
    detectable: float | None
    method: str
