"""What a failed gate prints: a table of all verdicts, in the terminal and in JUnit."""

from __future__ import annotations

from collections.abc import Sequence

from .bounds import Verdict

_BOUNDS = ("", "metric", "value", "95 % interval", "bound", "documents")
_SPEEDS = ("", "speed", "baseline", "value", "difference", "interval", "p", "bound", "detects")
_DROPS = ("", "metric", "baseline", "value", "difference", "interval", "p", "bound", "detects", "documents", "changed")


def failure_message(title: str, verdicts: Sequence[Verdict]) -> str:
    """All verdicts, failed ones first: those on bounds, then those against a baseline, then those on speed and memory, and why some could not be judged."""
    failed = [verdict for verdict in verdicts if not verdict.ok]
    ordered = [*failed, *(verdict for verdict in verdicts if verdict.ok)]
    lines = [f"{title}: {len(failed)} of {len(verdicts)} gates failed"]
    speeds = [verdict for verdict in ordered if verdict.unit is not None]
    if bounds := [verdict for verdict in ordered if not is_paired(verdict) and verdict.unit is None]:
        lines += ["", *_table(_BOUNDS, [_bound_cells(verdict) for verdict in bounds])]
    drops = [verdict for verdict in ordered if is_paired(verdict) and verdict.unit is None]
    if drops:
        lines += ["", *_table(_DROPS, [_drop_cells(verdict) for verdict in drops])]
    if speeds:
        lines += ["", *_table(_SPEEDS, [_speed_cells(verdict) for verdict in speeds])]
        lines += [f"{verdict.name}: {verdict.note}" for verdict in speeds if verdict.note is not None]
    if drops or any(is_paired(verdict) for verdict in speeds):
        lines += ["", "p: of a change for the worse within the bound, beside all such gates of the suite; detects: the smallest one found with 80 % power"]
    return "\n".join(lines)


def is_paired(verdict: Verdict) -> bool:
    """Whether a verdict is on a difference from a baseline."""
    return verdict.bound.startswith(("drop ", "rise "))


def _table(header: tuple[str, ...], body: Sequence[tuple[str, ...]]) -> list[str]:
    rows = [header, *body]
    widths = [max(len(row[column]) for row in rows) for column in range(len(header))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _bound_cells(verdict: Verdict) -> tuple[str, ...]:
    return (verdict.outcome.upper(), verdict.name, _number(verdict.value), _interval(verdict.low, verdict.high), verdict.bound, str(verdict.n))


def _drop_cells(verdict: Verdict) -> tuple[str, ...]:
    change = verdict.change
    if change is None:
        return (verdict.outcome.upper(), verdict.name, *("-",) * 5, verdict.bound, *("-",) * 3)
    return (
        verdict.outcome.upper(),
        verdict.name,
        _number(change.baseline),
        _number(verdict.value),
        f"{change.difference:+.4f}",
        "-" if change.low is None or change.high is None else f"[{change.low:+.4f}, {change.high:+.4f}]",
        "-" if change.p_adjusted is None else f"{change.p_adjusted:.3g}",
        verdict.bound,
        "-" if change.detectable is None else f"{change.detectable:.4f}",
        str(verdict.n),
        str(change.changed),
    )


def _speed_cells(verdict: Verdict) -> tuple[str, ...]:
    """Figures of a machine are of any size: four digits, and differences as shares of the baseline too."""
    change = verdict.change
    first = verdict.outcome.upper(), f"{verdict.name} [{verdict.unit}]"
    if change is None or change.baseline is None:
        interval = "-" if verdict.low is None or verdict.high is None else f"[{verdict.low:.4g}, {verdict.high:.4g}]"
        return (*first, "-", _figure(verdict.value), "-", interval, "-", verdict.bound, "-")
    share = f" ({change.difference / change.baseline:+.1%})" if change.baseline else ""
    return (
        *first,
        _figure(change.baseline),
        _figure(verdict.value),
        f"{change.difference:+.4g}{share}",
        "-" if change.low is None or change.high is None else f"[{change.low:+.4g}, {change.high:+.4g}]",
        "-" if change.p_adjusted is None else f"{change.p_adjusted:.3g}",
        verdict.bound,
        "-" if change.detectable is None else f"{change.detectable:.4g}",
    )


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.4g}"


def _interval(low: float | None, high: float | None) -> str:
    return "-" if low is None or high is None else f"[{_number(low)}, {_number(high)}]"


def _number(value: float | None) -> str:
    """Six digits, more where they would end in zeros: 0.8999999 must not read 0.9 beside a bound of 0.9 that it misses."""
    if value is None:
        return "-"
    if value == round(value, 4) and abs(value) < 1e6:
        return f"{value:.4f}"
    short = f"{value:.6g}"
    return f"{value:.12g}" if len(short) < 8 and "e" not in short else short
