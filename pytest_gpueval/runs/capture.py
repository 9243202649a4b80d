"""stdout.log: everything a run and its children write, redacted on the way, and still shown where it would have been shown."""

from __future__ import annotations

import io
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .files import storage
from .redact import Redactor

_CHUNK = 1 << 16
# A line longer than this is cut for redaction; a secret lying across the cut is kept whole by the overlap.
_LONGEST_LINE = 1 << 20


@contextmanager
def captured(path: Path, redactor: Redactor) -> Iterator[None]:
    """Send file descriptors 1 and 2, and sys.stdout and sys.stderr, to `path` and to where they went before."""
    with storage(path):
        log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
    before = os.dup(1), os.dup(2)
    streams = sys.stdout, sys.stderr
    pumps = []
    try:
        for target, echo in ((1, before[0]), (2, before[1])):
            streams[target - 1].flush()
            reader, writer = os.pipe()
            os.dup2(writer, target)
            os.close(writer)
            pump = threading.Thread(target=_pump, args=(reader, log, echo, redactor), name=f"gpueval-log-{target}", daemon=True)
            pump.start()
            pumps.append(pump)
        sys.stdout, sys.stderr = _text(1), _text(2)
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            with suppress(ValueError, OSError):
                stream.flush()
        sys.stdout, sys.stderr = streams
        os.dup2(before[0], 1)
        os.dup2(before[1], 2)
        for pump in pumps:
            # A child that outlives the item keeps the pipe open: do not wait for it for ever.
            pump.join(timeout=2)
        for fd in (log, *before):
            _close_after(pumps, fd)


def _text(fd: int) -> io.TextIOWrapper:
    return io.TextIOWrapper(io.FileIO(fd, "w", closefd=False), encoding="utf-8", errors="backslashreplace", write_through=True, line_buffering=True)


def _close_after(pumps: list[threading.Thread], fd: int) -> None:
    """Close a descriptor unless a pump still needs it; then it lives as long as the pump's process."""
    if not any(pump.is_alive() for pump in pumps):
        os.close(fd)


def _pump(reader: int, log: int, echo: int, redactor: Redactor) -> None:
    """Copy whole lines from `reader` to `log` (redacted) and to `echo` (redacted too: it may end up in a report)."""
    pending = b""
    try:
        while chunk := os.read(reader, _CHUNK):
            pending += chunk
            cut = pending.rfind(b"\n") + 1
            if not cut and len(pending) > _LONGEST_LINE:
                cut = len(pending) - _CHUNK
            if cut:
                _emit(pending[:cut], log, echo, redactor)
                pending = pending[cut:]
        _emit(pending, log, echo, redactor)
    finally:
        os.close(reader)


def _emit(data: bytes, log: int, echo: int, redactor: Redactor) -> None:
    clean = redactor.text(data.decode("utf-8", "backslashreplace")).encode("utf-8", "backslashreplace")
    for fd in (log, echo):
        view = memoryview(clean)
        # A full disk must not stop the program that prints: its results report the same condition loudly.
        with suppress(OSError):
            while view:
                view = view[os.write(fd, view) :]
