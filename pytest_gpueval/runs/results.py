"""results.jsonl: one line a sample, each on its way to disk before the next is computed, continued after the last whole line."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Collection, Iterator, Mapping
from itertools import islice
from pathlib import Path
from types import NoneType
from typing import Any

import orjson

from pytest_gpueval.errors import Conflict, ModelFault

from .files import storage, write_all
from .redact import Redactor

_READ_BYTES = 1 << 20


class ResultsWriter:
    """Appends lines. A line is handed to the operating system whole, so that a killed process leaves at most one torn line."""

    def __init__(self, path: Path, redactor: Redactor, public: Collection[str] = ()) -> None:
        self._path = path
        self._redactor = redactor
        self._public = frozenset(public)
        self._pid = os.getpid()
        with storage(path):
            self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)

    def write(self, record: dict[str, Any]) -> None:
        """Append one record. Raises StorageError, RuntimeFault for what JSON cannot hold."""
        if os.getpid() != self._pid:  # a fork of the model that came back here: it must not write what its parent writes
            os._exit(1)
        write_all(self._fd, self._redactor.line(encode(record), self._public) + b"\n", self._path)

    def close(self) -> None:
        """Flush to disk and close. Raises StorageError."""
        try:
            with storage(self._path):
                os.fsync(self._fd)
        finally:
            os.close(self._fd)


def encode(record: Mapping[str, Any]) -> bytes:
    """One compact JSON line without its newline. Text that is not valid Unicode (lone surrogates) is escaped.

    NaN and infinities would become null, which says that a value has no meaning: they are refused, and so is what JSON cannot hold.
    Raises RuntimeFault naming the place.
    """
    try:
        line = orjson.dumps(record, option=orjson.OPT_SERIALIZE_NUMPY)
    except TypeError:
        _require_json(record, record.get("id"), "")
        line = json.dumps(record, separators=(",", ":"), default=_plain).encode()
    else:
        if b"null" in line:
            _require_json(record, record.get("id"), "")
    return line


def _plain(value: Any) -> Any:
    """A numpy array or scalar as Python's own."""
    return value.tolist()


def _require_json(value: Any, name: Any, key: str) -> None:
    """Raise RuntimeFault for a value at `key` that JSON cannot hold."""
    if hasattr(value, "tolist") and hasattr(value, "dtype"):
        value = value.tolist()
    if isinstance(value, dict):
        for part, item in value.items():
            _require_json(item, name, f"{key}.{part}" if key else str(part))
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            _require_json(item, name, f"{key}[{index}]")
    elif isinstance(value, float) and not math.isfinite(value):
        raise ModelFault(f"the result of {name!r} is {value} at {key}.\nA result is a finite number, or None where it has no meaning.")
    elif not isinstance(value, (str, int, float, NoneType)):
        raise ModelFault(f"the result of {name!r} holds a {type(value).__name__} at {key}, which JSON cannot hold.")


def drop_torn_tail(path: Path) -> None:
    """Cut a file after its last newline; a file that is not there has no tail. Raises StorageError."""
    if not path.exists():
        return
    with storage(path), path.open("rb+") as file:
        end = file.seek(0, os.SEEK_END)
        while end > 0:
            begin = max(0, end - _READ_BYTES)
            file.seek(begin)
            found = file.read(end - begin).rfind(b"\n")
            if found >= 0:
                end = begin + found + 1
                break
            end = begin
        file.truncate(end)


def count(path: Path) -> int:
    """The whole lines of a file."""
    with path.open("rb") as file:
        return sum(block.count(b"\n") for block in iter(lambda: file.read(_READ_BYTES), b""))


def read(path: Path, skip: int = 0) -> Iterator[dict[str, Any]]:
    """The records of a results file, but for the first `skip`. Raises Conflict for a line that is not a record."""
    with path.open("rb") as file:
        for number, line in enumerate(islice(file, skip, None), skip + 1):
            try:
                record = decode(line)
            except (ValueError, RecursionError):
                raise Conflict(_not_ours(path, number)) from None
            if not isinstance(record, dict) or "id" not in record:
                raise Conflict(_not_ours(path, number))
            yield record


def decode(line: bytes) -> Any:
    """What `encode` wrote. Raises ValueError."""
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError:
        return json.loads(line)  # knows lone surrogates


def _not_ours(path: Path, number: int) -> str:
    return f"{path}:{number}: not a result line; the run cannot be continued.\nStart it anew with --gpueval-force (the file is backed up first)."
