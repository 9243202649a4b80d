"""Many sessions as one document: how each case fared over time and commits. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from .markdown import escape, line
from .table import Figure, number, value_with_interval

# Lines of a case's history, and of sessions, in Markdown; JSON has all.
_MOST: Final = 20
_BARS: Final = "▁▂▃▄▅▆▇█"
# A change of speed that is worth an arrow.
_SPEED: Final = 0.1
_LEGEND: Final = (
    "▲ ▼: the 95 % intervals do not overlap; ↗ ↘: they do. Changes are against the session before on the same runtime. "
    "The curve has one mark for each commit, the newest at the right."
)


def document(sessions: Sequence[Mapping[str, Any]], points: Iterable[Mapping[str, Any]], passed_over: Sequence[Mapping[str, str]]) -> dict[str, Any]:
    """Sessions and their runs (newest first) as a JSON object: `sessions`, `cases` with their `points`, each with its `change`, and `passed_over`."""
    cases: dict[tuple[str, str, str, str], list[dict[str, Any]]] = {}
    for point in points:
        key = (point["suite"], point["case"], point["runtime"] or "", _test(point["nodeid"]))
        cases.setdefault(key, []).append(dict(point))
    found = []
    for (suite, case, runtime, test), history in sorted(cases.items()):
        for index, point in enumerate(history):
            point["change"] = _change(point, history[index + 1 :])
        found.append({"suite": suite, "case": case, "runtime": runtime or None, "test": test or None, "curve": _curve(history), "points": history})
    return {"sessions": [dict(session) for session in sessions], "cases": found, "passed_over": [dict(entry) for entry in passed_over]}


def _test(nodeid: str | None) -> str:
    """The function of a test of the user's own; empty for those of suite files."""
    file, _, name = (nodeid or "").partition("::")
    return "" if not name or file.endswith("suite.toml") else name.partition("[")[0]


