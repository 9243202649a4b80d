"""What a sweep adds to the programs it runs: `python -m benchmarks.sweeps [--quick] [--only NAME]`.

Sessions and what they are compared with run by turns. CPU is of everything that was started, start-up cancelled by sessions of few and of many rows.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from . import controller
from .clocked import OURS, Repository
from .measure import Figure, RunFailed, Usage, print_table, run

ROW_MS, LOG_MB_S, REUSE_S, FLAT_MIB = 15.0, 100.0, 3.0, 16.0
_FEW = 20
_ENVIRONMENT = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "BENCHMARK_TOKEN": "hush-hush-0123456789"}
_BARE = """import subprocess, sys
for number in range(int(sys.argv[1])):
    subprocess.run(["/bin/true", "--x", str(number)], check=True)
"""
# Prints so many megabytes (10^6) of lines, as a training does that says much.
_PRINTS = """import os, sys
lines = b"".join(b"step %07d loss 3.%06d lr 0.000300 tokens/s 184,220 grad_norm 0.71\\n" % (n, n * 7919 % 1000000) for n in range(14000))
left = int(sys.argv[1]) * 1000000
while left > 0:
    left -= os.write(1, lines[:left])
"""
_TO_FILE = """import subprocess, sys
with open(sys.argv[1], "wb") as file:
    subprocess.Popen(sys.argv[2:], stdout=file).wait()
"""


class Sessions:
    """Sessions of sweeps in a scratch repository."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        (directory / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
        self._count = 0

    def suite(self, name: str, command: Sequence[str], values: Iterable[int]) -> None:
        """A sweep with one row for each value of its parameter `x`."""
        folder = self.directory / "suites" / name
        folder.mkdir(parents=True)
        (folder / "suite.toml").write_text(f'kind = "sweep"\ncommand = {json.dumps(list(command))}\n', encoding="utf-8")
        (folder / "sweep.csv").write_text("run_id,x\n" + "".join(f"r{value},{value}\n" for value in values), encoding="utf-8")

    def run(self, suite: str, session: str = "", *more: str, lanes: int = 1) -> tuple[Usage, Path]:
        """One session to its end, with `more` options; its directory is the caller's to remove. Raises RunFailed."""
        self._count += 1
        session = session or f"session-{self._count}"
        workers = ("-n", "2") if lanes == 2 else ("-n", "0")
        argv = [sys.executable, "-m", "pytest", *OURS, "-p", "no:cacheprovider", "-qqq", "--gpus", "none", *workers, "--gpueval-suite", suite, *more]
        usage = run([*argv, "--gpueval-session", session, "--gpueval-output-dir", "out"], self.directory, _ENVIRONMENT)
        return usage, self.directory / "out" / session


class Taken(NamedTuple):
    """By a log: the seconds until it was written, the CPU of all processes, the memory of the largest."""

    seconds: float
    cpu_s: float
    peak_mib: float


class Cost(NamedTuple):
    """Of one row more."""

    cpu_ms: float
    wall_ms: float


