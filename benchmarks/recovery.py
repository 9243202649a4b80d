"""What a crashed worker costs, and what a worker costs at all: `python -m benchmarks.recovery [--quick]`."""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .clocked import OURS, ROOT, Clocked, Repository
from .measure import Figure, RunFailed, print_table, run

TARGET_S = 5.0
_LANES = ("--gpus", "none", "-n", "2")
_SLEEPS = """import time, pytest
@pytest.mark.parametrize("number", range(8))
def test_sleep(number):
    time.sleep(1.5)
"""


def main(argv: Sequence[str] | None = None) -> list[Figure]:
    """Measure, print, return the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.recovery", description="A killed worker, and one GPU with a worker and without")
    parser.add_argument("--quick", action="store_true", help="one repetition")
    repeats = 1 if parser.parse_args(argv).quick else 3
    with tempfile.TemporaryDirectory() as directory:
        repository = Repository(Path(directory))
        return [*crash(repository, repeats), *one_gpu(repository, repeats)]


def crash(repository: Repository, repeats: int) -> list[Figure]:
    """Kill a worker in mid-item, and wait for its lane to begin another."""
    repository.test_file("test_sleeps.py", _SLEEPS)
    delays, twice = [], 0
    for _ in range(repeats):
        delay_s, again = _killed(repository)
        delays.append(delay_s)
        twice += again
    rows = [(f"{min(delays):.2f} s", f"{statistics.median(delays):.2f} s", f"{max(delays):.2f} s", f"{twice}")]
    print_table(
        f"A worker killed by SIGKILL in mid-item, {repeats} times: until its lane begins the next item", ("best", "median", "worst", "items run twice"), rows
    )
    return [
        Figure("crash: SIGKILL to the lane's next item, worst", f"<= {TARGET_S:.0f} s", f"{max(delays):.2f} s", max(delays) <= TARGET_S),
        Figure("crash: items that ran twice", "0", f"{twice}", twice == 0),
    ]


def _killed(repository: Repository) -> tuple[float, int]:
    """Seconds from the kill to the lane's next begin, and how many items began twice. Raises RunFailed."""
    with tempfile.TemporaryDirectory(dir=repository.directory) as output:
        argv = (*OURS, *_LANES, "--gpueval-output-dir", output, "test_sleeps.py")
        with repository.started([argv], together=2) as ((child,), clocked):
            begun = _wait_for(clocked, child, 2)
            victim = begun[0]
            time.sleep(0.5)
            killed_s = time.monotonic()
            os.kill(victim["pid"], signal.SIGKILL)
            if child.wait(120) != 1:
                raise RunFailed(f"a session with one crashed item ended with {child.returncode}")
    begins = [event for event in clocked.events if event["event"] == "begin"]
    lane = victim["lane"].partition("-")[0]
    later = [event["at"] for event in begins if event["at"] > killed_s and event["lane"].partition("-")[0] == lane]
    if not later:
        raise RunFailed(f"lane {lane} began no item after its worker was killed")
    names = [event["item"] for event in begins]
    return min(later) - killed_s, len(names) - len(set(names))


def _wait_for(clocked: Clocked, child: subprocess.Popen[str], count: int) -> list[dict[str, Any]]:
    """The first begins, once there are so many. Raises RunFailed."""
    end = time.monotonic() + 60
    while time.monotonic() < end and child.poll() is None:
        begun = [event for event in clocked.events if event["event"] == "begin"]
        if len(begun) >= count:
            return begun
        time.sleep(0.02)
    raise RunFailed("the items did not begin")


def one_gpu(repository: Repository, repeats: int) -> list[Figure]:
    """One instant item on one (pretended) GPU: in a supervised worker, and in the process that the user started."""
    repository.test_file("test_instant.py", "def test_instant():\n    pass\n")
    try:
        environment = _pretended_gpu(repository.directory)
    except RuntimeError as problem:  # no compiler
        raise RunFailed(str(problem)) from None
    base = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *OURS, "--gpus", "0", "test_instant.py"]
    sides = {"a supervised worker": [], "in this process (-n 0)": ["-n", "0"]}
    found: dict[str, list[tuple[float, float]]] = {side: [] for side in sides}
    for number in range(repeats * 2 + 1):
        for side, more in sides.items():
            with tempfile.TemporaryDirectory(dir=repository.directory) as output:
                usage = run([*base, *more, "--gpueval-output-dir", output], repository.directory, environment)
            if number:  # the first round compiles
                found[side].append((usage.wall_s, usage.cpu_s))
    walls = {side: statistics.median(wall_s for wall_s, _ in usages) for side, usages in found.items()}
    rows = [
        (side, f"{walls[side]:.2f} s", f"{min(wall_s for wall_s, _ in usages):.2f} s", f"{min(cpu_s for _, cpu_s in usages):.2f} s")
        for side, usages in found.items()
    ]
    print_table(f"One GPU, one instant item, whole session, {repeats * 2} alternating pairs", ("", "wall, median", "wall, best", "CPU, best"), rows)
    more_s = walls["a supervised worker"] - walls["in this process (-n 0)"]
    return [Figure("one GPU: a worker's start-up, beside running in this process", "", f"{more_s:+.2f} s", ok=None)]


def _pretended_gpu(directory: Path) -> Mapping[str, str]:
    """An environment in which NVML tells of one GPU. Raises RuntimeError without a C compiler."""
    sys.path.insert(0, str(ROOT))
    from tests import fake_gpus  # noqa: PLC0415 - a checkout has it

    return {**fake_gpus.environment(fake_gpus.build(directory / "nvml"), count=1), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}


if __name__ == "__main__":
    main()
