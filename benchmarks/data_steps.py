"""What `benchmarks.data` measures, each in a process of its own: `python -m benchmarks.data_steps STEP ...` prints what it found as JSON."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

COLUMNS = ("id", "text", "label")


def make(path: Path, rows: int) -> None:
    """A split of short texts, row group by row group."""
    import pyarrow as pa  # noqa: PLC0415 - what is measured
    import pyarrow.parquet as pq  # noqa: PLC0415 - what is measured

    schema = pa.schema([(name, pa.string()) for name in COLUMNS])
    with pq.ParquetWriter(path, schema) as writer:
        for first in range(0, rows, 100_000):
            numbers = range(first, min(rows, first + 100_000))
            texts = [f"row {number} says what it has to say in some words" for number in numbers]
            writer.write_table(
                pa.table({"id": [f"r-{number}" for number in numbers], "text": texts, "label": ["ab"[number % 2] for number in numbers]}, schema)
            )


def ours(repo: str) -> dict[str, str]:
    """The first row of split fast, through this package, its ids looked through for repeats as a run does before it asks its model."""
    from pytest_gpueval.datasets.hub import Hub  # noqa: PLC0415 - what is measured

    hub = Hub()
    split = hub.fetch(hub.split(repo, None, "fast"))
    split.check(COLUMNS, None)
    if split.repeats().rows:
        raise ValueError("ids repeat")
    return next(split.read(COLUMNS))


def library(repo: str) -> dict[str, str]:
    """The first row of split fast, through the library `datasets`."""
    import datasets  # noqa: PLC0415 - what is measured

    return dict(next(iter(datasets.load_dataset(repo, split="fast"))))


def read(path: Path) -> float:
    """Rows/s of CPU time from a local file to dictionaries, their ids looked through for repeats first."""
    from pytest_gpueval.datasets.parquet import ParquetSplit  # noqa: PLC0415 - what is measured

    split = ParquetSplit(path, "")
    begin, rows = time.process_time(), len(split.repeats().rows) + sum(1 for _ in split.read(COLUMNS))
    return rows / (time.process_time() - begin)


def fails(call: Callable[[], object]) -> None:
    """Do what must fail. Raises RuntimeError if it does not."""
    with suppress(Exception):
        call()
        raise RuntimeError("an endpoint that is not there answered")


def main() -> None:
    """Do one step."""
    parser = argparse.ArgumentParser()
    parser.add_argument("step", choices=("make", "ours", "library", "read", "ours-dead", "library-dead"))
    parser.add_argument("what")
    parser.add_argument("--rows", type=int, default=0)
    given = parser.parse_args()
    steps: dict[str, Callable[[], object]] = {
        "make": lambda: make(Path(given.what), given.rows),
        "ours": lambda: ours(given.what),
        "library": lambda: library(given.what),
        "read": lambda: read(Path(given.what)),
        "ours-dead": lambda: fails(lambda: ours(given.what)),
        "library-dead": lambda: fails(lambda: library(given.what)),
    }
    begin = time.perf_counter()
    found = steps[given.step]()
    print(json.dumps({"seconds": time.perf_counter() - begin, "found": found}))


if __name__ == "__main__":
    main()
