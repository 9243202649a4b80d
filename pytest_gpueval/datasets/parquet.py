"""One split in one parquet file, or several, read in batches so that memory does not grow with the split."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pytest_gpueval.errors import DataError, MissingExtra, valid_values

from . import distinct
from .features import features_of, namer
from .repeats import FEW, Repeats, Texts, find

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

T = TypeVar("T")
READ_ROWS = 1024
# Of ids alone: they are short.
_ID_ROWS = 8192
# Read through a buffer of this size: pyarrow would otherwise hold whole column chunks, which is the whole split where it is one row group.
_BUFFER_BYTES = 1 << 16


@dataclass(frozen=True)
class ParquetSplit:
    """A split whose rows are in `path`, and then in `more`. `origin` says in words where it comes from.

    `expected` is the content hash that it must have, where somebody has told it (see `sha256`); `revision` the commit of the repository it is from. `names`
    says what the files call columns that are asked for by another name: column -> the files' column. Where the library `datasets` has left the names of
    labels that are whole numbers in the files, rows have the names.
    """

    path: Path
    origin: str
    more: tuple[Path, ...] = ()
    expected: str | None = None
    revision: str | None = None
    names: Mapping[str, str] = field(default_factory=dict, hash=False)

    @cached_property
    def rows(self) -> int:
        """The number of rows, from the footers. Raises DataError."""
        return sum(self._rows_of_files)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that can be asked for: those of the files, and those that `names` adds. Raises DataError."""
        return tuple(dict.fromkeys([*self._footers[0][1], *self.names]))

    @property
    def _rows_of_files(self) -> list[int]:
        return [rows for rows, _ in self._footers]

    @cached_property
    def _footers(self) -> list[tuple[int, tuple[str, ...]]]:
        """For each file the number of rows, and the names of the columns. Raises DataError."""
        found = []
        for path in self._files:
            with _open(path) as file:
                found.append((int(file.metadata.num_rows), tuple(file.schema_arrow.names)))
            if set(found[-1][1]) != set(found[0][1]):
                raise DataError(f"{path}: has the columns {', '.join(found[-1][1])}, but {self.path.name} has {', '.join(found[0][1])}")
        return found

    @property
    def _files(self) -> tuple[Path, ...]:
        return (self.path, *self.more)

    @cached_property
    def sha256(self) -> str:
        """The content hash: of the file, or of the hashes of its files (`joined_hash`). Raises DataError."""
        return joined_hash([file_hash(path) for path in self._files])

    def check(self, columns: Sequence[str], rows: int | None) -> None:
        """Check the content hash if one is expected, the columns, and if given, the number of rows. Raises DataError."""
        if self.expected is not None and self.sha256 != self.expected:
            raise DataError(
                f"{self.path}: is not the file that it should be: its SHA-256 is {self.sha256[:12]}..., not {self.expected[:12]}... ({self.origin}).\n"
                "It was damaged or replaced: fetch it anew with --gpueval-refresh, or copy it again."
            )
        self._require([*columns, *self.names])
        if rows is not None and rows != self.rows:
            raise DataError(f"{self.path}: has {self.rows} rows, but the suite says {rows}.\nEither the file is stale, or `rows` in suite.toml must follow it.")

    def read(self, columns: Sequence[str], skip: int = 0, limit: int | None = None) -> Iterator[dict[str, Any]]:
        """The rows from `skip` (0 is the first) up to `limit`, as dictionaries, in the order of the files. Raises DataError."""
        for path, first, last in self._windows(columns, skip, limit):
            yield from _read(path, self._by_file(columns), first, last)

    def repeats(self, limit: int | None = None) -> Repeats:
        """Rows up to `limit` whose id an earlier row has; looked for once. Raises DataError."""
        stop = self.rows if limit is None else min(limit, self.rows)
        if stop not in self._repeats:
            self._repeats[stop] = self._searched(stop)
        return self._repeats[stop]

    def _searched(self, stop: int) -> Repeats:
        column, lasting = self.names.get("id", "id"), stop > FEW  # fewer are sooner searched than remembered
        if lasting and distinct.known(self.sha256, column, stop):
            return Repeats()
        found = find(lambda: self._ids(stop), stop)
        if lasting and not found.rows:
            distinct.remember(self.sha256, column, stop)
        return found

    @cached_property
    def _repeats(self) -> dict[int, Repeats]:
        return {}

    def _ids(self, stop: int) -> Iterator[Texts]:
        for path, first, last in self._windows(["id"], 0, stop):
            yield from _batches(path, self._by_file(["id"]), first, last, _texts, rows=_ID_ROWS)

    def _windows(self, columns: Sequence[str], skip: int, limit: int | None) -> Iterator[tuple[Path, int, int]]:
        """Each file that holds some of these rows, with the first of them and the one behind the last, as the file counts. Raises DataError."""
        self._require(columns)
        stop = self.rows if limit is None else min(limit, self.rows)
        before = 0
        for path, rows in zip(self._files, self._rows_of_files, strict=True):
            first, last = max(skip - before, 0), min(stop - before, rows)
            if first < last:
                yield path, first, last
            before += rows

    def _by_file(self, columns: Sequence[str]) -> dict[str, str]:
        """Columns that are asked for -> what the files call them."""
        return {column: self.names.get(column, column) for column in columns}

    def _require(self, columns: Sequence[str]) -> None:
        there = self._footers[0][1]
        for column in columns:
            name = self.names.get(column, column)
            if name not in there:
                called = f", which `columns` in suite.toml names for {column!r}," if column in self.names else ""
                how = "" if called else f'\nIf the file calls it otherwise, say so for the dataset in suite.toml: columns = {{ {column} = "..." }}'
                raise DataError(f"{self.path}: column {name!r}{called} is missing. {valid_values(name, there, what='columns')}{how}")


