"""What a row's program prints, on its way to stdout.log and results.jsonl."""

from __future__ import annotations

import math
import os
import time
from contextlib import ExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from pytest_gpueval.runs.directory import LOG
from pytest_gpueval.runs.files import storage, write_all
from pytest_gpueval.runs.results import ResultsWriter

if TYPE_CHECKING:
    from pytest_gpueval.sweeps.output import Output, Step

    from .sweep_run import SweepRun

_TELL_EVERY_S: Final = 0.5


class RowLog:
    """Takes whole lines: redacts and writes them, and keeps the steps that they report."""

    def __init__(self, run: SweepRun, output: Output, *, stop_at_nan: bool) -> None:
        self.output = output
        self.steps = 0
        self.diverged: str | None = None
        self._run = run
        self._stop_at_nan = stop_at_nan
        self._told = 0.0
        self._results: ResultsWriter | None = None
        self._place = run.path / LOG
        with storage(self._place):
            self._log = os.open(self._place, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with ExitStack() as stack:
            stack.callback(os.close, self._log)
            if self._results is not None:
                stack.callback(self._results.close)

    def take(self, lines: bytes) -> str | None:
        """Whole lines of output; says why the program shall be stopped. Raises StorageError: results would be lost."""
        if not lines:
            return self._run.stop(())
        text = lines.decode("utf-8", "backslashreplace")
        public = self._run.directory.redactor.text(text)
        write_all(self._log, lines if public is text else public.encode("utf-8", "backslashreplace"), self._place)
        self._run.show(public)
        steps = self.output.feed(text)
        for step in steps:
            self._keep(step)
            self.diverged = self.diverged or (f"{step.not_finite} at step {step.id}" if step.not_finite else None)
        if self.diverged and self._stop_at_nan:
            return f"diverged: {self.diverged}"
        return self._run.stop(steps)

    def _keep(self, step: Step) -> None:
        if self._results is None:
            self._results = ResultsWriter(self._run.directory.results_path, self._run.directory.redactor)
        values = {name: value if math.isfinite(value) else str(value) for name, value in step.values.items()}
        self._results.write({"id": step.id, "score": values})
        self.steps += 1
        now = time.perf_counter()
        if now - self._told >= _TELL_EVERY_S:
            self._told = now
            self._run.progress(step)
