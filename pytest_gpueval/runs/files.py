"""Write files so that a reader never sees half of one, and a failure says where and why."""

from __future__ import annotations

import errno
import json
import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from pytest_gpueval.errors import StorageError


@contextmanager
def storage(path: Path) -> Iterator[None]:
    """Turn an OSError about `path` into a StorageError that says what to do."""
    try:
        yield
    except OSError as error:
        raise cannot_write(path, error) from None


def cannot_write(path: Path, error: OSError) -> StorageError:
    """The error that says what to do about an OSError."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    advice = "Free some space, or choose" if full else "Choose"
    kept = " What was written before is kept." if path.exists() else ""
    return StorageError(f"{path}: cannot be written: {error.strerror or error}.\n{advice} another place with --gpueval-output-dir DIR.{kept}")


def write_atomically(path: Path, text: str, *, durable: bool = True) -> None:
    """Write the whole file or nothing, and have it on disk before returning. Raises StorageError.

    Without `durable` it outlives this process, but maybe not a power cut; see `sync`.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with storage(path):
        try:
            with temporary.open("w", encoding="utf-8", errors="backslashreplace") as file:
                file.write(text)
                file.flush()
                if durable:
                    os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise
    if durable:
        _sync_directory(path.parent)


def write_all(fd: int, data: bytes, path: Path) -> None:
    """Write all of it to the descriptor of `path`. Raises StorageError."""
    try:
        written = os.write(fd, data)
        while written < len(data):
            written += os.write(fd, memoryview(data)[written:])
    except OSError as error:
        raise cannot_write(path, error) from None


def sync(path: Path) -> None:
    """Have on disk what a file holds; its name comes with the next durable file beside it. Raises StorageError."""
    with storage(path):
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def _sync_directory(directory: Path) -> None:
    """Have the new name on disk too, where the file system can."""
    with suppress(OSError):
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def to_json(value: Any) -> str:
    """JSON a person can read. Numbers that JSON cannot hold are written as text ("nan", "inf"), never as null: unknown is not undefined."""
    value = _finite(value)
    try:
        return orjson.dumps(value, option=orjson.OPT_INDENT_2).decode() + "\n"
    except TypeError:  # lone surrogates, integers of more than 64 bits
        return json.dumps(value, indent=2) + "\n"


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def write_json(path: Path, value: Any, *, durable: bool = True) -> None:
    """Write a JSON file a person can read. Raises StorageError."""
    write_atomically(path, to_json(value), durable=durable)


def back_up(path: Path, now: Callable[[], datetime] | None = None) -> Path | None:
    """Move a file aside to a unique `<name>.bak-<timestamp>`; None if it does not exist. Never overwrites an earlier backup. Raises StorageError."""
    stamp = (now() if now else datetime.now(UTC)).strftime("%Y%m%dT%H%M%S")
    with storage(path):
        for number in range(10_000):
            if not os.path.lexists(path):
                return None
            target = path.with_name(f"{path.name}.bak-{stamp}" + (f"-{number}" if number else ""))
            try:
                target.touch(exist_ok=False)  # two backups in one second get two names
            except FileExistsError:
                continue
            path.replace(target)
            return target
    raise StorageError(f"{path}: ten thousand backups within one second")
