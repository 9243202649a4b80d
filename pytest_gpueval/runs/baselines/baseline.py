"""A baseline: its record, and its samples, which are read when they are asked for."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pytest_gpueval.errors import Conflict, DataError, UsageProblem, valid_values
from pytest_gpueval.runs.directory import METADATA, RESULTS, read_summary
from pytest_gpueval.runs.records import RunMetadata, Summary

from . import records, samples
from .records import BaselineRecord
from .samples import Samples

_SUITE_FILE = "suite.toml"


@dataclass(frozen=True)
class Baseline:
    """What a case's results were. `where` says in words where it is from."""

    record: BaselineRecord
    where: str
    _read: Callable[[], Samples] = field(repr=False, compare=False)
    results: Path | None = field(default=None, repr=False, compare=False)  # of a run, whose results.jsonl has its samples

    @property
    def suite(self) -> str:
        """The suite's name."""
        return self.record.suite

    @property
    def case(self) -> str:
        """The case's id: `meddies-fast`."""
        return self.record.case

    @cached_property
    def samples(self) -> Samples:
        """Its samples, read once. Raises DataError for a damaged file, or one that the record is not of."""
        found = self._read()
        told = self.record
        if told.samples_sha256 and (len(found), found.sha256) != (told.samples, told.samples_sha256):
            raise DataError(
                f"{found.where}: does not belong to its .json: it holds {len(found):,} samples {found.sha256[:12]}..., and that says {told.samples:,} "
                f"{told.samples_sha256[:12]}...\nA merge, or a copy, has taken one file without the other. {records.AGAIN}."
            )
        return found


def from_run(directory: Path) -> Baseline:
    """The results of one run. Raises UsageProblem for a run that has no verdict or not all its rows, DataError, Conflict for files that cannot be read."""
    metadata, summary = read_metadata(directory), read_summary(directory)
    why = no_verdict(metadata, summary)
    if why or summary is None:
        raise UsageProblem(f"{directory}: cannot be a baseline: {why}")
    return Baseline(records.of_run(metadata, summary, str(directory)), str(directory), partial(samples.of_results, directory / RESULTS), directory / RESULTS)


def from_session(session_dir: Path, suite: str, case: str) -> Baseline:
    """The results of a case in a session. Raises UsageProblem where it has none, and as `from_run`."""
    runs = runs_of(session_dir)
    if (suite, case) not in runs:
        names = [name for of, name in runs if of == suite]
        raise UsageProblem(f"session {session_dir}: has no run of {suite}/{case}. {valid_values(case, names, what=f'cases of {suite!r} there')}")
    return from_run(runs[suite, case])


def runs_of(session_dir: Path) -> dict[tuple[str, str], Path]:
    """(suite, case) -> run directory, of the whole cases that a session's suite files collected. Raises Conflict."""
    found = {}
    for file in sorted(session_dir.glob(f"*/{METADATA}")):
        table = _table(file)
        place = str(table.get("nodeid")).partition("::")[0].rpartition("/")[2]
        if place == _SUITE_FILE and not table.get("shard") and not table.get("program"):
            found[str(table.get("suite")), str(table.get("case"))] = file.parent
    return found


def no_verdict(metadata: RunMetadata, summary: Summary | None) -> str | None:
    """Why a run's results are none to go by: it did not end with a verdict, passed or failed by its gates, on all rows it had. None if they are."""
    if summary is None:
        return "it did not run to its end"
    if metadata.shard is not None:
        return "it is a shard; the run that joins the shards has the results"
    if metadata.program is not None:
        return "it is a row of a sweep"
    judged = summary.status == "passed" or (summary.status == "failed" and any(gate.outcome != "pass" for gate in summary.gates))
    rows = summary.rows
    if not judged:
        return f"it ended without a verdict: {summary.status}" + (f" ({summary.reason.splitlines()[0]:.200})" if summary.reason else "")
    if not summary.complete or rows.total is None or rows.total != rows.scored + rows.errors + rows.skipped:
        return "it did not read all rows"
    return None


def read_metadata(directory: Path) -> RunMetadata:
    """run_metadata.json. Raises Conflict."""
    try:
        return RunMetadata.model_validate(_table(directory / METADATA))
    except ValidationError as error:
        first = error.errors()[0]
        raise Conflict(f"{directory / METADATA}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None


def _table(file: Path) -> Mapping[str, Any]:
    try:
        value = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise Conflict(f"{file}: cannot be read: {error}") from None
    if not isinstance(value, dict):
        raise Conflict(f"{file}: not a JSON object")
    return value
