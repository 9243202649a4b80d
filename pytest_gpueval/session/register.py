"""The runs of a session as workers tell of them: each in a thread of its own, beside the main thread that looks."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping

from pytest_gpueval.runs.records import SessionRun


class Register(Mapping[str, SessionRun]):
    """Run id -> run, in the order of their beginnings. Whoever goes through it goes through the runs that there were when they began to."""

    def __init__(self) -> None:
        self._runs: dict[str, SessionRun] = {}
        self._lock = threading.Lock()

    def add(self, run: SessionRun) -> None:
        """A run begins, perhaps once more."""
        with self._lock:
            self._runs[run.run_id] = run

    def change(self, run_id: str, changes: Mapping[str, object]) -> SessionRun:
        """More is known of a run. Raises KeyError where it has not begun."""
        with self._lock:
            self._runs[run_id] = changed = self._runs[run_id].model_copy(update=changes)
            return changed

    def __getitem__(self, run_id: str) -> SessionRun:
        return self._runs[run_id]

    def __iter__(self) -> Iterator[str]:
        with self._lock:
            return iter(list(self._runs))

    def __len__(self) -> int:
        return len(self._runs)
