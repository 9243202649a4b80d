"""A split of a Hub repository, as everybody who needs it must know it: the commit, the files, and what they must hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from .parquet import joined_hash

MAIN = "main"


def folder_of(repo: str) -> str:
    """A repository's name as that of a folder: `acme/tiny` -> `acme--tiny`."""
    return repo.replace("/", "--")


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file of a repository at one commit. `sha256` is known of files that are stored by their hash (LFS), as parquet is."""

    path: str
    bytes: int | None = None
    sha256: str | None = None


@dataclass(frozen=True, slots=True)
class RemoteSplit:
    """One split of a dataset repository at `revision`, a whole commit hash.

    Without `files` it is not plain parquet: the library `datasets` reads it. `rows` is what the repository says of itself, where it does.
    """

    repo: str
    revision: str
    split: str
    config: str | None = None
    files: tuple[RemoteFile, ...] = ()
    rows: int | None = None

    @property
    def sha256(self) -> str | None:
        """The content hash that the split must have; None where the repository does not tell."""
        hashes = [file.sha256 for file in self.files if file.sha256 is not None]
        return joined_hash(hashes) if hashes and len(hashes) == len(self.files) else None

    @property
    def bytes(self) -> int | None:
        """What has to be fetched for it; None where that is not known."""
        sizes = [file.bytes for file in self.files if file.bytes is not None]
        return sum(sizes) if self.files and len(sizes) == len(self.files) else None

    @property
    def origin(self) -> str:
        """In words: `hub: acme/people@1234567`."""
        return f"hub: {self.repo}@{self.revision[:7]}"

    def as_dict(self) -> dict[str, Any]:
        """JSON's types only: it travels to workers and into lock files."""
        return {**asdict(self), "files": [asdict(file) for file in self.files]}

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> RemoteSplit:
        """What `as_dict` made."""
        return cls(**{**given, "files": tuple(RemoteFile(**file) for file in given["files"])})
