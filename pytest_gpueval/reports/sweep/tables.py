"""Who was best, how sure that is over seeds, and all of it as one flat table."""

from __future__ import annotations

import csv
import io
import math
import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pytest_gpueval.reports.table import plain

from .records import Sweep, SweepRow, Value, identity

_NO_SCIPY = "Intervals need the package 'scipy', which is not installed: pip install 'pytest-gpueval[sweeps]'"
# What a spreadsheet takes for a formula, and what a number may look like all the same.
_FORMULA = re.compile(r"[=+\-@\t\r]")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?(inf|nan)")
_INT64 = 1 << 63


@dataclass(frozen=True, slots=True)
class Group:
    """Rows that differ in their seed only. `values` are the metric of the `n` rows that passed and have it; `rows` counts all."""

    parameters: Mapping[str, Value]
    run_ids: Sequence[str]
    values: Sequence[float]
    rows: int
    mean: float | None
    deviation: float | None
    low: float | None
    high: float | None

    @property
    def n(self) -> int:
        """Rows that the mean is of."""
        return len(self.values)


@dataclass(frozen=True, slots=True)
class Groups:
    """The groups, best mean first; `note` says why there is none, or no interval."""

    groups: Sequence[Group]
    note: str | None = None


@dataclass(frozen=True, slots=True)
class Table:
    """Columns of equal length; each holds one type (bool, int, float or str) and None."""

    columns: Mapping[str, Sequence[Value]]

    def csv(self) -> str:
        """The table as CSV (RFC 4180, but with bare line feeds), None as an empty cell.

        A text that a spreadsheet would compute (it begins with = + - @, a tab or a carriage return, and is no number) gets a `'` in front, as OWASP advises
        against CSV injection, and sequences that steer a terminal are taken out. Where each character counts, parquet has the texts as they are.
        """
        lines = io.StringIO()
        writer = csv.writer(lines, lineterminator="\n")
        writer.writerow([_cell(name) for name in self.columns])
        writer.writerows([_cell(value) for value in line] for line in zip(*self.columns.values(), strict=True))
        return lines.getvalue()


def ranking(sweep: Sweep) -> list[SweepRow]:
    """The rows, best first; rows without the metric last; otherwise in their order."""
    costs = [(sweep.cost(row), row) for row in sweep.rows]
    return [row for _, row in sorted(costs, key=lambda pair: math.inf if pair[0] is None else pair[0])]


def groups(sweep: Sweep, seed: str = "seed") -> Groups:
    """Rows that differ in their seed only: mean, standard deviation (of a sample), and the 95 % interval of the mean by Student's t distribution.

    Only rows that passed and have the metric count: one that ended early has a value of fewer steps. An interval needs two of them, and scipy. It says where
    the mean over all seeds lies if the metric is about normally distributed over seeds; with two or three seeds it is wide, as it should be.
    """
    if sweep.metric is None:
        return Groups((), "The sweep names no metric.")
    names = [name for name in sweep.parameters() if name != seed]
    members: dict[tuple[object, ...], list[SweepRow]] = {}
    for row in sweep.rows:
        members.setdefault(tuple(identity(row.parameters.get(name)) for name in names), []).append(row)
    if seed not in sweep.varying() or all(len(rows) == 1 for rows in members.values()):
        return Groups((), f"No two rows differ in their {seed} only.")
    note = None
    found = []
    for rows in members.values():
        values = [value for row in rows if row.ok and (value := row.metric(sweep.metric)) is not None]
        mean = statistics.fmean(values) if values else None
        deviation = statistics.stdev(values) if len(values) > 1 else None
        low = high = None
        if mean is not None and deviation is not None:
            half = _half_width(deviation, len(values))
            if half is None:
                note = _NO_SCIPY
            else:
                low, high = mean - half, mean + half
        shared = {name: rows[0].parameters.get(name) for name in names}
        found.append(Group(shared, [row.run_id for row in rows], values, len(rows), mean, deviation, low, high))
    sign = 1 if sweep.goal == "min" else -1
    return Groups(sorted(found, key=lambda group: math.inf if group.mean is None else sign * group.mean), note)


def export(sweep: Sweep) -> Table:
    """All rows in their order: run_id, status, ok, attempts, seconds, then `param.` and `metric.` columns. A column of several types becomes text."""
    rows = sweep.rows
    metrics = dict.fromkeys(name for row in rows for name in row.metrics)
    return Table(
        {
            "run_id": [row.run_id for row in rows],
            "status": [row.status for row in rows],
            "ok": [row.ok for row in rows],
            "attempts": [row.attempts for row in rows],
            "seconds": [float(row.seconds) for row in rows],
            **{f"param.{name}": _of_one_type([row.parameters.get(name) for row in rows]) for name in sweep.parameters()},
            **{f"metric.{name}": [None if (value := row.metrics.get(name)) is None else float(value) for row in rows] for name in metrics},
        }
    )


def _half_width(deviation: float, n: int) -> float | None:
    """Half of the 95 % interval of a mean; None without scipy."""
    try:
        from scipy.special import stdtrit  # noqa: PLC0415 - only where rows share their parameters
    except ImportError:
        return None
    return float(stdtrit(n - 1, 0.975)) * deviation / math.sqrt(n)


def _of_one_type(values: Sequence[Value]) -> Sequence[Value]:
    """The values as bools, integers of 64 bits, floats, or else texts."""
    kinds = {type(value) for value in values if value is not None}
    if len(kinds) <= 1 and kinds != {int}:
        return values
    if kinds == {int} and all(-_INT64 <= value < _INT64 for value in values if isinstance(value, int)):
        return values
    if kinds == {int, float} and all(abs(value) <= 1 << 53 for value in values if isinstance(value, int)):
        return [None if value is None else float(value) for value in values]
    return [None if value is None else value if isinstance(value, str) else _written(value) for value in values]


def _written(value: Value) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _cell(value: Value) -> str:
    if not isinstance(value, str):
        return "" if value is None else _written(value)
    text = plain(value).encode("utf-8", "backslashreplace").decode()  # JSON may hold lone surrogates, no file may
    return f"'{text}" if _FORMULA.match(text) and not _NUMBER.fullmatch(text) else text