def main(argv: Sequence[str] | None = None) -> list[Figure]:
    """Measure, print, return the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sweeps", description="What a sweep adds to its programs")
    parser.add_argument("--quick", action="store_true", help="fewer rows, shorter logs, one repetition")
    parser.add_argument("--only", default="", help="run the parts whose names contain this: rows, log, collection")
    options = parser.parse_args(argv)
    quick = options.quick
    parts: dict[str, Callable[[Path], list[Figure]]] = {
        "rows": lambda place: rows(Sessions(place), 200 if quick else 1000, 1 if quick else 3),
        "log": lambda place: log(Sessions(place), *((50, 200) if quick else (200, 2000)), 1 if quick else 3),
        "collection": lambda place: controller.collection(Repository(place), 2000 if quick else 10_000, 2 if quick else 8, 1 if quick else 2, only="sweep"),
    }
    figures: list[Figure] = []
    for name, part in parts.items():
        if options.only in name:
            with tempfile.TemporaryDirectory() as directory:
                figures += part(Path(directory))
    return figures


def rows(sessions: Sessions, count: int, repeats: int) -> list[Figure]:
    """Instant commands as rows of a sweep, on one lane and on two, above the same commands in a loop; then all rows again, which are reused."""
    for name, number in (("few", _FEW), ("many", _FEW + count)):
        sessions.suite(name, ["/bin/true", "{parameters}"], range(number))
    sides: dict[str, Callable[[str, int], Usage]] = {
        "subprocess.run in a loop": lambda _, number: run([sys.executable, "-c", _BARE, str(number)], sessions.directory),
        "rows of a sweep, one lane": lambda name, _: _once(sessions, name, 1),
        "rows of a sweep, two lanes": lambda name, _: _once(sessions, name, 2),
    }
    found: dict[tuple[str, str], list[Usage]] = {}
    for _ in range(repeats):
        for name, number in (("few", _FEW), ("many", _FEW + count)):
            for side, program in sides.items():
                found.setdefault((side, name), []).append(program(name, number))
    costs = {side: _cost(found[side, "few"], found[side, "many"], count) for side in sides}
    bare = costs["subprocess.run in a loop"]
    table = [
        (side, f"{cost.cpu_ms:.2f} ms", f"{cost.wall_ms:.2f} ms", f"{cost.cpu_ms - bare.cpu_ms:.2f} ms", f"{cost.wall_ms - bare.wall_ms:.2f} ms")
        for side, cost in costs.items()
    ]
    print_table(f"{count:,} instant commands, the best of {repeats}, by turns", ("", "CPU a row", "wall", "CPU above the loop", "wall"), table)
    figures = []
    for side, cost in list(costs.items())[1:]:
        above = Cost(cost.cpu_ms - bare.cpu_ms, cost.wall_ms - bare.wall_ms)
        said = f"{above.wall_ms:.1f} ms wall, {above.cpu_ms:.1f} ms CPU"
        figures.append(Figure(f"a row above bare subprocess.run, {side.rpartition(', ')[2]}", f"<= {ROW_MS:.0f} ms", said, max(above) <= ROW_MS))
    return figures + _reuse(sessions, _FEW + count, repeats)


def _once(sessions: Sessions, name: str, lanes: int) -> Usage:
    usage, directory = sessions.run(name, lanes=lanes)
    shutil.rmtree(directory)
    return usage


def _cost(few: Sequence[Usage], many: Sequence[Usage], count: int) -> Cost:
    """Of one row more: what others do on the machine only adds, so the least counts."""
    cpu_s = min(usage.cpu_s for usage in many) - min(usage.cpu_s for usage in few)
    wall_s = min(usage.wall_s for usage in many) - min(usage.wall_s for usage in few)
    return Cost(cpu_s * 1000 / count, wall_s * 1000 / count)


def _reuse(sessions: Sessions, count: int, repeats: int) -> list[Figure]:
    """A session whose rows have all passed, again; and one of one row, which is start-up."""
    sessions.suite("one", ["/bin/true", "{parameters}"], [1])
    found: dict[str, list[Usage]] = {"one": [], "many": []}
    for name in found:
        sessions.run(name, f"again-{name}")
    for _ in range(max(2, repeats)):
        for name, usages in found.items():
            usage, directory = sessions.run(name, f"again-{name}")
            usages.append(usage)
    reused = sum('"gpueval.reused" value="True"' in line for line in (directory / "junit.xml").read_text(encoding="utf-8").split("<testcase")[1:])
    if reused != count:
        raise RunFailed(f"{reused} of {count} rows were reused")
    least = {name: min(usages, key=lambda usage: usage.cpu_s) for name, usages in found.items()}
    table = [(f"{1 if name == 'one' else count:,} rows", f"{usage.wall_s:.2f} s", f"{usage.cpu_s:.2f} s") for name, usage in least.items()]
    print_table("A finished session again, the best of its turns", ("", "wall", "CPU"), table)
    wall_s = min(usage.wall_s for usage in found["many"])
    said = f"{wall_s:.2f} s ({least['many'].cpu_s:.2f} s CPU), {least['one'].wall_s:.2f} s of it start-up"
    return [Figure(f"{count:,} finished rows reused, the whole session", f"<= {REUSE_S:.0f} s", said, wall_s <= REUSE_S)]


def log(sessions: Sessions, few: int, many: int, repeats: int) -> list[Figure]:
    """A program that prints megabytes of lines, into a row's log; beside `cat` into a file, and a file as its stdout."""
    program = sessions.directory / "prints.py"
    program.write_text(_PRINTS, encoding="utf-8")
    argv = (sys.executable, "-I", "-S", str(program))
    for megabytes in (few, many):
        sessions.suite(f"mb-{megabytes}", [*argv, "{x}"], [megabytes])
    target = sessions.directory / "plain.log"
    sides: dict[str, Callable[[int], Taken]] = {
        "cat > file": lambda megabytes: _plain(
            ["/bin/sh", "-c", 'size="$1"; shift; "$@" "$size" | cat > plain.log', "sh", str(megabytes), *argv], target, megabytes
        ),
        "subprocess.Popen(stdout=file)": lambda megabytes: _plain([sys.executable, "-c", _TO_FILE, str(target), *argv, str(megabytes)], target, megabytes),
        "a row's stdout.log, redacted": lambda megabytes: _logged(sessions, megabytes),
    }
    found: dict[tuple[str, int], list[Taken]] = {}
    for _ in range(repeats):
        for megabytes in (few, many):
            for side, measure in sides.items():
                found.setdefault((side, megabytes), []).append(measure(megabytes))
    speed = {side: many / min(taken.seconds for taken in found[side, many]) for side in sides}
    # Of everything that was started, the program that prints included.
    cpu_s = {key: min(taken.cpu_s for taken in values) for key, values in found.items()}
    cpu = {side: (many - few) / max(cpu_s[side, many] - cpu_s[side, few], 0.01) for side in sides}
    peak = {key: statistics.median(taken.peak_mib for taken in values) for key, values in found.items()}
    plain = speed["cat > file"]
    table = [
        (side, f"{speed[side]:.0f} MB/s", f"{speed[side] / plain:.2f} x", f"{cpu[side]:.0f} MB/s", f"{peak[side, few]:.0f} MiB", f"{peak[side, many]:.0f} MiB")
        for side in sides
    ]
    print_table(f"{many:,} MB of lines, the best of {repeats}", ("", "", "of cat", "of CPU, all", f"peak memory, {few} MB", f"{many} MB"), table)
    ours = list(sides)[-1]
    grown = peak[ours, many] - peak[ours, few]
    return [
        Figure(
            "log of a row",
            f">= {LOG_MB_S:.0f} MB/s",
            f"{speed[ours]:.0f} MB/s, {cpu[ours]:.0f} MB/s of CPU, {speed[ours] / plain:.2f} x cat",
            speed[ours] >= LOG_MB_S,
        ),
        Figure(f"memory from {few:,} to {many:,} MB of log", f"<= {FLAT_MIB:.0f} MiB", f"{grown:+.1f} MiB", grown <= FLAT_MIB),
    ]


def _plain(argv: Sequence[str], target: Path, megabytes: int) -> Taken:
    usage = run(argv, target.parent)
    _expect(target, megabytes)
    return Taken(usage.wall_s, usage.cpu_s, usage.peak_rss_mib)


def _logged(sessions: Sessions, megabytes: int) -> Taken:
    """Seconds of the program, as its run says, and the peak memory of the largest process."""
    usage, directory = sessions.run(f"mb-{megabytes}")
    summary = next(directory.glob("*/summary.json"))
    seconds = float(json.loads(summary.read_text(encoding="utf-8"))["seconds"])
    _expect(summary.with_name("stdout.log"), megabytes)
    shutil.rmtree(directory)
    return Taken(seconds, usage.cpu_s, usage.peak_rss_mib)


def _expect(file: Path, megabytes: int) -> None:
    """Nothing is lost."""
    size = file.stat().st_size
    if size < megabytes * 1_000_000:
        raise RunFailed(f"{file} holds {size:,} bytes of {megabytes:,} MB")
    file.unlink()


if __name__ == "__main__":
    main()
