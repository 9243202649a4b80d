"""What many sessions left, read from their session.json and the summary.json of their runs alone: a thousand sessions in seconds."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from pytest_gpueval.errors import UsageProblem

from .directory import SUMMARY

_SESSION = "session.json"


@dataclass
class Past:
    """Sessions, newest first, and the points that their runs are, each as a JSON object. `passed_over` tells what is none of ours, or broken."""

    sessions: list[dict[str, Any]] = field(default_factory=list)
    points: list[dict[str, Any]] = field(default_factory=list)
    passed_over: list[dict[str, str]] = field(default_factory=list)
    suites: set[str] = field(default_factory=set)


def read(root: Path, wanted: Callable[[str, str], bool] = lambda _suite, _case: True, since: datetime | None = None, limit: int | None = None) -> Past:
    """The newest `limit` sessions at or below `root` that began at `since` or later and have a run that is `wanted` (suite, case).

    Raises UsageProblem if there is no such directory. What cannot be read is passed over, and said.
    """
    past = Past()
    records = []
    for path in _places(root):
        try:
            record = _object(path / _SESSION)
            started = _time(record.get("started_at"))
        except FileNotFoundError:
            past.passed_over.append({"path": str(path), "why": f"no {_SESSION}"})
            continue
        except (OSError, ValueError) as error:
            past.passed_over.append({"path": str(path), "why": f"{_SESSION}: {str(error)[:100]}"})
            continue
        past.suites.update(text for text in map(_text, _list(record.get("suites"))) if text)
        if since is None or started >= since:
            records.append((started, path, record))
    for _, path, record in sorted(records, key=lambda entry: (entry[0], str(entry[1])), reverse=True):
        if limit is not None and len(past.sessions) >= limit:
            break
        runs = [run for run in _list(record.get("runs")) if isinstance(run, dict) and wanted(_text(run.get("suite")) or "", _text(run.get("case")) or "")]
        if not runs and _list(record.get("runs")):
            continue
        session = _session(path, record, runs)
        past.sessions.append(session)
        for run in runs:
            try:
                past.points.append(_point(path, session, run))
            except (OSError, ValueError) as error:
                past.passed_over.append({"path": str(path / str(run.get("run_id"))), "why": f"{SUMMARY}: {str(error)[:100]}"})
    return past


def _places(root: Path) -> list[Path]:
    """The directories that may be sessions: `root` itself, or those in it."""
    if not root.is_dir():
        raise UsageProblem(f"{root}: no such directory. Name the directory that holds sessions, which is what --gpueval-output-dir says.")
    if (root / _SESSION).exists():
        return [root]
    found = []
    with os.scandir(root) as entries:
        for entry in entries:
            with suppress(OSError):
                if entry.is_dir() and not entry.name.startswith("."):
                    found.append(Path(entry.path))
    return found


def _session(path: Path, record: Mapping[str, Any], runs: list[dict[str, Any]]) -> dict[str, Any]:
    code = record.get("code")
    code = code if isinstance(code, dict) else {}
    return {
        "session": path.name,
        "path": str(path),
        **{key: _text(record.get(key)) for key in ("started_at", "ended_at", "host", "data", "plugin_version")},
        "commit": _text(code.get("commit")),
        "dirty": bool(code.get("dirty")),
        "suites": [text for text in map(_text, _list(record.get("suites"))) if text],
        "exit_status": status if isinstance(status := record.get("exit_status"), int) else None,
        "statuses": dict(Counter(_text(run.get("status")) or "unfinished" for run in runs)),
    }


def _point(path: Path, session: Mapping[str, Any], run: Mapping[str, Any]) -> dict[str, Any]:
    """A run; without a summary it did not end. Raises OSError, ValueError for a summary that cannot be read."""
    name = _text(run.get("run_id")) or ""
    if not name or name != Path(name).name or name.startswith("."):  # a file of somebody else's must not lead out of the session
        raise ValueError(f"{name[:100]!r} is no name of a run")
    try:
        summary = _object(path / name / SUMMARY)
    except FileNotFoundError:
        summary = {}
    headline = _text(summary.get("headline"))
    metrics = summary.get("metrics")
    figure = metrics.get(headline) if isinstance(metrics, dict) and headline else None
    figure = figure if isinstance(figure, dict) else {}
    rows = summary.get("rows")
    rows = rows if isinstance(rows, dict) else {}
    return {
        "suite": _text(run.get("suite")) or "",
        "case": _text(run.get("case")) or "",
        **{key: _text(run.get(key)) for key in ("nodeid", "runtime", "gpu")},
        "run_id": name,
        "session": session["session"],
        "started_at": session["started_at"],
        "commit": session["commit"],
        "dirty": session["dirty"],
        "status": _text(summary.get("status")) or _text(run.get("status")) or "unfinished",
        "failure": _text(summary.get("failure")),
        "reused": bool(run.get("reused")),
        "headline": headline,
        **{key: _number(figure.get(key)) for key in ("value", "low", "high", "n")},
        "rows": _number(rows.get("scored")),
        "errors": _number(rows.get("errors")),
        **{key: _number(summary.get(key)) for key in ("samples_per_s", "seconds", "attempts")},
        "gates": [gate for gate in _list(summary.get("gates")) if isinstance(gate, dict)],
    }


def _object(file: Path) -> dict[str, Any]:
    found = orjson.loads(file.read_bytes())
    if not isinstance(found, dict):
        raise ValueError("not a JSON object")  # noqa: TRY004 - as what is not JSON at all
    return found


def _time(value: object) -> datetime:
    """Raises ValueError."""
    if not isinstance(value, str):
        raise ValueError("no started_at")  # noqa: TRY004 - as above
    found = datetime.fromisoformat(value)
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _number(value: object) -> float | int | None:
    return value if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) else None
