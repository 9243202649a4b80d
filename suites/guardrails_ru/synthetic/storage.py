"""Parquet files of rows: written atomically in batches, read back for checks."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from .rng import VERSION
from .rows import content_hash, generate

BATCH = 2000
"""Rows held in memory at a time."""
SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("text", pa.string()),
        (
            "spans",
            pa.list_(pa.struct([("start", pa.int32()), ("end", pa.int32()), ("label", pa.string())])),
        ),
        ("language", pa.string()),
        ("source", pa.string()),
    ]
)


def write(dataset: str, split: str, path: Path) -> str:
    """Write a split to `path` through a temporary file beside it; the content hash.

    Rows are made twice, for the schema metadata comes first and holds their hash; memory is
    bounded by a batch.
    """
    digest = content_hash(generate(dataset, split))
    metadata = {
        "synthetic": "true",
        "generator_version": VERSION,
        "dataset": dataset,
        "split": split,
        "content_hash": digest,
        "license": "CC0-1.0",
    }
    schema = SCHEMA.with_metadata(metadata)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with pq.ParquetWriter(temporary, schema, compression="zstd", compression_level=15) as writer:
            rows = generate(dataset, split)
            while batch := list(islice(rows, BATCH)):
                writer.write_table(pa.Table.from_pylist(batch, schema=schema))
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return digest


def read(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a written file, one at a time."""
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=BATCH):
            yield from batch.to_pylist()
