"""report.md: the session for a pull request or a wiki."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .table import VERDICTS, Row, headers, plain, value_with_interval


def session(record: Mapping[str, Any], rows: Sequence[Row], sections: Sequence[str] = ()) -> str:
    """The report of a session. `sections`: Markdown that others made, put at the end (`sweep.markdown(..., level=2)`)."""
    names = headers(rows)
    data = "" if rows and all(row.sweep for row in rows) else f" · data {escape(record['data'])}"
    lines = [
        f"# {escape(record['session'])}",
        "",
        f"Suites {escape(', '.join(record['suites']))}{data} · commit {escape((record['code'].get('commit') or 'unknown')[:12])}"
        f"{' (with uncommitted changes)' if record['code'].get('dirty') else ''} · host {escape(record['host'])} · {escape(record['started_at'])}",
        "",
        *_joined(record),
        line(names),
        line(["---"] * len(names)),
        *(line([escape(cell) for cell in row.cells()]) for row in rows),
    ]
    for row in rows:
        if row.reason:
            lines += ["", f"## {escape(row.case)}: {escape(row.status)}", "", "```text", plain(row.reason).replace("```", "'''"), "```"]
    for row in rows:
        if row.verdicts:
            lines += ["", f"## {escape(row.case)}: gates on speed and against a baseline", "", line(VERDICTS), line(["---"] * len(VERDICTS))]
            lines += [line([escape(cell) for cell in cells]) for cells in row.verdicts]
        if row.labels:
            lines += ["", f"## {escape(row.case)} per label", "", *_labels(row)]
        for name, (header, *counts) in row.counts():
            lines += ["", f"## {escape(row.case)}: {escape(name)}", "", line(list(map(escape, header))), line(["---"] * len(header))]
            lines += [line(list(map(escape, cells))) for cells in counts]
    return "\n".join([*lines, *(f"\n{section.rstrip()}" for section in sections)]) + "\n"


def _joined(record: Mapping[str, Any]) -> list[str]:
    """Where a merged session comes from, and what differed between its parts."""
    if not record.get("merged_from"):
        return []
    return [f"Joined from {escape(', '.join(record['merged_from']))}", "", *(f"- differs: {escape(line)}" for line in record.get("differences", ())), ""]


def _labels(row: Row) -> list[str]:
    names = [name for name in row.label_figures() if name.endswith("f1")] or row.label_figures()
    table = [line(["label", *map(escape, names)]), line(["---"] * (len(names) + 1))]
    for label, figures in row.labels.items():
        table.append(line([escape(label), *(value_with_interval(figures.get(name)) for name in names)]))
    return table


def line(cells: Sequence[str]) -> str:
    """One line of a table."""
    return "| " + " | ".join(cells) + " |"


def escape(text: str) -> str:
    """Text that Markdown shows as it is, in one line of a table."""
    flat = " ".join(plain(text).split())
    return "".join(f"\\{c}" if c in "\\`*_{}[]<>#|~&" else c for c in flat)
