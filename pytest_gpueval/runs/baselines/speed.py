"""`baselines/<suite>/<case>.speed.json`: how fast a case was on each machine that measured it, an entry each, so that git merges those of several.

Speeds differ from run to run, and so does this file; the results beside it stay the same.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final, Literal

from pydantic import Field

from pytest_gpueval.errors import DataError, StorageError
from pytest_gpueval.runs.records import Record, RunMetadata, Speed, Summary

from . import files
from .files import Fetch
from .records import AGAIN, document, pretty, validated

SCHEMA_VERSION: Final = 1
# Runs whose figures are kept, the newest last; those of a machine that was another a year ago fall out.
MOST_RUNS: Final = 20
_TIMED: Final = ("samples_per_s", "latency_p95_ms")


class SpeedEntry(Speed):
    """A case on one machine: its newest run, and the figures of all runs of the same model and data. What runs differ by, no single one can know."""

    dataset_sha256: str
    model: dict[str, Any]
    commit: str | None
    runs: dict[str, list[float]] = Field(description="metric -> values, the newest last")

    def after(self, earlier: SpeedEntry | None) -> SpeedEntry:
        """The entry that follows an earlier one: with its runs too, if they are of the same; the earlier one itself where it has this run already."""
        if earlier is None or (earlier.dataset_sha256, earlier.model) != (self.dataset_sha256, self.model):
            return self
        if all(values[-1] in earlier.runs.get(metric, ()) for metric, values in self.runs.items()):
            return earlier
        runs = {metric: [*earlier.runs.get(metric, ()), *values][-MOST_RUNS:] for metric, values in self.runs.items()}
        return self.model_copy(update={"runs": runs})


class SpeedRecord(Record):
    """The file. The keys of `machines` are those of their entries (`Speed.key`)."""

    schema_version: Literal[1] = SCHEMA_VERSION
    suite: str
    case: str
    machines: dict[str, SpeedEntry]

    def as_text(self) -> str:
        """The file: keys sorted, a figure on one line."""
        return pretty(self.model_dump(mode="json")) + "\n"


def of_run(metadata: RunMetadata, summary: Summary) -> SpeedEntry | None:
    """The entry of a run that measured all its rows; None of any other."""
    speed, sha256 = summary.speed, metadata.dataset.get("sha256")
    if speed is None or sha256 is None or speed.rows != summary.rows.scored + summary.rows.errors:
        return None
    runs = {metric: [figure.value] for metric in _TIMED if (figure := getattr(speed, metric)) is not None and figure.value is not None}
    return SpeedEntry(**speed.model_dump(), dataset_sha256=sha256, model=metadata.model, commit=metadata.code.get("commit"), runs=runs)


def record(suite: str, case: str, entry: SpeedEntry) -> SpeedRecord:
    """A file of one machine."""
    return SpeedRecord(suite=suite, case=case, machines={entry.key: entry})


def fetched(fetch: Fetch, suite: str, case: str, place: str) -> SpeedRecord | None:
    """A case's file from wherever `fetch` finds it; None where there is none. Raises DataError for a damaged one; StorageError."""
    name = f"{suite}/{case}{files.SPEED}"
    data = fetch(name)
    return None if data is None else parse(data, f"{place}/{name}", suite, case)


def read(directory: Path, suite: str, case: str) -> SpeedRecord | None:
    """The same below a folder."""
    return fetched(lambda name: files.contents(directory / name), suite, case, str(directory))


def write(directory: Path, found: SpeedRecord) -> bool:
    """Put these machines into the file below `directory`, beside others that it has. False where nothing changes. Raises DataError, StorageError."""
    there = read(directory, found.suite, found.case)
    known = there.machines if there else {}
    machines = {**known, **{key: entry.after(known.get(key)) for key, entry in found.machines.items()}}
    path, text = directory / found.suite / f"{found.case}{files.SPEED}", found.model_copy(update={"machines": machines}).as_text()
    if there is not None and there.as_text() == text:
        return False
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        files.put(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))
    except OSError as error:
        raise StorageError(f"{path}: cannot be written: {error.strerror or error}") from None
    return True


def parse(data: bytes, where: str, suite: str, case: str) -> SpeedRecord:
    """Read a file's bytes. Raises DataError for what is no such file, is of another schema or another case, or has an entry under a key not its own."""
    value = document(data, where)
    version = value.get("schema_version") if isinstance(value, dict) else None
    if version != SCHEMA_VERSION:
        raise DataError(f"{where}: has schema {version}; this pytest-gpueval knows schema {SCHEMA_VERSION}. Update it, or remove the file.\n{AGAIN}.")
    found = validated(SpeedRecord, value, where)
    if (found.suite, found.case) != (suite, case):
        raise DataError(f"{where}: is of {found.suite}/{found.case}, not of {suite}/{case}: it was copied or renamed.\n{AGAIN}.")
    for key, entry in found.machines.items():
        if key != entry.key:
            raise DataError(f"{where}: machines: the entry under {key!r} is of {entry.key!r}.\n{AGAIN}.")
    return found
