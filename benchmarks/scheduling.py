"""How long sessions take beside what they must take: `python -m benchmarks.scheduling [--quick] [--only NAME]`.

Items sleep, so that two cores are enough for eight lanes. A makespan counts from the first item's begin to the last one's end, start-up of workers left
out: all begin together once the last worker is ready, and have imported what evaluations import. `net` divides by a bound of the lengths that items
really had, so it says what the scheduler lost; the rest is what items cost beside their sleeping, of which at a hundredth of the true time there is a lot:
eight lanes' worth of it on two cores.
"""

from __future__ import annotations

import argparse
import heapq
import random
import statistics
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from pytest_gpueval.planning.plan import OVERHEAD_S
from pytest_gpueval.planning.sharding import Piece, shard_counts

from .clocked import OURS, STOCK, Clocked, Repository, measured
from .measure import Figure, print_table

# The seven datasets, their fast rows, and samples/s on one H100: 7 for meddies, 35 to 45 for the others.
SEED = {
    "russian-pii-66k": (4000, 40.0),
    "meddies": (800, 7.0),
    "scanpatch": (1500, 38.0),
    "rubai": (2500, 42.0),
    "kaggle": (800, 35.0),
    "hf-sample-en": (800, 45.0),
    "presidio-test": (800, 40.0),
}
TARGET_KNOWN, TARGET_UNKNOWN = 1.03, 1.25
_PLAIN = """import os, time, pytest
from benchmarks.sleeper import sleep_until
@pytest.mark.parametrize("seconds", {seconds!r}, ids={names!r})
def test_sleep(seconds):
    sleep_until(time.perf_counter() + seconds)
"""


@dataclass(frozen=True)
class Dataset:
    """Rows and samples/s of one lane, as they are in the run."""

    rows: int
    rate: float

    @property
    def seconds(self) -> float:
        """All rows on one lane."""
        return self.rows / self.rate


def suite_toml(name: str, datasets: Mapping[str, Dataset], *, known: bool, shards: Mapping[str, int]) -> str:
    """A suite whose model sleeps at the rates given; `known`: the suite tells them."""
    lines = [
        f'description = "{name}: a model that sleeps"\ntask = "classification"\nlabels = ["a", "b"]\nsplit = "fast"\nruntime = "sleep"',
        '[runtimes.sleep]\nkind = "inprocess"\ntarget = "benchmarks.sleeper:Sleeper"',
    ]
    for dataset, entry in datasets.items():
        rate = f"rate = {entry.rate!r}\n" if known else ""
        lines.append(f"[datasets.{dataset}]\n{rate}shards = {shards.get(dataset, 1)}\nsplits.fast = {{ rows = {entry.rows} }}")
    return "\n".join(lines) + "\n"


def write_suite(repository: Repository, name: str, datasets: Mapping[str, Dataset], *, known: bool, shards: Mapping[str, int] | None = None) -> None:
    """A suite and its splits."""
    import pyarrow as pa  # noqa: PLC0415 - heavy
    import pyarrow.parquet as pq  # noqa: PLC0415 - heavy

    data = repository.suite(name, suite_toml(name, datasets, known=known, shards=shards or {}))
    for dataset, entry in datasets.items():
        file = data / dataset / "fast.parquet"
        if not file.exists():
            file.parent.mkdir(parents=True)
            rows = [{"id": f"{dataset}:{number}", "text": f"{1 / entry.rate!r} s, then a", "label": "a" if number % 3 else "b"} for number in range(entry.rows)]
            pq.write_table(pa.Table.from_pylist(rows), file)


def ours(repository: Repository, suite: str, lanes: int) -> Clocked:
    """One session of ours on CPU lanes; no history: each has an output directory of its own."""
    with tempfile.TemporaryDirectory(dir=repository.directory) as output:
        place = ("--gpueval-output-dir", output, "--gpueval-suite", suite, "--gpus", "none", "-n", str(lanes))
        return repository.run(*OURS, *place, together=lanes, environment={"PRELOAD": "1"})


