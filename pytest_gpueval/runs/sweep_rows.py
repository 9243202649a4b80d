"""The rows of a sweep as its run directories hold them, and the files that its table is written to."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, TypeVar

from pytest_gpueval.errors import Conflict, MissingExtra, StorageError, UsageProblem
from pytest_gpueval.suites.values import number

from . import results
from .directory import METADATA, RESULTS, SUMMARY
from .validate import run_directories

TASK: Final = "sweep"
FORMATS: Final = (".csv", ".parquet")
Row = TypeVar("Row")


def read(session: Path, make: Callable[..., Row]) -> list[Row]:
    """The rows of the sweep whose runs lie at or below `session`, in the order of their directories.

    `make` is called with the fields of a row (`reports.sweep.SweepRow`): a class of the reports, which this room does not know. A run that did not end, or
    whose summary cannot be read, is a row with a status that says so. Raises UsageProblem where there is no run of a sweep, or one whose metadata is broken.
    """
    rows = []
    others: dict[str, int] = {}
    for directory in run_directories(session):
        metadata = _object(directory / METADATA)
        task = str(metadata.get("task"))
        if task == TASK:
            rows.append(make(**fields(directory, metadata)))
        else:
            others[task] = others.get(task, 0) + 1
    if not rows:
        found = "; there are runs of " + ", ".join(f"{task} ({count})" for task, count in sorted(others.items())) if others else ""
        raise UsageProblem(f"{session}: there is no run of a sweep at or below it{found}.\nGive the directory that a sweep's session wrote.")
    return rows


def write(path: Path, text: str, columns: Mapping[str, Sequence[Any]], *, force: bool = False) -> None:
    """Write a table, whole or not at all: `text` to a .csv, `columns` to a .parquet.

    Raises UsageProblem for another name, MissingExtra without pyarrow, Conflict if the file exists and is not to be replaced, StorageError.
    """
    check(path, force=force)
    content = _valid(text).encode() if path.suffix == ".csv" else _parquet(columns)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise StorageError(f"{path}: cannot be written: {error.strerror or error}.\nFree some space, or choose another --output FILE.") from None


def check(path: Path, *, force: bool) -> None:
    """Whether a table can be written there, before anything is read. Raises as `write`."""
    if path.suffix not in FORMATS:
        raise UsageProblem(f"{path}: a table is written as {' or '.join(FORMATS)}; end the file's name with one of them")
    if path.is_dir() or not path.parent.is_dir():
        raise UsageProblem(f"{path}: " + ("is a directory" if path.is_dir() else f"there is no directory {path.parent}"))
    if os.path.lexists(path) and not force:
        raise Conflict(f"{path}: exists already.\nChoose another --output FILE, or replace it with --force.")


def fields(directory: Path, metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a row, from its run's directory and what run_metadata.json there says."""
    summary: Mapping[str, Any] = {}
    reason = None
    try:
        if (directory / SUMMARY).exists():
            summary = _object(directory / SUMMARY)
            status = str(summary.get("status", "unreadable"))
        else:
            status, reason = "unfinished", f"there is no {SUMMARY}: the run did not end, or is still going on"
    except UsageProblem as error:
        status, reason = "unreadable", str(error)
    series, problem = _series(directory / RESULTS)
    told = summary.get("reason") or summary.get("error") or reason
    metrics = summary.get("metrics")
    return {
        "run_id": directory.name,
        "parameters": {name: _parameter(value) for name, value in _table(metadata.get("parameters")).items()},
        "ok": summary.get("ok") is True,
        "status": status,
        "reason": "\n".join(str(text) for text in (told, problem) if text) or None,
        "attempts": attempts if isinstance(attempts := summary.get("attempts"), int) else 1,
        "seconds": number(summary.get("seconds")) or 0.0,
        "metrics": {name: number(figure.get("value") if isinstance(figure, Mapping) else figure) for name, figure in _table(metrics).items()},
        "series": series,
    }


def _series(file: Path) -> tuple[dict[str, list[tuple[float, float]]], str | None]:
    """Points (step, value) of each metric by step, finite numbers only, and what is wrong with the file. A step that is there again counts as last said.

    What cannot be read costs the curves after it, not the row: a training script may have been killed in the middle of a line.
    """
    found: dict[str, dict[float, float]] = {}
    problem = None
    try:
        for line in results.read(file) if file.is_file() else ():
            step = number(line["id"])
            for name, value in _table(line.get("score")).items():
                figure = number(value)
                if step is not None and figure is not None and math.isfinite(step) and math.isfinite(figure):
                    found.setdefault(name, {})[step] = figure
    except Conflict as error:
        problem = str(error).splitlines()[0].partition(";")[0]
    except OSError as error:
        problem = f"{file}: cannot be read: {error.strerror or error}"
    return {name: sorted(points.items()) for name, points in found.items()}, problem


def _object(file: Path) -> Mapping[str, Any]:
    if not file.is_file():  # a pipe never ends
        raise UsageProblem(f"{file}: is no regular file")
    try:
        value = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise UsageProblem(f"{file}: cannot be read: {error}") from None
    if not isinstance(value, dict):
        raise UsageProblem(f"{file}: is not a JSON object")
    return value


def _table(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _parameter(value: object) -> bool | int | float | str | None:
    return value if isinstance(value, (bool, int, float, str)) or value is None else json.dumps(value, ensure_ascii=False)


def _parquet(columns: Mapping[str, Sequence[Any]]) -> bytes:
    try:
        import pyarrow as pa  # noqa: PLC0415 - only for parquet
        import pyarrow.parquet as pq  # noqa: PLC0415
    except ImportError:
        raise MissingExtra("pyarrow", needed_for="A table in parquet", extra="sweeps") from None
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({name: pa.array([_valid(value) for value in values]) for name, values in columns.items()}), sink)
    return bytes(sink.getvalue())


def _valid(value: Any) -> Any:
    """A text without lone surrogates, which JSON may hold and parquet may not."""
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value
