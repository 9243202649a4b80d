"""Gates that look at all rows of a sweep: the best one, and rows that others must beat. Pure but for the summaries that it is given."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

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


def judge(sweep: Sweep, summaries: Mapping[str, Summary | None]) -> tuple[str | None, str | None]:
    """Judge the rows that passed, by their ids, once all rows have a summary. Gives why there is no verdict, and why gates say no."""
    gates_ = over_all(sweep)
    without = [id_ for id_, summary in summaries.items() if summary is None]
    if gates_ and without:
        rows = f"{', '.join(without[:5])}{', ...' if len(without) > 5 else ''}"
        return f"{sweep.name}: no verdict of the gates over all rows: {len(without)} of {len(summaries)} have not run in this session ({rows})", None
    lines: list[str] = []
    for gate in gates_:
        values = {id_: figure.value for id_, summary in summaries.items() if (figure := _figure(summary, gate.metric)) and figure.value is not None}
        lines += _verdict(gate, sweep.file.goal, values)
    if not lines:
        return None, None
    return None, f"{sweep.name}: {len(lines)} of the sweep's gates failed\n" + "\n".join(f"  {line}" for line in lines)


def _verdict(gate: SweepGate, goal: str, values: Mapping[str, float]) -> list[str]:
    """Why a gate says no, in lines; none where it says yes."""
    if not values:
        return [f"{gate.metric}: no row that passed has it"]
    choose = min if goal == "min" else max
    if gate.beats is not None:
        return _beaten(gate, goal, values)
    best = choose(values, key=lambda id_: values[id_])
    (verdict,) = gates.judge([Gate(metric=gate.metric, min=gate.min, max=gate.max)], {gate.metric: Figure(value=values[best], low=None, high=None, n=1)}, {})
    return [] if verdict.ok else [f"best {gate.metric}: {values[best]:.6g} (row {best}), bound {verdict.bound}"]


def _beaten(gate: SweepGate, goal: str, values: Mapping[str, float]) -> list[str]:
    assert gate.beats is not None
    if gate.beats not in values:
        return [f"{gate.metric}: row {gate.beats}, which is to be beaten, has not passed in this session"]
    bar = values[gate.beats]
    others = {id_: value for id_, value in values.items() if id_ != gate.beats}
    behind = {id_: value for id_, value in others.items() if not (value < bar if goal == "min" else value > bar)}
    if gate.of == "best" and len(behind) < len(others):
        return []
    if gate.of == "best":
        return [f"{gate.metric}: no row beats {gate.beats} with {bar:.6g}"]
    return [f"{gate.metric}: {value:.6g} (row {id_}) does not beat {bar:.6g} (row {gate.beats})" for id_, value in behind.items()]


def _figure(summary: Summary | None, metric: str) -> Figure | None:
    return summary.metrics.get(metric) if summary is not None and summary.ok else None
