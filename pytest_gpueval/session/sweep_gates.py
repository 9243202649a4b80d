"""Gates that look at all rows of a sweep: the best one, and rows that others must beat. Pure but for the summaries that it is given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from pytest_gpueval import gates
from pytest_gpueval.runs.records import Figure
from pytest_gpueval.suites.schema import Gate

if TYPE_CHECKING:
    from pytest_gpueval.runs.records import Summary
    from pytest_gpueval.suites.sweep import Sweep
    from pytest_gpueval.suites.sweep_schema import SweepGate


# What the report of their verdict is called, as if it were a test of the suite's file.
NAME = "test_sweep_gates"


def over_all(sweep: Sweep) -> list[SweepGate]:
    """The gates that look at more than one row."""
    return [gate for gate in sweep.file.gates if gate.of == "best" or gate.beats is not None]


@dataclass(frozen=True, slots=True)
class Spoken:
    """What one gate over all rows said. `row` has the value that decided, both None where no row that passed has the metric; `words`: why it says no."""

    metric: str
    bound: str
    outcome: str
    value: float | None = None
    row: str | None = None
    words: Sequence[str] = ()

    def as_dict(self) -> dict[str, Any]:
        """The JSON form."""
        return {**asdict(self), "words": list(self.words)}


@dataclass(frozen=True, slots=True)
class Judged:
    """What all such gates of a sweep said; `warning` says why they said nothing."""

    warning: str | None = None
    spoken: Sequence[Spoken] = ()
    failure: str | None = None


def judge(sweep: Sweep, summaries: Mapping[str, Summary | None]) -> Judged:
    """Judge the rows that passed, by their ids, once all rows have a summary."""
    gates_ = over_all(sweep)
    without = [id_ for id_, summary in summaries.items() if summary is None]
    if gates_ and without:
        rows = f"{', '.join(without[:5])}{', ...' if len(without) > 5 else ''}"
        return Judged(f"{sweep.name}: no verdict of the gates over all rows: {len(without)} of {len(summaries)} have not run in this session ({rows})")
    spoken = []
    for gate in gates_:
        values = {id_: figure.value for id_, summary in summaries.items() if (figure := _figure(summary, gate.metric)) and figure.value is not None}
        spoken.append(_verdict(gate, sweep.file.goal, values))
    lines = [line for one in spoken for line in one.words]
    return Judged(None, spoken, f"{sweep.name}: {len(lines)} of the sweep's gates failed\n" + "\n".join(f"  {line}" for line in lines) if lines else None)


def _verdict(gate: SweepGate, goal: str, values: Mapping[str, float]) -> Spoken:
    if gate.beats is not None:
        bound = f"{'best beats' if gate.of == 'best' else 'each beats'} {gate.beats}"
    else:
        bound = " and ".join(f"best {sign} {limit:g}" for sign, limit in ((">=", gate.min), ("<=", gate.max)) if limit is not None)
    if not values:
        return Spoken(gate.metric, bound, gates.UNSCORED, words=[f"{gate.metric}: no row that passed has it"])
    best = (min if goal == "min" else max)(values, key=lambda id_: values[id_])
    if gate.beats is not None:
        return _beaten(gate, bound, goal, values)
    (verdict,) = gates.judge([Gate(metric=gate.metric, min=gate.min, max=gate.max)], {gate.metric: Figure(value=values[best], low=None, high=None, n=1)}, {})
    words = [] if verdict.ok else [f"best {gate.metric}: {values[best]:.6g} (row {best}), bound {verdict.bound}"]
    return Spoken(gate.metric, bound, verdict.outcome, values[best], best, words)


def _beaten(gate: SweepGate, bound: str, goal: str, values: Mapping[str, float]) -> Spoken:
    """Of a gate with `beats`."""
    assert gate.beats is not None  # noqa: S101 - for the type checker
    if gate.beats not in values:
        return Spoken(gate.metric, bound, gates.UNSCORED, words=[f"{gate.metric}: row {gate.beats}, which is to be beaten, has not passed in this session"])
    bar = values[gate.beats]
    others = {id_: value for id_, value in values.items() if id_ != gate.beats}
    behind = {id_: value for id_, value in others.items() if not (value < bar if goal == "min" else value > bar)}
    if gate.of == "best":
        words = [] if len(behind) < len(others) else [f"{gate.metric}: no row beats {gate.beats} with {bar:.6g}"]
    else:
        words = [f"{gate.metric}: {value:.6g} (row {id_}) does not beat {bar:.6g} (row {gate.beats})" for id_, value in behind.items()]
    # The row that decides is the best one, where each must beat it the worst.
    choose = min if (goal == "min") == (gate.of == "best") else max
    row = choose(others, key=lambda id_: others[id_], default=None)
    return Spoken(gate.metric, bound, "fail" if words else "pass", None if row is None else others[row], row, words)


def _figure(summary: Summary | None, metric: str) -> Figure | None:
    return summary.metrics.get(metric) if summary is not None and summary.ok else None
