"""A baseline of a million samples: made of results, written, read, aligned: `python -m benchmarks.baselines [--quick]`.

Scores are those of spans: counts of two labels, a thousand different ones. Seconds are CPU time of one process, the least of three, beside a plain loop that
parses the same results and dumps their scores; memory is the peak of the process that does it all.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from .measure import Figure, print_table, run

if TYPE_CHECKING:
    from pytest_gpueval.runs.baselines import BaselineRecord

ROOT = Path(__file__).resolve().parent.parent
SAMPLES = 1_000_000
TARGET_S, TARGET_MIB, TARGET_MB = 5.0, 750, 20


def main(argv: Sequence[str] | None = None) -> list[Figure]:
    """Measure, print, return the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.baselines", description="Baselines of many samples")
    parser.add_argument("--quick", action="store_true", help="a tenth of the samples, once")
    parser.add_argument("--step", nargs=2, metavar=("DIR", "SAMPLES"), help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.step:
        _step(Path(options.step[0]), int(options.step[1]))
        return []
    samples = SAMPLES // 10 if options.quick else SAMPLES
    with tempfile.TemporaryDirectory() as directory:
        _results(Path(directory), samples)
        argv = [sys.executable, "-m", "benchmarks.baselines", "--step", directory, str(samples)]
        found = [run(argv, ROOT) for _ in range(1 if options.quick else 3)]
        size = (Path(directory) / "baselines" / "made" / "up-fast.parquet").stat().st_size / 1e6
    answers = [json.loads(usage.output) for usage in found]
    least = {name: min(answer[name] for answer in answers) for name in answers[0]}
    plain, peak = least["a plain loop over the results"], max(usage.peak_rss_mib for usage in found)
    rows = [(name, f"{seconds:.2f}", f"{seconds / plain:.2f}") for name, seconds in least.items()]
    print_table(f"A baseline of {samples:,} samples, CPU s", ("", "s", "x the plain loop"), rows)
    write, read = least["written"], least["read and checked"]
    return [
        Figure(f"baseline of {samples:,} samples, written / read", f"{TARGET_S:g} s", f"{write:.2f} / {read:.2f} s", max(write, read) <= TARGET_S),
        Figure("its size / peak memory", f"{TARGET_MB} MB / {TARGET_MIB} MiB", f"{size:.1f} MB / {peak:,.0f} MiB", size <= TARGET_MB and peak <= TARGET_MIB),
    ]


def _results(directory: Path, samples: int) -> None:
    """Lines as an evaluation of spans leaves them."""
    draw = random.Random(1)  # noqa: S311 - no secret
    line = '{"id":"document-%07d","prediction":[[0,3,"A",0.9]],"score":{"labels":{"A":[%d,%d,%d],"B":[%d,0,0]},"cross":[%d,1]},"latency_ms":1.2}\n'
    with (directory / "results.jsonl").open("w", encoding="ascii") as file:
        file.writelines(line % (number, *(draw.randrange(4) for _ in range(5))) for number in range(samples))


def _step(directory: Path, count: int) -> None:
    """Do all of it in this process, and print the seconds of each part."""
    import orjson  # noqa: PLC0415

    from pytest_gpueval.runs import baselines  # noqa: PLC0415
    from pytest_gpueval.runs.baselines import Baseline, samples  # noqa: PLC0415

    seconds: dict[str, float] = {}

    @contextmanager
    def clocked(name: str) -> Iterator[None]:
        begin = time.process_time()
        yield
        seconds[name] = time.process_time() - begin

    def plain() -> None:
        with (directory / "results.jsonl").open("rb") as file:
            seen = sum(len(orjson.dumps(record["score"])) > 0 for record in map(orjson.loads, file))
        assert seen == count  # noqa: S101

    with clocked("a plain loop over the results"):
        plain()
    with clocked("made of results"):
        found = samples.of_results(directory / "results.jsonl")
    with clocked("hashes put beside them"):
        found = found.with_hashes((f"document-{number:07}", number * 7919) for number in range(count))
    made = Baseline(_record(count), "here", lambda: found)
    with clocked("written"):
        baselines.write(directory / "baselines", made)
    with clocked("written again, unchanged"):
        baselines.write(directory / "baselines", made)
    read = baselines.read(directory / "baselines", "made", "up-fast")
    with clocked("read and checked"):
        assert len(read.samples) == count  # noqa: S101
    with clocked("aligned by id and hash"):
        assert baselines.align(read, found.ids, found.hashes).common == count  # noqa: S101
    with clocked("all scores decoded"):
        assert sum(1 for _ in read.samples.parts()) == count  # noqa: S101
    print(json.dumps(seconds))


def _record(count: int) -> BaselineRecord:
    """What such a run says of itself."""
    from pytest_gpueval.runs.baselines import BaselineRecord, DatasetRecord  # noqa: PLC0415
    from pytest_gpueval.runs.records import Figure as Metric  # noqa: PLC0415
    from pytest_gpueval.runs.records import RowCounts  # noqa: PLC0415

    return BaselineRecord(
        suite="made",
        case="up-fast",
        task="span_detection",
        dataset=DatasetRecord(repo=None, name="up", split="fast", revision=None, rows=count, sha256="0" * 64),
        runtime="cpu",
        model={},
        policy={},
        labels=["A", "B"],
        label_map={},
        task_options={},
        columns={},
        judge=None,
        headline="strict.f1",
        metrics={"strict.f1": Metric(value=0.5, low=0.4, high=0.6, n=count)},
        label_metrics={},
        rows=RowCounts(total=count, scored=count),
        samples=count,
        samples_sha256="",
        commit=None,
        dirty=None,
    )


if __name__ == "__main__":
    if figures := main():
        print_table("Targets", ("figure", "target", "measured", ""), [figure.cells() for figure in figures])
