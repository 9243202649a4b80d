"""Writes baselines at the end of a session, on its controller: there all runs are at hand, those of remote workers and reused ones too."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from pytest_gpueval.errors import GpuevalError, StorageError
from pytest_gpueval.runs import baselines
from pytest_gpueval.runs.baselines import speed
from pytest_gpueval.runs.baselines.baseline import from_run, no_verdict, read_metadata
from pytest_gpueval.suites.model import Case, Unit

from . import registry
from .comparison import row_columns
from .display import shown
from .rows import is_own_test, summary_or_none

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_gpueval.runs.records import RunMetadata, Summary

    from .controller import Controller
    from .data import Data

_STOPPED = (pytest.ExitCode.INTERRUPTED, pytest.ExitCode.INTERNAL_ERROR, pytest.ExitCode.USAGE_ERROR)


class BaselineUpdate:
    """Plugin of the controller, where `--gpueval-update-baseline` is given.

    A case's results become its baseline when its run ended with a verdict: passed, or failed by its gates, since to accept a drop that a gate has found
    is what an update may be for; the screen says so. Errors, runs that were cut off, shards and tests of the user's own never do.
    """

    def __init__(self, controller: Controller, data: Data, units: Sequence[Unit]) -> None:
        self._controller = controller
        self._data = data
        self._cases = {(unit.suite, unit.id): unit for unit in units if isinstance(unit, Case) and unit.shard is None}
        self._directory = controller.settings.root / baselines.DIRECTORY
        self._written: Counter[str] = Counter()
        self._unchanged: Counter[str] = Counter()
        self._failed: list[str] = []
        self._notes: list[str] = []

    @pytest.hookimpl
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Once all items have ended."""
        if session.exitstatus in _STOPPED:
            self._notes.append("not written, since the session did not come to its end; run it again under the same --gpueval-session: what passed is reused")
            return
        for run in self._controller.runs.values():
            case = self._cases.get((run.suite, run.case))
            if case is None or is_own_test(run.nodeid):
                continue
            try:
                self._update(case, self._controller.session_dir / run.run_id)
            except StorageError as error:  # the next would meet the same
                self._controller.fail(error)
                return
            except GpuevalError as error:
                self._notes.append(f"not written for {run.suite}/{run.case}: {error}")

    def _update(self, case: Case, directory: Path) -> None:
        """Write the baseline of one case, if its run is one to go by. Raises GpuevalError."""
        metadata, summary = read_metadata(directory), summary_or_none(directory)
        why = no_verdict(metadata, summary) or (f"only its first {metadata.limit:,} rows were looked at" if metadata.limit is not None else None)
        if why or summary is None:
            self._notes.append(f"not written for {case.suite}/{case.id}: {why}")
            return
        found, split = from_run(directory), self._data.open(case)
        if split.sha256 != found.record.dataset.sha256:
            self._notes.append(f"not written for {case.suite}/{case.id}: the data changed since its run")
            return
        task = registry.task(case, self._controller.config.hook)
        samples = found.samples.with_hashes(baselines.text_hashes(split.read(row_columns(task, split))))
        written = baselines.write(self._directory, replace(found, _read=lambda: samples))
        if case.speed_gates:
            written |= self._update_speed(case, metadata, summary)
        (self._written if written else self._unchanged)[case.suite] += 1
        if summary.status == "failed":
            self._failed.append(f"{case.suite}/{case.id}")

    def _update_speed(self, case: Case, metadata: RunMetadata, summary: Summary) -> bool:
        """Keep how fast the run was where it was measured, beside other machines. Raises DataError, StorageError."""
        entry = speed.of_run(metadata, summary)
        if entry is None:
            self._notes.append(f"no speed of {case.suite}/{case.id}: its run did not measure all rows at one go; run it again with --gpueval-force")
            return False
        return speed.write(self._directory, speed.record(case.suite, case.id, entry))

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_terminal_summary(self, terminalreporter: Any) -> Generator[None, None, None]:
        """Say what was written, below the table of results."""
        yield
        for line in self.lines():
            terminalreporter.write_line(f"baseline: {line}")

    def lines(self) -> list[str]:
        """What to say."""
        found = []
        for suite in dict.fromkeys([*self._written, *self._unchanged]):
            written, same, place = self._written[suite], self._unchanged[suite], shown(self._directory / suite)
            if written:
                found.append(f"{_cases(written)} written to {place}" + (f", {same} unchanged" if same else ""))
            else:
                found.append(f"{_cases(same)} unchanged in {place}")
        if self._failed:
            found.append(f"taken although gates failed: {', '.join(self._failed)}")
        found += [self._controller.redactor.text(note) for note in self._notes]
        return found or ["no case ran to a verdict, none written"]


def _cases(count: int) -> str:
    return f"{count} case{'s' if count != 1 else ''}"
