"""What a run's directory holds, with hashes."""

from __future__ import annotations

import hashlib
import os
import stat
from typing import Any

from .files import STATE, placed
from .processes import Refused
from .progress import PROGRESS

_BLOCK = 1 << 20


def manifest(message: dict[str, Any]) -> dict[str, Any]:
    """The regular files of a run: name, size, mtime_ns, and the SHA-256 of as many bytes; all else by name. Raises Refused.

    A file that the client knows, of the same size and time, is not read again. One that grows meanwhile counts as it was. How far the run is changes
    too often to be fetched before its end.
    """
    run, claim = placed(message)
    going_on = claim is not None and run.part(claim, "exit") is None
    found: list[dict[str, Any]] = []
    skipped: list[str] = []
    for directory, folders, files in os.walk(run.directory):
        if directory == run.directory and STATE in folders:
            folders.remove(STATE)
        if directory == run.directory and going_on:
            files[:] = [name for name in files if name != PROGRESS and not name.startswith(f".{PROGRESS}.")]  # what is about to become it
        folders.sort()
        for name in sorted(files) + [name for name in folders if os.path.islink(os.path.join(directory, name))]:
            path = os.path.join(directory, name)
            relative = os.path.relpath(path, run.directory)
            entry = look_at(path, message["known"].get(relative))
            if entry is None:
                skipped.append(relative)
            else:
                found.append({"name": relative, **entry})
            if len(found) + len(skipped) > message["most_files"]:
                raise Refused("usage", f"{run.id} has more than {message['most_files']} files; take more with --max-files")
    return {"directory": run.directory, "files": found, "skipped": skipped}


def look_at(path: str, known: list[Any] | None) -> dict[str, Any] | None:
    """Size, time and hash of a regular file; None for a link, a pipe, or one that cannot be read."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        about = os.fstat(file)
        if not stat.S_ISREG(about.st_mode):
            return None
        size, at = about.st_size, about.st_mtime_ns
        if known is not None and known[:2] == [size, at]:
            return {"size": size, "mtime_ns": at, "sha256": known[2]}
        digest, left = hashlib.sha256(), size
        while left > 0:
            data = os.read(file, min(_BLOCK, left))
            if not data:
                break  # it was cut meanwhile: its hash will not be found
            digest.update(data)
            left -= len(data)
        return {"size": size, "mtime_ns": at, "sha256": digest.hexdigest()}
    finally:
        os.close(file)
