"""`datasets.lock` of a suite: the commit and the files of each of its splits, so that all machines evaluate the same rows until somebody says otherwise."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from pytest_gpueval.errors import DataError

from .remote import RemoteSplit
from .writing import write_whole

FILE_NAME = "datasets.lock"
_VERSION = 1

# (dataset, split) -> what it is.
Locked = Mapping[tuple[str, str], RemoteSplit]


def read(directory: Path) -> dict[tuple[str, str], RemoteSplit]:
    """What the lock file of a suite's folder says; nothing where there is none. Raises DataError."""
    path = directory / FILE_NAME
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
    try:
        given = json.loads(text)
        if given["version"] != _VERSION:
            raise DataError(f"{path}: is of version {given['version']!r}; this version reads {_VERSION}.\nWrite it anew: gpueval datasets lock")
        return {(dataset, split): RemoteSplit.of({**entry, "split": split}) for dataset, splits in given["datasets"].items() for split, entry in splits.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path}: is no lock file: {error}.\nWrite it anew: gpueval datasets lock") from None


def text(locked: Locked) -> str:
    """The file: sorted, so that a change is a small diff."""
    found: dict[str, dict[str, object]] = {}
    for (dataset, split), remote in sorted(locked.items()):
        entry = remote.as_dict()
        del entry["split"]
        found.setdefault(dataset, {})[split] = entry
    return json.dumps({"version": _VERSION, "datasets": found}, indent=2, ensure_ascii=False) + "\n"


def write(directory: Path, locked: Locked) -> Path:
    """Write the lock file of a suite's folder. Raises StorageError."""
    path = directory / FILE_NAME
    write_whole(path, text(locked))
    return path
