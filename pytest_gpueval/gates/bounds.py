"""Absolute bounds on metrics, judged on the value or on its whole interval."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol


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


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a gate said. `outcome` is "pass", "fail" or "unscored" (the metric is undefined on this data; counts as a failure)."""

    metric: str
    label: str | None
    bound: str
    value: float | None
    low: float | None
    high: float | None
    n: int
    outcome: str

    @property
    def ok(self) -> bool:
        """Whether the gate lets the case pass."""
        return self.outcome == "pass"

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


def _verdict(gate: Bounds, metrics: Mapping[str, Measured]) -> Verdict:
    bound = " and ".join(f"{sign} {limit:.15g}" for sign, limit in ((">=", gate.min), ("<=", gate.max)) if limit is not None)
    if gate.judge == "interval":
        bound += " (whole interval)"
    found = metrics.get(gate.metric)
    if found is None or found.value is None:
        return Verdict(gate.metric, gate.label, bound, None, None, None, 0, "unscored")
    least, most = (found.low, found.high) if gate.judge == "interval" else (found.value, found.value)
    if least is None or most is None:  # one sample has a value, but no interval
        outcome = "unscored"
    else:
        outcome = "pass" if (gate.min is None or least >= gate.min) and (gate.max is None or most <= gate.max) else "fail"
    return Verdict(gate.metric, gate.label, bound, found.value, found.low, found.high, found.n, outcome)


def failure_message(title: str, verdicts: Sequence[Verdict]) -> str:
    """A table of all verdicts, failed ones first, for the terminal and JUnit."""
    failed = [verdict for verdict in verdicts if not verdict.ok]
    header = ("", "metric", "value", "95 % interval", "bound", "documents")
    rows = [header] + [_cells(verdict) for verdict in (*failed, *(verdict for verdict in verdicts if verdict.ok))]
    widths = [max(len(row[column]) for row in rows) for column in range(len(header))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([f"{title}: {len(failed)} of {len(verdicts)} gates failed", "", *lines])


def _cells(verdict: Verdict) -> tuple[str, ...]:
    outcome, name, documents = verdict.outcome.upper(), verdict.name, str(verdict.n)
    interval = "-" if verdict.low is None or verdict.high is None else f"[{_number(verdict.low)}, {_number(verdict.high)}]"
    return (outcome, name, "-" if verdict.value is None else _number(verdict.value), interval, verdict.bound, documents)


def _number(value: float) -> str:
    """Six digits, more where they would end in zeros: 0.8999999 must not read 0.9 beside a bound of 0.9 that it misses."""
    if value == round(value, 4) and abs(value) < 1e6:
        return f"{value:.4f}"
    short = f"{value:.6g}"
    return f"{value:.12g}" if len(short) < 8 and "e" not in short else short
