"""A sweep as tables of texts, the same for Markdown and HTML."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from pytest_gpueval.errors import MissingExtra

from .explain import Importance, importance
from .records import Sweep, SweepRow, shown
from .tables import Groups, groups, ranking

# Metrics beside the one that ranks; the rest are in the exported table.
_OTHERS: Final = 4
_LONGEST: Final = 60


@dataclass(frozen=True, slots=True)
class View:
    """What a report of a sweep says, but for its figures. Lines of cells have the length of their header."""

    title: str
    summary: str
    same: str
    ranking: Sequence[str]
    lines: Sequence[tuple[SweepRow, Sequence[str]]]
    groups: Groups
    group_header: Sequence[str]
    group_lines: Sequence[Sequence[str]]
    importance: Importance
    verdict: str
    failed: Sequence[tuple[SweepRow, str]]


@lru_cache(maxsize=1)  # three reports are made of it, one after the other, and a forest takes seconds to grow
def view(sweep: Sweep, seed: str = "seed") -> View:
    """Everything about a sweep that is text."""
    varying = sweep.varying()
    fixed = [name for name in sweep.parameters() if name not in varying]
    others = list(dict.fromkeys(name for row in sweep.rows for name in row.metrics if name != sweep.metric))[:_OTHERS]
    headline = [sweep.metric] if sweep.metric is not None else []
    ranked = ranking(sweep)
    again = ["attempts"] if any(row.attempts > 1 for row in ranked) else []
    header = ["place", "run", "status", *headline, *varying, *others, "seconds", *again]
    lines = []
    for place, row in enumerate(ranked, 1):
        figures = [_short(row.metrics.get(name)) for name in headline]
        cells = [str(place) if row.metric(sweep.metric) is not None else "-", row.run_id, row.status, *figures]
        cells += [*(_short(row.parameters.get(name)) for name in varying), *(_short(row.metrics.get(name)) for name in others)]
        lines.append((row, [*cells, f"{row.seconds:,.1f}", *(str(row.attempts) for _ in again)]))
    alike = groups(sweep, seed)
    told = _importance(sweep)
    names = [name for name in varying if name != seed]
    return View(
        title=f"Sweep {sweep.name}",
        summary=_summary(sweep),
        same=", ".join(f"{name} = {_short(sweep.rows[0].parameters.get(name))}" for name in fixed) if sweep.rows else "",
        ranking=header,
        lines=lines,
        groups=alike,
        group_header=[*names, f"mean {sweep.metric} [95 % interval]", "standard deviation", "rows"],
        group_lines=[
            [
                *(_short(group.parameters.get(name)) for name in names),
                _short(group.mean) + (f" [{_short(group.low)}, {_short(group.high)}]" if group.low is not None else ""),
                _short(group.deviation),
                str(group.n) if group.n == group.rows else f"{group.n} of {group.rows}",
            ]
            for group in alike.groups
        ],
        importance=told,
        verdict=_verdict(told),
        failed=[(row, ", ".join(f"{name} = {_short(row.parameters.get(name))}" for name in varying)) for row in sweep.rows if not row.ok],
    )


def _importance(sweep: Sweep) -> Importance:
    """What the parameters explain; where a package is missing, that is the reason for saying nothing."""
    try:
        return importance(sweep)
    except MissingExtra as missing:
        return Importance(None, str(missing), None, len(sweep.rows))


def _summary(sweep: Sweep) -> str:
    """`8 rows: 6 passed, 1 oom, 1 timeout · loss, lower is better · best 2.31 (run-7)`"""
    counts = Counter(row.status for row in sweep.rows)
    parts = [f"{len(sweep.rows)} row{'s' if len(sweep.rows) != 1 else ''}: " + ", ".join(f"{count} {status}" for status, count in counts.most_common())]
    if sweep.metric is not None:
        parts.append(f"{sweep.metric}, {'lower' if sweep.goal == 'min' else 'higher'} is better")
        best = next(iter(ranking(sweep)), None)
        if best is not None and best.metric(sweep.metric) is not None:
            parts.append(f"best {shown(best.metric(sweep.metric))} ({best.run_id})")
    return " · ".join(parts) if sweep.rows else "no rows"


def _verdict(told: Importance) -> str:
    """What to think of the shares."""
    if told.shares is None or told.r2 is None:
        return told.reason or ""
    fit = f"A random forest over {told.rows} rows, out-of-bag R2 {told.r2:.2f}"
    return f"{fit}." if told.reliable else f"Not reliable: {fit[0].lower()}{fit[1:]}, which predicts too little of the metric to trust these shares."


def _short(value: object) -> str:
    text = shown(value)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
