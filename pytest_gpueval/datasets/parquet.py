"""One split in one parquet file, read in batches so that memory does not grow with the split."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_gpueval.errors import DataError, MissingExtra, valid_values

if TYPE_CHECKING:
    import pyarrow.parquet as pq

READ_ROWS = 1024
# Read through a buffer of this size: pyarrow would otherwise hold whole column chunks, which is the whole split where it is one row group.
_BUFFER_BYTES = 1 << 16


@dataclass(frozen=True)
class ParquetSplit:
    """A split whose rows are in `path`. `origin` says in words where it comes from."""

    path: Path
    origin: str

    @cached_property
    def rows(self) -> int:
        """The number of rows, from the footer. Raises DataError."""
        return self._footer[0]

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns, from the footer. Raises DataError."""
        return self._footer[1]

    @cached_property
    def _footer(self) -> tuple[int, tuple[str, ...]]:
        """The number of rows, and the names of the columns. Raises DataError."""
        with self._open() as file:
            return int(file.metadata.num_rows), tuple(file.schema_arrow.names)

    @cached_property
    def sha256(self) -> str:
        """The content hash of the file. Raises DataError."""
        self._require_file()
        try:
            with self.path.open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise DataError(f"{self.path}: cannot be read: {error.strerror}") from None

    def check(self, columns: Sequence[str], rows: int | None) -> None:
        """Check the file's columns and, if given, its number of rows. Raises DataError."""
        names = self.columns
        for column in columns:
            if column not in names:
                raise DataError(f"{self.path}: column {column!r} is missing. {valid_values(column, names, what='columns')}")
        if rows is not None and rows != self.rows:
            raise DataError(f"{self.path}: has {self.rows} rows, but the suite says {rows}.\nEither the file is stale, or `rows` in suite.toml must follow it.")

    def read(self, columns: Sequence[str], skip: int = 0, limit: int | None = None) -> Iterator[dict[str, Any]]:
        """The rows from `skip` (0 is the first) up to `limit`, as dictionaries, in the order of the file. Raises DataError."""
        import pyarrow as pa  # noqa: PLC0415 - heavy

        self.check(columns, None)
        stop = self.rows if limit is None else min(limit, self.rows)
        with self._open() as file:
            groups, position = _groups_from(file, skip)
            try:
                for batch in file.iter_batches(batch_size=READ_ROWS, columns=list(columns), row_groups=groups):
                    first, last = max(skip - position, 0), min(stop - position, batch.num_rows)
                    if first < last:
                        yield from batch.slice(first, last - first).to_pylist()
                    position += batch.num_rows
                    if position >= stop:
                        return
            except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
                raise DataError(f"{self.path}: damaged after row {position}: {_one_line(error)}") from None

    def _open(self) -> pq.ParquetFile:
        try:
            import pyarrow as pa  # noqa: PLC0415 - heavy
            import pyarrow.parquet as pq  # noqa: PLC0415 - heavy
        except ImportError:
            raise MissingExtra("pyarrow", needed_for=f"reading {self.path.name}", extra="data") from None
        self._require_file()
        try:
            return pq.ParquetFile(self.path, pre_buffer=False, buffer_size=_BUFFER_BYTES, page_checksum_verification=True)
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"{self.path}: not a whole parquet file: {_one_line(error)}") from None

    def _require_file(self) -> None:
        """Only a regular file can be read: a pipe would be waited for, for ever. Raises DataError."""
        if not self.path.exists():
            raise DataError(f"{self.path}: no such file")
        if not self.path.is_file():
            raise DataError(f"{self.path}: not a regular file")


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
