"""stdout.log: everything a run and its children write, redacted on the way, and still shown where it would have been shown."""

from __future__ import annotations

import ctypes
import fcntl
import io
import os
import select
import struct
import sys
import termios
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

from .files import storage
from .redact import Redactor

_CHUNK = 1 << 16
# A line longer than this is written in parts; no part ends within a secret.
_LONGEST_LINE = 1 << 20
# How long to wait for the end of a pipe that has been read: a child that outlives the run holds it open.
_END_S = 0.1
_libc = ctypes.CDLL(None)


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

    What a child writes that outlives its phase goes to both as well, for as long as this process lives. One thread copies through all phases; at the end
    of each this one copies what is left itself, which is sooner done than waiting for the other.
    """

    def __init__(self, path: Path, redactor: Redactor) -> None:
        self._path = path
        self._redactor = redactor
        self._copier: _Copier | None = None

    @contextmanager
    def phase(self) -> Iterator[None]:
        """Capture. Raises StorageError if the log cannot be opened."""
        _open_standard_descriptors()
        if self._copier is None:
            with storage(self._path):
                log = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
            try:
                self._copier = _Copier(log, self._redactor)
            finally:
                os.close(log)
        streams = sys.stdout, sys.stderr
        _flush_all()
        try:
            self._copier.take()
            sys.stdout, sys.stderr = _text(1), _text(2)
            yield
        finally:
            _flush_all()
            sys.stdout, sys.stderr = streams
            self._copier.restore()

    def close(self) -> None:
        """Let the log go, but for what children still write."""
        copier, self._copier = self._copier, None
        if copier is not None:
            copier.close()


class _Copier:
    """Takes both descriptors over, with a thread that copies for as long as anybody can write."""

    def __init__(self, log: int, redactor: Redactor) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._pumps: list[_Pump] = []
        try:
            for target in (1, 2):
                self._pumps.append(_Pump(target, log, redactor))
        except BaseException:
            for pump in self._pumps:
                pump.close()
                pump.end()
            raise
        self._thread = threading.Thread(target=self._run, name="gpueval-log", daemon=True)
        self._thread.start()

    def take(self) -> None:
        """Let the descriptors lead here."""
        with self._lock:
            for pump in self._pumps:
                pump.take()

    def restore(self) -> None:
        """Let the descriptors lead where they led before. All that was written until now is in the log when this returns."""
        for pump in self._pumps:
            pump.restore()
        if os.getpid() == self._pid:  # else a fork, whose thread and lock stayed behind
            with self._lock:
                for pump in self._pumps:
                    pump.drain()

    def close(self) -> None:
        """The thread ends once no child can write any more."""
        for pump in self._pumps:
            pump.close()
        if os.getpid() == self._pid:
            self._thread.join(_END_S)

    def _run(self) -> None:
        poller = select.poll()
        open_pumps = {pump.reader: pump for pump in self._pumps}
        for reader in open_pumps:
            poller.register(reader, select.POLLIN)
        try:
            while open_pumps:
                for reader, _ in poller.poll():
                    with self._lock:
                        more = open_pumps[reader].pull()
                    if not more:
                        poller.unregister(reader)
                        open_pumps.pop(reader).end()
        finally:
            for pump in open_pumps.values():
                pump.end()


class LineCopier:
    """A pipe whose whole lines are copied, redacted, to some descriptors. Who writes gets `writer`; who copies calls `pull` whenever `reader` can be read."""

    def __init__(self, sinks: Sequence[int], redactor: Redactor) -> None:
        self._redactor = redactor
        self._pending = b""
        self._ended = False
        self._sinks = [os.dup(sink) for sink in sinks]
        self.reader, self.writer = os.pipe()
        os.set_blocking(self.reader, False)

    def drain(self) -> None:
        """Copy what is there now, the beginning of a line too. No more: somebody may write for ever."""
        if self._ended:
            return
        left = struct.unpack("i", fcntl.ioctl(self.reader, termios.FIONREAD, b"\0" * 4))[0]
        while left > 0 and (chunk := os.read(self.reader, min(left, _CHUNK))):
            left -= len(chunk)
            self._add(chunk)
        self._emit(self._pending)
        self._pending = b""

    def pull(self) -> bool:
        """Copy what can be read; False once nobody can write any more."""
        try:
            chunk = os.read(self.reader, _CHUNK)
        except BlockingIOError:  # `drain` has read it
            return True
        self._add(chunk)
        return chunk != b""

    def close(self) -> None:
        """Write no more from here."""
        os.close(self.writer)

    def end(self) -> None:
        """Copy no more."""
        self._ended = True
        self._emit(self._pending)
        for fd in (self.reader, *self._sinks):
            os.close(fd)

    def _add(self, chunk: bytes) -> None:
        pending = self._pending + chunk
        # A progress bar ends its lines with carriage returns only.
        cut = max(pending.rfind(b"\n"), pending.rfind(b"\r")) + 1
        if not cut and len(pending) > _LONGEST_LINE:
            cut = self._redactor.cut(pending, len(pending) - _CHUNK)
        if cut:
            self._emit(pending[:cut])
        self._pending = pending[cut:]

    def _emit(self, data: bytes) -> None:
        if not data:
            return
        clean = self._redactor.text(data.decode("utf-8", "backslashreplace")).encode("utf-8", "backslashreplace")
        for fd in self._sinks:
            view = memoryview(clean)
            # A full disk must not stop the program that prints: its results report the same condition loudly.
            with suppress(OSError):
                while view:
                    view = view[os.write(fd, view) :]


class _Pump(LineCopier):
    """Copies what one descriptor gets to the log and to where it led before."""

    def __init__(self, target: int, log: int, redactor: Redactor) -> None:
        super().__init__((log, target), redactor)
        self._target = target
        self._before: int | None = None

    def take(self) -> None:
        """Let the descriptor lead here."""
        self._before = os.dup(self._target)
        if not self._ended:  # else its sinks' numbers may be somebody else's
            os.dup2(self._target, self._sinks[1], inheritable=False)
        os.dup2(self.writer, self._target)

    def restore(self) -> None:
        """Let the descriptor lead where it led before."""
        if self._before is not None:
            os.dup2(self._before, self._target)
            os.close(self._before)
            self._before = None


class LogFile:
    """A log that another program writes: hand it `writer` as its stdout, then close that here. Lines arrive redacted, and end with the program."""

    def __init__(self, path: Path, redactor: Redactor) -> None:
        with storage(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        try:
            self._copier = LineCopier((log,), redactor)
        finally:
            os.close(log)
        self.writer = self._copier.writer
        self._thread = threading.Thread(target=self._run, name=f"gpueval-log-{path.stem}", daemon=True)
        self._thread.start()

    def close_writer(self) -> None:
        """Leave the writing to the program."""
        self._copier.close()

    def wait(self, patience_s: float) -> None:
        """Until everybody who could write has ended."""
        self._thread.join(patience_s)

    def _run(self) -> None:
        os.set_blocking(self._copier.reader, True)
        try:
            while self._copier.pull():
                pass
        finally:
            self._copier.end()


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


@cache
def _c_streams() -> list[ctypes.c_void_p]:
    """C's own stdout and stderr, where its library tells. Not fflush(NULL): that waits for whoever reads another stream."""
    found = []
    for name in ("stdout", "stderr"):
        with suppress(ValueError):
            found.append(ctypes.c_void_p.in_dll(_libc, name))
    return found


def _flush_all() -> None:
    """Empty the buffers of Python and of C, so that everything goes where it belonged when it was written."""
    for stream in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__):
        with suppress(ValueError, OSError, AttributeError):  # closed, broken, or replaced by something else
            stream.flush()  # type: ignore[union-attr]
    for stream in _c_streams():
        _libc.fflush(stream)


def _text(fd: int) -> io.TextIOWrapper:
    return io.TextIOWrapper(io.FileIO(fd, "w", closefd=False), encoding="utf-8", errors="backslashreplace", write_through=True, line_buffering=True)
