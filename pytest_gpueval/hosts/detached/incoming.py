"""Which files of a host may come here, and which need to. Pure: what a host says of its files is not believed."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pytest_gpueval.errors import GpuevalError, UsageProblem

_SHA256 = re.compile(r"[0-9a-f]{64}")
_LONGEST, _DEEPEST = 200, 30


@dataclass(frozen=True, slots=True)
class Entry:
    """A regular file there: its path below the run's directory, bytes, time of its last change, and hash of so many bytes."""

    name: str
    size: int
    mtime_ns: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be fetched, what is here already, and what is left there, with the reason."""

    files: tuple[Entry, ...]
    unchanged: tuple[str, ...]
    refused: Mapping[str, str]

    @property
    def size(self) -> int:
        """Bytes to fetch, at most."""
        return sum(entry.size for entry in self.files)


def wanted(files: Sequence[Mapping[str, Any]], skipped: Sequence[str], here: Mapping[str, Entry]) -> Wanted:
    """Sort what a host lists. Raises GpuevalError for a list that no agent of ours makes."""
    refused = {str(name): "no regular file, or not readable" for name in skipped}
    entries: dict[str, Entry] = {}
    for record in files:
        entry = _entry(record)
        why = problem(entry.name)
        if why is None and entry.name in entries:
            why = "listed twice"
        if why is None:
            entries[entry.name] = entry
        else:
            refused[entry.name] = why
    folders = {"/".join(parts[:depth]) for parts in (name.split("/") for name in entries) for depth in range(1, len(parts))}
    for name in folders & entries.keys():
        refused[name] = "listed as a file and as a directory"
        del entries[name]
    same = [name for name, entry in entries.items() if name in here and (here[name].size, here[name].sha256) == (entry.size, entry.sha256)]
    return Wanted(tuple(entry for name, entry in entries.items() if name not in same), tuple(same), refused)


def problem(name: str) -> str | None:
    """Why a file of this name may not come here; None if it may."""
    parts = name.split("/")
    if any(part in ("", ".", "..") for part in parts):
        return "its name leads out of the run's directory"
    if not name.isprintable() or "\\" in name:
        return "its name has characters that show nothing, or a backslash"
    if len(parts) > _DEEPEST or any(len(part.encode()) > _LONGEST for part in parts):
        return "its name is too long or too deep"
    return None


def check_size(wanted: Wanted, most_bytes: int, free_bytes: int) -> None:
    """Raises UsageProblem for more than the user allows or the disk has."""
    if wanted.size > most_bytes:
        raise UsageProblem(f"{wanted.size:,} bytes would come, more than {most_bytes:,}; allow more with --max-mib")
    if wanted.size > free_bytes:
        raise UsageProblem(f"{wanted.size:,} bytes would come, and the disk has room for {free_bytes:,}; choose another place with --to")


def _entry(record: Mapping[str, Any]) -> Entry:
    name, size, at, digest = (record.get(key) for key in ("name", "size", "mtime_ns", "sha256"))
    if isinstance(name, str) and isinstance(size, int) and size >= 0 and isinstance(at, int) and isinstance(digest, str) and _SHA256.fullmatch(digest):
        return Entry(name, size, at, digest)
    raise GpuevalError(f"the host's list of files is not one: {str(record)[:200]!r}")
