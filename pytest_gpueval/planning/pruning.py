"""Early stop: which rows of a sweep are not worth their remaining steps, from what all rows have reported so far.

The rules are ours although optuna has both: its median pruner looks at *completed* trials alone, so that the first wave of a sweep is never stopped; steps
must be integers; a study must be kept beside the session, and agree with it about rows that are reused, begun anew or interrupted.
"""

from __future__ import annotations

import math
from array import array
from bisect import bisect_right, insort
from dataclasses import dataclass, field
from statistics import median
from typing import Literal, Protocol

from pytest_gpueval.errors import UsageProblem

Goal = Literal["min", "max"]


@dataclass(frozen=True, slots=True)
class Stop:
    """A row need not go on."""

    row: str
    step: float
    rule: str
    reason: str


class Rule(Protocol):
    """Keeps what all rows of a session report and says which of them to stop. Deterministic; one thread at a time."""

    def judge(self, row: str, step: float, value: float) -> Stop | None:
        """Take one value of the goal's metric at `step`, and say whether the row should end there.

        A value that is no finite number is the worst there is. A step that the row has reported already (it was continued) replaces what was reported there.
        A stopped row stays stopped: what it reports until it has ended changes nothing.
        """

    def forget(self, row: str) -> None:
        """The row begins anew: what it reported before does not count."""


class MedianRule:
    """Stops a row whose best value so far is worse than the median of the others at that step.

    The others are all rows that have reported at this step or a later one, whatever became of them; at least `min_rows` of them, or nothing is said. `against`
    chooses what of theirs is taken: "best", their best value up to the step, or "mean", the mean of their values up to the step. The latter is the rule of
    Golovin et al., "Google Vizier: A Service for Black-Box Optimization", KDD 2017, section 3.2.2, except that it counts completed trials only; on falling
    curves it seldom speaks, because a mean trails what a row has reached.
    """

    def __init__(self, *, goal: Goal = "min", warmup_steps: float = 0, min_rows: int = 5, against: Literal["best", "mean"] = "best") -> None:
        """Up to and including `warmup_steps` no row is stopped. Raises UsageProblem for settings without a meaning."""
        _require(goal in ("min", "max"), f"goal: {goal!r} is neither 'min' nor 'max'")
        _require(against in ("best", "mean"), f"against: {against!r} is neither 'best' nor 'mean'")
        _require(_is_number(warmup_steps) and warmup_steps >= 0, f"warmup_steps: {warmup_steps!r} is not a number of at least 0")
        _require(min_rows >= 1, f"min_rows: {min_rows!r} is not a whole number of at least 1")
        self._goal: Goal = goal
        self._warmup_steps = warmup_steps
        self._min_rows = min_rows
        self._against: Literal["best", "mean"] = against
        self._curves: dict[str, _Curve] = {}
        self._stopped: dict[str, Stop] = {}

    def judge(self, row: str, step: float, value: float) -> Stop | None:
        """See `Rule`. Takes time in proportion to the number of rows. Raises UsageProblem for a step that is no finite number."""
        _check_step(row, step)
        if row in self._stopped:
            return self._stopped[row]
        curve = self._curves.setdefault(row, _Curve())
        curve.report(step, _cost(value, self._goal))
        if step <= self._warmup_steps:
            return None
        others = [self._of(other, step) for name, other in self._curves.items() if name != row and other.steps[-1] >= step and other.steps[0] <= step]
        if len(others) < self._min_rows:
            return None
        own, middle = curve.best(step), median(others)
        if own <= middle:
            return None
        reason = (
            f"median rule: best value {_shown(own, self._goal)} up to step {_figure(step)} is worse than "
            f"{_shown(middle, self._goal)}, the median of the {self._against} values of {len(others)} other rows"
        )
        return self._stopped.setdefault(row, Stop(row, step, "median", reason))

    def forget(self, row: str) -> None:
        """See `Rule`."""
        self._curves.pop(row, None)
        self._stopped.pop(row, None)

    def _of(self, curve: _Curve, step: float) -> float:
        return curve.best(step) if self._against == "best" else curve.mean(step)


