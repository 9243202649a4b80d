"""A sweep in Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from pytest_gpueval.reports.markdown import escape, line
from pytest_gpueval.reports.table import plain

from .records import Sweep
from .view import view

# A pull request is no place for 300 lines; the page and the exported table have them all.
_SHOWN = 30


def markdown(sweep: Sweep, *, level: int = 1, seed: str = "seed") -> str:
    """The report of a sweep: ranking, means over seeds, importance of parameters, failed rows. `level`: of its first heading."""
    seen = view(sweep, seed)
    marks = "#" * level
    lines = [f"{marks} {escape(seen.title)}", "", escape(seen.summary)]
    if seen.same:
        lines += ["", f"The same in all rows: {escape(seen.same)}"]
    if seen.lines:
        lines += ["", *_table(seen.ranking, [cells for _, cells in seen.lines[:_SHOWN]]), *_more(len(seen.lines))]
    lines += ["", f"{marks}# Means over seeds", ""]
    lines += [*(_table(seen.group_header, seen.group_lines[:_SHOWN]) if seen.group_lines else []), *_more(len(seen.group_lines))]
    lines += [*([""] if seen.group_lines and seen.groups.note else []), *([escape(seen.groups.note)] if seen.groups.note else [])]
    lines += ["", f"{marks}# Importance of parameters", "", escape(seen.verdict)]
    if seen.importance.shares:
        lines += ["", *_table(["parameter", "share of the variance"], [[name, f"{share:.1%}"] for name, share in seen.importance.shares.items()])]
    for row, parameters in seen.failed:
        lines += ["", f"{marks}# {escape(row.run_id)}: {escape(row.status)}", "", escape(parameters)]
        lines += ["", "```text", plain(row.reason).replace("```", "'''"), "```"] if row.reason else []
    return "\n".join(lines) + "\n"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [line([escape(name) for name in header]), line(["---"] * len(header)), *(line([escape(cell) for cell in cells]) for cells in rows)]


def _more(count: int) -> list[str]:
    return ["", f"... and {count - _SHOWN} more"] if count > _SHOWN else []
