"""A `fast` split out of a `full` one: choose its rows, and write them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_gpueval.errors import DataError, StorageError

from .labelled import Annotation, batches, read_labelled
from .parquet import READ_ROWS, ParquetSplit
from .selection import NEGATIVES, ROWS, SEED, Selection, numpy, select

if TYPE_CHECKING:
    import pyarrow as pa

# So many rows a row group: a shard reads the groups that hold its rows.
_GROUP_ROWS = 1000
# Time stamps of nanoseconds stay what they are.
_FORMAT: Any = {"version": "2.6", "compression": "zstd", "compression_level": 3, "row_group_size": _GROUP_ROWS, "write_page_checksum": True}


def choose(
    files: Sequence[Path], annotation: Annotation, *, rows: int = ROWS, negatives: float = NEGATIVES, seed: str = SEED, key: str | None = "id"
) -> Selection:
    """Choose the rows of a fast split out of those of `files`, in order; row numbers count through all files from 0.

    `negatives` is the share of rows without a label, where the task knows such rows. Raises DataError, UsageProblem (see `read_labelled`, `select`).
    """
    found = read_labelled(files, annotation, key=key, seed=seed)
    selection = select(found.order, found.labels, rows=rows, negatives=negatives if annotation.may_be_none else None)
    absent = [name for name in sorted(annotation.expected) if not selection.labels[name].available]
    notes = [f"label {name!r} is expected, but no row has it" for name in absent]
    notes += [f"label {name!r} is not known and does not count ({times:,} times)" for name, times in sorted(found.unknown.items())]
    if key is not None and found.key is None:
        notes.append(f"there is no column {key!r}: rows are told apart by their content")
    return replace(selection, notes=(*selection.notes, *notes))


def write(files: Sequence[Path], selection: Selection, path: Path) -> ParquetSplit:
    """Write the selected rows of `files` to `path`, in the order of the selection; memory is that of the selected rows.

    The schema stays as it is, metadata included. The same rows give the same bytes under the same version of pyarrow, wherever in `files` they stood.
    The file is there whole or not at all. Raises DataError where the files are not those that the selection was made of, StorageError.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = _selected(files, selection)
    half = path.with_name(f".{path.name}.{os.getpid()}.half")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, half, use_compliant_nested_type=_calls_items_elements(files[0]), **_FORMAT)
        half.replace(path)
    except OSError as error:
        raise StorageError(f"{path}: cannot be written: {error.strerror or error}. Free some space, or choose another place.") from None
    except pa.ArrowException as error:
        raise DataError(f"{path}: parquet cannot hold these rows: {' '.join(str(error).split())[:200]}") from None
    finally:
        with suppress(OSError):
            half.unlink()
    return ParquetSplit(path, f"{len(selection.rows):,} of {selection.total:,} rows")


def _selected(files: Sequence[Path], selection: Selection) -> pa.Table:
    """The selected rows in the order of the selection. Raises DataError."""
    np = numpy()
    import pyarrow as pa

    wanted = np.sort(np.array(selection.rows, np.int64))
    schema, parts, row = _schema(files), [], 0
    for _, batch in batches(files, None, READ_ROWS):
        first, last = np.searchsorted(wanted, (row, row + batch.num_rows))
        if first < last:
            parts.append(batch.take(pa.array(wanted[first:last] - row)).select(schema.names))
        row += batch.num_rows
    if row != selection.total:
        raise DataError(f"{files[0]}: has {row:,} rows, but {selection.total:,} when they were selected: the split has changed, select anew")
    places = np.searchsorted(wanted, np.array(selection.rows, np.int64))
    table = pa.Table.from_batches([part.cast(schema) for part in parts], schema)
    table = table.take(pa.array(places)).combine_chunks()
    columns = [_rebuilt(table.column(at)) if _holds_dictionary(field.type) else table.column(at) for at, field in enumerate(schema)]
    return pa.table(columns, schema=schema)


def _schema(files: Sequence[Path]) -> pa.Schema:
    """The schema of all files. Raises DataError where they differ."""
    import pyarrow.parquet as pq

    found: pa.Schema | None = None
    for path in files:
        ParquetSplit(path, "").check((), None)
        schema = pq.read_schema(path)
        found = found or schema
        for name in (*found.names, *schema.names):
            types = [of.field(name).type if name in of.names else "missing" for of in (found, schema)]
            if types[0] != types[1]:
                raise DataError(f"{path}: column {name!r} is {types[1]}, but {types[0]} in {files[0].name}: the files of a split must have the same columns")
    if found is None:
        raise DataError("a split of no files")
    return found


def _calls_items_elements(path: Path) -> bool:
    """Whether lists have the form of today, in which an item is an `element`, or that of older writers."""
    import pyarrow.parquet as pq

    schema = pq.read_metadata(path).schema
    return not any(".list.item" in schema.column(at).path for at in range(len(schema)))


def _holds_dictionary(of: Any) -> bool:
    import pyarrow as pa

    return pa.types.is_dictionary(of) or any(_holds_dictionary(of.field(at).type) for at in range(of.num_fields))


def _rebuilt(column: Any) -> Any:
    """A column whose dictionaries hold what its rows hold, in their order: not what came first in the files, or is in none of these rows."""
    import pyarrow as pa

    return pa.chunked_array([pa.array(column.to_pylist(), column.type)], column.type)
