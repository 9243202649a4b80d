"""One item's run: its directory from the first moment to summary.json, however the item ends."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from filelock import FileLock, Timeout

from pytest_gpueval import __version__, gates
from pytest_gpueval.datasets.parquet import ParquetSplit
from pytest_gpueval.errors import Conflict, DataError, GateFailure, GpuevalError, RuntimeFault, UsageProblem, valid_values
from pytest_gpueval.runs.capture import Capture
from pytest_gpueval.runs.directory import LOG, SUMMARY, RunDirectory
from pytest_gpueval.runs.files import back_up, storage
from pytest_gpueval.runs.records import Figure, Latency, RowCounts, RunMetadata, Status, Summary, Tokens, VerdictRecord
from pytest_gpueval.suites.model import Case

from . import cases, join, provenance, registry
from .evaluation import Evaluation
from .rows import is_own_test

if TYPE_CHECKING:
    from pluggy import HookRelay

    from pytest_gpueval.runs.redact import Redactor
    from pytest_gpueval.runtimes.base import Runtime
    from pytest_gpueval.scoring.estimates import Estimate

    from .servers import Fixture
    from .settings import Settings


# How long a run waits for the worker of a killed session to notice.
_PATIENCE_S = 15.0


class Surroundings(Protocol):
    """What a run asks of the process it runs in."""

    settings: Settings
    session_dir: Path
    redactor: Redactor
    hooks: HookRelay
    code: dict[str, Any]
    packages: dict[str, str]
    machine: dict[str, str]
    name: str
    gpus: list[str]
    gpu: dict[str, str | None] | None

    def runtime(self, case: Case, fixture: Fixture, /) -> tuple[Runtime, float | None]:
        """The started runtime of a case, and the seconds it took to start if this call started it."""

    def split(self, case: Case, /) -> ParquetSplit:
        """The split of a case, opened and hashed once."""

    def model_code(self, case: Case, /) -> str | None:
        """A hash of the code that makes the predictions of a case."""

    def usage(self, *, begin: bool = False) -> dict[str, float] | None:
        """What the GPUs did since the last `begin`; None where nobody looked."""

    def command(self, nodeid: str, /) -> list[str]:
        """The command that runs one item again."""

    def notify(self, event: str, run: Run, **details: Any) -> None:
        """Tell the controller what a run is doing."""

    def warn(self, text: str, /) -> None:
        """Have something said on the screen when the session ends."""

    def progress(self, run: Run, done: int, total: int, /) -> None:
        """Tell how far a run is."""


class Run:
    """What the fixture `run` hands to a test: its directory, and the evaluation of its case."""

    def __init__(self, worker: Surroundings, case: Case, nodeid: str, run_id: str) -> None:
        self.case = case
        self.nodeid = nodeid
        self.directory = RunDirectory(worker.session_dir / run_id, worker.redactor)
        self.summary: Summary | None = None
        self.reused = False
        self.evaluation: Evaluation | None = None
        self.verdicts: list[gates.Verdict] = []
        self.startup_s: float | None = None
        # Gives the test's fixtures by their names: servers are fixtures, started when they are needed.
        self.fixture: Fixture = _no_fixture
        self._joined: join.Joined | None = None
        self._worker = worker
        self._begun = False
        self._lock = FileLock(self.path / ".lock")
        self._log = Capture(self.path / LOG, worker.redactor)
        self._started = time.perf_counter()

    @property
    def path(self) -> Path:
        """The run directory."""
        return self.directory.path

    @cached_property
    def split(self) -> ParquetSplit:
        """The case's split, checked. Raises DataError."""
        self._opened.check(self._task.columns, self.case.rows if self._worker.settings.data == "embedded" else None)
        return self._opened

    @cached_property
    def _opened(self) -> ParquetSplit:
        """The case's split, not checked."""
        return self._worker.split(self.case)

    @cached_property
    def _task(self) -> Any:
        return registry.task(self.case, self._worker.hooks)

    def begin(self) -> None:
        """Make the directory ready, or find that an earlier run finished here. Raises Conflict, StorageError."""
        self._worker.notify("start", self)
        self._own()
        # A test of the user's own always runs: its assertions are not part of what was stored.
        reuse = not is_own_test(self.nodeid)
        beginning = self.directory.begin(self._metadata(), self._worker.command(self.nodeid), force=self._worker.settings.force, reuse=reuse)
        self.reused = beginning.state == "finished"
        self.summary = beginning.summary if self.reused else None
        self._begun = not self.reused
        if self._begun and self.case.shard is not None:  # a verdict on the whole was one on other results
            back_up(self._worker.session_dir / cases.run_id(replace(self.case, shard=None), self.nodeid, self.case.whole_id, "") / SUMMARY)
        self._worker.usage(begin=True)

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
        with self._log.phase() if self._begun else nullcontext():
            yield

    def predictions(self) -> Evaluation:
        """The evaluation of this case, not started yet."""
        settings = self._worker.settings
        self.evaluation = Evaluation(
            split=self.split,
            task=self._task,
            runtime=self._runtime,
            shard=self.case.shard,
            prepare=self._join,
            results_path=self.directory.results_path,
            redactor=self.directory.redactor,
            extra=registry.metrics(self._worker.hooks),
            limit=settings.limit,
            on_bad_row=settings.on_bad_row,
            report=lambda done, total: self._worker.progress(self, done, total),
            public=self.case.labels,
        )
        self._check_metrics(self.evaluation)
        return self.evaluation

    def _runtime(self) -> Runtime:
        """The started runtime; the seconds it took count as start-up, not as work."""
        runtime, startup_s = self._worker.runtime(self.case, self.fixture)
        self.startup_s = startup_s
        return runtime

    def _join(self) -> None:
        """Where the case joins shards: their results are its own, and no model is needed. Raises NoVerdict."""
        if self.case.parts > 1:
            shards = [self._worker.session_dir / name for name in self._shard_runs()]
            self._joined = join.join(f"{self.case.suite} {self.case.id}", shards, self.directory.results_path)

    def _shard_runs(self) -> list[str]:
        """The run ids of the shards that this case joins."""
        return [cases.run_id(shard, self.nodeid, shard.id, "") for shard in cases.shards_of(self.case)]

    def _check_metrics(self, evaluation: Evaluation) -> None:
        """Before a long run: every gate names a metric that there will be, no metric of the user's hides another. Raises UsageProblem."""
        extra = registry.metrics(self._worker.hooks)
        own = set(evaluation.task.counts().metrics().overall)
        for name in extra:
            if name in own:
                raise UsageProblem(f"conftest.py adds a metric {name!r}, which task {self.case.task} has already; give it another name")
        for gate in self.case.gates:
            if gate.label is None and gate.metric not in own | set(extra):
                hint = valid_values(gate.metric, own | set(extra), what="metrics")
                raise UsageProblem(f"suite {self.case.suite!r}: a gate of {self.case.id} names metric {gate.metric!r}, which does not exist. {hint}")

    def judge(self) -> None:
        """Let the suite's gates speak. Raises RuntimeFault for too many failed rows, GateFailure if a gate says no."""
        if self.evaluation is None:
            raise UsageProblem("run.judge() needs the fixture `predictions`, read to its end")
        if self.case.shard is not None:  # the dataset is judged as a whole, by the item that joins its shards
            return
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

    def close(self) -> None:
        """After the last phase: let the log go."""
        self._log.close()

    def leave(self) -> None:
        """Let the directory go without a word in it."""
        self._lock.release()

    def _write_summary(self, status: Status, reason: str | None, error: str | None) -> None:
        evaluation, joined = self.evaluation, self._joined
        metrics = evaluation.metrics() if evaluation is not None and evaluation.tally.scored else None
        seconds = time.perf_counter() - self._started
        complete = evaluation is None or status != "passed" or evaluation.complete
        if self.case.parts > 1 and joined is None:  # no verdict: once the shards are there, nothing keeps it from being found
            complete = False
        if not complete and status == "passed" and evaluation is not None:
            reason = f"the test read {evaluation.tally.done} of {evaluation.total} rows"
        latencies = evaluation.latencies.percentiles() if evaluation is not None else None
        self.summary = Summary(
            run_id=self.directory.run_id,
            ok=status == "passed",
            status=status,
            reason=reason,
            headline=self._task.headline if evaluation is not None else None,
            metrics=_figures(metrics.overall) if metrics else {},
            labels={label: _figures(figures) for label, figures in metrics.labels.items()} if metrics else {},
            tables=metrics.tables if metrics else {},
            gates=[VerdictRecord(**verdict.as_dict()) for verdict in self.verdicts],
            rows=_rows(evaluation),
            complete=complete,
            seconds=joined.seconds if joined else round(seconds, 3),
            samples_per_s=joined.samples_per_s if joined else _rate(evaluation),
            startup_s=joined.startup_s if joined else self.startup_s,
            gpu=joined.gpu if joined else self._worker.usage(),
            latency=Latency(**latencies) if latencies else None,
            tokens=_tokens(evaluation),
            judge_tokens=_judge_tokens(evaluation),
            notes=joined.notes if joined else evaluation.notes if evaluation is not None else [],
            error=error,
        )
        self.directory.finish(self.summary)
        for note in self.summary.notes if joined is None else ():
            self._worker.warn(f"{self.directory.run_id}: {note}")

    def properties(self) -> list[tuple[str, Any]]:
        """What JUnit gets: builtin values only, small."""
        summary = self.summary
        if summary is None:
            return []
        found: list[tuple[str, Any]] = [
            ("gpueval.suite", self.case.suite),
            ("gpueval.dataset", self.case.dataset),
            ("gpueval.split", self.case.split),
            *([("gpueval.shard", self.case.shard.id)] if self.case.shard else []),
            ("gpueval.run_dir", str(self.path)),
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
        headline = summary.metrics.get(summary.headline or "")
        found = [(name, self.directory.redactor.value(value)) for name, value in found]
        if headline is not None and headline.low is not None and headline.high is not None:
            found += [(f"{summary.headline}.low", round(headline.low, 6)), (f"{summary.headline}.high", round(headline.high, 6))]
        return found

    def _metadata(self) -> RunMetadata:
        case, worker = self.case, self._worker
        return RunMetadata(
            run_id=self.directory.run_id,
            nodeid=self.nodeid,
            suite=case.suite,
            case=case.id,
            shard=case.shard.id if case.shard else None,
            shards=self._shard_runs() if case.parts > 1 else None,
            task=case.task,
            dataset=self._dataset(),
            runtime={"name": case.runtime_name, **case.runtime.model_dump(mode="json")},
            model=self._model(),
            judge=case.judge.as_dict() if case.judge else None,
            scoring=self._scoring(),
            policy={"name": case.policy_name, **case.policy.model_dump(mode="json", exclude={"gates"})},
            gates=[gate.model_dump(mode="json") for gate in case.gates],
            limit=worker.settings.limit,
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

    def _model(self) -> dict[str, Any]:
        """What decides the predictions beside the data. Options are hashed as they are: what is redacted elsewhere counts here."""
        runtime = self.case.runtime
        options = hashlib.sha256(json.dumps(runtime.options, sort_keys=True, default=str).encode()).hexdigest()
        return {"code_sha256": self._worker.model_code(self.case), "options_sha256": options}

    def _scoring(self) -> dict[str, Any]:
        case = self.case
        return {
            "labels": list(case.labels),
            "label_map": dict(case.label_map),
            "task_options": dict(case.task_options),
            "max_error_share": case.max_error_share,
            "on_bad_row": self._worker.settings.on_bad_row,
            "metrics": sorted(registry.metrics(self._worker.hooks)),
        }

    def _dataset(self) -> dict[str, Any]:
        """Where the rows come from; without hash and rows if the split cannot be opened, which its own error then says."""
        case = self.case
        known = {"repo": case.repo, "revision": case.revision, "name": case.dataset, "split": case.split}
        try:
            known["revision"] = self._opened.revision or case.revision
            return {**known, "origin": self._opened.origin, "rows": self._opened.rows, "sha256": self._opened.sha256}
        except GpuevalError:
            return {**known, "origin": self._worker.settings.data, "rows": None, "sha256": None}


def _no_fixture(name: str) -> Any:
    raise UsageProblem(f"{name} is needed, and the test does not use the fixture `run`, which gives it")


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


def _tokens(evaluation: Evaluation | None) -> Tokens | None:
    if evaluation is None or evaluation.tally.tokens is None:
        return None
    prompt, completion = evaluation.tally.tokens
    fresh = evaluation.fresh_tokens > 0 and evaluation.seconds > 0
    return Tokens(prompt=prompt, completion=completion, completion_per_s=round(evaluation.fresh_tokens / evaluation.seconds, 2) if fresh else None)


def _judge_tokens(evaluation: Evaluation | None) -> Tokens | None:
    if evaluation is None or evaluation.tally.judge_tokens is None:
        return None
    prompt, completion = evaluation.tally.judge_tokens
    return Tokens(prompt=prompt, completion=completion)


def _rate(evaluation: Evaluation | None) -> float | None:
    if evaluation is None or not evaluation.fresh or evaluation.seconds <= 0:
        return None
    return round(evaluation.fresh / evaluation.seconds, 2)
