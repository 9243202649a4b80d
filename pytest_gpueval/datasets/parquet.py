"""One split in one parquet file, or several, read in batches so that memory does not grow with the split."""

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
    """A split whose rows are in `path`, and then in `more`. `origin` says in words where it comes from.

    `expected` is the content hash that it must have, where somebody has told it (see `sha256`); `revision` the commit of the repository it is from.
    """

    path: Path
    origin: str
    more: tuple[Path, ...] = ()
    expected: str | None = None
    revision: str | None = None

    @cached_property
    def rows(self) -> int:
        """The number of rows, from the footers. Raises DataError."""
        return sum(self._rows_of_files)

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns, from the footers. Raises DataError."""
        return self._footers[0][1]

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
        self._require(columns)
        if rows is not None and rows != self.rows:
            raise DataError(f"{self.path}: has {self.rows} rows, but the suite says {rows}.\nEither the file is stale, or `rows` in suite.toml must follow it.")

    def read(self, columns: Sequence[str], skip: int = 0, limit: int | None = None) -> Iterator[dict[str, Any]]:
        """The rows from `skip` (0 is the first) up to `limit`, as dictionaries, in the order of the files. Raises DataError."""
        self._require(columns)
        stop = self.rows if limit is None else min(limit, self.rows)
        before = 0
        for path, rows in zip(self._files, self._rows_of_files, strict=True):
            first, last = max(skip - before, 0), min(stop - before, rows)
            if first < last:
                yield from _read(path, list(columns), first, last)
            before += rows

    def _require(self, columns: Sequence[str]) -> None:
        for column in columns:
            if column not in self.columns:
                raise DataError(f"{self.path}: column {column!r} is missing. {valid_values(column, self.columns, what='columns')}")


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


def _read(path: Path, columns: list[str], skip: int, stop: int) -> Iterator[dict[str, Any]]:
    """The rows of one file from `skip` to before `stop`. Raises DataError."""
    import pyarrow as pa  # noqa: PLC0415 - heavy

    with _open(path) as file:
        groups, position = _groups_from(file, skip)
        try:
            for batch in file.iter_batches(batch_size=READ_ROWS, columns=columns, row_groups=groups):
                first, last = max(skip - position, 0), min(stop - position, batch.num_rows)
                if first < last:
                    yield from batch.slice(first, last - first).to_pylist()
                position += batch.num_rows
                if position >= stop:
                    return
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            raise DataError(f"{path}: damaged after row {position}: {_one_line(error)}") from None


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
