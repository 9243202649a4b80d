"""One attempt at a row: a program with its whole tree, from its start to the last of its processes."""

from __future__ import annotations

import fcntl
import math
import os
import select
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from pytest_gpueval.processes.program import Program
from pytest_gpueval.processes.serving import SupervisorServer
from pytest_gpueval.processes.supervisor import SETTLE_S, TERM_S

from .memory import oom_kills
from .outcome import End

# What a pipe holds, so that a program that prints much seldom waits; and what is read at a time, which stays in a core's cache until it is written.
_PIPE: Final = 1 << 20
_CHUNK: Final = 1 << 17
# A line longer than this is handed on in pieces.
_LONGEST_LINE: Final = 1 << 20
# How often somebody may ask for a stop although nothing is printed.
_LOOK_S: Final = 1.0

# Gets whole lines, and says why the program shall be stopped, or None.
Sink = Callable[[bytes], str | None]


def attempt(
    argv: Sequence[str],
    *,
    directory: Path,
    environment: Mapping[str, str],
    timeout_s: float | None,
    grace_s: float,
    sink: Sink,
    server: SupervisorServer | None = None,
) -> End:
    """Run a program to its end, and to the end of all that it started.

    Its stdin stays silent; stdout and stderr go to `sink`, which is also asked, with nothing, once a second. After `timeout_s`, or as `sink` says, it gets
    TERM, and KILL `grace_s` later with its whole tree. An exception here, such as KeyboardInterrupt, ends it so too, then goes on. Raises RuntimeFault
    if something outlives even KILL. Its supervisor is forked by `server`, or started for it.
    """
    why_not = _why_not(argv[0], directory, environment)
    if why_not is not None:
        return End(None, 0.0, why_not=why_not)
    kills, begin = oom_kills(), time.perf_counter()
    reader, writer = os.pipe()
    lines = _Lines(reader, sink)
    try:
        with suppress(OSError):  # more than this user may have; then it holds 64 KiB
            fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, _PIPE)
        try:
            program = Program(argv, output=writer, environment=environment, directory=directory, grace_s=grace_s, ask="TERM", server=server)
        finally:
            os.close(writer)
        timed_out = False
        try:
            timed_out = _watch(lines, None if timeout_s is None else begin + timeout_s)
        finally:
            if not lines.ended:
                program.ask()
                lines.drain(grace_s + TERM_S + SETTLE_S)
            program.wait(_LOOK_S)  # a signal in its last moment would end it, and hide how the program ended
            code = program.stop()
    finally:
        os.close(reader)
    asked_to = None if timed_out else lines.stop
    return End(code, time.perf_counter() - begin, timed_out_s=timeout_s if timed_out else None, asked_to=asked_to, oom_kills=oom_kills() - kills)


def _watch(lines: _Lines, limit: float | None) -> bool:
    """Until the program has ended, is to be stopped, or its time is over: then True."""
    while True:
        left_s = _LOOK_S if limit is None else min(_LOOK_S, limit - time.perf_counter())
        if left_s <= 0:
            return True
        lines.pull(left_s)
        if lines.ended or lines.stop is not None:
            return False


class _Lines:
    """A program's output, handed on in whole lines."""

    def __init__(self, reader: int, sink: Sink) -> None:
        self.ended = False
        self.stop: str | None = None
        self._reader = reader
        self._sink = sink
        self._pending = b""
        self._poller = select.poll()
        self._poller.register(reader, select.POLLIN)

    def pull(self, seconds: float) -> None:
        """What comes within so many seconds. The end comes once nobody is left who could write: the supervisor is the last."""
        chunk = os.read(self._reader, _CHUNK) if self._poller.poll(math.ceil(seconds * 1000)) else None
        self.ended = chunk == b""
        pending = self._pending + (chunk or b"")
        # A progress bar ends its lines with carriage returns only.
        cut = max(pending.rfind(b"\n"), pending.rfind(b"\r")) + 1
        if self.ended or len(pending) - cut > _LONGEST_LINE:
            cut = len(pending)
        self._pending = pending[cut:]
        sink, self._sink = self._sink, _nobody  # one that fails is not asked again: the program is to be ended, whatever else it prints
        stop = sink(pending[:cut])
        self._sink = sink
        self.stop = self.stop or stop

    def drain(self, seconds: float) -> None:
        """To the end, which is waited for so long."""
        limit = time.perf_counter() + seconds
        while not self.ended and (left_s := limit - time.perf_counter()) > 0:
            self.pull(min(left_s, _LOOK_S))


def _nobody(_lines: bytes) -> None:
    """Takes what nobody can take any more."""


def _why_not(name: str, directory: Path, environment: Mapping[str, str]) -> str | None:
    """Why a program cannot be started; None if it can. A name with a slash is relative to `directory`."""
    if not directory.is_dir():
        return f"{directory}: no such folder"
    if "/" in name:
        place = directory / name
        if not place.is_file():
            return f"{place}: no such program"
        return None if os.access(place, os.X_OK) else f"{place}: not executable (chmod +x)"
    if shutil.which(name, path=environment.get("PATH", os.defpath)) is None:
        return f"{name!r}: no such program on PATH"
    return None