def others(repository: Repository, lengths: Mapping[str, float], lanes: int) -> dict[str, float]:
    """Makespans of the same items as plain tests: xdist's `load` and `worksteal`, and every N-th item for each of N processes."""
    name = "test_plain.py"
    repository.test_file(name, _PLAIN.format(seconds=list(lengths.values()), names=list(lengths)))
    found = {}
    for dist in ("load", "worksteal"):
        found[dist] = repository.run(*STOCK, name, "-n", str(lanes), "--dist", dist, together=lanes).makespan_s
    found["modulo"] = repository.side_by_side([(name,)] * lanes, together=min(lanes, len(lengths)), parts=True, accepted=(0, 5)).makespan_s
    return found


def net_ratio(clocked: Clocked, lanes: int) -> float:
    """Makespan / bound with the lengths that items really had, what they cost beside their sleeping included: the scheduler's own part of it."""
    lengths = [item.end_s - item.begin_s for item in clocked.items]
    return clocked.makespan_s / max(sum(lengths) / lanes, *lengths)


def overhead_ms(clocked: Clocked) -> float:
    """From one item's end to the next one's begin on the same lane, median: what the controller and the way to it cost."""
    lanes: dict[str, float] = {}
    gaps = []
    for item in clocked.items:
        if item.lane in lanes:
            gaps.append(item.begin_s - lanes[item.lane])
        lanes[item.lane] = item.end_s
    return statistics.median(gaps) * 1000 if gaps else 0.0


