"""Run a program, take its CPU time and peak memory from the kernel, print tables."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil


class RunFailed(RuntimeError):
    """A measured program did not do its work; the text holds the end of its output."""


@dataclass(frozen=True)
class Usage:
    """What one program used, children it waited for included. `peak_rss_mib` is that of the largest process."""

    cpu_s: float
    wall_s: float
    peak_rss_mib: float
    output: str


@dataclass(frozen=True)
class Cost:
    """The same program on few and on many rows, so that its start-up cancels."""

    few: int
    many: int
    of_few: Usage
    of_many: Usage

    @property
    def marginal_ms(self) -> float:
        """CPU milliseconds for one more row."""
        return (self.of_many.cpu_s - self.of_few.cpu_s) * 1000 / (self.many - self.few)


@dataclass(frozen=True)
class Figure:
    """One number the project promises, and what it is today."""

    name: str
    target: str
    measured: str
    ok: bool | None  # None: not judged

    def cells(self) -> tuple[str, ...]:
        """A row of the summary table."""
        return self.name, self.target, self.measured, {True: "ok", False: "over", None: ""}[self.ok]


def seconds(work: Callable[[], object]) -> float:
    """How long it takes."""
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


# What would make children differ from a user's own run: pytest's and coverage's settings, and a ban on cached bytecode.
DROPPED = ("PYTEST_", "COVERAGE_", "PYTHONDONTWRITEBYTECODE")


def run(argv: Sequence[str], directory: Path, environment: Mapping[str, str] | None = None, accepted: Collection[int] = (0,)) -> Usage:
    """Run a program in `directory` to its end. Raises RunFailed for an exit status that is not accepted.

    The caller should be small itself: a child's peak memory counts from that of the process that started it.
    """
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(DROPPED)}
    with tempfile.TemporaryFile() as output:
        begin = time.perf_counter()
        child = subprocess.Popen(argv, cwd=directory, env={**inherited, **(environment or {})}, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        _, status, usage = os.wait4(child.pid, 0)
        wall_s = time.perf_counter() - begin
        child.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        text = output.read().decode(errors="replace")
    if child.returncode not in accepted:
        raise RunFailed(f"{' '.join(argv)} ended with {child.returncode}:\n{text[-3000:]}")
    return Usage(usage.ru_utime + usage.ru_stime, wall_s, usage.ru_maxrss / 1024, text)


# Often enough that no step of a program is between two looks, seldom enough that it is not slowed down by much.
_LOOK_S = 0.02


def memory_together_mib(argv: Sequence[str], directory: Path) -> float:
    """The most memory a program and its children hold at one time, what they share counted once (PSS). Not for a run that is timed: each look costs time."""
    most = 0
    with subprocess.Popen(argv, cwd=directory, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as child:
        first = psutil.Process(child.pid)
        while child.poll() is None:
            most = max(most, sum(_pss(process) for process in [first, *first.children(recursive=True)]))
            time.sleep(_LOOK_S)
    if child.returncode:
        raise RunFailed(f"{' '.join(argv)} ended with {child.returncode}")
    return most / (1 << 20)


def _pss(process: psutil.Process) -> int:
    try:
        return int(process.memory_full_info().pss)
    except psutil.Error:  # it has just ended
        return 0


def costs(programs: Mapping[str, Callable[[int], Usage]], few: int, many: int, repeats: int) -> dict[str, Cost]:
    """Measure `program(rows)` of each on both sizes in turn and keep the least CPU of each: what others do on the machine only adds."""
    found: dict[tuple[str, int], list[Usage]] = {(name, rows): [] for name in programs for rows in (few, many)}
    for _ in range(repeats):
        for (name, rows), usages in found.items():
            usages.append(programs[name](rows))
    least = {key: min(usages, key=lambda usage: usage.cpu_s) for key, usages in found.items()}
    return {name: Cost(few, many, least[name, few], least[name, many]) for name in programs}


def print_table(title: str, headers: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table, its first column to the left, the others to the right."""
    lines = [list(headers), *(list(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(headers))]
    print(f"\n{title}")
    for line in lines:
        print("  ".join(cell.rjust(width) if column else cell.ljust(width) for column, (cell, width) in enumerate(zip(line, widths, strict=True))).rstrip())
    sys.stdout.flush()
