"""Tries items again whose failure was one of the machines, in the process that runs them. Gates have spoken once for all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from _pytest.runner import runtestprotocol

from pytest_gpueval.runs.records import Attempt

from . import attempts

if TYPE_CHECKING:
    from .run import Run
    from .worker import Worker

# Outcome of a report that counts as nothing: another attempt follows. The word is the one that pytest-rerunfailures uses.
RERUN = "rerun"


class Retries:
    """Plugin of a process that runs items, where `--gpueval-retries` is given."""

    def __init__(self, worker: Worker, times: int) -> None:
        self._worker = worker
        self._times = times

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
        """As pytest's own, but a failure is shown only once it is final."""
        if self._worker.current(item) is None:
            return None
        item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        while True:
            reports = runtestprotocol(item, log=False, nextitem=nextitem)
            run = self._worker.current(item)
            may = run is not None and run.retriable and len(run.earlier) < self._times and not item.session.shouldstop
            if run is None or not may or not self._try_again(item, run, reports):
                for report in reports:
                    item.ihook.pytest_runtest_logreport(report=report)
                break
            if self._worker.current(item) is None:
                break
        item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
        return True

    def _try_again(self, item: pytest.Item, run: Run, reports: list[Any]) -> bool:
        """Make the item ready for another attempt; False if there can be none, for its process is lost and nobody would give it to another."""
        elsewhere = self._worker.is_lost() is not None
        if elsewhere and not self._worker.one_at_a_time:
            return False
        summary = run.summary
        if summary is None:
            return False
        attempts.note(run.directory, Attempt(outcome=summary.status, reason=summary.reason, seconds=summary.seconds))
        report = next(report for report in reports if report.failed)
        report.outcome = RERUN
        item.ihook.pytest_runtest_logreport(report=report)
        self._worker.try_again(item, elsewhere=elsewhere)
        return True
