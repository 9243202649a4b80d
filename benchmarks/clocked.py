"""Sessions of ours and of stock pytest, side by side in a scratch repository, with the times of their items."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import item_clock
from .measure import DROPPED, Figure, RunFailed

ROOT = Path(__file__).resolve().parent.parent
OURS = ("-p", "xdist", "-p", "gpueval")
STOCK = ("-p", "xdist")
_PLAIN = ("-q", "-p", "no:cacheprovider", "-p", "benchmarks.item_clock")
_TIMEOUT_S = 300.0
# Items begin together, so long after the last process is ready: its start-up must not slow down the first items of others.
_CALM_S = 0.5


@dataclass(frozen=True)
class Item:
    """One item that ran to its end."""

    name: str
    lane: str
    begin_s: float
    end_s: float


class Clocked:
    """What the item clocks of a session have written so far. Times are of the system's monotonic clock."""

    def __init__(self, directory: Path, started_s: float) -> None:
        self.started_s = started_s
        self._directory = directory

    @property
    def events(self) -> list[dict[str, Any]]:
        """All lines, in the order of their times; a line that is being written is left out."""
        lines = (line for file in self._directory.glob("*.jsonl") for line in file.read_text(encoding="utf-8").splitlines(keepends=True))
        return sorted((json.loads(line) for line in lines if line.endswith("\n")), key=lambda event: float(event["at"]))

    @property
    def items(self) -> list[Item]:
        """Those that ended, in the order of their begins."""
        begun: dict[tuple[int, str], float] = {}
        found: list[Item] = []
        for event in self.events:
            key = (event["pid"], event.get("item", ""))
            if event["event"] == "begin":
                begun[key] = event["at"]
            elif event["event"] == "end":
                found.append(Item(event["item"], event["lane"], begun.pop(key), event["at"]))
        return sorted(found, key=lambda item: item.begin_s)

    @property
    def makespan_s(self) -> float:
        """From the first begin to the last end. Raises RunFailed where nothing ran."""
        items = self.items
        if not items:
            raise RunFailed("no item ran")
        return max(item.end_s for item in items) - items[0].begin_s

    def last_s(self, event: str) -> float:
        """Seconds from the start of the command to the last event of this kind in a process that runs items."""
        return max(float(found["at"]) for found in self.events if found["event"] == event and found["lane"] is not None) - self.started_s

    def first_s(self, event: str) -> float | None:
        """Seconds from the start of the command to the first event of this kind, None if there was none."""
        return next((float(found["at"]) - self.started_s for found in self.events if found["event"] == event), None)

    def controller_cpu_s(self) -> float:
        """CPU seconds of the process that runs no items."""
        return sum(float(found["cpu_s"]) for found in self.events if found["event"] == "cpu" and found["lane"] is None)


class Repository:
    """A scratch repository in which sessions run."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._count = 0
        (directory / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
        # What the first evaluation of a process imports is start-up, which a makespan leaves out.
        (directory / "conftest.py").write_text("import os\nif os.environ.get('PRELOAD'):\n    import pyarrow.parquet\n", encoding="utf-8")

    def test_file(self, name: str, text: str) -> None:
        """Write a module of tests."""
        (self.directory / name).write_text(text, encoding="utf-8")

    def suite(self, name: str, toml: str) -> Path:
        """Write a suite; returns where its splits belong."""
        folder = self.directory / "suites" / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "suite.toml").write_text(toml, encoding="utf-8")
        return folder / "data"

    def run(
        self, *argv: str, together: int = 0, environment: Mapping[str, str] | None = None, accepted: Sequence[int] = (0,), calm_s: float = _CALM_S
    ) -> Clocked:
        """One pytest to its end. `together`: items wait for so many processes, and for `calm_s` after the last. Raises RunFailed."""
        with self.started([argv], together=together, environment=environment, calm_s=calm_s) as (children, clocked):
            _wait(children, accepted)
        return clocked

    def side_by_side(self, argvs: Sequence[Sequence[str]], *, together: int = 0, parts: bool = False, accepted: Sequence[int] = (0,)) -> Clocked:
        """Several pytests at a time, each with its part of the items where `parts`."""
        with self.started(argvs, together=together, parts=parts) as (children, clocked):
            _wait(children, accepted)
        return clocked

    @contextmanager
    def started(
        self, argvs: Sequence[Sequence[str]], *, together: int = 0, parts: bool = False, environment: Mapping[str, str] | None = None, calm_s: float = _CALM_S
    ) -> Iterator[tuple[list[subprocess.Popen[str]], Clocked]]:
        """Programs that run, and what their clocks say; at the end those that still run are killed with their process groups."""
        self._count += 1
        place = self.directory / f"clock-{self._count}"
        place.mkdir()
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(DROPPED)}
        given = {
            **inherited,
            "PYTHONPATH": str(ROOT),
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            item_clock.DIRECTORY: str(place),
            item_clock.WORKERS: str(together),
            item_clock.CALM: str(calm_s),
            **(environment or {}),
        }
        clocked = Clocked(place, time.monotonic())
        children: list[subprocess.Popen[str]] = []
        try:
            for number, argv in enumerate(argvs):
                part = {item_clock.PART: f"{number}/{len(argvs)}"} if parts else {}
                output = (place / f"output-{number}").open("w", encoding="utf-8")
                with output:
                    children.append(
                        subprocess.Popen(
                            [sys.executable, "-m", "pytest", *_PLAIN, *argv],
                            cwd=self.directory,
                            env={**given, **part},
                            stdin=subprocess.DEVNULL,
                            stdout=output,
                            stderr=output,
                            text=True,
                            start_new_session=True,
                        )
                    )
            yield children, clocked
        except RunFailed as problem:
            texts = "\n".join(file.read_text(encoding="utf-8")[-3000:] for file in place.glob("output-*"))
            raise RunFailed(f"{problem}\n{texts}") from None
        finally:
            for child in children:
                if child.poll() is None:
                    os.killpg(child.pid, signal.SIGKILL)
                    child.wait()


def measured(parts: Mapping[str, Callable[[Repository], list[Figure]]], only: str | None) -> list[Figure]:
    """The figures of all parts, or of those whose names contain `only`; each has a repository of its own."""
    figures: list[Figure] = []
    for name, part in parts.items():
        if only is None or only in name:
            with tempfile.TemporaryDirectory() as directory:
                figures += part(Repository(Path(directory)))
    return figures


def _wait(children: Sequence[subprocess.Popen[str]], accepted: Sequence[int]) -> None:
    for child in children:
        try:
            code = child.wait(_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            raise RunFailed(f"{child.args!r} did not end within {_TIMEOUT_S:.0f} s") from None
        if code not in accepted:
            raise RunFailed(f"{child.args!r} ended with {code}")
