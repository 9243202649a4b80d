"""Texts of 300 characters with two to four spans, three on average."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

Span = tuple[int, int, str]

VARIANTS = 48
LABELS = ("DATE", "EMAIL", "LOCATION", "PERSON")
TEXT_LENGTH = 300
_FILLER = "we met again last week and spoke about the harvest and the roads " * 5


def _gold(variant: int) -> list[Span]:
    """The spans of one variant: a label and a length each, 60 characters apart."""
    count = 2 + variant % 3
    return [(start, start + 6 + (variant + 5 * nth) % 15, LABELS[(variant + nth) % len(LABELS)]) for nth, start in enumerate(range(20, 20 + 60 * count, 60))]


GOLD = [_gold(variant) for variant in range(VARIANTS)]


def rows(count: int) -> Iterator[dict[str, Any]]:
    """`count` rows, always the same."""
    as_columns = [[{"start": start, "end": end, "label": label} for start, end, label in gold] for gold in GOLD]
    for number in range(count):
        text = f"Letter {number:07}: {_FILLER}"[:TEXT_LENGTH]
        yield {"id": f"row-{number:07}", "text": text, "spans": as_columns[number % VARIANTS]}


def write(dataset: str, split: str, path: Path) -> None:  # noqa: ARG001 - one dataset
    """Write the split `rows-N`."""
    import pyarrow as pa  # noqa: PLC0415 - `rows` alone must stay cheap
    import pyarrow.parquet as pq  # noqa: PLC0415

    span = pa.struct([("start", pa.int32()), ("end", pa.int32()), ("label", pa.string())])
    schema = pa.schema([("id", pa.string()), ("text", pa.string()), ("spans", pa.list_(span))])
    source = rows(int(split.removeprefix("rows-")))
    with pq.ParquetWriter(path, schema) as writer:
        while chunk := list(islice(source, 20_000)):
            writer.write_table(pa.Table.from_pylist(chunk, schema))
