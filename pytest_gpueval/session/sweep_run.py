"""The run of a sweep's row: its program, attempt by attempt, watched, told apart and judged."""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_gpueval import gates
from pytest_gpueval.datasets import sources
from pytest_gpueval.errors import Conflict, GpuevalError, UsageProblem
from pytest_gpueval.runs import results
from pytest_gpueval.runs.directory import LOG, METADATA, RESULTS, SUMMARY, read_metadata
from pytest_gpueval.runs.files import back_up, storage, write_json
from pytest_gpueval.runs.records import Attempt, Figure, RowCounts, RunMetadata, Summary, VerdictRecord
from pytest_gpueval.suites.model import Status
from pytest_gpueval.suites.schema import Gate
from pytest_gpueval.sweeps import outcome, output
from pytest_gpueval.sweeps.outcome import End, Outcome
from pytest_gpueval.sweeps.program import attempt

from .row_log import RowLog
from .run import Run, Surroundings

if TYPE_CHECKING:
    from pytest_gpueval.suites.sweep import Row

# What a program wrote under a name of the contract is kept beside it.
_OWN_SUMMARY = "summary.program.json"
_MOST_JSON = 64 << 20


class RowFailure(GpuevalError):
    """A row's program did not do what the suite asks of it. The text says how it ended, and where its output is."""


