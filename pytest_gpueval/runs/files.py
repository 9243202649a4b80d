"""Write files so that a reader never sees half of one, and a failure says where and why."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

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
    return StorageError(
        f"{path}: cannot be written: {error.strerror or error}.\n"
        "Free some space, or choose another place with --gpueval-output-dir DIR. What was written before is kept."
    )


def write_atomically(path: Path, text: str) -> None:
    """Write the whole file or nothing, and have it on disk before returning. Raises StorageError."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with storage(path):
        try:
            with temporary.open("w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file a person can read. Raises StorageError."""
    write_atomically(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def back_up(path: Path, now: Callable[[], datetime] | None = None) -> Path | None:
    """Move a file aside to a unique `<name>.bak-<timestamp>`; None if it does not exist. Never overwrites an earlier backup."""
    stamp = (now() if now else datetime.now(UTC)).strftime("%Y%m%dT%H%M%S")
    for number in range(10_000):
        target = path.with_name(f"{path.name}.bak-{stamp}" + (f"-{number}" if number else ""))
        try:
            os.link(path, target)  # fails if the target exists: two backups in one second get two names
        except FileExistsError:
            continue
        except FileNotFoundError:
            return None
        path.unlink()
        return target
    raise StorageError(f"{path}: ten thousand backups within one second")
