"""What changed most since the baseline, as text beside a failed gate: labels, samples with their spans marked, and how to run just this again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from .table import plain

# Characters of a sample's text that a message shows.
_WIDTH: Final = 140
_BEFORE: Final = 30


@dataclass(frozen=True, slots=True)
class ChangedLabel:
    """One label's figure in the baseline and now."""

    label: str
    metric: str
    before: float
    now: float


@dataclass(frozen=True, slots=True)
class ChangedSample:
    """One sample: the metric of it alone in the baseline and now, its text (cleaned), what is right, what the model says now."""

    id: str
    before: float | None
    now: float | None
    text: str
    gold: Any
    prediction: Any


def message(labels: Sequence[ChangedLabel], samples: Sequence[ChangedSample], command: str, notes: Sequence[str] = ()) -> str:
    """All of it; empty parts are left out."""
    blocks = []
    if notes:
        blocks.append("\n".join(notes))
    if labels:
        lines = [f"  {_short(one.label, 40)}  {one.metric} {one.before:.4f} -> {one.now:.4f} ({one.now - one.before:+.4f})" for one in labels]
        blocks.append("\n".join(["labels that changed most:", *lines]))
    if samples:
        blocks.append("\n".join(["samples that changed most:", *(line for one in samples for line in _sample(one))]))
    blocks.append(f"run just this again:\n  {command}")
    return "\n\n".join(blocks)


def _sample(one: ChangedSample) -> list[str]:
    head = f"  {_short(one.id, 60)}  {_figure(one.before)} -> {_figure(one.now)}"
    gold, now = _spans(one.gold), _spans(one.prediction)
    if one.text and (gold is not None and now is not None):
        odd = sorted(set(gold) ^ set(now))
        window = _window(one.text, odd[0][0] if odd else 0)
        return [head, f"    right: {marked(one.text, gold, *window)}", f"    now:   {marked(one.text, now, *window)}"]
    if not one.text and one.gold is None and one.prediction is None:
        return [head]
    lines = [head, f"    {_short(one.text, _WIDTH)}"] if one.text else [head]
    return [*lines, f"    right: {_short(_said(one.gold), _WIDTH)}", f"    now:   {_short(_said(one.prediction), _WIDTH)}"]


def marked(text: str, spans: Sequence[tuple[int, int, str]], first: int, stop: int) -> str:
    """The characters from `first` to before `stop`, spans in brackets with their labels: `call [PERSON Ann] now`. What overlaps an earlier span is left out."""
    shown, at = ["..." if first else ""], first
    for start, end, label in sorted(spans):
        if start < at or start >= stop:
            continue
        shown += [text[at:start], f"[{label} {text[start : min(end, stop)]}]"]
        at = min(end, stop)
    shown += [text[at:stop], "..." if stop < len(text) else ""]
    return _one_line("".join(shown))


def _window(text: str, at: int) -> tuple[int, int]:
    first = max(0, min(at - _BEFORE, len(text) - _WIDTH))
    return first, min(len(text), first + _WIDTH)


def _spans(value: Any) -> list[tuple[int, int, str]] | None:
    """Spans as (start, end, label), whatever follows in each; None for what are none."""
    if not isinstance(value, list) or not all(isinstance(one, list | tuple) and len(one) >= 3 and isinstance(one[0], int) for one in value):
        return None
    return [(one[0], one[1], str(one[2])) for one in value]


def _said(value: Any) -> str:
    return value if isinstance(value, str) else "-" if value is None else str(value)


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _short(text: str, width: int) -> str:
    line = _one_line(text)
    return line if len(line) <= width else f"{line[: width - 3]}..."


def _one_line(text: str) -> str:
    return " ".join(plain(text).split())
