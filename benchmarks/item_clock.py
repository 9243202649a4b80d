"""A pytest plugin that writes down when items begin and end, ours and stock pytest's alike: `pytest -p benchmarks.item_clock`.

Each process that runs items appends lines to a file of `$ITEM_CLOCK`. Where `$ITEM_CLOCK_WORKERS` is set, items wait until so many processes are ready,
and begin together: start-up is no part of a makespan. `$ITEM_CLOCK_PART` (`2/8`) leaves a process every eighth item: sharding without a scheduler.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

DIRECTORY, WORKERS, PART, CALM = "ITEM_CLOCK", "ITEM_CLOCK_WORKERS", "ITEM_CLOCK_PART", "ITEM_CLOCK_CALM"
_POLL_S = 0.002
_PATIENCE_S = 120.0


class ItemClock:
    """Plugin of one process."""

    def __init__(self, directory: Path, lane: str | None) -> None:
        self._directory = directory
        self._lane = lane
        self._file = os.open(directory / f"{os.getpid()}.jsonl", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC)

    def _write(self, **event: Any) -> None:
        os.write(self._file, json.dumps({"at": time.monotonic(), "lane": self._lane, "pid": os.getpid(), **event}).encode() + b"\n")

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Keep this process's part."""
        if part := os.environ.get(PART):
            index, _, count = part.partition("/")
            items[:] = items[int(index) :: int(count)]

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_collection_finish(self) -> Generator[None, None, None]:
        """After everybody else's part of it: the items are known, and told."""
        yield
        self._write(event="collected")

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtestloop(self) -> Generator[None, object, object]:
        """Wait for the others, then for the machine to be calm."""
        if (workers := int(os.environ.get(WORKERS, "0"))) and self._lane is not None:
            (self._directory / f"{os.getpid()}.ready").touch()
            end = time.monotonic() + _PATIENCE_S
            while len(ready := list(self._directory.glob("*.ready"))) < workers and time.monotonic() < end:
                time.sleep(_POLL_S)
            calm_s = float(os.environ.get(CALM, "0"))
            if calm_s:
                time.sleep(max(0.0, max(path.stat().st_mtime for path in ready) + calm_s - time.time()))
        return (yield)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, Any, Any]:
        """Around all that an item costs its process."""
        self._write(event="begin", item=item.nodeid)
        try:
            return (yield)
        finally:
            self._write(event="end", item=item.nodeid)

    @pytest.hookimpl(trylast=True)
    def pytest_unconfigure(self) -> None:
        """What the process used."""
        self._write(event="cpu", cpu_s=time.process_time())


def pytest_configure(config: pytest.Config) -> None:
    """Watch, if asked to. A process whose items xdist runs elsewhere has no lane."""
    if directory := os.environ.get(DIRECTORY):
        distributes = not hasattr(config, "workerinput") and getattr(config.option, "tx", None)
        lane = None if distributes else os.environ.get("PYTEST_XDIST_WORKER", "main")
        config.pluginmanager.register(ItemClock(Path(directory), lane), "item-clock")
