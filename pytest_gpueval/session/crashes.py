"""Workers that die under an item: its run says so, and another worker may try it again."""

from __future__ import annotations

import signal
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from _pytest.junitxml import xml_key

from pytest_gpueval.hosts.workers import UNKNOWN
from pytest_gpueval.runs.directory import RunDirectory
from pytest_gpueval.runs.records import Attempt, Summary

from . import attempts, failures, xdist_seam
from .retries import RERUN

if TYPE_CHECKING:
    from .controller import Controller

# An item goes to another host so often because hosts vanish under it; that is no attempt of the item's own.
_MOST_LOST = 3


class Crashes:
    """Plugin of the controller."""

    def __init__(self, controller: Controller, retries: int) -> None:
        self._controller = controller
        self._retries = retries
        self._again: set[str] = set()
        # The lane whose host has just vanished, and how often that happened under an item.
        self._vanished: str | None = None
        self._lost: Counter[str] = Counter()

    @pytest.hookimpl(optionalhook=True, tryfirst=True)
    def pytest_testnodedown(self, node: Any, error: object) -> None:
        """A worker is gone; one on another host, perhaps with the link to it."""
        away, lane = self._controller.elsewhere, self._controller.lane_of(node)
        lost = away is not None and error is not None and away.host_of(lane) and xdist_seam.process_end(node) == UNKNOWN
        self._vanished = lane if lost else None

    def tried_again(self, nodeid: str) -> bool:
        """Whether an item is to be run again whose worker has just died under it. Its run is made ready for that."""
        run = next((run for run in self._controller.runs.values() if run.nodeid == nodeid and run.status is None), None)
        if run is None or nodeid in self._again:
            return False
        vanished = run.worker == self._vanished and self._lost[nodeid] < _MOST_LOST
        if not vanished and len(attempts.earlier(self._controller.session_dir, run.run_id)) - self._lost[nodeid] >= self._retries:
            return False
        self._lost[nodeid] += vanished
        directory = RunDirectory(self._controller.session_dir / run.run_id, self._controller.redactor)
        why = f"the host of {run.worker} vanished" if vanished else f"its worker {run.worker} died"
        ended = Attempt(outcome="crashed", reason=why, seconds=round(self._controller.seconds_of(run.run_id), 3))
        attempts.note(directory, ended)
        if self._controller.elsewhere:
            self._controller.elsewhere.changed(run.run_id)
        self._controller.display.note(f"{run.case}: {attempts.words(attempts.earlier(self._controller.session_dir, run.run_id))}; again")
        self._again.add(nodeid)
        return True

    @pytest.hookimpl(optionalhook=True)
    def pytest_handlecrashitem(self, crashitem: str, report: Any, sched: Any) -> None:
        """A worker died: its item's summary says so, unless the item is tried again."""
        report.user_properties = [(failures.PROPERTY, "infrastructure")]
        if crashitem not in self._again and xdist_seam.can_give_back(sched) and self.tried_again(crashitem):
            sched.mark_test_pending(crashitem)  # xdist's own; ours has asked already
        if crashitem in self._again:
            self._again.discard(crashitem)
            report.outcome = RERUN
            return
        for run_id, run in self._controller.runs.items():
            if run.nodeid == crashitem and run.status is None:
                place = self._controller.session_dir / run_id
                reason = f"worker {run.worker} {_how_it_ended(report.node)} while running this item; see {place / 'stdout.log'}"
                ends = attempts.earlier(self._controller.session_dir, run_id)
                self._controller.conclude(run_id, _summary(run_id, reason, ends, complete=not self._controller.joins(crashitem)))
                report.longrepr = reason
                report.user_properties += [("gpueval.status", "crashed"), ("gpueval.run_dir", str(place))]
                report.duration = self._controller.seconds_of(run_id)
        xml = self._controller.config.stash.get(xml_key, None)
        if xml is not None:  # pytest writes properties at a teardown, which a crashed item never reaches
            for name, value in report.user_properties:
                xml.node_reporter(report).add_property(name, value)

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Of an item that is tried again, JUnit has the last attempt alone."""
        xml = self._controller.config.stash.get(xml_key, None)
        if report.outcome == RERUN and xml is not None:
            reporter = xml.node_reporter(report)
            xml.finalize(report)
            xml.node_reporters_ordered.remove(reporter)

    def pytest_report_teststatus(self, report: pytest.TestReport) -> tuple[str, str, str] | None:
        """An attempt that is followed by another is counted as that."""
        return (RERUN, "R", "RERUN") if report.outcome == RERUN else None


def _summary(run_id: str, reason: str, ends: list[Attempt], *, complete: bool) -> Summary:
    """Of a run whose worker died. One that joins shards may be tried again in another session: no model ran."""
    told = [*ends, Attempt(outcome="crashed", reason=reason, seconds=0.0)] if ends else []
    return Summary(run_id=run_id, ok=False, status="crashed", failure="infrastructure", reason=reason, complete=complete, attempts=len(ends) + 1, ends=told)


def _how_it_ended(node: Any) -> str:
    """`died of SIGKILL`."""
    code = xdist_seam.process_end(node)
    if code is None or code >= 0:
        return "died" if code is None else f"ended with exit code {code}"
    return f"died of {signal.Signals(-code).name}" if -code in set(signal.Signals) else f"died of signal {-code}"
