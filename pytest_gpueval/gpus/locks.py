"""Lock files of leases, and who wrote in them: an owner's record is text to be shown."""

from __future__ import annotations

import json
import os
import socket
import unicodedata
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from pytest_gpueval.errors import StorageError

from . import lock_files

_LONGEST_FIELD = 200


@dataclass(frozen=True, slots=True)
class Owner:
    """Who says that a lock is theirs. `parent` is the GPU of a leased MIG instance."""

    pid: int | None = None
    user: str | None = None
    session: str | None = None
    started_at: str | None = None
    host: str | None = None
    parent: str | None = None

    def __str__(self) -> str:
        parts = [f"pid {self.pid}" if self.pid is not None else "an unknown process"]
        parts += [f"{word} {value}" for word, value in (("user", self.user), ("session", self.session), ("since", self.started_at)) if value]
        if self.host and self.host != socket.gethostname():
            parts.append(f"on {self.host}")
        return ", ".join(parts)


def myself(session: str, parent: str | None = None) -> Owner:
    """The record of this process."""
    return Owner(**lock_files.lock_signature(session), parent=parent)


def parsed(raw: bytes) -> Owner:
    """An owner from what somebody wrote; fields that make no sense are None."""
    try:
        told = json.loads(raw.decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return Owner()
    if not isinstance(told, dict):
        return Owner()
    pid = told.get("pid")
    texts = {key: _plain(told.get(key)) for key in ("user", "session", "started_at", "host", "parent")}
    return Owner(pid=pid if type(pid) is int and 0 < pid < 1 << 32 else None, **texts)


def _plain(value: object) -> str | None:
    """Text that cannot steer a terminal or fill a screen."""
    if not isinstance(value, str):
        return None
    kept = "".join(character for character in value[:_LONGEST_FIELD] if unicodedata.category(character)[0] not in "CZ" or character == " ")
    return kept.strip() or None


def default_directory(environment: Mapping[str, str] = os.environ) -> Path:
    """As `lock_files.lease_directory` says."""
    return Path(lock_files.lease_directory(environment))


def prepare(directory: Path) -> None:
    """Make the directory if it is not there, for everybody. Raises StorageError."""
    try:
        lock_files.prepare_directory(str(directory))
    except OSError as error:
        raise StorageError(lock_files.unusable(str(directory), error)) from None


def lock(path: Path, *, exclusive: bool) -> int | None:
    """Take the lock and return its descriptor, or None if it is held otherwise. Never blocks. Raises StorageError."""
    try:
        return lock_files.take_lock(str(path), exclusive=exclusive)
    except OSError as error:
        raise StorageError(lock_files.unusable(str(path), error)) from None


def write(descriptor: int, owner: Owner) -> None:
    """Put the owner's record into the file. Raises OSError."""
    lock_files.write_record(descriptor, json.dumps(asdict(owner)).encode())


def held(path: Path) -> Owner | None:
    """The record of who holds the lock exclusively; None if nobody does, or there is no such file. Never blocks, makes no file."""
    record = lock_files.held_record(str(path))
    return None if record is None else parsed(record)
