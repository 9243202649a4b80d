"""How much of a worker's CPU time is the model: `python -m benchmarks.model_share [SUITE]`.

A session as `make eval` runs it, with `benchmarks.predict_clock` beside. The share is the time inside `predict` divided by that of the process from its
first item to its end, loading the model left out; the table shows both left-out times.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from .measure import Figure, print_table, run
from .predict_clock import DIRECTORY

TARGET = 0.90
_RAN = (0, 1)  # 1: a gate said no, which is not the question here
ROOT = Path(__file__).resolve().parent.parent


def main(argv: Sequence[str] | None = None) -> list[Figure]:
    """Measure, print, return the figure."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.model_share", description="The model's share of worker CPU")
    parser.add_argument("suite", nargs="?", default="guardrails_ru")
    parser.add_argument("--gpus", default="auto", help="as for pytest (default: auto, as in make eval)")
    parser.add_argument("--limit", type=int, help="rows of each dataset (default: all)")
    options = parser.parse_args(argv)
    common = [sys.executable, "-m", "pytest", "-p", "benchmarks.predict_clock", "--gpueval-suite", options.suite]
    with tempfile.TemporaryDirectory() as directory:
        clock = Path(directory) / "clock"
        clock.mkdir()
        place = ["--gpueval-output-dir", directory, "-p", "no:cacheprovider"]
        run([*common, *place, "--gpus", "none", "--gpueval-limit", "1"], ROOT, accepted=_RAN)  # generates what is not committed
        limit = ["--gpueval-limit", str(options.limit)] if options.limit else []
        whole = run([*common, *place, "--gpus", options.gpus, *limit], ROOT, {DIRECTORY: str(clock)}, accepted=_RAN)
        workers = [json.loads(file.read_text(encoding="utf-8")) for file in sorted(clock.iterdir())]
    rows, share = _rows(workers)
    headers = ("worker", "rows", "CPU s", "start-up", "model load", "predict", "harness", "harness ms/row", "share of predict", "with load")
    print_table(f"CPU of the workers, {options.suite}, {os.cpu_count()} CPUs", headers, rows)
    print(f"whole session, controller included: {whole.cpu_s:.1f} s CPU, {whole.wall_s:.1f} s")
    return [Figure(f"model's share of worker CPU, {options.suite}", f">= {TARGET:.0%}", f"{share:.1%}", share >= TARGET)]


def _rows(workers: Sequence[dict[str, float]]) -> tuple[list[tuple[str, ...]], float]:
    """The table, a line for each worker and one for all, and the share of all."""
    together = {key: sum(worker[key] for worker in workers) for key in workers[0]}
    lines = [(str(number), worker) for number, worker in enumerate(workers)] if len(workers) > 1 else []
    return [_cells(name, worker) for name, worker in [*lines, ("all", together)]], _share(together, 0.0)


def _cells(name: str, worker: dict[str, float]) -> tuple[str, ...]:
    load, predict = worker["model_start_s"], worker["predict_s"]
    harness = worker["total_s"] - worker["start_up_s"] - load - predict
    seconds = (worker["total_s"], worker["start_up_s"], load, predict, harness)
    per_row = f"{harness * 1000 / worker['rows']:.3f}"
    return name, f"{worker['rows']:,.0f}", *(f"{value:.2f}" for value in seconds), per_row, f"{_share(worker, 0.0):.1%}", f"{_share(worker, load):.1%}"


def _share(worker: dict[str, float], load: float) -> float:
    """Time in `predict` by time since the first item; `load` is the time of loading the model that counts too."""
    return worker["predict_s"] / (worker["total_s"] - worker["start_up_s"] - worker["model_start_s"] + load)


if __name__ == "__main__":
    main()
