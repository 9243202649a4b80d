"""Whose a session's directory is while it is written: a lock that dies with its owner, and beside it, in words, who that is."""

from __future__ import annotations

import getpass
import json
import os
import socket
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

LOCK, OWNER = ".lock", ".owner.json"


class Taken(Exception):
    """Somebody else has it; the text says who."""


def take(directory: Path) -> FileLock:
    """The lock of a directory that is there. Raises Taken, OSError where it cannot be locked."""
    lock = FileLock(directory / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise Taken(_words(directory / OWNER)) from None
    return lock


def sign(directory: Path) -> None:
    """Say that it is ours. Raises OSError."""
    owner = {"pid": os.getpid(), "user": _user(), "host": socket.gethostname(), "started_at": datetime.now(UTC).isoformat(timespec="seconds")}
    (directory / OWNER).write_text(json.dumps(owner))


def _user() -> str:
    """The account's name, or its number where a container has no account for it."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def _words(file: Path) -> str:
    """Who it says that it is: text of somebody else's, so quoted."""
    try:
        owner = json.loads(file.read_text())
        return f"pid {int(owner['pid'])} of {owner['user']!r} on {owner['host']!r}, since {owner['started_at']!r}"
    except (OSError, ValueError, KeyError, TypeError):
        return "owner unknown"
