"""Runs on a host, asked for together and one by one: `python -m benchmarks.detached [--quick]`."""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

from pytest_gpueval.hosts.detached.client import Agent
from pytest_gpueval.hosts.detached.states import State
from pytest_gpueval.hosts.detached.submission import Submission, submission
from pytest_gpueval.hosts.local import LocalHost

from .measure import Figure, RunFailed, print_table, seconds

RUNS, LIVING = 50, 10
# A stand-in for nvidia-smi, which takes as long as that of a host with its driver loaded.
SMI_S = 0.3
TARGET_S = 1.0


def main(argv: Sequence[str] | None = None) -> list[Figure]:
    """Measure, print, return the figures. Raises RunFailed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.detached", description=f"Status of {RUNS} runs on one host, {LIVING} of which live")
    parser.add_argument("--quick", action="store_true", help="one round")
    rounds = 1 if parser.parse_args(argv).quick else 5
    with tempfile.TemporaryDirectory() as root, tempfile.TemporaryDirectory() as programs:
        agent = Agent(LocalHost(environment={"PATH": f"{_smi(Path(programs))}{os.pathsep}{os.environ['PATH']}"}), root)
        names = [f"run-{number:02}" for number in range(RUNS)]
        try:
            with ThreadPoolExecutor(2) as pool:
                list(pool.map(lambda name: agent.submit(_sleeper(name), {}), names))
            _settle(agent)
            return _figures(agent, names, rounds)
        finally:
            for name in names[:LIVING]:
                agent.stop(name)


def _smi(place: Path) -> Path:
    program = place / "nvidia-smi"
    told = "".join(f"{index}, GPU-{index}, NVIDIA H100 80GB HBM3, 4, 81559, 550.54.15, 0\\n" for index in range(8))
    program.write_text(f"#!/bin/sh\nsleep {SMI_S}\ncase $1 in *compute-apps*) ;; *) printf '{told}';; esac\n", encoding="utf-8")
    program.chmod(0o755)
    return place


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
    together, with_gpus, apart, nothing = [], [], [], []
    for _ in range(rounds):
        together.append(seconds(lambda: _check(agent.status(names, tail_lines=5))))
        with_gpus.append(seconds(lambda: _check(agent.look(names, tail_lines=5, gpus=True).runs)))
        apart.append(seconds(lambda: _check([run for name in names for run in agent.status([name], tail_lines=5)])))
        nothing.append(seconds(lambda: agent.status([])))
    least, ratio = min(together), statistics.median(b / a for a, b in zip(together, apart, strict=True))
    rows = [
        (f"one request for {RUNS}", f"{least:.2f} s", f"{statistics.median(together):.2f} s"),
        (f"the same with their GPUs, nvidia-smi taking {SMI_S} s", f"{min(with_gpus):.2f} s", f"{statistics.median(with_gpus):.2f} s"),
        (f"{RUNS} requests for one", f"{min(apart):.2f} s", f"{statistics.median(apart):.2f} s"),
        ("one request for none", f"{min(nothing):.2f} s", f"{statistics.median(nothing):.2f} s"),
    ]
    print_table(f"Status of {RUNS} runs on this machine, {LIVING} of which live, {rounds} rounds", ("", "best", "median"), rows)
    return [
        Figure(f"detached: status of {RUNS} runs in one request, best", f"<= {TARGET_S:.0f} s", f"{least:.2f} s", least <= TARGET_S),
        Figure("detached: the same with their GPUs, best", f"<= {TARGET_S:.0f} s", f"{min(with_gpus):.2f} s", min(with_gpus) <= TARGET_S),
        Figure(f"detached: {RUNS} requests one by one, over one", "", f"{ratio:.0f} x", ok=None),
    ]


def _check(runs: Sequence[object]) -> None:
    states = [getattr(run, "state", None) for run in runs]
    if len(states) != RUNS or states.count(State.RUNNING) != LIVING:
        raise RunFailed(f"of {RUNS} runs {states.count(State.RUNNING)} live, {len(states)} are known")


if __name__ == "__main__":
    main()
