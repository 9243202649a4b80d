"""stdout.log: everything a run and its children write, redacted on the way, and still shown where it would have been shown."""

from __future__ import annotations

import ctypes
import io
import os
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .files import storage
from .redact import Redactor

_CHUNK = 1 << 16
# A line longer than this is written in parts; no part ends within a secret.
_LONGEST_LINE = 1 << 20
# How long to wait for the end of a pipe that has been read: a child that outlives the run holds it open.
_END_S = 0.1


@contextmanager
def captured(path: Path, redactor: Redactor) -> Iterator[None]:
    """A `Capture` of one phase."""
    capture = Capture(path, redactor)
    try:
        with capture.phase():
            yield
    finally:
        capture.close()


class Capture:
    """Sends file descriptors 1 and 2, and sys.stdout and sys.stderr, to `path` and to where they went before, phase by phase until `close`.

    What a child writes that outlives its phase goes to both as well, for as long as this process lives. Its threads live through all phases: starting
    them is what a phase would cost most.
    """

    def __init__(self, path: Path, redactor: Redactor) -> None:
        self._path = path
        self._redactor = redactor
        self._pumps: list[_Pump] = []

    @contextmanager
    def phase(self) -> Iterator[None]:
        """Capture. Raises StorageError if the log cannot be opened."""
        _open_standard_descriptors()
        if not self._pumps:
            self._open()
        streams = sys.stdout, sys.stderr
        _flush_all()
        taken: list[_Pump] = []
        try:
            for pump in self._pumps:
                pump.take()
                taken.append(pump)
            sys.stdout, sys.stderr = _text(1), _text(2)
            yield
        finally:
            _flush_all()
            sys.stdout, sys.stderr = streams
            for pump in taken:
                pump.restore()
            for pump in taken:
                pump.drain()

    def close(self) -> None:
        """Let the log go, but for what children still write."""
        end = time.monotonic() + _END_S
        pumps, self._pumps = self._pumps, []
        for pump in pumps:
            pump.close()
        for pump in pumps:
            pump.join(end)

    def _open(self) -> None:
        with storage(self._path):
            log = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        try:
            for target in (1, 2):
                self._pumps.append(_Pump(target, log, self._redactor))
        except BaseException:
            self.close()
            raise
        finally:
            os.close(log)


class _Pump:
    """Takes a descriptor over: a thread copies whole lines from it to the log and to where it led before."""

    def __init__(self, target: int, log: int, redactor: Redactor) -> None:
        self._target = target
        self._redactor = redactor
        self._before = -1
        self._sinks = (os.dup(log), os.dup(target))
        self._reader, self._writer = os.pipe()
        self._mark = b"\0end of " + uuid.uuid4().hex.encode()
        self._drained = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"gpueval-log-{target}", daemon=True)
        self._thread.start()

    def take(self) -> None:
        """Let the descriptor lead here."""
        self._drained.clear()
        self._before = os.dup(self._target)
        if self._thread.is_alive():  # else it has closed its sinks, and their numbers may be somebody else's
            os.dup2(self._target, self._sinks[1], inheritable=False)
        os.dup2(self._writer, self._target)

    def restore(self) -> None:
        """Let the descriptor lead where it led before. A mark in the pipe tells the thread that all was written."""
        with suppress(OSError):  # the thread is gone
            os.write(self._writer, self._mark)  # short enough to arrive in one piece
        os.dup2(self._before, self._target)
        os.close(self._before)

    def drain(self) -> None:
        """Return when all that was written before `restore` is in the log."""
        while self._thread.is_alive() and not self._drained.wait(1.0):
            pass

    def close(self) -> None:
        """The thread ends once no child can write any more."""
        os.close(self._writer)

    def join(self, end: float) -> None:
        """Wait for the thread, for the while that a pipe takes that nobody holds open."""
        self._thread.join(max(0.0, end - time.monotonic()))

    def _run(self) -> None:
        pending = b""
        try:
            while chunk := os.read(self._reader, _CHUNK):
                pending += chunk
                if self._mark in pending:
                    self._emit(pending.replace(self._mark, b"", 1))
                    pending = b""
                    self._drained.set()
                # A progress bar ends its lines with carriage returns only.
                cut = max(pending.rfind(b"\n"), pending.rfind(b"\r")) + 1
                if not cut and len(pending) > _LONGEST_LINE:
                    cut = self._redactor.cut(pending, len(pending) - _CHUNK)
                if cut:
                    self._emit(pending[:cut])
                    pending = pending[cut:]
            self._emit(pending)
        finally:
            self._drained.set()
            for fd in (self._reader, *self._sinks):
                os.close(fd)

    def _emit(self, data: bytes) -> None:
        clean = self._redactor.text(data.decode("utf-8", "backslashreplace")).encode("utf-8", "backslashreplace")
        for fd in self._sinks:
            view = memoryview(clean)
            # A full disk must not stop the program that prints: its results report the same condition loudly.
            with suppress(OSError):
                while view:
                    view = view[os.write(fd, view) :]


def _open_standard_descriptors() -> None:
    """A program may have been started with 1 or 2 closed; the next file to be opened would take their place."""
    for target in (0, 1, 2):
        try:
            os.fstat(target)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != target:
                os.dup2(opened, target)
                os.close(opened)


def _flush_all() -> None:
    """Empty the buffers of Python and of C, so that everything goes where it belonged when it was written."""
    for stream in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__):
        with suppress(ValueError, OSError, AttributeError):  # closed, broken, or replaced by something else
            stream.flush()  # type: ignore[union-attr]
    with suppress(OSError, ValueError, AttributeError):
        library = ctypes.CDLL(None)
        for name in ("stdout", "stderr"):
            library.fflush(ctypes.c_void_p.in_dll(library, name))


def _text(fd: int) -> io.TextIOWrapper:
    return io.TextIOWrapper(io.FileIO(fd, "w", closefd=False), encoding="utf-8", errors="backslashreplace", write_through=True, line_buffering=True)