def seed_workload(repository: Repository, scale: int, lanes: Sequence[int], repeats: int, *, compare: bool = True) -> list[Figure]:
    """The seven datasets on more and more lanes; others beside them where that does not take too long."""
    true = {name: Dataset(rows, rate) for name, (rows, rate) in SEED.items()}
    scaled = {name: Dataset(entry.rows, entry.rate * scale) for name, entry in true.items()}
    total_s = sum(entry.seconds for entry in scaled.values())
    rows, worst = [], 0.0
    for count in lanes:
        # The cut is that of the true lengths: what is scaled is time, not the session.
        pieces = [Piece(name, entry.rows, entry.seconds) for name, entry in true.items()]
        shards = shard_counts(pieces, count, OVERHEAD_S)
        suite = f"seed{scale}x{count}"
        write_suite(repository, suite, scaled, known=True, shards=shards)
        longest_s = max(-(-entry.rows // shards[name]) / entry.rate for name, entry in scaled.items())
        bound_s, even_s = max(total_s / count, longest_s), total_s / count
        sessions = [ours(repository, suite, count) for _ in range(repeats)]
        best = min(sessions, key=lambda session: session.makespan_s)
        ratios = sorted(session.makespan_s / bound_s for session in sessions)
        beside = others(repository, {name: entry.seconds for name, entry in scaled.items()}, count) if compare else {}
        worst = max(worst, statistics.median(ratios))
        rows.append(
            (
                f"{count}",
                f"{len(best.items)}",
                f"{bound_s:.3f} s",
                f"{statistics.median(ratios):.3f}",
                f"{ratios[0]:.3f}",
                f"{net_ratio(best, count):.3f}",
                f"{_own_ms(best, total_s):.1f}",
                f"{overhead_ms(best):.1f}",
                *(f"{makespan / even_s:.3f}" for makespan in beside.values()),
            )
        )
    headers = ("lanes", "items", "bound", "ours, median", "best", "net", "ms/item within", "between", *(("load", "worksteal", "modulo") if compare else ()))
    print_table(f"Seed workload, time scaled down {scale}x: makespan / bound (others without shards), {repeats} sessions", headers, rows)
    return [
        Figure(
            f"makespan, seed workload, {scale}x faster, worst of {'/'.join(map(str, lanes))} lanes", f"<= {TARGET_KNOWN}", f"{worst:.3f}", worst <= TARGET_KNOWN
        )
    ]


def _own_ms(clocked: Clocked, slept_s: float) -> float:
    """What an item took beside its model's sleeping, mean."""
    items = clocked.items
    return (sum(item.end_s - item.begin_s for item in items) - slept_s) * 1000 / len(items)


def heavy_tail(seed: int, lanes: int, makespan_s: float, count: int = 200) -> dict[str, float]:
    """Item -> seconds: lognormal, and three giants of 0.5, 0.4 and 0.3 of the makespan; all of them fill `lanes` for `makespan_s`."""
    chance = random.Random(seed)  # noqa: S311 - a workload
    giants = [share * makespan_s for share in (0.5, 0.4, 0.3)]
    small = [chance.lognormvariate(0.0, 1.0) for _ in range(count - len(giants))]
    unit_s = (makespan_s * lanes - sum(giants)) / sum(small)
    lengths = [*giants, *(length * unit_s for length in small)]
    chance.shuffle(lengths)
    return {f"row-{number:03}": length for number, length in enumerate(lengths)}


def first_come(lengths: Sequence[float], lanes: int) -> float:
    """The makespan if each lane takes the next item as soon as it is free, at no cost: what can be had, in this order, without knowing any length."""
    free = [0.0] * lanes
    for length in lengths:
        heapq.heappush(free, heapq.heappop(free) + length)
    return max(free)


def heavy_tails(repository: Repository, seeds: Sequence[int], lanes: int, makespan_s: float, *, known: bool | None) -> dict[str, list[float]]:
    """What -> makespan / bound of each order: our own scheduler, its lengths `known` or not; None: pytest-xdist's schedulers."""
    found: dict[str, list[float]] = {}
    for seed in seeds:
        lengths = heavy_tail(seed, lanes, makespan_s)
        bound_s = max(sum(lengths.values()) / lanes, *lengths.values())
        if known is None:
            ratios = {name: makespan / bound_s for name, makespan in others(repository, lengths, lanes).items()}
        else:
            suite, side = f"sweep{seed}{'known' if known else 'unknown'}", f"ours, {'known' if known else 'unknown'}"
            # All have as many rows: where the rate is unknown, so is the length.
            write_suite(repository, suite, {name: Dataset(4, 4 / length) for name, length in lengths.items()}, known=known)
            session = ours(repository, suite, lanes)
            ratios = {side: session.makespan_s / bound_s, f"{side}, net": net_ratio(session, lanes)}
            if not known:
                ratios["unknown, at no cost"] = first_come(list(lengths.values()), lanes) / bound_s
        for name, ratio in ratios.items():
            found.setdefault(name, []).append(ratio)
    return found


def sweep(repository: Repository, seeds: Sequence[int], lanes: int, makespan_s: float, *, known: bool | None) -> list[Figure]:
    """200 items of very different lengths."""
    found = heavy_tails(repository, seeds, lanes, makespan_s, known=known)
    rows = [(name, f"{statistics.mean(ratios):.3f}", f"{max(ratios):.3f}", " ".join(f"{ratio:.3f}" for ratio in ratios)) for name, ratios in found.items()]
    title = f"Sweep of 200 items with three giants, {lanes} lanes, bound {makespan_s:.0f} s: makespan / bound, orders {', '.join(map(str, seeds))}"
    print_table(title, ("", "mean", "max", "each"), rows)
    if known is None:
        return []
    what, target = ("known", TARGET_KNOWN) if known else ("unknown", TARGET_UNKNOWN)
    ratio = statistics.mean(found[f"ours, {what}"])
    return [Figure(f"makespan, sweep, lengths {what}, mean of {len(seeds)} orders", f"<= {target}", f"{ratio:.3f}", ratio <= target)]


def main(argv: Sequence[str] | None = None) -> list[Figure]:
    """Measure, print, return the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scheduling", description="Makespans and what the session adds to them")
    parser.add_argument("--quick", action="store_true", help="fewer lanes, seeds and repetitions")
    parser.add_argument("--only", help="run the parts whose names contain this")
    options = parser.parse_args(argv)
    quick = options.quick
    sweep_s = 5.0 if quick else 40.0
    parts: dict[str, Callable[[Repository], list[Figure]]] = {
        "seed": lambda repository: seed_workload(repository, 100, (1, 2) if quick else (1, 2, 4, 8), 1 if quick else 3),
        "tenth": lambda repository: [] if quick else seed_workload(repository, 10, (8,), 3),
        "truth": lambda repository: [] if quick else seed_workload(repository, 1, (8,), 1, compare=False),
        "sweep": lambda repository: sweep(repository, (1,) if quick else (1, 2, 3), 8, sweep_s, known=True),
        # When a giant is met is chance where nobody knows which it is: few orders say little.
        "sweep-unknown": lambda repository: sweep(repository, (1,) if quick else range(1, 11), 8, sweep_s, known=False),
        "sweep-others": lambda repository: sweep(repository, (1,) if quick else (1, 2, 3), 8, sweep_s, known=None),
    }
    return measured(parts, options.only)


if __name__ == "__main__":
    main()
