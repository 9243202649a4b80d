"""Rows whose last word is their label, but for every tenth."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

LABELS = ("billing", "delivery", "other", "praise")


def rows(count: int) -> Iterator[dict[str, str]]:
    """`count` rows, always the same."""
    for number in range(count):
        label = LABELS[number % 4]
        last = LABELS[(number + 1) % 4] if number % 10 == 0 else label
        yield {
            "id": f"row-{number:07}",
            "text": f"Ticket {number}: the customer wrote twice about an order, and the clerk filed it under {last}",
            "label": label,
        }


def write(dataset: str, split: str, path: Path) -> None:  # noqa: ARG001 - one dataset
    """Write the split `rows-N`."""
    import pyarrow as pa  # noqa: PLC0415 - `rows` alone must stay cheap
    import pyarrow.parquet as pq  # noqa: PLC0415

    schema = pa.schema([("id", pa.string()), ("text", pa.string()), ("label", pa.string())])
    source = rows(int(split.removeprefix("rows-")))
    with pq.ParquetWriter(path, schema) as writer:
        while chunk := list(islice(source, 20_000)):
            writer.write_table(pa.Table.from_pylist(chunk, schema))
