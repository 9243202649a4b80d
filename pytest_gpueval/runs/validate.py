"""Check directories against the contract, and outline them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pytest_gpueval.errors import Conflict, UsageProblem

from .directory import COMMAND, LOG, METADATA, RESULTS, SUMMARY, read_summary
from .records import MODELS, Record

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
    found = [problem for directory in run_directories(root) for problem in _of_run(directory)]
    for file in sorted({*root.glob(_SESSION), *root.glob(f"*/{_SESSION}")}):
        found += _of_json(file, MODELS[_SESSION])
    return found


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


def _of_run(directory: Path) -> Iterator[tuple[Path, str]]:
    for name in _REQUIRED:
        if not (directory / name).is_file():
            yield directory / name, "missing"
    for name in (METADATA, SUMMARY):
        if (directory / name).is_file():
            yield from _of_json(directory / name, MODELS[name])
    if (directory / RESULTS).is_file():
        yield from _of_lines(directory / RESULTS)


def _of_json(file: Path, model: type[Record]) -> Iterator[tuple[Path, str]]:
    try:
        model.model_validate(json.loads(file.read_text(encoding="utf-8")))
    except ValidationError as error:
        for detail in error.errors():
            yield file, f"{'.'.join(map(str, detail['loc']))}: {detail['msg']}"
    except ValueError as error:
        yield file, f"not JSON: {error}"


def _of_lines(file: Path) -> Iterator[tuple[Path, str]]:
    seen = 0
    model = MODELS[RESULTS]
    with file.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            try:
                record = model.model_validate_json(line)
            except ValidationError as error:
                yield file, f"line {number}: {error.errors()[0]['msg']}"
                continue
            given = [key for key in ("score", "error", "skipped") if getattr(record, key) is not None]
            if len(given) != 1:
                yield file, f"line {number}: exactly one of score, error and skipped must be there, found {given or 'none'}"
            seen += 1
    summary = read_summary(file.parent)
    if summary is not None and seen != summary.rows.scored + summary.rows.errors + summary.rows.skipped:
        yield file, f"{seen} lines, but {SUMMARY} counts {summary.rows.model_dump()}"
