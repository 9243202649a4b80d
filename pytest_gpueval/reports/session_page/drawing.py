"""Numbers of drawings: inline SVG that templates write.

No library of plots here: plotly.js is 4.6 MB of program that a browser reads before the first word shows, needs `unsafe-eval`, and prints badly, for bars,
lines and boxes that are a few hundred characters each. Sweeps, whose figures one turns and brushes, have it (`reports.sweep`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pytest_gpueval.reports.table import Figure, number

from .records import Bin, Curve

# The box of a drawing with axes, in units of its viewBox.
WIDTH, HEIGHT = 640.0, 260.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 44.0, 12.0, 10.0, 30.0
# Shades of the cells of a table of counts.
_SHADES = 8


@dataclass(frozen=True, slots=True)
class Bar:
    """A figure in [0, 1] as percent; `low` and `high` are those of the interval."""

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class Axes:
    """`x` and `y`: place and text of each tick; `lines`: name and path; `boxes`: left, top, width, height and words."""

    x: Sequence[tuple[float, str]]
    y: Sequence[tuple[float, str]]
    lines: Sequence[tuple[str, str]] = ()
    boxes: Sequence[tuple[float, float, float, float, str]] = ()
    left: float = _LEFT
    right: float = WIDTH - _RIGHT
    top: float = _TOP
    bottom: float = HEIGHT - _BOTTOM


def bar(figure: Figure | None) -> Bar | None:
    """None for what is unscored, or no share."""
    if figure is None or figure.value is None or not 0 <= figure.value <= 1:
        return None
    low, high = (None, None) if figure.low is None or figure.high is None else (100 * max(figure.low, 0.0), 100 * min(figure.high, 1.0))
    return Bar(100 * figure.value, low, high)


def curve(found: Curve) -> Axes:
    """Lines of shares over a threshold; the axis begins where they do."""
    places = [x for points in found.lines.values() for x, _ in points]
    low, high = min(places), max(places)
    span = (high - low) or 1.0
    lines = [(name, " ".join(f"{_x((x - low) / span):.1f},{_y(value):.1f}" for x, value in points)) for name, points in found.lines.items()]
    x = [(_x(quarter / 4), number(low + span * quarter / 4)) for quarter in range(5)]
    return Axes(x, [(_y(share / 4), f"{share / 4:.2f}") for share in range(5)], lines=lines)


def histogram(bins: Sequence[Bin]) -> Axes:
    """Bars of counts; the edges are logarithmic, so that all are equally wide."""
    most = max(found.count for found in bins)
    step = 1 / len(bins)
    boxes = [
        (_x(place * step) + 1, _y(found.count / most), max(_x(step) - _x(0) - 2, 1), _y(0) - _y(found.count / most), f"{milliseconds(found.low_ms)} to {milliseconds(found.high_ms)}: {found.count:,}")
        for place, found in enumerate(bins)
    ]
    every = max(1, len(bins) // 5)
    x = [(_x(place * step), milliseconds(bins[place].low_ms)) for place in range(0, len(bins), every)]
    return Axes(x, [(_y(share), f"{most * share:,.0f}") for share in ((0, 0.5, 1) if most > 1 else (0, 1))], boxes=boxes)


def _x(share: float) -> float:
    return _LEFT + share * (WIDTH - _LEFT - _RIGHT)


def _y(share: float) -> float:
    return HEIGHT - _BOTTOM - share * (HEIGHT - _TOP - _BOTTOM)


def milliseconds(value: float | None) -> str:
    """`12.3 ms`, `1.25 s`."""
    if value is None:
        return "-"
    if value >= 1000:
        return f"{value / 1000:.3g} s"
    return f"{value:.3g} ms"


@dataclass(frozen=True, slots=True)
class Cell:
    """A count of a table: its shade from 0 to 8 by its share of the row, and whether row and column are the same."""

    count: int
    shade: int
    same: bool
    share: float


@dataclass(frozen=True, slots=True)
class Matrix:
    """A table of counts; `square`: rows and columns are the same kind of thing, so that its cells have shades."""

    columns: Sequence[str]
    rows: Sequence[tuple[str, Sequence[Cell], int]]
    square: bool


def matrix(table: Mapping[str, Mapping[str, int]], largest: int) -> Matrix | None:
    """None for one that is too large for a page."""
    present = dict.fromkeys(column for row in table.values() for column in row)
    columns = [*(name for name in table if name in present), *(name for name in present if name not in table)]
    if not table or max(len(table), len(columns)) > largest:
        return None
    square = any(name in table for name in columns)
    rows = []
    for name, counts in table.items():
        total = sum(counts.values())
        cells = [
            Cell(count, round(_SHADES * count / total) if square and total else 0, name == column, count / total if total else 0.0)
            for column in columns
            for count in (counts.get(column, 0),)
        ]
        rows.append((name, cells, total))
    return Matrix(columns, rows, square)
