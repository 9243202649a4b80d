"""Supervisors from a server of this process, which forks them; or started by their path, where there is no such server."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Protocol, Self

from .supervisor_server import NUMBER, Files, receive, send

_PROGRAM: Final = Path(__file__).with_name("supervisor_server.py")
# What an answer takes is a fork; a server that needs longer is stopped or lost.
_PATIENCE_S: Final = 20.0
_KILLED: Final = -signal.SIGKILL
# What a program inherits, of /proc/self/status: a server has it from the moment it was started.
_INHERITED: Final = ("Umask", "Groups", "Uid", "Gid", "SigIgn", "SigBlk", "CapInh", "CapBnd", "NoNewPrivs", "Seccomp", "Cpus_allowed", "Mems_allowed")


class Started(Protocol):
    """A supervisor that was started: what subprocess.Popen has, as far as it is needed."""

    pid: int

    def poll(self) -> int | None:
        """Its exit code, minus the signal that ended it; None while it runs."""

    def wait(self, timeout: float) -> int:
        """The same, waited for. Raises subprocess.TimeoutExpired."""

    def send_signal(self, number: int, /) -> None:
        """Signal it; nobody once it has ended."""


class Served:
    """A supervisor that a server forked."""

    def __init__(self, pid: int, handle: int, told: socket.socket) -> None:
        self.pid = pid
        self._handle = handle
        self._told = told
        self._code: int | None = None

    def poll(self) -> int | None:
        """As Started says."""
        return self._ended(0)

    def wait(self, timeout: float) -> int:
        """As Started says."""
        code = self._ended(timeout)
        if code is None:
            raise subprocess.TimeoutExpired(f"supervisor {self.pid}", timeout)
        return code

    def send_signal(self, number: int) -> None:
        """As Started says. By its pidfd: whoever has its pid later gets nothing."""
        if self._code is None:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._handle, number)

    def _ended(self, seconds: float) -> int | None:
        if self._code is None:
            poller = select.poll()
            poller.register(self._handle, select.POLLIN)
            if poller.poll(max(0.0, seconds) * 1000):
                self._code = self._said()
                self.close()
        return self._code

    def _said(self) -> int:
        """Its last word; what ended without one was killed."""
        with suppress(BlockingIOError, ConnectionError):
            data = self._told.recv(NUMBER.size, socket.MSG_DONTWAIT)
            if len(data) == NUMBER.size:
                return int(NUMBER.unpack(data)[0])
        return _KILLED

    def close(self) -> None:
        """Ask and signal it no more."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1
            self._told.close()

    def __del__(self) -> None:
        self.close()


class SupervisorServer:
    """Starts supervisors through a process that is started with the first of them and forks them all. For any thread; a `with` block, or `close`, ends it.

    A supervisor that runs needs its server no more: it lives on where that is closed or killed, and then the next one starts another server.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._stream: socket.socket | None = None
        self._owner = 0
        self._inherited = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    @property
    def pid(self) -> int | None:
        """The server, if there is one."""
        return self._process.pid if self._process is not None else None

    def start(self, words: Sequence[str], *, stdin: int, output: int, environment: Mapping[str, str], directory: Path | None) -> Started | None:
        """A supervisor with these arguments; None where no server can be had, and one must be started by its path.

        Raises OSError and ValueError as subprocess.Popen does.
        """
        request = _encoded(words, environment)
        with self._lock:
            place = os.open(directory or ".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                for _ in range(2):  # the server may be gone since the last one
                    stream = self._ready()
                    if stream is None:
                        return None
                    with suppress(EOFError, ConnectionError, TimeoutError):
                        return self._forked(stream, request, Files(stdin, output, output, place, -1))
            finally:
                os.close(place)
        return None

    def _forked(self, stream: socket.socket, request: bytes, files: Files) -> Started:
        """Raises EOFError, ConnectionError, TimeoutError where the server is lost, OSError for what it answers."""
        told, theirs = socket.socketpair()
        try:
            with theirs:
                pid, received = _asked(stream, request, files._replace(told=theirs.fileno()))
            if pid > 0 and received:
                told.send(b"!")
                return Served(pid, received[0], told)
        except BaseException:
            told.close()  # should it have forked, that one ends without having begun
            self._drop()  # or its answer would be taken for that to the next request
            raise
        told.close()
        raise OSError(-pid, f"no supervisor can be started: {os.strerror(-pid)}")

    def close(self) -> None:
        """End the server; the supervisors that it forked go on."""
        with self._lock:
            self._drop()

    def _ready(self) -> socket.socket | None:
        """The connection to a server of this process and its present ways."""
        inherited = _inherited()
        if self._owner != os.getpid():  # a fork, where the server is the parent's
            self._process = None
        if self._stream is not None and (self._owner, self._inherited) != (os.getpid(), inherited):
            self._drop()
        if self._stream is None:
            self._owner, self._inherited = os.getpid(), inherited
            self._start()
        return self._stream

    def _start(self) -> None:
        if not _has_pidfds():
            return
        ours, theirs = socket.socketpair()
        with theirs:
            # Its own session: a Ctrl-C is for us. No streams of ours: it would hold them open. No preexec_fn: see Program.
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", str(_PROGRAM), str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        ours.settimeout(_PATIENCE_S)
        self._stream = ours

    def _drop(self) -> None:
        """Have no server; one that does not end by itself is killed: what it forked does not need it."""
        stream, process = self._stream, self._process
        self._stream = self._process = None
        if stream is not None:
            stream.close()
        if process is not None:
            try:
                process.wait(1.0)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _asked(stream: socket.socket, request: bytes, files: Files) -> tuple[int, list[int]]:
    """What the server answers: the supervisor's pid and its pidfd, or minus the errno why there is none. Raises EOFError, OSError where it is gone."""
    send(stream, len(request), list(files))
    stream.sendall(request)
    return receive(stream, 1)


def _encoded(words: Sequence[str], environment: Mapping[str, str]) -> bytes:
    """The request. Raises ValueError as subprocess.Popen does."""
    if any("\0" in text for text in (*words, *environment, *environment.values())):
        raise ValueError("embedded null byte")
    if any("=" in name for name in environment):
        raise ValueError("illegal environment variable name")
    return json.dumps([list(words), dict(environment)]).encode()


def _inherited() -> str:
    """What of this process a program inherits and a suite may change between two rows: a server has it from the moment it was started."""
    try:
        status = Path("/proc/self/status").read_text(encoding="utf-8", errors="replace").splitlines()
        limits = Path("/proc/self/limits").read_text(encoding="ascii")
        group = Path("/proc/self/cgroup").read_text(encoding="utf-8", errors="replace")
    except OSError:  # a sandbox that does not tell
        return ""
    ways = [line for line in status if line.partition(":")[0] in _INHERITED]
    return "\n".join([*ways, limits, group, str(os.getpriority(os.PRIO_PROCESS, 0))])


def _has_pidfds() -> bool:
    """Whether this kernel has them (5.3), and this sandbox allows them."""
    try:
        os.close(os.pidfd_open(os.getpid()))
    except (AttributeError, OSError):
        return False
    return True
