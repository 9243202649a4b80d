"""One item's run: its directory from the first moment to summary.json, however the item ends."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pytest

from pytest_gpueval import __version__, gates
from pytest_gpueval.errors import Conflict, GateFailure, UsageProblem
from pytest_gpueval.runs import ownership
from pytest_gpueval.runs.capture import Capture
from pytest_gpueval.runs.directory import LOG, Beginning, RunDirectory
from pytest_gpueval.runs.files import storage
from pytest_gpueval.runs.records import Attempt, RunMetadata, Summary

from . import attempts, failures, provenance
from .rows import is_own_test

if TYPE_CHECKING:
    from pluggy import HookRelay

    from pytest_gpueval.datasets.parquet import ParquetSplit
    from pytest_gpueval.processes.serving import SupervisorServer
    from pytest_gpueval.runs.baselines import Baseline
    from pytest_gpueval.runs.redact import Redactor
    from pytest_gpueval.runtimes.base import Runtime
    from pytest_gpueval.suites.model import Case, Status, Unit

    from .servers import Fixture
    from .settings import Settings


# How long a run waits for the worker of a killed session to notice.
_PATIENCE_S = 15.0


class Surroundings(Protocol):
    """What a run asks of the process it runs in."""

    settings: Settings
    # Where runs are written, and where that is for the user: the same, but on another host.
    session_dir: Path
    home: Path
    redactor: Redactor
    hooks: HookRelay
    code: dict[str, Any]
    packages: dict[str, str]
    machine: dict[str, str]
    name: str
    gpus: list[str]
    gpu: dict[str, str | None] | None
    workers: int

    def runtime(self, case: Case, fixture: Fixture, /) -> tuple[Runtime, float | None]:
        """The started runtime of a case, and the seconds it took to start if this call started it."""

    def split(self, case: Case, /) -> ParquetSplit:
        """The split of a case, opened and hashed once."""

    def baseline_of(self, case: Case, /) -> Baseline | None:
        """What a case is compared with; None where it is not."""

    def bring(self, names: Sequence[str], /) -> None:
        """Have here what the session has of other runs."""

    def put_aside(self, run_id: str, /) -> None:
        """Put the summary of another run aside."""

    def model_code(self, case: Case, /) -> str | None:
        """A hash of the code that makes the predictions of a case."""

    def supervisors(self) -> SupervisorServer:
        """What forks the supervisors of this process's programs."""

    def usage(self, *, begin: bool = False) -> dict[str, float] | None:
        """What the GPUs did since the last `begin`; None where nobody looked."""

    def command(self, nodeid: str, /) -> list[str]:
        """The command that runs one item again."""

    def notify(self, event: str, run: Run, **details: Any) -> None:
        """Tell the controller what a run is doing."""

    def warn(self, text: str, /) -> None:
        """Have something said on the screen when the session ends."""

    def progress(self, run: Run, done: int, total: int, /) -> None:
        """Tell how far a run is; `total` is 0 where nobody knows."""

    def step(self, run: Run, step: float, value: float | None, /) -> None:
        """Tell what a row has reported; None: it begins anew."""

    def stop_of(self, run_id: str, /) -> str | None:
        """Why the controller wants a row to stop, if it does."""

    def show(self, text: str, /) -> None:
        """Let the user see what a program prints, where that is asked for."""


