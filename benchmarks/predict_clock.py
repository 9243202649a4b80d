"""A pytest plugin that clocks the CPU time inside a model's `predict`: `pytest -p benchmarks.predict_clock`.

Each process that runs items writes what it used to a file of `$GPUEVAL_PREDICT_CLOCK`. CPU time is that of the whole process, its threads included.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest

from pytest_gpueval.runtimes.inprocess import InProcess

DIRECTORY = "GPUEVAL_PREDICT_CLOCK"


class PredictClock:
    """Plugin of one process."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._items_begin: float | None = None
        self._spent = {"predict_s": 0.0, "model_start_s": 0.0}
        self._rows = 0

    def around(self, key: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, its CPU time added to `key`."""

        def clocked(*arguments: Any) -> Any:
            begin = time.process_time()
            try:
                return function(*arguments)
            finally:
                self._spent[key] += time.process_time() - begin

        return clocked

    def watch(self) -> None:
        """Clock every model that this process starts from now on."""
        start = InProcess.start

        def started(runtime: InProcess) -> None:
            self.around("model_start_s", start)(runtime)
            model = runtime._model  # noqa: SLF001 - no hook in production code for this
            predict = self.around("predict_s", model.predict)

            def counted(batch: list[Any]) -> Any:
                self._rows += len(batch)
                return predict(batch)

            model.predict = counted

        setattr(InProcess, "start", started)  # noqa: B010 - an assignment would ask the type checker to look away

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self) -> Generator[None, Any, Any]:
        """Start-up ends where the first item begins."""
        if self._items_begin is None:
            self._items_begin = time.process_time()
        return (yield)

    @pytest.hookimpl(trylast=True)
    def pytest_unconfigure(self) -> None:
        """Write the times of a process that ran items."""
        if self._items_begin is not None:
            total = time.process_time()
            record = {**self._spent, "rows": self._rows, "total_s": total, "start_up_s": self._items_begin}
            (self._directory / f"{os.getpid()}.json").write_text(json.dumps(record), encoding="utf-8")


def pytest_configure(config: pytest.Config) -> None:
    """Watch, if asked to."""
    directory = os.environ.get(DIRECTORY)
    if directory:
        clock = PredictClock(Path(directory))
        clock.watch()
        config.pluginmanager.register(clock, "gpueval-predict-clock")
