"""The practical limit: what a careful person writes by hand for one task. `python plain_loop.py SPLIT.parquet {labels,spans}`.

Reads batches, asks the model for 16 rows at a time, compares, and hands one JSON line a sample to the operating system. No checks, no resumption,
no percentiles, no intervals; spans are compared exactly and nothing else.
"""

from __future__ import annotations

import importlib
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    for batch in pq.ParquetFile(path).iter_batches(batch_size=1024):
        yield from batch.to_pylist()


def _labels(row: dict[str, Any], answer: str) -> tuple[int, int]:
    return int(row["label"] == answer), 1


def _spans(row: dict[str, Any], answer: Sequence[Any]) -> tuple[int, int]:
    gold = {(span["start"], span["end"], span["label"]) for span in row["spans"]}
    found = {(start, end, label) for start, end, label, _ in answer}
    return 2 * len(gold & found), len(gold) + len(found)


def main(path: Path, kind: str) -> None:
    """Print the accuracy, or the strict F1."""
    model: Any = importlib.import_module(f"instant_{kind}.model")
    predict = (model.LastWord if kind == "labels" else model.Prepared)().predict
    compare = _labels if kind == "labels" else _spans
    hits = total = 0
    rows = _rows(path)
    with tempfile.TemporaryFile("w", encoding="utf-8") as results:
        while batch := list(islice(rows, 16)):
            for row, answer in zip(batch, predict(batch), strict=True):
                right, of = compare(row, answer)
                hits += right
                total += of
                results.write(json.dumps({"id": row["id"], "prediction": answer, "hits": right, "of": of}) + "\n")
                results.flush()
    print(f"{hits / total:.6f}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
