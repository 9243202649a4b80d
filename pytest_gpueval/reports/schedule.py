"""The plan of a session as text: what runs on which GPU, in which order, and whether it fits the budget."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from . import table
from .table import plain

_SOURCES: Final = {
    "measured": "measured by earlier sessions",
    "suite": "as the suite says",
    "default": "a default, nothing is known",
}
# Lines for one slot; what does not fit is counted.
_LINES: Final = 3
_NAMED: Final = 3


def plan_lines(plan: Mapping[str, Any], width: int = 120) -> str:
    """The whole plan, from its JSON form: the header, then a table with a few lines for each slot that runs anything."""
    used = [slot for slot in plan["slots"] if any(item["slot"] == slot["name"] for item in plan["assignments"])]
    names = max((len(slot["name"]) for slot in used), default=0)
    finishes = max((len(clock(slot["finish_s"])) for slot in used), default=0)
    usual = _usual_source(plan["assignments"])
    lines = [header(plan)]
    for slot in used:
        head = f"  {slot['name']:<{names}}  {clock(slot['finish_s']):>{finishes}}  "
        items = [item for item in plan["assignments"] if item["slot"] == slot["name"]]
        lines += _wrapped(head, [_item(item, usual) for item in items], [item["end_s"] - item["start_s"] for item in items], width)
    if usual:
        others = "; others say so" if any(item["source"] != usual for item in _measurable(plan["assignments"])) else ""
        lines.append(f"  lengths are {_SOURCES.get(usual, usual)}{others}")
    return plain("\n".join(lines)) + "\n"


def header(plan: Mapping[str, Any]) -> str:
    """`plan: 11 shards of 7 datasets, predicted 1:14 (bound 1:12) on 8 GPUs · budget 10:00`, and what does not fit."""
    items = _measurable(plan["assignments"])
    groups = len({item["group"] for item in items})
    whole = _counted(groups, "row" if items and all("::test_sweep[" in item["id"] for item in items) else "dataset")
    what = f"{_counted(len(items), 'shard')} of {whole}" if len(items) != groups else whole
    words = [f"plan: {what}, predicted {clock(plan['makespan_s'])} (bound {clock(plan['bound_s'])}) on {_places(plan['slots'])}"]
    budget_s = plan.get("budget_s")
    if budget_s is not None:
        words.append(f"budget {clock(budget_s)}")
        if plan["makespan_s"] > budget_s:
            words.append(f"exceeds the budget by {clock(plan['makespan_s'] - budget_s)}: {_named(plan['over_budget'])}")
    if plan["too_wide"]:
        words.append(f"too few GPUs for {_named(plan['too_wide'])}")
    return plain(" · ".join(words))


def clock(seconds: float) -> str:
    """`0:12`, `1:14`, `1:02:03`; below 10 s `4.2 s`."""
    return f"{seconds:.1f} s" if seconds < 9.95 else table.clock(seconds)


def label(id_: str) -> str:
    """The part of a node id that tells items apart: `meddies-fast-2of4` of `suite.toml::test_eval[meddies-fast-2of4]`."""
    _, bracket, rest = id_.partition("[")
    return rest.removesuffix("]") if bracket else id_.rpartition("::")[2]


def _measurable(assignments: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Items that compute: all but those that join shards."""
    return [item for item in assignments if not item["merge"]]


def _usual_source(assignments: Iterable[Mapping[str, Any]]) -> str | None:
    """The source of most lengths, which is then said once."""
    ranked = Counter(item["source"] for item in _measurable(assignments)).most_common(1)
    return ranked[0][0] if ranked else None


def _item(item: Mapping[str, Any], usual: str | None) -> str:
    if item["merge"]:
        return f"join {label(item['id'])}"
    notes = [*([f"{clock(item['startup_s'])} start-up"] if item["startup_s"] >= 0.05 else []), *([item["source"]] if item["source"] != usual else [])]
    return f"{label(item['id'])} {clock(item['seconds'])}" + (f" ({', '.join(notes)})" if notes else "")


def _wrapped(head: str, items: Sequence[str], seconds: Sequence[float], width: int) -> list[str]:
    """Items behind a head, on a few lines; the last one counts those that are left out."""
    room = max(width - len(head), 20)
    lines = [""]
    for number, text in enumerate(items):
        rest = len(items) - number
        more = f"… {rest} more, {clock(sum(seconds[number:]))}"
        last = len(lines) == _LINES
        joined = f"{lines[-1]} · {text}" if lines[-1] else text
        if len(joined) + (len(f" · {more}") if last and rest > 1 else 0) <= room or (not lines[-1] and not last):
            lines[-1] = joined
        elif not last:
            lines.append(text)
        else:
            lines[-1] = f"{lines[-1]} · {more}" if lines[-1] else more
            break
    return [head + lines[0], *(" " * len(head) + line for line in lines[1:])]


def _named(ids: Sequence[str]) -> str:
    names = list(dict.fromkeys(label(id_) for id_ in ids))
    return ", ".join(names[:_NAMED]) + (f" … {len(names) - _NAMED} more" if len(names) > _NAMED else "")


def _places(slots: Iterable[Mapping[str, Any]]) -> str:
    slots = list(slots)
    gpus = {gpu for slot in slots for gpu in slot["gpus"]}
    return _counted(len(gpus), "GPU") if gpus else _counted(len(slots), "CPU lane")


def _counted(number: int, what: str) -> str:
    return f"{number:,} {what}{'s' if number != 1 else ''}"