class SuccessiveHalving:
    """Stops a row at a rung unless it is among the best share 1/`reduction` of the rows that came there, ties included.

    Rungs lie at `min_steps` * `reduction`**k steps. Asynchronous successive halving, Li et al., "A System for Massively Parallel Hyperparameter Tuning", MLSys
    2020, arXiv:1810.05934, in its stopping form: a row is judged once at a rung, by what has come there until then, and runs on or ends, where the paper
    pauses it and may go on with it later. So the first rows at a rung have few to be compared with: n rows let max(1, n // reduction) pass.
    """

    def __init__(self, *, goal: Goal = "min", reduction: int = 4, min_steps: float = 1) -> None:
        """`min_steps`: steps that every row has. Raises UsageProblem for settings without a meaning."""
        _require(goal in ("min", "max"), f"goal: {goal!r} is neither 'min' nor 'max'")
        _require(reduction >= 2, f"reduction: {reduction!r} is not a whole number of at least 2")
        _require(_is_number(min_steps) and min_steps > 0, f"min_steps: {min_steps!r} is not a number above 0")
        self._goal: Goal = goal
        self._reduction = reduction
        self._min_steps = min_steps
        self._curves: dict[str, _Curve] = {}
        self._rungs: dict[int, dict[str, float]] = {}
        self._stopped: dict[str, Stop] = {}

    def judge(self, row: str, step: float, value: float) -> Stop | None:
        """See `Rule`. The best value up to the rung counts. Raises UsageProblem for a step that is no finite number."""
        _check_step(row, step)
        if row in self._stopped:
            return self._stopped[row]
        curve = self._curves.setdefault(row, _Curve())
        curve.report(step, _cost(value, self._goal))
        number = self._rung(step)
        if number is None or any(row in self._rungs.get(later, ()) for later in self._rungs if later >= number):
            return None
        # A row that passed several rungs at once is judged at the last: at the others its value would be of more steps than theirs.
        rung = self._rungs.setdefault(number, {})
        rung[row] = own = curve.best(step)
        places = max(1, len(rung) // self._reduction)
        bound = sorted(rung.values())[places - 1]
        if own <= bound:
            return None
        rank = 1 + sum(cost < own for cost in rung.values())
        reason = (
            f"successive halving: best value {_shown(own, self._goal)} is place {rank} of {len(rung)} rows at rung {_figure(self._steps(number))}, "
            f"{places} go on ({_shown(bound, self._goal)} or better)"
        )
        return self._stopped.setdefault(row, Stop(row, step, "halving", reason))

    def forget(self, row: str) -> None:
        """See `Rule`."""
        self._curves.pop(row, None)
        self._stopped.pop(row, None)
        for rung in self._rungs.values():
            rung.pop(row, None)

    def _rung(self, step: float) -> int | None:
        """The last rung at or below a step; by comparison, for a logarithm would be a hair off at the rungs themselves."""
        if step < self._min_steps:
            return None
        number = 0
        while self._steps(number + 1) <= step:
            number += 1
        return number

    def _steps(self, rung: int) -> float:
        return self._min_steps * float(self._reduction) ** rung


@dataclass(slots=True)
class _Curve:
    """What one row has reported, as costs (lower is better) in the order of steps, with the best and the sum up to each."""

    steps: array[float] = field(default_factory=lambda: array("d"))
    costs: array[float] = field(default_factory=lambda: array("d"))
    bests: array[float] = field(default_factory=lambda: array("d"))
    sums: array[float] = field(default_factory=lambda: array("d"))

    def report(self, step: float, cost: float) -> None:
        place = bisect_right(self.steps, step)
        if place and self.steps[place - 1] == step:
            place -= 1
            self.costs[place] = cost
        else:
            insort(self.steps, step)
            self.costs.insert(place, cost)
        del self.bests[place:], self.sums[place:]
        for later in self.costs[place:]:  # one, unless a row goes back
            self.bests.append(min(later, self.bests[-1]) if self.bests else later)
            self.sums.append(later + self.sums[-1] if self.sums else later)

    def best(self, step: float) -> float:
        """The best cost up to a step that is not before the first."""
        return self.bests[bisect_right(self.steps, step) - 1]

    def mean(self, step: float) -> float:
        """The mean of the costs up to a step that is not before the first."""
        count = bisect_right(self.steps, step)
        return self.sums[count - 1] / count


def _cost(value: float, goal: Goal) -> float:
    """The value turned so that lower is better; the worst where it is no finite number."""
    if not math.isfinite(value):
        return math.inf
    return value if goal == "min" else -value


def _shown(cost: float, goal: Goal) -> str:
    """A cost as the value it was."""
    return "nan" if math.isinf(cost) else _figure(cost if goal == "min" else -cost)


def _figure(number: float) -> str:
    return f"{number:.6g}"


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)


def _check_step(row: str, step: float) -> None:
    _require(_is_number(step), f"row {row!r}: step {step!r} is no finite number")


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise UsageProblem(f"early stop: {message}")
