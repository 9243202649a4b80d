"""Tells how far a session is that runs as a detached run: `gpueval runs status` reads it from the run's directory."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from pytest_gpueval.errors import StorageError
from pytest_gpueval.runs.files import write_json

from .retries import RERUN

if TYPE_CHECKING:
    from pytest_gpueval.runs.redact import Redactor

_EVERY_S: Final = 0.5


def place(environment: Mapping[str, str]) -> Path | None:
    """The file, where this very session is what a detached run runs: not one within a test of it, nor one in a row of a sweep, which has its own directory."""
    directory = environment.get("GPUEVAL_RUN_DIR")
    if directory is None or "PYTEST_CURRENT_TEST" in environment:
        return None
    from pytest_gpueval.hosts.detached.agent.files import STATE  # noqa: PLC0415 - most sessions run for themselves
    from pytest_gpueval.hosts.detached.agent.processes import MARKER  # noqa: PLC0415
    from pytest_gpueval.hosts.detached.agent.progress import PROGRESS  # noqa: PLC0415

    nonce = environment.get(MARKER)
    return Path(directory, PROGRESS) if nonce and Path(directory, STATE, nonce).is_dir() else None


def of(config: pytest.Config, redactor: Redactor) -> Progress | None:
    """The plugin that tells, registered; None where nobody is to be told."""
    path = place(os.environ)
    if path is None:
        return None
    progress = Progress(path, redactor)
    config.pluginmanager.register(progress, "gpueval-progress")
    return progress


class Progress:
    """Plugin of the controller: counts items, and knows what runs now. The file is written at most every half second, and at the end."""

    def __init__(self, path: Path, redactor: Redactor) -> None:
        self._path, self._redactor = path, redactor
        self._session: pytest.Session | None = None
        self._done: set[str] = set()
        self._failed: set[str] = set()
        self._running: dict[str, str] = {}
        self._lock = threading.Lock()
        self._written = -_EVERY_S
        self._later: threading.Timer | None = None
        self._ended = False

    def hear(self, message: Mapping[str, Any]) -> None:
        """A worker's message about its run; in the thread that receives it."""
        event, worker = message["event"], message.get("worker", "")
        with self._lock:
            if event == "start":
                self._running[worker] = message["case"]
            elif event == "progress" and worker in self._running:
                rows = f"{message['done']:,}/{message['total']:,}" if message["total"] else f"step {message['done']:,}"
                self._running[worker] = f"{message['case']} {rows}"
            elif event == "end":
                self._running.pop(worker, None)
            else:
                return
        self._changed()

    def pytest_sessionstart(self, session: pytest.Session) -> None:
        """Here it is known how many items there are, once they are collected; under xdist too."""
        self._session = session

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """The same for a session that was opened while pytest collects."""
        self._session = session

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """An item begins, perhaps once more."""
        with self._lock:
            self._done.discard(nodeid)
            self._failed.discard(nodeid)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """It failed, or its worker died under it, which no `logfinish` follows."""
        with self._lock:
            if report.failed:
                self._failed.add(report.nodeid)
            if report.when not in ("setup", "call", "teardown") and report.outcome != RERUN:
                self._done.add(report.nodeid)
        self._changed()

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        """It is done."""
        with self._lock:
            self._done.add(nodeid)
        self._changed()

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self) -> None:
        """Leave how far it came."""
        with self._lock:
            if self._later is not None:
                self._later.cancel()
            self._running.clear()
            self._write()
            self._ended = True  # a worker's last message is no news

    def _changed(self) -> None:
        """Write now, or soon if that was done a moment ago."""
        with self._lock:
            wait_s = self._written + _EVERY_S - time.monotonic()
            if self._ended:
                return
            if wait_s <= 0:
                self._write()
            elif self._later is None:
                self._later = threading.Timer(wait_s, self._due)
                self._later.daemon = True
                self._later.start()

    def _due(self) -> None:
        with self._lock:
            self._later = None
            if not self._ended:
                self._write()

    def _write(self) -> None:
        self._written = time.monotonic()
        total = self._session.testscollected if self._session is not None else 0
        note = self._redactor.text(", ".join(self._running[worker] for worker in sorted(self._running)))
        told = {"done": len(self._done), "total": max(total, len(self._done)) or None, "failed": len(self._failed), "unit": "items", "note": note}
        with suppress(StorageError):  # it is told again, and the session does not depend on it
            write_json(self._path, told, durable=False)
