"""Which file holds an embedded split: one in the suite's folder, or one that its generator writes into the cache."""

from __future__ import annotations

import errno
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from filelock import FileLock

from pytest_gpueval.errors import DataError, GpuevalError, StorageError

from .cache import cache_directory
from .parquet import ParquetSplit

# What the disk says, as against a generator that misses a file of its own.
_DISK = frozenset({errno.EACCES, errno.EDQUOT, errno.ENOSPC, errno.EROFS})


class Generator(Protocol):
    """What a suite's generator file offers."""

    def write(self, dataset: str, split: str, path: Path) -> None:
        """Write one split as parquet."""


@dataclass(frozen=True)
class Location:
    """Where a suite keeps its embedded data; `generator` loads its generator on demand, `version` names its revision."""

    suite: str
    directory: Path
    note: str
    generator: Path | None


def locate(where: Location, dataset: str, split: str) -> Path:
    """The file that should hold the split, which may not exist yet. Raises UsageProblem."""
    committed = where.directory / dataset / f"{split}.parquet"
    if committed.exists() or where.generator is None:
        return committed
    return cache_directory() / where.suite / fingerprint(where.generator.parent)[:16] / dataset / f"{split}.parquet"


def ensure(path: Path, dataset: str, split: str, origin: str, generator: Generator | None) -> ParquetSplit:
    """The split at `path`, generated first if the suite can. Raises DataError, StorageError."""
    if not path.exists():
        if generator is None:
            raise DataError(f"{path}: no such file; it should hold split {split!r} of dataset {dataset!r}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(path.with_suffix(".lock")):  # several workers may ask at once
                if not path.exists():
                    _generate(path, dataset, split, generator)
        except OSError as error:
            raise StorageError(f"{path}: cannot be written: {error.strerror or error}.\nXDG_CACHE_HOME chooses another place for generated data.") from None
    return ParquetSplit(path, origin)


def _generate(path: Path, dataset: str, split: str, generator: Generator) -> None:
    """Let the generator write beside `path`, and move the file there once it is whole. Raises DataError, or what the disk says."""
    half = path.with_name(f".{path.stem}.{os.getpid()}.half{path.suffix}")
    what = f"the generator of split {split!r} of dataset {dataset!r}"
    try:
        generator.write(dataset, split, half)
        if not half.is_file():
            raise DataError(f"{what} wrote no file: write(dataset, split, path) must write {path.suffix} to `path`")
        half.replace(path)
    except GpuevalError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno in _DISK:
            raise
        raise DataError(f"{what} failed: {type(error).__name__}: {error}") from error
    finally:
        half.unlink(missing_ok=True)


def fingerprint(directory: Path) -> str:
    """A hash of the Python files below a suite's folder: a changed generator or model never meets its own old output."""
    digest = hashlib.sha256()
    for file in sorted(path for path in directory.rglob("*.py") if path.is_file()):
        source = file.read_bytes()
        digest.update(f"{file.relative_to(directory).as_posix()}\0{len(source)}\0".encode() + source)
    return digest.hexdigest()
