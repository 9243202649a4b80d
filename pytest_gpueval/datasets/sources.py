"""Which file holds a split: embedded in the suite's folder, generated into the cache, or in a directory of the user's own."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from filelock import FileLock

from pytest_gpueval.errors import DataError, UsageProblem

from .parquet import ParquetSplit


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


def locate(source: str, where: Location, dataset: str, split: str) -> Path:
    """The file that should hold the split, which may not exist yet. Raises UsageProblem for a source that cannot serve."""
    if source == "embedded":
        committed = where.directory / dataset / f"{split}.parquet"
        if committed.exists() or where.generator is None:
            return committed
        return cache_directory() / where.suite / _fingerprint(where.generator) / dataset / f"{split}.parquet"
    if source == "hub":
        raise UsageProblem("--gpueval-data hub: this version reads embedded splits and directories only.\nUse --gpueval-data embedded or DIR.")
    directory = Path(source)
    if not directory.is_dir():
        raise UsageProblem(f"--gpueval-data {source}: no such directory. Valid: embedded, hub, or a directory with <dataset>/<split>.parquet.")
    return directory / dataset / f"{split}.parquet"


def ensure(path: Path, dataset: str, split: str, origin: str, generator: Generator | None) -> ParquetSplit:
    """The split at `path`, generated first if the suite can. Raises DataError."""
    if not path.exists():
        if generator is None:
            raise DataError(f"{path}: no such file; it should hold split {split!r} of dataset {dataset!r}")
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock")):  # several workers may ask at once
            if not path.exists():
                generator.write(dataset, split, path)
    return ParquetSplit(path, origin)


def cache_directory() -> Path:
    """`$XDG_CACHE_HOME/pytest-gpueval`, by default under `~/.cache`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pytest-gpueval"


def _fingerprint(generator: Path) -> str:
    """A short hash of the generator's sources: a changed generator never meets its own old output."""
    digest = hashlib.sha256()
    for file in sorted((generator.parent).rglob("*.py")):
        digest.update(file.relative_to(generator.parent).as_posix().encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()[:16]
