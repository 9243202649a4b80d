"""Runs on a host, asked for together and one by one: `python -m benchmarks.detached [--quick]`."""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

from pytest_gpueval.hosts.detached.client import Agent
from pytest_gpueval.hosts.detached.states import State
from pytest_gpueval.hosts.detached.submission import Submission, submission
from pytest_gpueval.hosts.local import LocalHost

from .measure import Figure, RunFailed, print_table, seconds

RUNS, LIVING = 50, 10
TARGET_S = 1.0


def main(argv: Sequence[str] | None = None) -> list[Figure]:
    """Measure, print, return the figures. Raises RunFailed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.detached", description=f"Status of {RUNS} runs on one host, {LIVING} of which live")
    parser.add_argument("--quick", action="store_true", help="one round")
    rounds = 1 if parser.parse_args(argv).quick else 5
    with tempfile.TemporaryDirectory() as root:
        agent = Agent(LocalHost(), root)
        names = [f"run-{number:02}" for number in range(RUNS)]
        try:
            with ThreadPoolExecutor(2) as pool:
                list(pool.map(lambda name: agent.submit(_sleeper(name), {}), names))
            _settle(agent)
            return _figures(agent, names, rounds)
        finally:
            for name in names[:LIVING]:
                agent.stop(name)


def _sleeper(name: str) -> Submission:
    """Of the runs the first few live on, the others end at once."""
    seconds = "600" if int(name[-2:]) < LIVING else "0"
    command = ["sh", "-c", f"seq 1000; echo RESULT_X loss=0.5; exec sleep {seconds}"]
    return submission(command, directory="/", run_id=name, variables=[], secrets=[], own={}, now=datetime.now(UTC))


def _settle(agent: Agent) -> None:
    """Wait until those that end have ended. Raises RunFailed."""
    limit = time.monotonic() + 60
    while sum(run.state.ended for run in agent.status()) < RUNS - LIVING:
        if time.monotonic() > limit:
            raise RunFailed(f"of {RUNS} runs more than {LIVING} have not ended after a minute")


def _figures(agent: Agent, names: Sequence[str], rounds: int) -> list[Figure]:
    together, apart, nothing = [], [], []
    for _ in range(rounds):
        together.append(seconds(lambda: _check(agent.status(names, tail_lines=5))))
        apart.append(seconds(lambda: _check([run for name in names for run in agent.status([name], tail_lines=5)])))
        nothing.append(seconds(lambda: agent.status([])))
    least, ratio = min(together), statistics.median(b / a for a, b in zip(together, apart, strict=True))
    rows = [
        (f"one request for {RUNS}", f"{least:.2f} s", f"{statistics.median(together):.2f} s"),
        (f"{RUNS} requests for one", f"{min(apart):.2f} s", f"{statistics.median(apart):.2f} s"),
        ("one request for none", f"{min(nothing):.2f} s", f"{statistics.median(nothing):.2f} s"),
    ]
    print_table(f"Status of {RUNS} runs on this machine, {LIVING} of which live, {rounds} rounds", ("", "best", "median"), rows)
    return [
        Figure(f"detached: status of {RUNS} runs in one request, best", f"<= {TARGET_S:.0f} s", f"{least:.2f} s", least <= TARGET_S),
        Figure(f"detached: {RUNS} requests one by one, over one", "", f"{ratio:.0f} x", ok=None),
    ]


def _check(runs: Sequence[object]) -> None:
    states = [getattr(run, "state", None) for run in runs]
    if len(states) != RUNS or states.count(State.RUNNING) != LIVING:
        raise RunFailed(f"of {RUNS} runs {states.count(State.RUNNING)} live, {len(states)} are known")


if __name__ == "__main__":
    main()
