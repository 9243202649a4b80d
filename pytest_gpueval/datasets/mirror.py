"""A directory that holds splits, and `manifest.json` that says what they are: how data gets to machines that reach no Hub."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pytest_gpueval.errors import DataError, UsageProblem

from .parquet import ParquetSplit, file_hash, joined_hash

MANIFEST = "manifest.json"
MODELS = "models"
VERSION = 1

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class FileEntry(BaseModel):
    """One file of the directory, and where it is from."""

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True)

    repo: str | None = None
    revision: str | None = None
    file: str = Field(description="path below the directory")
    bytes: Annotated[int, Field(ge=0)]
    sha256: Sha256


class SplitEntry(FileEntry):
    """One file of a split, in the order of its rows."""

    dataset: str = Field(description="the suite's name of the dataset")
    split: str
    rows: Annotated[int, Field(ge=0)] | None = None


class Manifest(BaseModel):
    """manifest.json."""

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True)

    version: int = VERSION
    datasets: list[SplitEntry] = []
    models: list[FileEntry] = []

    @property
    def files(self) -> list[FileEntry]:
        """All of them."""
        return [*self.datasets, *self.models]


@dataclass(frozen=True)
class Mirror:
    """The directory. Without a manifest, splits are `<dataset>/<split>.parquet`, and nothing says what they should be."""

    directory: Path
    manifest: Manifest | None

    def split(self, dataset: str, split: str) -> ParquetSplit:
        """The split, which may not be there. Raises DataError if the manifest does not list it."""
        if self.manifest is None:
            return ParquetSplit(self.directory / dataset / f"{split}.parquet", str(self.directory))
        entries = self._entries(dataset, split)
        if not entries:
            raise DataError(
                f"{self.directory / MANIFEST}: lists no split {split!r} of dataset {dataset!r}.\nFetch it where the Hub can be reached: gpueval assets download"
            )
        first, *rest = [self.directory / entry.file for entry in entries]
        return ParquetSplit(first, f"mirror: {self.directory}", tuple(rest), joined_hash([entry.sha256 for entry in entries]), entries[0].revision)

    def problems(self, wanted: Iterable[tuple[str, str]]) -> list[str]:
        """What is missing of these (dataset, split), or is not what the manifest says. Raises DataError for what cannot be read."""
        return [problem for dataset, split in wanted for problem in self._problems(dataset, split)]

    def _entries(self, dataset: str, split: str) -> list[SplitEntry]:
        return [entry for entry in self.manifest.datasets if (entry.dataset, entry.split) == (dataset, split)] if self.manifest else []

    def _problems(self, dataset: str, split: str) -> Sequence[str]:
        name = f"{dataset}-{split}"
        if self.manifest is None:
            path = self.directory / dataset / f"{split}.parquet"
            return [] if path.exists() else [f"{name}: {path} is missing"]
        entries = self._entries(dataset, split)
        if not entries:
            return [f"{name}: not in {MANIFEST}"]
        found = []
        for entry in entries:
            path = self.directory / entry.file
            if not path.is_file():
                found.append(f"{name}: {path} is missing")
            elif path.stat().st_size != entry.bytes:
                found.append(f"{name}: {path} has {path.stat().st_size:,} bytes, not {entry.bytes:,}")
            elif file_hash(path) != entry.sha256:
                found.append(f"{name}: {path} was damaged or replaced: its SHA-256 is not that of {MANIFEST}")
        return found


def open_mirror(directory: Path) -> Mirror:
    """A directory given by the user. Raises UsageProblem, DataError for a manifest that is none."""
    if not directory.is_dir():
        raise UsageProblem(f"--gpueval-data {directory}: no such directory. Valid: embedded, hub, or a directory with <dataset>/<split>.parquet.")
    path = directory / MANIFEST
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return Mirror(directory, None)
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read: {error}") from None
    try:
        manifest = Manifest.model_validate(json.loads(text))
    except ValidationError as error:
        first = error.errors()[0]
        raise DataError(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}.\nMake the directory anew: gpueval assets download") from None
    except ValueError as error:
        raise DataError(f"{path}: is not JSON: {error}.\nMake the directory anew: gpueval assets download") from None
    if manifest.version != VERSION:
        raise DataError(f"{path}: is of version {manifest.version}; this version reads {VERSION}.\nMake the directory anew: gpueval assets download")
    for entry in manifest.files:  # it may come from elsewhere
        inside = PurePosixPath(entry.file)
        if inside.is_absolute() or ".." in inside.parts:
            raise DataError(f"{path}: {entry.file!r} is not below {directory}")
    return Mirror(directory, manifest)
