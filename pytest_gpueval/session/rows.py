"""Runs as the rows of reports. Knows nothing of pytest: sessions and the command `gpueval` both build their reports from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pytest_gpueval.errors import Conflict
from pytest_gpueval.reports.table import Beside, Figure, Row
from pytest_gpueval.runs import records
from pytest_gpueval.runs.directory import read_metadata, read_summary
from pytest_gpueval.runs.records import SessionRun, Summary, VerdictRecord
from pytest_gpueval.suites.load import FILE_NAME
from pytest_gpueval.suites.model import without_shard
from pytest_gpueval.suites.sweep import PROGRAM


def row(run: SessionRun, summary: Summary, label: str) -> Row:
    """A run for the reports."""
    return Row(
        suite=run.suite,
        case=label,
        run_id=run.run_id,
        worker=run.worker,
        reused=run.reused,
        ok=summary.ok,
        status=summary.status,
        reason=summary.reason,
        headline=summary.headline,
        metrics=_figures(summary.metrics),
        labels={label: _figures(figures) for label, figures in summary.labels.items()},
        scored=summary.rows.scored,
        errors=summary.rows.errors,
        skipped=summary.rows.skipped,
        samples_per_s=summary.samples_per_s,
        seconds=summary.seconds,
        gates=len(summary.gates),
        tables=summary.tables,
        sweep=run.runtime == PROGRAM,
        beside=_beside(summary),
        verdicts=[_cells(gate) for gate in summary.gates if gate.change is not None or gate.unit is not None],
    )


def _cells(gate: VerdictRecord) -> tuple[str, ...]:
    """A verdict under `reports.table.VERDICTS`."""
    change, unit = gate.change, f" {gate.unit}" if gate.unit else ""
    name = f"{gate.metric}[{gate.label}]" if gate.label else gate.metric
    value = "-" if gate.value is None else f"{gate.value:.4g}{unit}"
    bound = f"{gate.bound} ({gate.note})" if gate.note else gate.bound
    if change is None:
        return (gate.outcome, name, "-", value, "-", "-", bound, "-")
    interval = "" if change.low is None or change.high is None else f" [{change.low:+.4g}, {change.high:+.4g}]"
    detects = "-" if change.detectable is None else f"{change.detectable:.4g}"
    known = "-" if change.baseline is None else f"{change.baseline:.4g}{unit}"
    p = "-" if change.p_adjusted is None else _p(change.p_adjusted)
    return (gate.outcome, name, known, value, f"{change.difference:+.4g}{interval}", p, bound, detects)


def _beside(summary: Summary) -> Beside | None:
    """What the first gate against a baseline found: that of the headline metric before others, quality before speed."""
    known = [gate for gate in summary.gates if gate.change is not None]
    gates = sorted(known, key=lambda gate: (gate.unit is not None, gate.label is not None, gate.metric != summary.headline))
    if not gates or gates[0].change is None:
        return None
    gate, change = gates[0], gates[0].change
    digits = "+.3f" if gate.unit is None else "+.3g"
    of = "" if gate.metric == summary.headline and gate.label is None else f"{gate.metric} "
    return Beside(
        difference=f"{of}{change.difference:{digits}}",
        p=_p(change.p_adjusted) if change.p_adjusted is not None else "",
        finds=f"{change.detectable:{digits[1:]}}" if change.detectable is not None else "",
        outcome=gate.outcome if gate.outcome in ("improved", "inconclusive") else "",
    )


def _p(value: float) -> str:
    return "<0.001" if value < 0.001 else f"{value:.2g}"


def told(runs: Sequence[SessionRun], summaries: Mapping[str, Summary | None]) -> list[tuple[SessionRun, Summary]]:
    """The runs that have a line in tables: one for a dataset; its shards have theirs where something went wrong, or where nothing joins them."""
    there = {run.nodeid for run in runs}
    found = [(run, summary) for run in runs if (summary := summaries[run.run_id]) is not None]
    return [(run, summary) for run, summary in found if not (summary.ok and (whole := _whole(run.nodeid)) != run.nodeid and whole in there)]


def _whole(nodeid: str) -> str:
    """The node id of the item that joins a shard; an item that is no shard keeps its own."""
    return f"{without_shard(nodeid[:-1])}]" if nodeid.endswith("]") else nodeid


def label(run: SessionRun, *, several: bool) -> str:
    """How tables call a run: its case, with its suite where there are `several`, and the test's name where it is the user's own."""
    name = f"{run.suite}/{run.case}" if several else run.case
    return f"{name} {run.nodeid.partition('::')[2].partition('[')[0]}" if is_own_test(run.nodeid) else name


def is_own_test(nodeid: str) -> bool:
    """Whether an item is a test of the user's own, not one that a suite file collects."""
    return nodeid.partition("::")[0].rpartition("/")[2] != FILE_NAME


def summary_or_none(path: Path) -> Summary | None:
    """The summary of a run directory; None also where it cannot be read."""
    try:
        return read_summary(path)
    except Conflict:
        return None


def metadata(path: Path) -> Mapping[str, Any]:
    """run_metadata.json of a run, shared; empty where it cannot be read."""
    try:
        return read_metadata(path) or {}
    except Conflict:
        return {}


def _figures(metrics: Mapping[str, records.Figure]) -> dict[str, Figure]:
    return {name: Figure(figure.value, figure.low, figure.high) for name, figure in metrics.items()}