def file_hash(path: Path) -> str:
    """The SHA-256 of a file. Raises DataError."""
    _require_file(path)
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None


def joined_hash(hashes: Sequence[str]) -> str:
    """The content hash of a split of these files: that of the only one, or the SHA-256 of the hashes in hexadecimal, in order."""
    return hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest()


def _read(path: Path, columns: Mapping[str, str], skip: int, stop: int) -> Iterator[dict[str, Any]]:
    """The rows of one file from `skip` to before `stop`; `columns` are those of the rows -> those of the file. Raises DataError."""
    put: Mapping[str, Callable[[Any], Any]] | None = None

    def rows_of(batch: pa.RecordBatch) -> list[dict[str, Any]]:
        nonlocal put
        put = _namers(batch.schema, columns) if put is None else put
        rows: list[dict[str, Any]] = batch.to_pylist()
        return rows if not put else [{**row, **{column: name(row[column]) for column, name in put.items()}} for row in rows]

    for rows in _batches(path, columns, skip, stop, rows_of):
        yield from rows


def _batches(path: Path, columns: Mapping[str, str], skip: int, stop: int, form: Callable[[pa.RecordBatch], T], rows: int = READ_ROWS) -> Iterator[T]:
    """The same in batches, each in a form of its own. Raises DataError, also where the form cannot be made of what the file holds."""
    import pyarrow as pa  # noqa: PLC0415 - heavy

    with _open(path) as file:
        groups, position = _groups_from(file, skip)
        metadata = file.schema_arrow.metadata
        try:
            for batch in file.iter_batches(batch_size=rows, columns=list(dict.fromkeys(columns.values())), row_groups=groups):
                first, last = max(skip - position, 0), min(stop - position, batch.num_rows)
                if first < last:
                    wanted = pa.RecordBatch.from_arrays([batch.column(name) for name in columns.values()], names=list(columns), metadata=metadata)
                    yield form(wanted.slice(first, last - first))
                position += batch.num_rows
                if position >= stop:
                    return
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            raise DataError(f"{path}: damaged after row {position}: {_one_line(error)}") from None


def _texts(batch: pa.RecordBatch) -> Texts:
    """The only column of a batch as texts; null where it holds none."""
    import pyarrow as pa  # noqa: PLC0415 - heavy

    column: Any = batch.column(0)
    types = pa.types
    if types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if not (types.is_string(column.type) or types.is_large_string(column.type)):  # a cast costs an import more
        column = column.cast(pa.large_string()) if types.is_string_view(column.type) else pa.nulls(len(column), pa.string())
    texts: Texts = column
    return texts


def _namers(schema: pa.Schema, columns: Mapping[str, str]) -> dict[str, Callable[[Any], Any]]:
    """What puts names in the place of numbers, for those columns that have such."""
    features = features_of(schema)
    return {column: put for column, name in columns.items() if (put := namer(features.get(name))) is not None}


def _open(path: Path) -> pq.ParquetFile:
    try:
        import pyarrow as pa  # noqa: PLC0415 - heavy
        import pyarrow.parquet as pq  # noqa: PLC0415 - heavy
    except ImportError:
        raise MissingExtra("pyarrow", needed_for=f"reading {path.name}", extra="data") from None
    _require_file(path)
    try:
        return pq.ParquetFile(path, pre_buffer=False, buffer_size=_BUFFER_BYTES, page_checksum_verification=True)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path}: not a whole parquet file: {_one_line(error)}") from None


def _require_file(path: Path) -> None:
    """Only a regular file can be read: a pipe would be waited for, for ever. Raises DataError."""
    if not path.exists():
        raise DataError(f"{path}: no such file")
    if not path.is_file():
        raise DataError(f"{path}: not a regular file")


def _groups_from(file: pq.ParquetFile, skip: int) -> tuple[list[int], int]:
    """The row groups from the one that holds row `skip` on, and the number of rows before them: a shard does not read what it skips."""
    before = 0
    for group in range(file.num_row_groups):
        rows = file.metadata.row_group(group).num_rows
        if before + rows > skip:
            return list(range(group, file.num_row_groups)), before
        before += rows
    return [], before


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]
