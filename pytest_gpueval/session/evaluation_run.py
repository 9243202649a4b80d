"""The run of an evaluation's case: its rows through its runtime, scored and judged."""

from __future__ import annotations

import hashlib
import json
import shlex
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from pytest_gpueval import gates
from pytest_gpueval.datasets.parquet import ParquetSplit
from pytest_gpueval.errors import DataError, GpuevalError, ModelFault, UsageProblem, valid_values
from pytest_gpueval.runs.records import Attempt, Figure, Latency, RowCounts, Speed, Summary, Tokens, VerdictRecord
from pytest_gpueval.runs.redact import arguments
from pytest_gpueval.suites.model import Case, Status
from pytest_gpueval.suites.schema import SPEED

from . import cases, comparison, drops, join, registry, speed
from .evaluation import Evaluation
from .run import Run, Surroundings

if TYPE_CHECKING:
    from pytest_gpueval.runs.baselines import Baseline
    from pytest_gpueval.runs.baselines.speed import SpeedRecord
    from pytest_gpueval.runtimes.base import Runtime
    from pytest_gpueval.scoring.estimates import Estimate


class EvaluationRun(Run):
    """The fixture `run` of `test_eval`: the evaluation of its case."""

    def __init__(self, worker: Surroundings, case: Case, nodeid: str, run_id: str) -> None:
        super().__init__(worker, case, nodeid, run_id)
        self.case = case
        self.evaluation: Evaluation | None = None
        self.startup_s: float | None = None
        self._joined: join.Joined | None = None
        self._speed: Speed | None = None
        self._told: list[str] = []  # what judging it has told

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

    def _is_as_judged(self) -> bool:
        """Whether a verdict here was one beside the same baseline."""
        there, here = self.directory.baseline() or {}, self._compared_with() or {}
        return all(there.get(key) == here.get(key) for key in ("samples_sha256", "speed"))

    @cached_property
    def _known_speed(self) -> SpeedRecord | None:
        """How fast the case was that it is compared with; None where nobody knows, or nothing was asked for. Raises DataError for a damaged file."""
        return comparison.speed_of(self.case, self._worker.settings, self._worker.session_dir)

    def begin(self) -> None:
        """As `Run.begin`; what joins this shard has then to be judged anew."""
        super().begin()
        if self._begun and self.case.shard is not None:  # a verdict on the whole was one on other results
            self._worker.put_aside(cases.run_id(replace(self.case, shard=None), self.nodeid, self.case.whole_id, ""))

    @property
    def baseline(self) -> Baseline | None:
        """What the case is compared with; None where it is not. Raises UsageProblem, DataError."""
        return self._worker.baseline_of(self.case)

    def paired(self) -> comparison.Paired | None:
        """The samples of this run, read to its end, beside those of its baseline; None where it has none, and for a shard.

        Raises UsageProblem, DataError.
        """
        baseline = self.baseline if self.case.shard is None else None
        return None if baseline is None else comparison.paired(baseline, self.directory.results_path, self.split, self._task, self._worker.settings)

    def predictions(self) -> Evaluation:
        """The evaluation of this case, not started yet."""
        settings = self._worker.settings
        self.evaluation = Evaluation(
            split=self.split,
            task=self._task,
            runtime=self._runtime,
            shard=self.case.shard,
            prepare=self._before_rows,
            results_path=self.directory.results_path,
            redactor=self.directory.redactor,
            extra=registry.metrics(self._worker.hooks),
            limit=settings.limit,
            on_bad_row=settings.on_bad_row,
            report=lambda done, total: self._worker.progress(self, done, total),
            public=self.case.labels,
            check_ids=self.case.parts == 1,  # its shards have looked
        )
        self._check_metrics(self.evaluation)
        return self.evaluation

    def _runtime(self) -> Runtime:
        """The started runtime; the seconds it took count as start-up, not as work."""
        runtime, startup_s = self._worker.runtime(self.case, self.fixture)
        self.startup_s = startup_s
        return runtime

    def _before_rows(self) -> None:
        """What can stop the run does so before a model loads. Raises UsageProblem, DataError, NoVerdict."""
        if (baseline := self.baseline) is not None:
            comparison.agree(baseline, self.split, self._task, self._worker.settings)
        self._join()

    def _join(self) -> None:
        """Where the case joins shards: their results are its own, and no model is needed. Raises NoVerdict."""
        if self.case.parts > 1:
            self._worker.bring(self._shard_runs())
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
            if name in own | set(SPEED):
                raise UsageProblem(f"conftest.py adds a metric {name!r}, which task {self.case.task} has already; give it another name")
        for gate in self.case.gates:
            if gate.label is None and gate.metric not in own | set(extra) | set(SPEED):
                hint = valid_values(gate.metric, own | set(extra) | set(SPEED), what="metrics")
                raise UsageProblem(f"suite {self.case.suite!r}: a gate of {self.case.id} names metric {gate.metric!r}, which does not exist. {hint}")

    def judge(self) -> None:
        """Let the suite's gates speak. Raises ModelFault for too many failed rows, GateFailure if a gate says no."""
        if self.evaluation is None:
            raise UsageProblem("run.judge() needs the fixture `predictions`, read to its end")
        if self.case.shard is not None:  # the dataset is judged as a whole, by the item that joins its shards
            return
        self._judge_errors(self.evaluation)
        metrics = self.evaluation.metrics()
        own = [gate for gate in self.case.gates if not gate.is_speed]
        verdicts = gates.judge([gate for gate in own if not gate.is_paired], metrics.overall, metrics.labels)
        beside = self._beside_baseline() if any(gate.is_paired for gate in own) else None
        timed = self._judge_speed(self.evaluation)
        self._told = [*(beside.notes if beside else ()), *speed.words(timed)]
        if beside is None:
            self._judged([*verdicts, *timed])
        else:
            self._judged([*verdicts, *beside.verdicts(), *timed], self._details_of(beside))

    def _judge_speed(self, evaluation: Evaluation) -> list[gates.Verdict]:
        """What the gates on speed and memory say. Raises MissingExtra, DataError."""
        if not any(gate.is_speed for gate in self.case.gates):
            return []
        self._speed = self._measured(evaluation)
        return speed.judge(self.case, self._speed, self.split.sha256, self._known_speed, compared=self.baseline is not None)

    def _measured(self, evaluation: Evaluation) -> Speed | None:
        """How fast this run was; one that is gone through again from its results was as fast as it was."""
        if self._joined is not None:
            return speed.with_latencies(self._joined.speed, evaluation)
        if not evaluation.fresh:
            return self.before.speed if self.before is not None else None
        worker = self._worker
        return speed.measured(evaluation, speed.conditions(self.case, worker.settings, worker.gpu, worker.workers), worker.usage())

    def _beside_baseline(self) -> drops.Beside | None:
        """What the gates against a baseline look at; None where there is none. Raises UsageProblem, DataError."""
        pair = self.paired()
        return None if pair is None else drops.Beside(self.case, self._task, self.split, pair)

    def _details_of(self, beside: drops.Beside) -> Callable[[Sequence[gates.Verdict]], str]:
        clean, command = self.directory.redactor.text, shlex.join(arguments(self._worker.command(self.nodeid), self.directory.redactor))
        texts = self._worker.settings.report_texts != "no"
        return lambda verdicts: beside.details([one for one in verdicts if one.unit is None], self.directory.results_path, clean, command, texts=texts)

    def _judge_errors(self, evaluation: Evaluation) -> None:
        tally = evaluation.tally
        if tally.errors > self.case.max_error_share * max(1, tally.done):
            raise ModelFault(
                f"{self.case.suite} {self.case.id}: {tally.errors} of {tally.done} rows have no prediction; the suite allows "
                f"{self.case.max_error_share:.2%} (max_error_share).\nFirst: {tally.first_error}\nAll: {self.directory.results_path}"
            )
        if not tally.scored:
            raise DataError(f"{self.case.suite} {self.case.id}: no row could be scored ({tally.skipped} skipped)")

    def status_of(self, status: Status) -> Status:
        """As the test ended."""
        return status

    def _concluded(self, status: Status, reason: str | None, error: str | None) -> Summary:
        evaluation, joined = self.evaluation, self._joined
        metrics = evaluation.metrics() if evaluation is not None and evaluation.tally.scored else None
        seconds = time.perf_counter() - self._started
        complete = evaluation is None or status != "passed" or evaluation.complete
        if self.case.parts > 1 and joined is None:  # no verdict: once the shards are there, nothing keeps it from being found
            complete = False
        if not complete and status == "passed" and evaluation is not None:
            reason = f"the test read {evaluation.tally.done} of {evaluation.total} rows"
        latencies = evaluation.latencies.percentiles() if evaluation is not None else None
        return Summary(
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
            speed=self._speed or (self._measured(evaluation) if evaluation is not None else None),
            tokens=_tokens(evaluation),
            judge_tokens=_judge_tokens(evaluation),
            notes=[*(joined.notes if joined else evaluation.notes if evaluation is not None else ()), *self._told],
            attempts=len(self.earlier) + 1,
            ends=[*self.earlier, Attempt(outcome=status, reason=reason, seconds=round(seconds, 3))] if self.earlier else [],
            error=error,
        )

    def _may_be_tried_again(self, error: BaseException | None) -> bool:
        """What joins shards cannot help that one is missing."""
        return not isinstance(error, join.NoVerdict)

    def _news(self, summary: Summary) -> Sequence[str]:
        """Its own: what joins shards only repeats what they have said, but for the verdict."""
        return self._told if self._joined else summary.notes

    def _own_properties(self) -> list[tuple[str, Any]]:
        shard = [("gpueval.shard", self.case.shard.id)] if self.case.shard else []
        return [("gpueval.dataset", self.case.dataset), ("gpueval.split", self.case.split), *shard]

    def _identity(self) -> dict[str, Any]:
        case = self.case
        return {
            "shard": case.shard.id if case.shard else None,
            "shards": self._shard_runs() if case.parts > 1 else None,
            "task": case.task,
            "dataset": self._dataset(),
            "runtime": {"name": case.runtime_name, **case.runtime.model_dump(mode="json")},
            "model": self._model(),
            "judge": case.judge.as_dict() if case.judge else None,
            "scoring": self._scoring(),
            "policy": {"name": case.policy_name, **case.policy.model_dump(mode="json", exclude={"gates"})},
            "gates": [gate.model_dump(mode="json") for gate in case.gates],
            "baseline": self._compared_with(),
        }

    def _compared_with(self) -> dict[str, Any] | None:
        if self.case.shard is not None or (baseline := self.baseline) is None:
            return None
        record = baseline.record
        found = {"where": baseline.where, "commit": record.commit, "samples_sha256": record.samples_sha256}
        known = self._known_speed
        return {**found, "speed": hashlib.sha256(known.as_text().encode()).hexdigest()} if known is not None else found

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
            **({"columns": dict(case.columns)} if case.columns else {}),
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
