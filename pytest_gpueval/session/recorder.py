"""One item's run: its directory from the first moment to summary.json, however the item ends."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from pytest_gpueval import __version__, gates
from pytest_gpueval.datasets.parquet import ParquetSplit
from pytest_gpueval.errors import Conflict, DataError, GateFailure, GpuevalError, RuntimeFault, UsageProblem
from pytest_gpueval.runs.capture import captured
from pytest_gpueval.runs.directory import LOG, RunDirectory
from pytest_gpueval.runs.files import storage
from pytest_gpueval.runs.records import Figure, Latency, RowCounts, RunMetadata, Status, Summary, VerdictRecord
from pytest_gpueval.suites.model import Case

from . import plan, provenance, registry
from .evaluation import Evaluation

if TYPE_CHECKING:
    from pytest_gpueval.scoring.estimates import Estimate

    from .worker import Worker


# How long a run waits for the worker of a killed session to notice.
_PATIENCE_S = 15.0


class Run:
    """What the fixture `run` hands to a test: its directory, and the evaluation of its case."""

    def __init__(self, worker: Worker, case: Case, nodeid: str, run_id: str) -> None:
        self.case = case
        self.nodeid = nodeid
        self.directory = RunDirectory(worker.session_dir / run_id, worker.redactor)
        self.summary: Summary | None = None
        self.reused = False
        self.evaluation: Evaluation | None = None
        self.verdicts: list[gates.Verdict] = []
        self._worker = worker
        self._begun = False
        self._lock = FileLock(self.path / ".lock")
        self._started = time.perf_counter()

    @property
    def path(self) -> Path:
        """The run directory."""
        return self.directory.path

    @cached_property
    def split(self) -> ParquetSplit:
        """The case's split, checked. Raises DataError."""
        split = plan.open_split(self.case, self._worker.settings)
        split.check(self._task.columns, self.case.rows if self._worker.settings.data == "embedded" else None)
        return split

    @cached_property
    def _task(self) -> Any:
        return registry.task(self.case, self._worker.hooks)

    def begin(self) -> None:
        """Make the directory ready, or find that an earlier run finished here. Raises Conflict, StorageError."""
        self._worker.notify("start", self)
        self._own()
        beginning = self.directory.begin(self._metadata(), self._command(), force=self._worker.settings.force)
        self.reused = beginning.state == "finished"
        self.summary = beginning.summary if self.reused else None
        self._begun = not self.reused

    def _own(self) -> None:
        """Hold the directory until `finish`: a worker whose session was killed may still be writing here for a moment. Raises Conflict."""
        with storage(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            try:
                self._lock.acquire(timeout=_PATIENCE_S)
            except Timeout:
                raise Conflict(f"{self.path}: another process is still writing this run.\nEnd it, or choose another --gpueval-session.") from None

    @contextmanager
    def phase(self) -> Iterator[None]:
        """Capture what one phase of the item writes into stdout.log."""
        with captured(self.path / LOG, self.directory.redactor) if self._begun else nullcontext():
            yield

    def predictions(self) -> Evaluation:
        """The evaluation of this case, not started yet."""
        settings = self._worker.settings
        self.evaluation = Evaluation(
            split=self.split,
            task=self._task,
            runtime=lambda: self._worker.runtime(self.case),
            results_path=self.directory.results_path,
            redactor=self.directory.redactor,
            extra=registry.metrics(self._worker.hooks),
            limit=settings.limit,
            on_bad_row=settings.on_bad_row,
            report=lambda done, total: self._worker.progress(self, done, total),
        )
        return self.evaluation

    def judge(self) -> None:
        """Let the suite's gates speak. Raises RuntimeFault for too many failed rows, GateFailure if a gate says no."""
        if self.evaluation is None:
            raise UsageProblem("run.judge() needs the fixture `predictions`, read to its end")
        self._judge_errors(self.evaluation)
        metrics = self.evaluation.metrics()
        self.verdicts = gates.judge(self.case.gates, metrics.overall, metrics.labels)
        if not all(verdict.ok for verdict in self.verdicts):
            raise GateFailure(gates.failure_message(f"{self.case.suite} {self.case.id}", self.verdicts))

    def _judge_errors(self, evaluation: Evaluation) -> None:
        tally = evaluation.tally
        if tally.errors > self.case.max_error_share * max(1, tally.done):
            raise RuntimeFault(
                f"{self.case.suite} {self.case.id}: {tally.errors} of {tally.done} rows have no prediction; the suite allows "
                f"{self.case.max_error_share:.2%} (max_error_share).\nFirst: {tally.first_error}\nAll: {self.directory.results_path}"
            )
        if not tally.scored:
            raise DataError(f"{self.case.suite} {self.case.id}: no row could be scored ({tally.skipped} skipped)")

    def finish(self, status: Status, reason: str | None = None, error: str | None = None) -> None:
        """Write summary.json, once the outcome is known. A reused run keeps its own."""
        try:
            if self._begun:
                self._write_summary(status, reason, error)
        finally:
            self._lock.release()

    def _write_summary(self, status: Status, reason: str | None, error: str | None) -> None:
        evaluation = self.evaluation
        metrics = evaluation.metrics() if evaluation is not None and evaluation.tally.scored else None
        seconds = time.perf_counter() - self._started
        latencies = evaluation.latencies.percentiles() if evaluation is not None else None
        self.summary = Summary(
            run_id=self.directory.run_id,
            ok=status == "passed",
            status=status,
            reason=reason,
            headline=self._task.headline if evaluation is not None else None,
            metrics=_figures(metrics.overall) if metrics else {},
            labels={label: _figures(figures) for label, figures in metrics.labels.items()} if metrics else {},
            gates=[VerdictRecord(**verdict.as_dict()) for verdict in self.verdicts],
            rows=_rows(evaluation),
            seconds=round(seconds, 3),
            samples_per_s=_rate(evaluation),
            latency=Latency(**latencies) if latencies else None,
            error=error,
        )
        self.directory.finish(self.summary)

    def properties(self) -> list[tuple[str, Any]]:
        """What JUnit gets: builtin values only, small."""
        summary = self.summary
        if summary is None:
            return []
        found: list[tuple[str, Any]] = [
            ("gpueval.suite", self.case.suite),
            ("gpueval.dataset", self.case.dataset),
            ("gpueval.split", self.case.split),
            ("gpueval.run_dir", str(self.path)),
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
        headline = summary.metrics.get(summary.headline or "")
        if headline is not None and headline.low is not None and headline.high is not None:
            found += [(f"{summary.headline}.low", round(headline.low, 6)), (f"{summary.headline}.high", round(headline.high, 6))]
        return found

    def _command(self) -> Sequence[str]:
        return self._worker.command(self.nodeid)

    def _metadata(self) -> RunMetadata:
        case, worker = self.case, self._worker
        machine = provenance.machine()
        return RunMetadata(
            run_id=self.directory.run_id,
            nodeid=self.nodeid,
            suite=case.suite,
            case=case.id,
            task=case.task,
            dataset=self._dataset(),
            runtime={"name": case.runtime_name, **case.runtime.model_dump(mode="json")},
            policy={"name": case.policy_name, **case.policy.model_dump(mode="json", exclude={"gates"})},
            gates=[gate.model_dump(mode="json") for gate in case.gates],
            limit=worker.settings.limit,
            code=worker.code,
            environment=provenance.environment(),
            packages=provenance.packages(),
            worker=worker.name,
            gpus=worker.gpus,
            started_at=datetime.now(UTC).isoformat(timespec="seconds"),
            plugin_version=__version__,
            **machine,
        )

    def _dataset(self) -> dict[str, Any]:
        """Where the rows come from; without hash and rows if the split cannot be opened, which its own error then says."""
        case = self.case
        known = {"repo": case.repo, "revision": case.revision, "name": case.dataset, "split": case.split}
        try:
            split = plan.open_split(case, self._worker.settings)
            return {**known, "origin": split.origin, "rows": split.rows, "sha256": split.sha256}
        except GpuevalError:
            return {**known, "origin": self._worker.settings.data, "rows": None, "sha256": None}


def _figures(metrics: Any) -> dict[str, Figure]:
    estimates: dict[str, Estimate] = dict(metrics)
    return {name: Figure(**{key: _rounded(value) for key, value in estimate.as_dict().items()}) for name, estimate in estimates.items()}


def _rounded(value: float | None) -> Any:
    """Twelve digits: beyond them lies the order of additions, not the model."""
    return round(value, 12) if isinstance(value, float) else value


def _rows(evaluation: Evaluation | None) -> RowCounts:
    if evaluation is None:
        return RowCounts()
    tally = evaluation.tally
    try:
        total = evaluation.total
    except DataError:
        total = None
    return RowCounts(total=total, scored=tally.scored, errors=tally.errors, skipped=tally.skipped)


def _rate(evaluation: Evaluation | None) -> float | None:
    if evaluation is None or not evaluation.fresh or evaluation.seconds <= 0:
        return None
    return round(evaluation.fresh / evaluation.seconds, 2)
