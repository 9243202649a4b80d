"""`baselines/<suite>/<case>.json` and `.parquet`: written whole or not at all, and only where the results are others."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final

from pytest_gpueval.errors import DataError, GpuevalError, StorageError, UsageProblem

from . import records, samples
from .baseline import Baseline

# The folder beside suites/.
DIRECTORY: Final = "baselines"

# What ends the name of a file that has the speeds of a case.
SPEED: Final = ".speed.json"

# What the names of a case's files end with.
ENDINGS: Final = (".json", ".parquet", SPEED)

# What is in a file below the folder of baselines, by its relative path; None where there is no such file. Raises GpuevalError.
Fetch = Callable[[str], bytes | None]


def write(directory: Path, baseline: Baseline) -> bool:
    """Write both files below `directory`, which is made. False where the same results are there already: then nothing is touched. Raises StorageError."""
    found = baseline.samples.canonical()
    record = baseline.record.model_copy(update={"samples": len(found), "samples_sha256": found.sha256})
    folder = directory / record.suite
    document, table = folder / f"{record.case}.json", folder / f"{record.case}.parquet"
    if _is_there(directory, replace(baseline, record=record)):
        return False
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # One that is read between the two, or after a crash there, is refused: the document has the hash of the table.
        put(table, lambda path: samples.write_parquet(found, path))
        put(document, lambda path: path.write_text(record.as_text(), encoding="utf-8"))
    except OSError as error:
        raise StorageError(f"{folder}: the baseline of {record.case} cannot be written: {error.strerror or error}") from None
    return True


def read(directory: Path, suite: str, case: str) -> Baseline:
    """A case's baseline below `directory`. Raises UsageProblem where there is none, DataError for a damaged one or another's; StorageError."""
    found = fetched(lambda name: contents(directory / name), suite, case, str(directory))
    if found is None:
        raise missing(suite, case, str(directory), cases_of(directory, suite))
    return replace(found, _read=partial(_table, directory / suite / f"{case}.parquet"))


def remembered(directory: Path, suite: str, case: str) -> Baseline | None:
    """As `read`; None where there is none."""
    return read(directory, suite, case) if (directory / suite / f"{case}.json").exists() else None


def fetched(fetch: Fetch, suite: str, case: str, place: str) -> Baseline | None:
    """The same from wherever `fetch` finds files; `place` says in words where that is. None where there is none. Raises as `read`."""
    names = [f"{suite}/{case}.{ending}" for ending in ("json", "parquet")]
    data = fetch(names[0])
    if data is None:
        return None
    where = f"{place}/{names[0]}"
    record = records.parse(data, where)
    if (record.suite, record.case) != (suite, case):
        raise DataError(f"{where}: is of {record.name}, not of {suite}/{case}: it was copied or renamed.\n{records.AGAIN}.")

    def table() -> samples.Samples:
        there = fetch(names[1])
        if there is None:
            raise DataError(f"{place}/{names[1]}: missing, though its .json is there.\n{records.AGAIN}.")
        return samples.of_parquet(there, f"{place}/{names[1]}")

    return Baseline(record, where, table)


def cases_of(directory: Path, suite: str) -> list[str]:
    """The cases of a suite that have a baseline below `directory`."""
    return sorted(path.stem for path in (directory / suite).glob("*.json") if not path.name.endswith(SPEED))


def suites_of(directory: Path) -> list[str]:
    """The suites that have baselines below `directory`."""
    return sorted({path.parent.name for path in directory.glob("*/*.json") if not path.name.endswith(SPEED)})


def missing(suite: str, case: str, place: str, others: list[str]) -> UsageProblem:
    """The error that says what there is, and how to make one."""
    there = f"Cases of {suite!r} that have one: {', '.join(others)}." if others else f"No case of {suite!r} has one."
    return UsageProblem(
        f"{place}: there is no baseline of {suite}/{case}. {there}\n"
        f"Make one of what the model does now:  pytest --gpueval-suite {suite} --gpueval-update-baseline"
    )


def _is_there(directory: Path, baseline: Baseline) -> bool:
    """Whether both files are there, whole, and say the same. Whatever is wrong with them is about to be replaced."""
    record = baseline.record
    with suppress(GpuevalError):
        there = remembered(directory, record.suite, record.case)
        return there is not None and there.record.same_results(record) and len(there.samples) == record.samples
    return False


def put(path: Path, fill: Callable[[Path], object]) -> None:
    """Have `fill` write another file, and put it in the place of `path` once it is on disk. Raises OSError."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        fill(temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def contents(path: Path) -> bytes | None:
    """The bytes of a file; None where there is none. Raises StorageError."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StorageError(f"{path}: cannot be read: {error.strerror}") from None


def _table(path: Path) -> samples.Samples:
    if not path.is_file():
        raise DataError(f"{path}: missing, though its .json is there.\n{records.AGAIN}.")
    return samples.of_parquet(path, str(path))
