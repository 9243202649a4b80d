"""The rows that every report shows."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

# Sequences that steer a terminal, and characters that show nothing. Line ends and tabs stay.
_CONTROL = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")

# Rows and columns of the largest table of counts that a report shows.
LARGEST = 30
HEADERS = ("dataset", "rows", "metric", "value [95 % CI]", "samples/s", "verdict")
# Of sweeps: a run is a row, and one value of a metric has no interval.
SWEEP_HEADERS = ("row", "steps", "metric", "value", "time", "verdict")
# Of gates against a baseline, and on speed.
VERDICTS = ("verdict", "metric", "baseline", "value", "difference", "p", "bound", "detects")
# Beside a baseline.
BESIDE = ("vs baseline", "p", "finds")
# Columns of numbers.
NUMBERS = frozenset({"rows", "steps", "samples/s", "time", *BESIDE})


@dataclass(frozen=True, slots=True)
class Figure:
    """A metric with its interval; None where it is unscored."""

    value: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class Beside:
    """What the first gate against a baseline found, in texts; `outcome` only where it says more than the case's status, `finds`: the smallest drop it sees."""

    difference: str
    p: str
    finds: str
    outcome: str = ""

    @property
    def words(self) -> str:
        """`-0.011 vs baseline (p 0.21, finds 0.014)`."""
        told = ", ".join(word for word in (f"p {self.p}" if self.p else "", f"finds {self.finds}" if self.finds else "") if word)
        return (f"{self.outcome}: " if self.outcome else "") + f"{self.difference} vs baseline" + (f" ({told})" if told else "")


@dataclass(frozen=True, slots=True)
class Row:
    """One run, as reports need it."""

    suite: str
    case: str
    run_id: str
    worker: str
    reused: bool
    ok: bool
    status: str
    reason: str | None
    headline: str | None
    metrics: Mapping[str, Figure]
    labels: Mapping[str, Mapping[str, Figure]]
    scored: int
    errors: int
    skipped: int
    samples_per_s: float | None
    seconds: float
    gates: int = 0
    tables: Mapping[str, Mapping[str, Mapping[str, int]]] = field(default_factory=dict)
    sweep: bool = False
    beside: Beside | None = None
    verdicts: Sequence[Sequence[str]] = ()  # of gates against a baseline and on speed, the texts under VERDICTS

    def cells(self, *, apart: bool = False) -> tuple[str, ...]:
        """The texts under HEADERS; `apart`: what stands beside a baseline has columns of its own."""
        rows = f"{self.scored:,}"
        notes = [f"{n} {what}" for n, what in ((self.errors, "errors"), (self.skipped, "skipped")) if n]
        rate = clock(self.seconds) if self.sweep else f"{self.samples_per_s:,.0f}" if self.samples_per_s is not None else "-"
        beside = "" if self.beside is None else self.beside.outcome if apart else self.beside.words
        told = [f"{self.gates or 'no'} gate{'s' if self.gates != 1 else ''}", beside, "reused" if self.reused else ""]
        verdict = ", ".join([self.status, *(words for words in told if words)])
        return (self.case, f"{rows} ({', '.join(notes)})" if notes else rows, self.headline or "-", self.value(), rate, verdict)

    def value(self) -> str:
        """The headline metric with its interval."""
        return value_with_interval(self.metrics.get(self.headline or ""))

    def label_figures(self) -> list[str]:
        """The names of the figures that any label has, in the order they appear."""
        return list(dict.fromkeys(name for figures in self.labels.values() for name in figures))


    def counts(self) -> list[tuple[str, list[list[str]]]]:
        """The tables of counts as (name, lines of cells), the header first; one that is too large for a page is left to summary.json."""
        found = []
        for name, table in self.tables.items():
            present = dict.fromkeys(column for row in table.values() for column in row)
            columns = [*(name for name in table if name in present), *(name for name in present if name not in table)]  # as rows, where they are the same
            if max(len(table), len(columns)) <= LARGEST:
                lines = [[row, *(f"{counts.get(column, 0):,}" for column in columns)] for row, counts in table.items()]
                found.append((name, [["", *columns], *lines]))
        return found


def headers(rows: Sequence[Row]) -> tuple[str, ...]:
    """The headers of `Row.cells`: those of sweeps where there is nothing else."""
    return SWEEP_HEADERS if rows and all(row.sweep for row in rows) else HEADERS


def columns(rows: Sequence[Row], width: int) -> tuple[list[str], list[list[str]]]:
    """The headers and the texts of a table on a screen of this width: beside a baseline with BESIDE, of which the last are left out where they do not fit."""
    names = list(headers(rows))
    if not any(row.beside for row in rows):
        return names, [list(row.cells()) for row in rows]
    place = HEADERS.index("value [95 % CI]") + 1
    cells = [list(row.cells(apart=True)) for row in rows]
    found = [(row.beside.difference, row.beside.p, row.beside.finds) if row.beside else ("", "", "") for row in rows]
    table: list[list[str]] = []
    for most in range(len(BESIDE), 0, -1):
        table = [[*line[:place], *beside[:most], *line[place:]] for line, beside in zip([names, *cells], [BESIDE, *found], strict=True)]
        if sum(max(map(len, column)) + 2 for column in zip(*table, strict=True)) - 2 <= width:
            break
    return table[0], table[1:]


def number(value: float) -> str:
    """`0.912`; four digits where three decimals would show none of them, or too many."""
    return f"{value:.3f}" if value == 0 or 1e-2 <= abs(value) < 1e5 else f"{value:.4g}"


def value_with_interval(figure: Figure | None) -> str:
    """`0.912 [0.897, 0.926]`, or a dash."""
    if figure is None or figure.value is None:
        return "-"
    if figure.low is None or figure.high is None:
        return number(figure.value)
    return f"{figure.value:.3f} [{figure.low:.3f}, {figure.high:.3f}]"


def clock(seconds: float) -> str:
    """`1:05`, `1:01:05`."""
    whole = max(0, round(seconds))
    hours, rest = divmod(whole, 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}" if hours else f"{rest // 60}:{rest % 60:02}"


def plain(text: str) -> str:
    """Text without what steers a terminal, or turns the direction of what follows."""
    return text if text.isprintable() else _CONTROL.sub("", text.replace("\r\n", "\n"))  # as a rule it is, which is sooner seen