class SweepRun(Run):
    """The fixture `run` of `test_sweep`: `run.execute()` runs the row's program, `run.judge()` lets the gates speak."""

    def __init__(self, worker: Surroundings, row: Row, nodeid: str, run_id: str) -> None:
        super().__init__(worker, row, nodeid, run_id)
        self.row = row
        self.outcome: Outcome | None = None
        self.metrics: dict[str, float] = {}
        self._file = row.file
        self._ends: list[Attempt] = []
        self._number = 0
        # The attempt that run_metadata.json tells of.
        self._written = 0
        self._steps = 0

    def execute(self) -> None:
        """Run the program, again where the suite lets it be tried again. Raises RowFailure, and pytest's Skipped for a row that was stopped early."""
        while True:
            self._number += 1
            end, self.outcome = self._attempt()
            self._ends.append(Attempt(outcome=self.outcome.kind, reason=self.outcome.reason, exit_code=end.exit_code, seconds=round(end.seconds, 3)))
            if not outcome.may_retry(len(self._ends), self.outcome.kind, self._file.retries):
                break
            wait_s = outcome.wait_s(len(self._ends), self._file.retries)
            sys.stderr.write(f"gpueval: attempt {self._number}: {self.outcome.reason}; again in {wait_s:g} s\n")
            time.sleep(wait_s)
        if self.outcome.kind == "stopped":
            pytest.skip(self.outcome.reason or "stopped early")
        if self.outcome.kind != "passed":
            tries = f" (attempt {self._number})" if self._number > 1 else ""
            raise RowFailure(f"{self.row.suite} {self.row.id}: {self.outcome.reason}{tries}\nOutput: {self.path / LOG}")

    def judge(self) -> None:
        """Let the gates speak that look at one row. Raises GateFailure, UsageProblem for a metric that the program does not report."""
        each = [Gate(metric=gate.metric, min=gate.min, max=gate.max) for gate in self._file.gates if gate.of == "each" and gate.beats is None]
        for name in [*(gate.metric for gate in each), *([self._file.metric] if self._file.metric else [])]:
            if name not in self.metrics:
                known = ", ".join(sorted(self.metrics)) or "none"
                raise UsageProblem(
                    f"{self.row.suite} {self.row.id}: metric {name!r} is in no RESULT_... line, summary.json or [metrics]. Metrics found: {known}"
                )
        self._judged(gates.judge(each, {name: _figure(value) for name, value in self.metrics.items()}, {}))

    def status_of(self, status: Status) -> Status:
        """How the program ended, where that is why the test failed."""
        if status in ("failed", "error") and self.outcome is not None and self.outcome.kind != "passed":
            return self.outcome.status
        return status

    def begin(self) -> None:
        """As `Run.begin`. What an earlier attempt left is continued if the suite says that its program can, else moved aside."""
        super().begin()
        if self._begun and not self._continues:
            for name in (RESULTS, LOG):
                back_up(self.path / name)

    def _prepare(self) -> None:
        """Count the attempts that earlier sessions made."""
        if not self._forced:
            with suppress(Conflict, ValueError, TypeError):
                self._number = int((read_metadata(self.path) or {}).get("attempt") or 0)

    @property
    def _continues(self) -> bool:
        return self._file.resume and self._number > 0

    def _attempt(self) -> tuple[End, Outcome]:
        """One attempt: the program, its output, what it left."""
        with suppress(FileNotFoundError):
            (self.path / SUMMARY).unlink()
        if self._written != self._number:  # `begin` has written it for the first
            write_json(self.path / METADATA, self.directory.redactor.value(self._metadata().model_dump(mode="json")), durable=False)
        if not self._file.resume:  # it starts anew
            if self._steps:
                back_up(self.path / RESULTS)
                self._steps = 0
            if self._file.early_stop is not None:
                self._worker.step(self, 0.0, None)
        place = str(self.path.resolve())
        argv, environment = self._argv(place), self._environment(place)
        directory = self.row.directory / self._file.directory
        with RowLog(self, output.Output(self._file.series, self._file.metrics), stop_at_nan=self._stops_at_nan) as log:
            end = attempt(
                argv,
                directory=directory,
                environment=environment,
                timeout_s=self._file.timeout_s,
                grace_s=self._file.grace_s,
                sink=log.take,
                server=self._worker.supervisors(),
            )
            self._steps += log.steps
        own, problem = self._own_summary()
        self.metrics = {**(output.of_summary(own) if own else {}), **log.output.metrics, **self._declared()}
        missing = [name for name in self._file.expected if not (self.path / name).exists()]
        if problem is not None and end.exit_code == 0:
            return end, Outcome("exit", problem)
        diverged = log.diverged or next((f"{name} is {value}" for name, value in self.metrics.items() if not math.isfinite(value)), None)
        return end, outcome.judge(end, log.output.tail, diverged=diverged if self._stops_at_nan else None, missing=missing, own=own)

    @property
    def _stops_at_nan(self) -> bool:
        return self._file.series is None or self._file.series.diverged == "stop"

    def progress(self, step: output.Step) -> None:
        """Tell how far the program is."""
        self._worker.progress(self, int(step.step), 0)

    def stop(self, steps: Sequence[output.Step]) -> str | None:
        """Tell what the program has reported, where rows may be stopped early; gives the reason if this one shall be."""
        early = self._file.early_stop
        if early is None:
            return None
        for step in steps:
            if early.value in step.values:
                self._worker.step(self, step.step, step.values[early.value])
        return self._worker.stop_of(self.directory.run_id)

    def show(self, text: str) -> None:
        """Let the user see what the program prints, where that is asked for."""
        self._worker.show(text)

    def _argv(self, place: str) -> list[str]:
        fields = {
            "python": sys.executable,
            "suite": str(self.row.directory),
            "run_dir": place,
            "run_id": self.directory.run_id,
            "attempt": str(self._number),
        }
        try:
            return self.row.argv(fields)
        except ValueError as problem:
            raise UsageProblem(f"{self.row.suite} {self.row.id}: {problem}") from None

    def _environment(self, place: str) -> dict[str, str]:
        own = {"GPUEVAL_RUN_DIR": place, "GPUEVAL_RUN_ID": self.directory.run_id, "GPUEVAL_ATTEMPT": str(self._number)}
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
        return {**kept, **self._file.environment, **own}

    def _own_summary(self) -> tuple[Mapping[str, Any] | None, str | None]:
        """What the program wrote as its summary.json, moved aside for ours; and what is wrong with it."""
        place, kept = self.path / SUMMARY, self.path / _OWN_SUMMARY
        if not place.exists():
            return None, None
        with storage(kept):
            place.replace(kept)
        found, problem = _document(kept)
        if problem is None and not isinstance(found, dict):
            problem = "not a JSON object"
        return (found, None) if problem is None else (None, f"its {SUMMARY} is {problem} (kept as {kept.name})")

    def _declared(self) -> dict[str, float]:
        """Metrics that the suite says stand in files of the run."""
        found: dict[str, float] = {}
        documents: dict[str, Any] = {}
        for name, entry in self._file.metrics.items():
            if entry.file is not None and entry.path is not None:
                if entry.file not in documents:
                    documents[entry.file] = _document(self.path / entry.file)[0]
                value = output.at(documents[entry.file], entry.path)
                if value is not None:
                    found[name] = value
        return found

    def _metadata(self) -> RunMetadata:
        """Of the attempt that runs, or is about to."""
        self._written = self._number if self._begun else self._number + 1
        return super()._metadata().model_copy(update={"attempt": self._written})

    def _identity(self) -> dict[str, Any]:
        file = self._file
        return {
            "task": "sweep",
            "dataset": {},
            "runtime": {"name": self.row.runtime_name},
            "model": {"code_sha256": sources.fingerprint(self.row.directory)},
            "scoring": {"metric": file.metric, "goal": file.goal},
            "policy": {},
            "gates": self.row.sweep.gates,
            "parameters": dict(self.row.parameters),
            "program": self.row.sweep.program,
        }

    def _own_properties(self) -> Sequence[tuple[str, Any]]:
        shown = [
            (f"gpueval.param.{name}", value if isinstance(value, (bool, int, float, str)) else json.dumps(value)) for name, value in self.row.parameters.items()
        ]
        return [*shown, ("gpueval.attempts", self.summary.attempts if self.summary else self._number)]

    def _concluded(self, status: Status, reason: str | None, error: str | None) -> Summary:
        return Summary(
            run_id=self.directory.run_id,
            ok=status == "passed",
            status=status,
            reason=reason,
            headline=self._file.metric,
            metrics={name: _figure(value) for name, value in self.metrics.items()},
            gates=[VerdictRecord(**verdict.as_dict()) for verdict in self.verdicts],
            rows=RowCounts(scored=self._lines()),
            seconds=round(sum(end.seconds for end in self._ends) or time.perf_counter() - self._started, 3),
            gpu=self._worker.usage(),
            attempts=max(1, self._number),
            ends=[*self.earlier, *self._ends],
            error=error,
        )

    def _may_be_tried_again(self, error: BaseException | None) -> bool:  # noqa: ARG002 - the interface
        """The suite's own `retries` say that."""
        return False

    def _lines(self) -> int:
        """Steps in results.jsonl, those of earlier attempts included."""
        place = self.directory.results_path
        return results.count(place) if place.exists() else 0


def _figure(value: float) -> Figure:
    """A metric of one run has no interval; a value that is not finite is none."""
    return Figure(value=value if math.isfinite(value) else None, low=None, high=None, n=1)


def _document(path: Path) -> tuple[Any, str | None]:
    """A JSON file that a program wrote, and why it cannot be read."""
    try:
        if path.stat().st_size > _MOST_JSON:
            return None, f"larger than {_MOST_JSON >> 20} MiB"
        return json.loads(path.read_text(encoding="utf-8")), None
    except (OSError, ValueError, RecursionError) as error:
        return None, f"not JSON: {str(error)[:100]}"