def _change(point: Mapping[str, Any], older: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Against the newest older point with the same metric: the difference, whether the intervals are apart, and the ratio of speeds on the same GPU model."""
    before = next((other for other in older if other["value"] is not None and other["headline"] == point["headline"]), None)
    if before is None or point["value"] is None:
        return None
    intervals = [point["low"], point["high"], before["low"], before["high"]]
    apart = None if None in intervals else point["low"] > before["high"] or point["high"] < before["low"]
    speeds = (point["samples_per_s"], before["samples_per_s"])
    return {
        "session": before["session"],
        "commit": before["commit"],
        "difference": round(point["value"] - before["value"], 12),
        "intervals_apart": apart,
        "speed_ratio": round(speeds[0] / speeds[1], 4) if all(speeds) and point["gpu"] == before["gpu"] else None,
    }


def _curve(history: Sequence[Mapping[str, Any]]) -> list[float]:
    """The headline metric over commits, oldest first: of the sessions of one commit the newest counts."""
    if not history:
        return []
    newest: dict[tuple[str | None, bool], float] = {}
    for point in history:
        if point["value"] is not None and point["headline"] == history[0]["headline"]:
            newest.setdefault((point["commit"], point["dirty"]), point["value"])
    return list(newest.values())[::-1]


def markdown(found: Mapping[str, Any], root: str) -> str:
    """The document for people: a table of trends for each suite, the history of each case, the sessions."""
    sessions, cases = found["sessions"], found["cases"]
    span = f", {escape(_day(sessions[-1]['started_at']))} to {escape(_day(sessions[0]['started_at']))}" if sessions else ""
    lines = [f"# Sessions in {escape(root)}", "", f"{_count(len(sessions), 'session')}{span}.{_passed_over(found['passed_over'])}"]
    several = {(case["suite"], case["case"]) for case in cases if sum(1 for other in cases if _same(case, other)) > 1}
    for suite in dict.fromkeys(case["suite"] for case in cases):
        names = ("case", "metric", "value [95 % CI]", "change", "over commits", "sessions", "samples/s", "verdict", "commit")
        lines += ["", f"## {escape(suite)}", "", line(names), line(["---"] * len(names))]
        lines += [line(_newest(case, several)) for case in cases if case["suite"] == suite]
    if any(len(case["points"]) > 1 for case in cases):
        lines += ["", _LEGEND]
    for case in cases:
        lines += _history(case, several)
    return "\n".join([*lines, *_sessions(sessions)]) + "\n"


def _same(case: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return (case["suite"], case["case"]) == (other["suite"], other["case"])


def _name(case: Mapping[str, Any], several: set[tuple[str, str]]) -> str:
    """A case; with its test and runtime where there are several of that name."""
    extra = [case["test"], f"({case['runtime']})"] if (case["suite"], case["case"]) in several else [case["test"]]
    return escape(" ".join([case["case"], *(text for text in extra if text)]))


def _newest(case: Mapping[str, Any], several: set[tuple[str, str]]) -> list[str]:
    """A case's line among the trends."""
    point = case["points"][0]
    count = f"{len(case['points']):,}"
    return [
        _name(case, several),
        escape(point["headline"] or "-"),
        _value(point),
        _arrow(point),
        _bars(case["curve"]),
        count,
        _speed(point),
        _verdict(point),
        _commit(point),
    ]


def _history(case: Mapping[str, Any], several: set[tuple[str, str]]) -> list[str]:
    """What a case was in each session; nothing where there is one."""
    points = case["points"]
    if len(points) < 2:
        return []
    names = ("started", "session", "commit", "value [95 % CI]", "change", "rows", "samples/s", "verdict")
    lines = ["", f"### {escape(case['suite'])}: {_name(case, several)}", "", line(names), line(["---"] * len(names))]
    for point in points[:_MOST]:
        rows = "-" if point["rows"] is None else f"{point['rows']:,}"
        lines.append(
            line(
                [
                    escape(_minute(point["started_at"])),
                    escape(point["session"]),
                    _commit(point),
                    _value(point),
                    _arrow(point),
                    rows,
                    _speed(point),
                    _verdict(point),
                ]
            )
        )
    return [*lines, *_rest(len(points))]


def _sessions(sessions: Sequence[Mapping[str, Any]]) -> list[str]:
    names = ("started", "session", "suites", "commit", "host", "exit status", "runs")
    lines = ["", "## Sessions", "", line(names), line(["---"] * len(names))] if sessions else []
    for session in sessions[:_MOST]:
        runs = ", ".join(f"{count:,} {status}" for status, count in sorted(session["statuses"].items()))
        texts = (_minute(session["started_at"]), session["session"], ", ".join(session["suites"]))
        status = "-" if session["exit_status"] is None else str(session["exit_status"])
        lines.append(line([*map(escape, texts), _commit(session), escape(session["host"] or "-"), status, escape(runs or "none")]))
    return [*lines, *_rest(len(sessions))]


def _rest(count: int) -> list[str]:
    return ["", f"{count - _MOST:,} earlier ones are in the JSON."] if count > _MOST else []


def _passed_over(entries: Sequence[Mapping[str, str]]) -> str:
    """How much could not be read, and the first of it."""
    if not entries:
        return ""
    first = "; ".join(escape(f"{entry['path']}: {entry['why']}") for entry in entries[:3])
    return f" {_count(len(entries), 'directory', 'directories')} passed over ({first}{'; ...' if len(entries) > 3 else ''})."


def _count(count: int, one: str, many: str = "") -> str:
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def _value(point: Mapping[str, Any]) -> str:
    return value_with_interval(Figure(point["value"], point["low"], point["high"]))


def _arrow(point: Mapping[str, Any]) -> str:
    """`▲ +0.012`."""
    change = point["change"]
    if change is None:
        return "-"
    difference = change["difference"]
    if difference == 0:
        return "="
    arrow = ("▲" if difference > 0 else "▼") if change["intervals_apart"] else ("↗" if difference > 0 else "↘")
    return f"{arrow} {'+' if difference > 0 else '-'}{number(abs(difference))}"


def _speed(point: Mapping[str, Any]) -> str:
    """`1,204 ▲ 31 %`, the arrow where it changed by a tenth or more."""
    if point["samples_per_s"] is None:
        return "-"
    ratio = (point["change"] or {}).get("speed_ratio")
    arrow = f" {'▲' if ratio > 1 else '▼'} {abs(ratio - 1):.0%}" if ratio is not None and abs(ratio - 1) >= _SPEED else ""
    return f"{point['samples_per_s']:,.0f}{arrow}"


def _verdict(point: Mapping[str, Any]) -> str:
    """How a run ended, which gates said no, how often it was tried, and whether it is from an earlier session."""
    failed = [
        f"{gate.get('metric')}{' of ' + str(gate['label']) if gate.get('label') else ''} {gate.get('bound')}"
        for gate in point["gates"]
        if gate.get("outcome") == "fail"
    ]
    notes = [f": {', '.join(failed)}"] if failed else []
    notes += [f", {point['attempts']:,} attempts"] if (point["attempts"] or 1) > 1 else []
    notes += [", reused"] if point["reused"] else []
    return escape(point["status"] + "".join(notes))


def _commit(entry: Mapping[str, Any]) -> str:
    return escape((entry["commit"] or "-")[:10] + ("+" if entry["dirty"] else ""))


def _bars(values: Sequence[float]) -> str:
    """A curve of characters, as high as its range; the newest forty."""
    shown = values[-40:]
    if len(shown) < 2:
        return "-"
    low, high = min(shown), max(shown)
    if low == high:
        return _BARS[3] * len(shown)
    return "".join(_BARS[round((value - low) / (high - low) * (len(_BARS) - 1))] for value in shown)


def _day(text: str | None) -> str:
    return (text or "?")[:10]


def _minute(text: str | None) -> str:
    return (text or "?")[:16].replace("T", " ")
