"""The paired bootstrap of a gate beside plain loops: `python -m benchmarks.gates [--quick]`.

Two runs of 20,000 documents with 15 labels, no two documents alike: precision, recall and F1 of each label and of all. Each way runs in a process of its own
on one core, least CPU time of three, imports aside. Ours is the whole comparison, from score parts to p values and intervals, and once more from columns
that were read before. The plain ways do 50 resamples, scaled up: a loop over resamples that sums what numpy picks, for all metrics, and
scipy.stats.bootstrap for the F1 of all labels alone.

And a gate of a session: a million documents beside their baseline, no two scored alike, from results.jsonl to the verdict, and on to the samples and labels
that are named where it fails.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from . import compare
from .measure import Figure, print_table, run

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS, LABELS, RESAMPLES, PLAIN = 20_000, 15, 10_000, 50
TARGET_S, TARGET_MIB = 1.0, 500
SUITE = """
description = "made up"
task = "span_detection"
labels = ["DATE", "EMAIL", "LOCATION", "PERSON"]
split = "fast"
runtime = "none"
policy = "open"
[policies.open]
[runtimes.none]
kind = "command"
command = ["none"]
[datasets.up]
splits.fast = {}
[[gates]]
metric = "strict.f1"
max_drop = 0.01
"""
# One core, whatever numpy would take.
ONE_CORE = {f"{library}_NUM_THREADS": "1" for library in ("OPENBLAS", "OMP", "MKL")}
OURS, READ, LOOP, SCIPY = "differences", "differences, from columns", "numpy loop", "scipy.stats.bootstrap, one metric"
WAYS = (OURS, READ, LOOP, SCIPY)

Parts = list[dict[str, Any]]


def main(argv: Sequence[str] | None = None) -> list[Figure]:
    """Measure, print, return the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gates", description="The statistics of gates")
    parser.add_argument("--quick", action="store_true", help="one repetition")
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--gate", type=Path, metavar="DIR", help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.gate:
        print(json.dumps(_gate(options.gate)))
        return []
    if options.way:
        print(json.dumps(_timed(options.way)))
        return []
    seconds: dict[str, float] = {}
    memory: dict[str, float] = {}
    for _ in range(1 if options.quick else 3):
        for way in WAYS:
            usage = run([sys.executable, "-m", "benchmarks.gates", "--way", way], ROOT, ONE_CORE)
            taken = json.loads(usage.output)
            seconds[way] = min(seconds.get(way, taken), taken)
            memory[way] = max(memory.get(way, 0.0), usage.peak_rss_mib)
    rows = [(way, f"{taken:.2f}", f"{taken / seconds[OURS]:.1f}", f"{memory[way]:,.0f}") for way, taken in seconds.items()]
    print_table(f"{RESAMPLES:,} resamples of {DOCUMENTS:,} documents, {LABELS} labels, two runs", ("", "CPU s", "x ours", "peak MiB"), rows)
    return [
        Figure("gates: paired bootstrap, one core", f"<= {TARGET_S} s", f"{seconds[READ]:.2f} s", seconds[READ] <= TARGET_S),
        Figure("gates: the same with score parts read", "", f"{seconds[OURS]:.2f} s", None),
        Figure("gates: its peak memory", f"<= {TARGET_MIB} MiB", f"{memory[OURS]:,.0f} MiB", memory[OURS] <= TARGET_MIB),
        Figure("gates: a plain numpy loop over ours", "", f"{seconds[LOOP] / seconds[OURS]:.0f} x", None),
        *_of_a_session(compare.SAMPLES // (10 if options.quick else 1)),
    ]


def _of_a_session(documents: int) -> list[Figure]:
    """One gate over so many documents."""
    with tempfile.TemporaryDirectory() as scratch:
        for name, seed in (("first", 1), ("second", 2)):
            compare.session(Path(scratch) / name, "spans", documents, seed)
        (Path(scratch) / "suites" / "made").mkdir(parents=True)
        (Path(scratch) / "suites" / "made" / "suite.toml").write_text(SUITE, encoding="utf-8")
        usage = run([sys.executable, "-m", "benchmarks.gates", "--gate", scratch], ROOT, ONE_CORE)
    verdict, details = json.loads(usage.output)
    name = f"a gate over {documents:,} documents: verdict, CPU / what fell most / peak memory"
    return [Figure(name, "", f"{verdict:.1f} s / {details:.1f} s / {usage.peak_rss_mib:,.0f} MiB", None)]


def _gate(directory: Path) -> tuple[float, float]:
    """CPU seconds to the verdict, and from there to the message of a gate that fails."""
    from pytest_gpueval.runs import baselines  # noqa: PLC0415 - only the measured process needs them
    from pytest_gpueval.session import cases, comparison, drops, tasks  # noqa: PLC0415

    (case,) = cases.evaluation_named("made", directory).cases()
    results, task = directory / "second" / "made-up-spans" / "results.jsonl", tasks.made(case, tasks.OWN)
    split: Any = SimpleNamespace(sha256="0" * 64, columns=())  # the baseline's: its rows are not asked for
    settings: Any = SimpleNamespace(baseline_intersect=False)
    begin = time.process_time()
    pair = comparison.paired(baselines.from_session(directory / "first", "made", "up-fast"), results, split, task, settings)
    beside = drops.Beside(case, task, split, pair)
    (verdict,) = beside.verdicts()
    judged = time.process_time()
    failed: Any = SimpleNamespace(change=verdict.change, ok=False, bound=verdict.bound, metric=verdict.metric)
    if "samples that changed most" not in beside.details([failed], results, str, "", texts=False):
        raise RuntimeError("nothing fell")
    return judged - begin, time.process_time() - judged


def _timed(way: str) -> float:
    """CPU seconds for all resamples."""
    ways: dict[str, Callable[[Parts, Parts], float]] = {OURS: _ours, READ: _ours, LOOP: _loop, SCIPY: _scipy}
    from scipy import special, stats  # noqa: F401, PLC0415 - imported before the clock starts

    baseline, current = runs()
    if way == READ:
        _read_before((baseline, current))
    begin = time.process_time()
    times = ways[way](baseline, current)
    return (time.process_time() - begin) * times


def runs(documents: int = DOCUMENTS, labels: int = LABELS, seed: int = 20240229) -> tuple[Parts, Parts]:
    """Score parts of two runs: gold spans of every label in every document, most of them found, and not the same ones."""
    import numpy as np  # noqa: PLC0415 - only the measured process needs it

    random = np.random.default_rng(seed)
    names = [f"LABEL_{number}" for number in range(labels)]
    gold = random.integers(1, 12, (documents, labels))
    made: list[Parts] = []
    for quality in (0.9, 0.89):
        hits, invented = random.binomial(gold, quality), random.binomial(3, 0.1, gold.shape)
        entries = np.stack([hits, 0 * hits, gold, hits + invented, 9 * hits, 9 * invented, 9 * (gold - hits)], axis=2).tolist()
        made.append([{"labels": dict(zip(names, document, strict=True)), "cross": [0, 0]} for document in entries])
    return made[0], made[1]


def _read_before(sides: Sequence[Parts]) -> None:
    """Let the task answer with columns that are there already."""
    from pytest_gpueval.scoring.spans import SpanDetection  # noqa: PLC0415 - as above

    names = list(sides[0][0]["labels"])
    task, wanted = SpanDetection(names), {one.key for one in _asked(names)}
    known = {id(side): task.terms(side, wanted) for side in sides}
    SpanDetection.terms = lambda _self, parts, _wanted: known[id(parts)]  # type: ignore[method-assign, assignment]


def _asked(names: Sequence[str]) -> list[Any]:
    from pytest_gpueval.scoring.paired import Asked  # noqa: PLC0415 - as above

    return [Asked(f"strict.{figure}", label) for label in (None, *names) for figure in ("precision", "recall", "f1")]


def _ours(baseline: Parts, current: Parts) -> float:
    from pytest_gpueval.scoring.paired import differences  # noqa: PLC0415 - as above
    from pytest_gpueval.scoring.spans import SpanDetection  # noqa: PLC0415

    names = list(baseline[0]["labels"])
    found = differences(SpanDetection(names), baseline, current, _asked(names), resamples=RESAMPLES)
    if any(one.p is None for one in found.values()):
        raise RuntimeError("a metric was not compared")
    return 1.0


def _columns(parts: Parts) -> Any:
    """Hits, gold and predicted spans of each label: shape (documents, labels, 3)."""
    import numpy as np  # noqa: PLC0415 - as above

    return np.array([[(entry[0], entry[2], entry[3]) for entry in document["labels"].values()] for document in parts], dtype=float)


def _f1(sums: Any) -> Any:
    return 2 * sums[..., 0] / (sums[..., 1] + sums[..., 2])


def _loop(baseline: Parts, current: Parts) -> float:
    import numpy as np  # noqa: PLC0415 - as above

    before, after = _columns(baseline), _columns(current)
    random = np.random.default_rng(0)
    for _ in range(PLAIN):
        picked = random.integers(0, len(before), len(before))
        for side in (before[picked].sum(axis=0), after[picked].sum(axis=0)):
            for sums in (side, side.sum(axis=0)):
                _f1(sums), sums[..., 0] / sums[..., 1], sums[..., 0] / sums[..., 2]
    return RESAMPLES / PLAIN


def _scipy(baseline: Parts, current: Parts) -> float:
    from scipy import stats  # noqa: PLC0415 - as above

    samples = [column for parts in (baseline, current) for column in _columns(parts).sum(axis=1).T]

    def difference(*columns: Any, axis: int = -1) -> Any:
        h, p, a, h2, p2, a2 = (column.sum(axis=axis) for column in columns)
        return 2 * h2 / (p2 + a2) - 2 * h / (p + a)

    stats.bootstrap(samples, difference, n_resamples=PLAIN, paired=True, method="percentile")
    return RESAMPLES / PLAIN


if __name__ == "__main__":
    if figures := main():
        print_table("Targets", ("figure", "target", "measured", ""), [figure.cells() for figure in figures])
