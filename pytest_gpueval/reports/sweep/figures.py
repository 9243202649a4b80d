"""Figures of a sweep in plotly's JSON: loss curves that can be zoomed, parallel coordinates that can be brushed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from markupsafe import escape

from pytest_gpueval.reports.table import plain

from .records import Sweep, Value, identity, shown
from .tables import ranking

POINTS: Final = 400
# Points in the whole page: about 4 MB, which a browser draws in a second or two.
_BUDGET: Final = 240_000
_FIGURES: Final = 8
_NAMED: Final = 10
_TICKS: Final = 12
_LABEL: Final = 48
# Okabe and Ito's colours, which the colour-blind can tell apart, and four more; yellow is too pale for a line.
_COLORS: Final = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f3c8d", "#8c564b", "#80ba5a", "#332288")

# From the worst to the best, to be seen on white and on black.
_QUALITY: Final = ((0.0, "#b8b8b8"), (0.5, "#56b4e9"), (1.0, "#d55e00"))

Figure = dict[str, Any]


def figures(sweep: Sweep) -> list[tuple[str, Figure]]:
    """(title, figure) for each series, that of the metric first, then the parallel coordinates where there is something to show."""
    names = sorted({name for row in sweep.rows for name in row.series if row.series[name]})
    names = [*(name for name in names if name == sweep.metric), *(name for name in names if name != sweep.metric)][:_FIGURES]
    lines = sum(bool(row.series.get(name)) for row in sweep.rows for name in names)
    most = max(20, min(POINTS, _BUDGET // lines)) if lines else POINTS
    found = [(f"{name} over steps", curves(sweep, name, most)) for name in names]
    coordinates = parallel(sweep)
    return [*found, ("Parallel coordinates", coordinates)] if coordinates else found


def curves(sweep: Sweep, name: str, most: int = POINTS) -> Figure:
    """A line for each row that has the series; the best rows in colour, the others grey behind them."""
    ranked = [row for row in ranking(sweep) if row.series.get(name)]
    grey = "#8888" if len(ranked) <= 50 else "#8883"
    traces = []
    positive = True
    for place, row in reversed(list(enumerate(ranked))):
        points = thinned([point for point in row.series[name] if math.isfinite(point[1])], most)
        positive = positive and all(value > 0 for _, value in points)
        named = place < _NAMED
        traces.append(
            {
                "type": "scatter",
                "mode": "lines" if len(points) > 1 else "markers",
                "name": label(row.run_id),
                "x": [_rounded(step) for step, _ in points],
                "y": [_rounded(value) for _, value in points],
                "line": {"width": 1.8 if named else 0.8, "color": _COLORS[place] if named else grey},
                "marker": {"color": _COLORS[place] if named else grey},
                "showlegend": named,
                "legendrank": 1 + place,
                "hovertemplate": "%{fullData.name}<br>step %{x}: %{y}<extra></extra>",
            }
        )
    layout: Figure = {
        "xaxis": {"title": {"text": "step"}, "gridcolor": "#8883", "zerolinecolor": "#8886"},
        "yaxis": {"title": {"text": label(name)}, "gridcolor": "#8883", "zerolinecolor": "#8886"},
        "margin": {"t": 40, "r": 10},
        "height": 460,
        "showlegend": True,
    }
    if positive:
        layout["updatemenus"] = [_scales()]
    return {"data": traces, "layout": layout}


def parallel(sweep: Sweep) -> Figure | None:
    """An axis for each parameter that varies and one for the metric, a line for each row that has it; None where there are not two rows or no parameter."""
    rows = [row for row in sweep.rows if row.metric(sweep.metric) is not None]
    names = [name for name in sweep.varying() if len({identity(row.parameters.get(name)) for row in rows}) > 1]
    if sweep.metric is None or len(rows) < 2 or not names:
        return None
    values = [float(row.metrics[sweep.metric] or 0.0) for row in rows]
    dimensions = [{"label": label(name), **_axis([row.parameters.get(name) for row in rows])} for name in names]
    dimensions.append({"label": label(sweep.metric), **_axis(values)})
    trace = {"type": "parcoords", "line": _shades(sweep, values), "dimensions": dimensions, "unselected": {"line": {"color": "#888888", "opacity": 0.1}}}
    return {"data": [trace], "layout": {"margin": {"t": 60, "b": 30, "l": 90, "r": 90}, "height": 480}}


def _shades(sweep: Sweep, values: Sequence[float]) -> Figure:
    """The colours of lines by the metric, on a log scale where its axis has one.

    Lines of a higher colour lie on top, and the best should. A row that diverged must not make all others one colour: the worst tenth is as grey as it.
    """
    sign = -1 if sweep.goal == "min" else 1
    logarithmic = _spans_decades(values)
    heights = [sign * (math.log10(value) if logarithmic else value) for value in values]
    ordered = sorted(heights)
    low, high = ordered[math.floor(0.1 * (len(ordered) - 1))], ordered[-1]
    ticks = [low + (high - low) * part / 4 for part in range(5)] if high > low and math.isfinite(high - low) else [high]
    texts = [f"{10 ** (sign * tick) if logarithmic else sign * tick:.4g}" for tick in ticks]
    return {
        "color": [_rounded(height) for height in heights],
        "colorscale": _QUALITY,
        "cmin": _rounded(low),
        "cmax": _rounded(high),
        "showscale": True,
        "colorbar": {"title": {"text": label(sweep.metric or "")}, "tickvals": [_rounded(tick) for tick in ticks], "ticktext": texts},
    }


def thinned(points: Sequence[tuple[float, float]], most: int = POINTS) -> list[tuple[float, float]]:
    """At most `most` of the points, in their order: both ends, and the smallest and the largest value of each of equal stretches between."""
    if len(points) <= most:
        return list(points)
    values = [value for _, value in points]
    stretches = max(1, (most - 2) // 2)
    inner = len(points) - 2
    kept = {0, len(points) - 1}
    for stretch in range(stretches):
        begin = 1 + stretch * inner // stretches
        part = values[begin : 1 + (stretch + 1) * inner // stretches]
        kept |= {begin + part.index(min(part)), begin + part.index(max(part))}
    return [points[index] for index in sorted(kept)]


def label(text: str) -> str:
    """Text that plotly shows as it is, cut to what fits: it reads a little HTML in labels."""
    return str(escape(_cut(text, _LABEL)))


def _axis(values: Sequence[Value]) -> Figure:
    """Values as places on an axis: numbers by size, on a log scale where they span two decades; others side by side; what is missing below all."""
    numbers = [_number(value) for value in values]
    if any(number is not None for number in numbers) and all(number is not None or _is_missing(value) for number, value in zip(numbers, values, strict=True)):
        return _numbers(numbers)
    known = {identity(value): value for value in values}
    texts = sorted(known, key=lambda key: (key[0] == "NoneType", shown(known[key])))
    places = {key: place for place, key in enumerate(texts)}
    axis: Figure = {"values": [places[identity(value)] for value in values], "range": [-0.3, max(places.values()) + 0.3]}
    every = math.ceil(len(texts) / (2 * _TICKS))
    axis |= {"tickvals": list(places.values())[::every], "ticktext": [_tick(known[key]) for key in texts[::every]]}
    return axis


def _number(value: Value) -> float | None:
    """A number that has a place on an axis."""
    try:
        number = None if isinstance(value, (bool, str)) or value is None else float(value)
    except OverflowError:  # an integer of hundreds of digits
        return None
    return number if number is not None and math.isfinite(number) else None


def _is_missing(value: Value) -> bool:
    return value is None or (isinstance(value, float) and not math.isfinite(value))


def _numbers(values: Sequence[float | None]) -> Figure:
    present = sorted({value for value in values if value is not None})
    logarithmic = _spans_decades(present)

    def place(value: float) -> float:
        return _rounded(math.log10(value) if logarithmic else value)

    low, high = place(present[0]), place(present[-1])
    nowhere = _rounded(max(-1e308, low - 0.12 * min((high - low) or 1.0, 1e308)))
    ticks = present if len(present) <= _TICKS else [10.0**power for power in range(math.ceil(low), math.floor(high) + 1)] if logarithmic else []
    missing = any(value is None for value in values)
    axis: Figure = {"values": [nowhere if value is None else place(value) for value in values]}
    if missing and not ticks:
        ticks = [present[0] * (1 - part / 5) + present[-1] * part / 5 for part in range(6)]
    if ticks:
        axis |= {"tickvals": [*([nowhere] if missing else []), *map(place, ticks)], "ticktext": [*(["none"] if missing else []), *map(_tick, ticks)]}
    return axis


def _spans_decades(values: Sequence[float]) -> bool:
    """Whether a log scale shows them better: positive, and over two decades."""
    return min(values) > 0 and max(values) / min(values) >= 100


def _tick(value: Value) -> str:
    return _cut(shown(value), _LABEL // 2)


def _cut(text: str, longest: int) -> str:
    flat = " ".join(plain(text).split())
    return flat if len(flat) <= longest else flat[: longest - 1] + "…"


def _scales() -> Mapping[str, Any]:
    """Two buttons: linear and logarithmic."""
    buttons = [{"label": kind, "method": "relayout", "args": [{"yaxis.type": kind}]} for kind in ("linear", "log")]
    place = {"type": "buttons", "direction": "right", "x": 0, "xanchor": "left", "y": 1.02, "yanchor": "bottom"}
    return {**place, "buttons": buttons, "bgcolor": "#dddddd", "font": {"color": "#222222", "size": 11}, "pad": {"t": 0, "b": 4}}


def _rounded(value: float) -> float:
    """Six digits are more than a screen shows, and half of the page's size."""
    return float(f"{value:.6g}")
