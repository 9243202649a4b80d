"""Two sessions beside each other, as a table of texts, Markdown or a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from . import html
from .markdown import escape, line

HEADERS: Final = ("case", "metric", "A", "B", "B - A", "95 % interval", "p", "p (Holm)", "samples", "changed")
_NUMBERS: Final = 2  # columns of text; all others hold numbers


def cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    """The texts under HEADERS, of a row as JSON has it."""
    name = f"{row['metric']}[{row['label']}]" if row["label"] else row["metric"]
    interval = "-" if row["low"] is None or row["high"] is None else f"[{row['low']:+.4f}, {row['high']:+.4f}]"
    difference = "-" if row["difference"] is None else f"{row['difference']:+.4f}"
    p = ["-" if row[key] is None else f"{row[key]:.3g}" for key in ("p", "p_adjusted")]
    counts = (f"{row['samples']:,}", f"{row['changed']:,}")
    return (f"{row['suite']}/{row['case']}", name, _figure(row["a"]), _figure(row["b"]), difference, interval, *p, *counts)


def markdown(document: Mapping[str, Any]) -> str:
    """A table and notes."""
    head = [f"# {escape(document['b'])} beside {escape(document['a'])}", "", f"A: {escape(document['a'])} · B: {escape(document['b'])}", ""]
    table = [line(list(HEADERS)), line(["---"] * _NUMBERS + ["---:"] * (len(HEADERS) - _NUMBERS))]
    rows = [line([escape(cell) for cell in cells(row)]) for row in document["rows"]]
    notes = ["", *(f"- {escape(' '.join(note.split()))}" for note in document["notes"])] if document["notes"] else []
    return "\n".join([*head, *table, *rows, *notes]) + "\n"


def page(document: Mapping[str, Any]) -> str:
    """One self-contained file."""
    rows = [(cells(row), _sign(row, document["level"])) for row in document["rows"]]
    return html.environment().get_template("comparison.html.j2").render(document=document, headers=HEADERS, rows=rows, texts=_NUMBERS)


def _sign(row: Mapping[str, Any], level: float) -> str:
    """`up` or `down` where a headline metric changed beyond chance beside all others, else nothing."""
    p: float | None = row["p_adjusted"]
    if p is None or p > level:
        return ""
    return "up" if row["difference"] > 0 else "down"


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def table(document: Mapping[str, Any]) -> Sequence[Mapping[str, str]]:
    """Rows by HEADERS, for a terminal."""
    return [dict(zip(HEADERS, cells(row), strict=True)) for row in document["rows"]]
