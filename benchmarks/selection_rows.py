"""The work of `benchmarks.selection`, each step in a process of its own so that its memory can be seen.

python -m benchmarks.selection_rows make FILE ROWS [--shuffled]    writes labelled rows
python -m benchmarks.selection_rows choose FILE K [--beside]       prints what a selection took and what it holds, with --beside also simpler ways
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pytest_gpueval.datasets.labelled import Annotation, LabelledRows, read_labelled
from pytest_gpueval.datasets.selection import NEGATIVES, RowLabels, hash_order, select

LABELS = 12
WITHOUT = 0.25
_PIECE = 500_000


def make(path: Path, rows: int, *, shuffled: bool) -> None:
    """Write rows of up to several labels, the first label the most frequent by far (weights 1 / rank ** 1.2), a quarter of the rows without any."""
    tables = (_piece(first, min(_PIECE, rows - first)) for first in range(0, rows, _PIECE))
    _write(path, iter([pa.concat_tables(list(tables)).take(np.random.default_rng(1).permutation(rows))]) if shuffled else tables)


def _write(path: Path, tables: Iterator[pa.Table]) -> None:
    first = next(tables)
    with pq.ParquetWriter(path, first.schema) as writer:
        writer.write_table(first)
        for table in tables:
            writer.write_table(table)


def _piece(first: int, rows: int) -> pa.Table:
    rng = np.random.default_rng(first)
    weights = 1 / np.arange(1, LABELS + 1) ** 1.2
    draws = np.where(rng.random(rows) < WITHOUT, 0, 1 + rng.poisson(1.2, rows))
    row = np.repeat(np.arange(rows), draws)
    pairs = np.unique(row * LABELS + rng.choice(LABELS, len(row), p=weights / weights.sum()))
    ends = np.concatenate([[0], np.cumsum(np.bincount(pairs // LABELS, minlength=rows))])
    start = pa.array(np.arange(len(pairs), dtype=np.int32))
    label = pa.DictionaryArray.from_arrays(pa.array(pairs % LABELS), pa.array([f"LABEL_{number:02}" for number in range(LABELS)])).dictionary_decode()
    spans = pa.ListArray.from_arrays(pa.array(ends, pa.int32()), pa.StructArray.from_arrays([start, start, label], ["start", "end", "label"]))
    number = pc.cast(pa.array(np.arange(first, first + rows)), pa.string())
    joined: Any = pc.binary_join_element_wise
    return pa.table({"id": joined("row", number, "-"), "text": joined("the text of row", number, " "), "spans": spans})


def choose(path: Path, k: int, *, beside: bool) -> dict[str, Any]:
    """Select k rows, with the CPU seconds of each step."""
    read_s, found = _timed(lambda: read_labelled([path], Annotation("span_detection")))
    select_s, selection = _timed(lambda: select(found.order, found.labels, rows=k))
    hashes = np.sort(found.order[list(selection.rows), 0])
    ways = {"max-min": _way(select_s, [tally.selected for tally in selection.labels.values()])}
    answer: dict[str, Any] = {"read_s": read_s, "keys": hashes.tolist(), "digest": hashlib.sha256(hashes.tobytes()).hexdigest(), "ways": ways}
    if beside:
        ids: list[Any] = pc.cast(pq.read_table(path, columns=["id"])["id"], pa.binary()).to_pylist()
        answer["hash_s"] = _timed(lambda: hash_order(ids))[0]
        ways |= _beside(found, found.labels or RowLabels.of([]), k)
    return answer


def _beside(found: LabelledRows, labels: RowLabels, k: int) -> dict[str, Any]:
    """The same share of rows without a label, and the others without regard to their labels: the first by hash, or drawn at random."""
    counts = np.diff(labels.indptr)
    groups = [(counts > 0, k - int(k * NEGATIVES)), (counts == 0, int(k * NEGATIVES))]

    def by_hash() -> Any:
        pools = [(np.flatnonzero(kind), many) for kind, many in groups]
        return np.concatenate([pool[np.argpartition(found.order[pool, 0], many)[:many]] for pool, many in pools])

    def at_random() -> Any:
        rng = np.random.default_rng(0)
        return np.concatenate([rng.choice(np.flatnonzero(kind), many, replace=False) for kind, many in groups])

    ways = {"the first k by hash": by_hash, "random sample": at_random}
    return {name: _way(seconds, _count(labels, rows)) for name, way in ways.items() for seconds, rows in [_timed(way)]}


def _count(labels: RowLabels, rows: Any) -> list[int]:
    taken = np.concatenate([labels.indices[labels.indptr[row] : labels.indptr[row + 1]] for row in rows])
    counts: list[int] = np.bincount(taken, minlength=len(labels.names)).tolist()
    return counts


def _way(seconds: float, counts: list[int]) -> dict[str, Any]:
    return {"seconds": seconds, "least": min(counts), "most": max(counts)}


def _timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """CPU seconds of all threads, and what came of them."""
    begin = time.process_time()
    found = work()
    return time.process_time() - begin, found


def main() -> None:
    """One step."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.selection_rows")
    parser.add_argument("step", choices=("make", "choose"))
    parser.add_argument("file", type=Path)
    parser.add_argument("rows", type=int)
    parser.add_argument("--shuffled", action="store_true")
    parser.add_argument("--beside", action="store_true")
    options = parser.parse_args()
    if options.step == "make":
        make(options.file, options.rows, shuffled=options.shuffled)
    else:
        print(json.dumps(choose(options.file, options.rows, beside=options.beside)))


if __name__ == "__main__":
    main()