class Run(ABC):
    """What the fixture `run` hands to a test: its directory, and what is done there."""

    def __init__(self, worker: Surroundings, unit: Unit, nodeid: str, run_id: str) -> None:
        self.unit = unit
        self.nodeid = nodeid
        self.directory = RunDirectory(worker.session_dir / run_id, worker.redactor)
        self.summary: Summary | None = None
        self.reused = False
        self.before: Summary | None = None  # of a run that ended here, and is gone through again
        self.verdicts: list[gates.Verdict] = []
        # How the attempts before this one ended, in this session, and whether another may follow.
        self.earlier: list[Attempt] = []
        self.retriable = False
        # Gives the test's fixtures by their names: servers are fixtures, started when they are needed.
        self.fixture: Fixture = _no_fixture
        self._worker = worker
        self._begun = False
        self._hold: ownership.Hold | None = None
        self._log = Capture(self.path / LOG, worker.redactor)
        self._started = time.perf_counter()

    @property
    def path(self) -> Path:
        """The run directory."""
        return self.directory.path

    @abstractmethod
    def judge(self) -> None:
        """Let the suite's gates speak. Raises GateFailure if one says no."""

    @abstractmethod
    def status_of(self, status: Status) -> Status:
        """The run's status, where its test has ended with this one."""

    @abstractmethod
    def _identity(self) -> dict[str, Any]:
        """What decides the results, as fields of RunMetadata."""

    @abstractmethod
    def _concluded(self, status: Status, reason: str | None, error: str | None) -> Summary:
        """The summary of a run that has ended so."""

    @abstractmethod
    def _own_properties(self) -> Sequence[tuple[str, Any]]:
        """What JUnit gets beside what all runs have."""

    def begin(self) -> None:
        """Make the directory ready, or find that an earlier run finished here. Raises Conflict, StorageError."""
        self._worker.notify("start", self)
        self.earlier = attempts.earlier(self._worker.session_dir, self.directory.run_id)
        beginning = self._finished_before()
        if beginning is None:
            self._own()
            self._prepare()
            beginning = self.directory.begin(self._metadata(), self._worker.command(self.nodeid), force=self._forced, reuse=self._may_be_reused)
        self.reused = beginning.state == "finished"
        self.summary = beginning.summary if self.reused else None
        self.before = beginning.summary
        self._begun = not self.reused
        self._worker.usage(begin=True)

    def _finished_before(self) -> Beginning | None:
        """What an earlier run left that finished here, and counts: it is only read, so nobody needs to own it. None for any other. Raises Conflict."""
        if self._forced:
            return None
        beginning = self.directory.state()
        if beginning.state != "finished" or not self._may_be_reused:
            return None
        self._prepare()
        if not self.directory.is_of(self._identified()):
            self.directory.look(self._metadata())  # tells what differs, where something does
        return beginning

    @property
    def _may_be_reused(self) -> bool:
        """Whether the verdict of a run that ended here is the one that is asked for. A test of the user's own always runs: its assertions are not stored."""
        return not is_own_test(self.nodeid) and self._is_as_judged()

    def _is_as_judged(self) -> bool:
        """Whether the verdict of a run that ended here would be the same now: else it is found anew from its results, which needs no model."""
        return True

    @property
    def _forced(self) -> bool:
        """Whether what is there is to be backed up, and not to be continued: the first attempt has done so for those after it."""
        return self._worker.settings.force and not self.earlier

    def _prepare(self) -> None:  # noqa: B027 - most need nothing
        """Once the directory is owned, before anything in it is touched."""

    def _own(self) -> None:
        """Hold the directory until `finish`: a worker whose session was killed may still be writing here for a moment. Raises Conflict."""
        with storage(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            try:
                self._hold = ownership.Hold(self.path, patience_s=_PATIENCE_S)
            except ownership.Taken as taken:
                raise Conflict(f"{self.path}: {taken}.\nEnd it, or choose another --gpueval-session.") from None

    def phase(self) -> AbstractContextManager[None]:
        """Capture what one phase of the item writes into stdout.log."""
        return self._log.phase() if self._begun else nullcontext()

    def finish(self, status: Status, reason: str | None = None, error: BaseException | None = None) -> None:
        """Write summary.json, once the outcome is known, with what was raised if anything was. A reused run keeps its own."""
        try:
            if self._begun:
                ended = self.status_of(status)
                failure = None if ended in ("passed", "skipped", "interrupted") else failures.kind_of(error, ended)
                if self.summary is not None and self.summary.failure is not None and failure == "infrastructure":  # its teardown failed too
                    failure = self.summary.failure
                self.retriable = failure == "infrastructure" and self._may_be_tried_again(error)
                self.summary = self._concluded(ended, reason, _error_text(error)).model_copy(update={"failure": failure})
                self.directory.finish(self.summary)
                for note in self._news(self.summary):
                    self._worker.warn(f"{self.directory.run_id}: {note}")
        finally:
            self.leave()

    def _may_be_tried_again(self, error: BaseException | None) -> bool:  # noqa: ARG002 - some look at it
        """Whether another attempt can help, after a failure of the machines."""
        return True

    def _news(self, summary: Summary) -> Sequence[str]:
        """What the user should read of this run at the end of the session."""
        return summary.notes

    def close(self) -> None:
        """After the last phase: let the log go."""
        self._log.close()

    def leave(self) -> None:
        """Let the directory go without a word in it."""
        if self._hold is not None:
            self._hold.release()

    def properties(self) -> list[tuple[str, Any]]:
        """What JUnit gets: builtin values only, small."""
        summary = self.summary
        if summary is None:
            return []
        found: list[tuple[str, Any]] = [
            ("gpueval.suite", self.unit.suite),
            *self._own_properties(),
            ("gpueval.run_dir", str(self._worker.home / self.directory.run_id)),
            ("gpueval.worker", self._worker.name),
            ("gpueval.status", summary.status),
            ("gpueval.reused", self.reused),
            ("gpueval.rows", summary.rows.scored),
            ("gpueval.errors", summary.rows.errors),
            ("gpueval.seconds", summary.seconds),
        ]
        if summary.samples_per_s is not None:
            found.append(("gpueval.samples_per_s", summary.samples_per_s))
        for name, figure in summary.metrics.items():
            if figure.value is not None:
                found.append((name, round(figure.value, 6)))
        if self.earlier:
            found.append(("gpueval.attempts", summary.attempts))
        headline = summary.metrics.get(summary.headline or "")
        found = [(name, self.directory.redactor.value(value)) for name, value in found]
        if headline is not None and headline.low is not None and headline.high is not None:
            found += [(f"{summary.headline}.low", round(headline.low, 6)), (f"{summary.headline}.high", round(headline.high, 6))]
        return found

    def _identified(self) -> dict[str, Any]:
        return {"suite": self.unit.suite, "case": self.unit.id, "limit": self._worker.settings.limit, **self._identity()}

    def _metadata(self) -> RunMetadata:
        worker = self._worker
        return RunMetadata(
            run_id=self.directory.run_id,
            nodeid=self.nodeid,
            **self._identified(),
            code=worker.code,
            environment=provenance.environment(),
            packages=worker.packages,
            worker=worker.name,
            gpus=worker.gpus,
            gpu=worker.gpu,
            started_at=datetime.now(UTC).isoformat(timespec="seconds"),
            plugin_version=__version__,
            **worker.machine,
        )

    def _judged(self, verdicts: Sequence[gates.Verdict], details: Callable[[Sequence[gates.Verdict]], str] | None = None) -> None:
        """Keep what the gates said. Raises GateFailure if one says no, with `details` of the verdicts."""
        self.verdicts = list(verdicts)
        if not all(verdict.ok for verdict in self.verdicts):
            message = gates.failure_message(f"{self.unit.suite} {self.unit.id}", self.verdicts)
            raise GateFailure(f"{message}\n\n{details(self.verdicts)}" if details else message)


def _error_text(error: BaseException | None) -> str | None:
    """What was raised, unless it is how tests and gates say no."""
    if error is None or isinstance(error, (GateFailure, AssertionError, pytest.skip.Exception)):
        return None
    return f"{type(error).__name__}: {error}"


def _no_fixture(name: str) -> Any:
    raise UsageProblem(f"{name} is needed, and the test does not use the fixture `run`, which gives it")
