"""Dataset repositories in small: rows as parquet, and the card that describes their splits."""

from __future__ import annotations

import io
from collections.abc import Mapping

import pyarrow as pa
import pyarrow.parquet as pq


def parquet(rows: int, *, start: int = 0) -> bytes:
    """`id` and `text`, numbered from `start`."""
    numbers = range(start, start + rows)
    table = pa.table({"id": pa.array(numbers, pa.int64()), "text": [f"row {number}" for number in numbers]})
    sink = io.BytesIO()
    pq.write_table(table, sink)
    return sink.getvalue()


def card(splits: Mapping[str, int], *, files: Mapping[str, str] | None = None, body: str = "# People\n") -> bytes:
    """A card whose dataset_info counts `splits` (name to rows); `files` are their patterns, data/NAME-* if not given."""
    patterns = files or {name: f"data/{name}-*" for name in splits}
    lines = ["---", "dataset_info:", "  features:", "  - name: id", "    dtype: int64", "  - name: text", "    dtype: string", "  splits:"]
    for name, rows in splits.items():
        lines += [f"  - name: {name}", f"    num_bytes: {rows * 20}", f"    num_examples: {rows}"]
    total = sum(splits.values()) * 20
    lines += [f"  download_size: {total}", f"  dataset_size: {total}", "configs:", "- config_name: default", "  data_files:"]
    for name, pattern in patterns.items():
        lines += [f"  - split: {name}", f"    path: {pattern}"]
    return ("\n".join([*lines, "---", ""]) + body).encode()


def files(splits: Mapping[str, int]) -> dict[str, bytes]:
    """A repository that is in order: a card, and one shard for each split."""
    shards = {f"data/{name}-00000-of-00001.parquet": parquet(rows) for name, rows in splits.items()}
    return {"README.md": card(splits), **shards}
