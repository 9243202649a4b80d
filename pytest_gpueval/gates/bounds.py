"""Absolute bounds on metrics, judged on the value or on its whole interval."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final, Protocol


class Measured(Protocol):
    """A metric's value with its 95 % interval; all None where it is unscored."""

    @property
    def value(self) -> float | None: ...
    @property
    def low(self) -> float | None: ...
    @property
    def high(self) -> float | None: ...
    @property
    def n(self) -> int: ...


class Bounds(Protocol):
    """A gate: a metric, perhaps of one label, and its bounds."""

    @property
    def metric(self) -> str: ...
    @property
    def label(self) -> str | None: ...
    @property
    def min(self) -> float | None: ...
    @property
    def max(self) -> float | None: ...
    @property
    def judge(self) -> str: ...


UNSCORED: Final = "unscored"


@dataclass(frozen=True, slots=True)
class Change:
    """What lies between a figure and its baseline's, over the samples that both have.

    The interval and `p` are None where so few samples changed that chance cannot be told. `p` is that of "the change for the worse is within the
    margin"; `p_adjusted` is beside the suite's other gates of this kind. `changed` samples count otherwise than they did; `detectable` is the smallest
    change for the worse that the gate finds with 80 % power, in units of the metric. `tolerated`: where the rows cannot tell, the case passes.
    """

    baseline: float | None
    difference: float
    low: float | None
    high: float | None
    p: float | None
    p_adjusted: float | None
    changed: int
    detectable: float | None
    method: str
    tolerated: bool


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a gate said.

    `outcome` is "pass", "fail" or "unscored" (the metric is undefined on this data; counts as a failure). Against a baseline, with a `change`, it
    may also be "improved", or "inconclusive" where the rows cannot tell. `note` says why there was nothing to judge by; then, too, it is
    "inconclusive", and `tolerated` whether the case passes. `unit` is that of speed and memory, whose figures are of a machine.
    """

    metric: str
    label: str | None
    bound: str
    value: float | None
    low: float | None
    high: float | None
    n: int
    outcome: str
    change: Change | None = None
    note: str | None = None
    tolerated: bool = False
    unit: str | None = None

    @property
    def ok(self) -> bool:
        """Whether the gate lets the case pass."""
        tolerated = self.change.tolerated if self.change is not None else self.tolerated
        return self.outcome in ("pass", "improved") or (self.outcome == "inconclusive" and tolerated)

    @property
    def name(self) -> str:
        """The metric as people write it: `strict.f1` or `strict.recall[PERSON]`."""
        return f"{self.metric}[{self.label}]" if self.label else self.metric

    def as_dict(self) -> dict[str, Any]:
        """The JSON form used in summary.json."""
        return asdict(self)


def judge(gates: Iterable[Bounds], overall: Mapping[str, Measured], labels: Mapping[str, Mapping[str, Measured]]) -> list[Verdict]:
    """Judge every gate. A metric that is not there, or undefined, gives the outcome "unscored"."""
    return [_verdict(gate, labels.get(gate.label, {}) if gate.label else overall) for gate in gates]


def bounds_of(gate: Bounds) -> str:
    """`>= 0.8`, `<= 40000 (whole interval)`."""
    bound = " and ".join(f"{sign} {limit:.15g}" for sign, limit in ((">=", gate.min), ("<=", gate.max)) if limit is not None)
    return bound + (" (whole interval)" if gate.judge == "interval" else "")


def _verdict(gate: Bounds, metrics: Mapping[str, Measured]) -> Verdict:
    bound = bounds_of(gate)
    found = metrics.get(gate.metric)
    if found is None or found.value is None:
        return Verdict(gate.metric, gate.label, bound, None, None, None, 0, UNSCORED)
    least, most = (found.low, found.high) if gate.judge == "interval" else (found.value, found.value)
    if least is None or most is None:  # one sample has a value, but no interval
        outcome = UNSCORED
    else:
        outcome = "pass" if (gate.min is None or least >= gate.min) and (gate.max is None or most <= gate.max) else "fail"
    return Verdict(gate.metric, gate.label, bound, found.value, found.low, found.high, found.n, outcome)
