"""What a failed gate prints: a table of all verdicts, in the terminal and in JUnit."""

from __future__ import annotations

from collections.abc import Sequence

from .bounds import Verdict

_BOUNDS = ("", "metric", "value", "95 % interval", "bound", "documents")
_DROPS = ("", "metric", "baseline", "value", "difference", "interval", "p", "bound", "detects", "documents", "changed")


def failure_message(title: str, verdicts: Sequence[Verdict]) -> str:
    """All verdicts, failed ones first: those on bounds, then those against a baseline."""
    failed = [verdict for verdict in verdicts if not verdict.ok]
    ordered = [*failed, *(verdict for verdict in verdicts if verdict.ok)]
    lines = [f"{title}: {len(failed)} of {len(verdicts)} gates failed"]
    if bounds := [verdict for verdict in ordered if not is_paired(verdict)]:
        lines += ["", *_table(_BOUNDS, [_bound_cells(verdict) for verdict in bounds])]
    if drops := [verdict for verdict in ordered if is_paired(verdict)]:
        lines += ["", *_table(_DROPS, [_drop_cells(verdict) for verdict in drops])]
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
