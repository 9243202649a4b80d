"""Check directories against the contract, and outline them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pytest_gpueval.errors import Conflict, UsageProblem

from .directory import COMMAND, LOG, METADATA, RESULTS, SUMMARY, read_summary
from .records import MODELS, Record
from .results import count, decode

_REQUIRED = (COMMAND, METADATA, SUMMARY, LOG)
_SESSION = "session.json"


def run_directories(root: Path) -> list[Path]:
    """The run directories at or below `root`, two levels deep. Raises UsageProblem if there is no such directory."""
    if not root.is_dir():
        raise UsageProblem(f"{root}: no such directory")
    found = {file.parent for pattern in (METADATA, f"*/{METADATA}", f"*/*/{METADATA}") for file in root.glob(pattern)}
    return sorted(found)


def problems(root: Path) -> list[tuple[Path, str]]:
    """(file, what is wrong) for everything at or below `root` that breaks the contract. Raises UsageProblem."""
    found = [problem for directory in run_directories(root) for problem in of_run(directory)]
    for file in sorted({*root.glob(_SESSION), *root.glob(f"*/{_SESSION}")}):
        found += _of_json(file, MODELS[_SESSION])
    return found


def of_run(directory: Path, *, every_line: bool = True) -> Iterator[tuple[Path, str]]:
    """(file, what is wrong) for one run. Without `every_line` the lines of results are counted, not read: gigabytes in seconds."""
    for name in _REQUIRED:
        if not (directory / name).is_file():
            yield directory / name, "missing"
    for name in (METADATA, SUMMARY):
        if (directory / name).is_file():
            yield from _of_json(directory / name, MODELS[name])
    yield from _of_summary(directory)
    if (directory / RESULTS).is_file():
        if every_line:
            yield from _of_lines(directory / RESULTS)
        else:
            yield from _of_count(directory / RESULTS, count(directory / RESULTS))


def outline(directory: Path) -> dict[str, Any]:
    """One run in a line."""
    base: dict[str, Any] = {"session": directory.parent.name, "run_id": directory.name, "path": str(directory)}
    try:
        summary = read_summary(directory)
    except Conflict as error:
        return {**base, "status": f"unreadable: {error}".splitlines()[0]}
    if summary is None:
        return {**base, "status": "unfinished"}
    figure = summary.metrics.get(summary.headline or "")
    value = round(figure.value, 4) if figure is not None and figure.value is not None else None
    return {**base, "status": summary.status, "rows": summary.rows.scored, "headline": summary.headline, "value": value, "seconds": summary.seconds}


def _of_json(file: Path, model: type[Record]) -> Iterator[tuple[Path, str]]:
    try:
        model.model_validate(json.loads(file.read_text(encoding="utf-8")))
    except ValidationError as error:
        for detail in error.errors():
            yield file, _detail(detail)
    except (OSError, ValueError, RecursionError) as error:
        yield file, f"not JSON: {error}"


def _of_lines(file: Path) -> Iterator[tuple[Path, str]]:
    seen = 0
    model = MODELS[RESULTS]
    with file.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            try:
                record = model.model_validate(decode(line))
            except ValidationError as error:
                yield file, f"line {number}: {_detail(error.errors()[0])}"
                continue
            except (ValueError, RecursionError) as error:
                yield file, f"line {number}: not JSON: {error}"
                continue
            given = [key for key in ("score", "error", "skipped") if getattr(record, key) is not None]
            if len(given) != 1:
                yield file, f"line {number}: exactly one of score, error and skipped must be there, found {' and '.join(given) or 'none'}"
            seen += 1
    yield from _of_count(file, seen)


def _of_count(file: Path, seen: int) -> Iterator[tuple[Path, str]]:
    """What a number of lines must be, by the run's summary."""
    with suppress(Conflict):  # a summary that cannot be read is a problem of its own
        summary = read_summary(file.parent)
        if summary is not None and seen != summary.rows.scored + summary.rows.errors + summary.rows.skipped:
            yield file, f"{seen} lines, but {SUMMARY} counts {summary.rows.scored} scored, {summary.rows.errors} errors, {summary.rows.skipped} skipped"


def _of_summary(directory: Path) -> Iterator[tuple[Path, str]]:
    """What the fields of a summary must say together."""
    with suppress(Conflict):
        summary = read_summary(directory)
        if summary is None:
            return
        if summary.run_id != directory.name:
            yield directory / SUMMARY, f"run_id: is {summary.run_id!r}, but the directory is {directory.name!r}"
        if summary.ok != (summary.status == "passed"):
            yield directory / SUMMARY, f"ok: is {str(summary.ok).lower()}, but status is {summary.status!r}"
        rows = summary.rows
        if summary.ok and summary.complete and rows.total is not None and rows.total != rows.scored + rows.errors + rows.skipped:
            yield directory / SUMMARY, f"rows: {rows.scored} scored, {rows.errors} errors and {rows.skipped} skipped do not make {rows.total}"


def _detail(error: Any) -> str:
    key = ".".join(map(str, error["loc"]))
    return f"{key}: {error['msg']}" if key else str(error["msg"])
