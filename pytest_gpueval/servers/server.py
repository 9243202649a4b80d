"""One life cycle for every kind of server: start, wait until it is ready, watch, restart, stop, and say why when something fails."""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from pytest_gpueval.errors import Conflict, GpuevalError, RuntimeFault
from pytest_gpueval.processes.program import Program
from pytest_gpueval.processes.supervisor import send
from pytest_gpueval.runs.capture import LogFile
from pytest_gpueval.runs.redact import Redactor

from . import ports

_LAST_LINES = 30
_LOG_BYTES = 1 << 16
_POLL_S = 0.02
_LOG_END_S = 2.0
_PORT_TRIES = 3
_PORT_TAKEN = re.compile(r"(?i)address already in use|already in use|failed to bind|errno 98")


@dataclass(frozen=True)
class Launch:
    """One start of a server: its command, and where it will listen."""

    argv: Sequence[str]
    environment: Mapping[str, str]
    ports: Mapping[str, int]
    # Given by the user: not to be exchanged when somebody else has them.
    fixed: bool = False
    directory: Path | None = None
    # What `Kind` made for this start, and removes at its end.
    made: Sequence[Path] = field(default_factory=tuple)
    # What the program reads first; `Program` says how much it may be.
    stdin: bytes = b""


class Kind(Protocol):
    """What differs between servers."""

    @property
    def name(self) -> str:
        """What messages and the log are named for: `tritonserver`."""

    @property
    def start_s(self) -> float:
        """Seconds until it must be ready, the model's load included."""

    @property
    def stop_s(self) -> float:
        """Seconds it has to end by itself."""

    @property
    def causes(self) -> Mapping[str, str]:
        """Pattern in the log of a start that failed -> its probable cause and what to do."""

    def launch(self) -> Launch:
        """A start, with ports that are free now and whatever files it needs. Raises UsageProblem, RuntimeFault."""

    def ready(self, launch: Launch, program: Program, /) -> bool:
        """Whether it is this very start that answers, and answers well. One look, a second at most."""

    def clean(self, launch: Launch, /) -> None:
        """Remove what the start left: segments of shared memory, folders."""


class Watch(Protocol):
    """Looks at something that a server uses, before its start and after its end: whether it gave it back."""

    def before(self) -> None:
        """It is about to start."""

    def after(self, *, hurry: bool) -> Sequence[str]:
        """It has ended. What is not as it was before, in sentences; whether it will be is waited for, less patiently in a `hurry`."""


class Together:
    """One `Watch` for servers that come and go side by side: from the start of the first to the end of the last, since nobody knows which uses what."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self._running = 0
        self._lock = threading.Lock()

    def before(self) -> None:
        """As `Watch` says."""
        with self._lock:
            if not self._running:
                self._watch.before()
            self._running += 1

    def after(self, *, hurry: bool) -> Sequence[str]:
        """As `Watch` says."""
        with self._lock:
            self._running -= 1
            return [] if self._running else self._watch.after(hurry=hurry)


class Server:
    """A server that is ready from `start` to `stop`. Calls may come from several threads."""

    # In the log of a start that failed by bad luck: it is tried again.
    luckless = _PORT_TAKEN
    # Whether one that does not answer is asked to end before it is brought back; else it is killed, since it would wait for what is gone.
    asked_to_end = True

    def __init__(self, kind: Kind, log: Path, redactor: Redactor, most_restarts: int = 32, watch: Watch | None = None) -> None:
        """`most_restarts` is for some six rows that end it: each costs five with 16 requests in flight (`runtimes/suspects.py`)."""
        self.kind = kind
        self.log = log
        # Counts the starts: who found a server gone says which one.
        self.generation = 0
        self.start_s = 0.0
        # For whoever stops it: what the user should hear of. Lines, not redacted.
        self.notes: list[str] = []
        # How the last start ended that `stop` has ended.
        self.exit_code: int | None = None
        self._redactor = redactor
        self._most_restarts = most_restarts
        self._watch = watch
        self._lock = threading.RLock()
        # Set while somebody waits to stop it: a start under way is given up.
        self._unwanted = threading.Event()
        self._launch: Launch | None = None
        self._program: Program | None = None
        self._file: LogFile | None = None
        self._lost: str | None = None

    @property
    def launch(self) -> Launch:
        """The present start. Raises RuntimeFault while there is none."""
        if self._launch is None:
            raise RuntimeFault(f"{self.kind.name} was not started")
        return self._launch

    @property
    def running(self) -> bool:
        """Whether its program runs, ready or not."""
        return self._program is not None and self._program.exit_code is None

    def start(self) -> None:
        """Start, and wait until it is ready; again is harmless. Raises RuntimeFault that says why it did not, Conflict for a fixed port in use."""
        with self._lock:
            if self._program is not None:
                return
            self._lost = None
            for attempt in range(_PORT_TRIES):
                try:
                    self._start()
                except _PortTaken as taken:
                    if attempt == _PORT_TRIES - 1:
                        raise RuntimeFault(str(taken)) from None
                else:
                    return

    def stop(self, *, hurry: bool = False) -> None:
        """Stop it and all that it started, and clean up after it; again is harmless. In a `hurry` it is killed. Raises RuntimeFault if something is left.

        A start under way in another thread is given up.
        """
        with self._stopping():
            if hurry:
                self._kill()
            program, launch, file = self._program, self._launch, self._file
            self._program = self._launch = self._file = None
            try:
                if program is not None:
                    self.exit_code = program.stop()
            finally:
                if file is not None:
                    file.wait(_LOG_END_S)
                if launch is not None:
                    self.kind.clean(launch)
            if launch is not None:
                self._look_after(hurry=hurry)
                held = {name: owner for name, port in launch.ports.items() if (owner := ports.owner(port)) is not None}
                if held:
                    raise RuntimeFault(f"{self.kind.name} was stopped, but {', '.join(f'its {name} port is held by {owner}' for name, owner in held.items())}")

    @contextmanager
    def _stopping(self) -> Iterator[None]:
        """Hold the lock, which who starts it gives back soon."""
        if not self._lock.acquire(blocking=False):
            self._unwanted.set()
            self._lock.acquire()
            self._unwanted.clear()
        try:
            yield
        finally:
            self._lock.release()

    def restart(self) -> None:
        """Stop and start anew, on other ports unless they are fixed. Raises as `stop` and `start` do."""
        with self._lock:
            self.stop()
            self.start()

    def recover(self, generation: int, problem: str) -> None:
        """Restart a server that `problem` was met with, unless another caller has had that done since. Raises RuntimeFault if it cannot go on."""
        with self._lock:
            if generation != self.generation:
                return
            if self._lost is not None:  # all who wait for it need not try again one after the other
                raise RuntimeFault(self._lost)
            if self.generation > self._most_restarts:
                raise RuntimeFault(f"{self.kind.name}: restarted {self._most_restarts} times already, and again: {problem}\n{self._end_of_log()}")
            self._say(f"restarted: {problem}")
            try:
                if not self.asked_to_end:
                    self._kill()
                self.restart()
            except GpuevalError as error:
                self._lost = f"{error}\nBefore: {problem}"
                raise RuntimeFault(self._lost) from None

    def problem(self) -> str | None:
        """Why it would not answer, as far as can be seen without asking it for a prediction; None if it is ready."""
        with self._lock:
            if self._program is None or self._launch is None:
                return "it was not started"
            if self._program.exit_code is not None:
                return _ended(self._program.exit_code)
            return self._missing() if self.kind.ready(self._launch, self._program) else "it does not answer as ready"

    def _missing(self) -> str | None:
        """Which part of it is gone, though it calls itself ready."""
        return None

    def _look_after(self, *, hurry: bool) -> None:
        """Say what it has not given back. It is no error: somebody else may have taken it meanwhile."""
        if self._watch is not None:
            for words in self._watch.after(hurry=hurry):
                self._say(f"has ended; {words}")
                self.notes.append(f"{self.kind.name} has ended; {words}")

    def _kill(self) -> None:
        """End it without asking."""
        if self._program is not None:
            _kill(self._program, self.kind.stop_s)

    def _start(self) -> None:
        begin = time.monotonic()
        launch = self.kind.launch()
        try:
            for name, port in launch.ports.items() if launch.fixed else ():
                if (owner := ports.owner(port)) is not None:
                    raise Conflict(f"{self.kind.name}: the {name} port {port} is in use by {owner}.\nEnd it, or leave the port out: a free one is taken then.")
            mark = self.log.stat().st_size if self.log.exists() else 0
            file = LogFile(self.log, self._redactor)
            if self._watch is not None:
                self._watch.before()
            try:
                program = self._run(launch, file)
                try:
                    self._wait_until_ready(launch, program, file, begin, mark)
                except BaseException:
                    if self._unwanted.is_set():
                        _kill(program, self.kind.stop_s)
                    program.stop()
                    raise
            except BaseException as error:
                self._look_after(hurry=not isinstance(error, Exception))
                raise
        except BaseException:
            self.kind.clean(launch)
            raise
        self._launch, self._program, self._file = launch, program, file
        self.generation += 1
        self.start_s = round(time.monotonic() - begin, 3)

    def _run(self, launch: Launch, file: LogFile) -> Program:
        try:
            return Program(
                launch.argv,
                output=file.writer,
                environment=launch.environment,
                directory=launch.directory,
                grace_s=self.kind.stop_s,
                stdin=launch.stdin,
            )
        finally:
            file.close_writer()

    def _wait_until_ready(self, launch: Launch, program: Program, file: LogFile, begin: float, mark: int) -> None:
        """Raises RuntimeFault once it has ended, or takes too long; its words are those in the log after `mark`."""
        while not self.kind.ready(launch, program):
            if program.wait(_POLL_S):
                what = _ended(program.exit_code)
            elif self._unwanted.is_set():
                raise RuntimeFault(f"{self.kind.name} did not start: it is to be stopped")
            elif time.monotonic() - begin > self.kind.start_s:
                what = f"it is not ready after {self.kind.start_s:g} s"
            else:
                continue
            program.stop()
            file.wait(_LOG_END_S)
            text = self._said(mark)
            if not launch.fixed and self.luckless.search(text):
                raise _PortTaken(self._failure(what, text))
            raise self._not_started(what, text)

    def _not_started(self, what: str, text: str) -> GpuevalError:
        """The error of a start that failed; `text` is what it said."""
        return RuntimeFault(self._failure(what, text))

    def _failure(self, what: str, text: str) -> str:
        return f"{self.kind.name} did not start: {what}.{self._because(text)}\n{self._end_of_log(text)}"

    def _because(self, text: str) -> str:
        """The probable cause as a line to add; empty where none is known."""
        cause = next((advice for pattern, advice in self.kind.causes.items() if re.search(pattern, text)), None)
        return f"\nProbable cause: {cause}" if cause is not None else ""

    def _said(self, start: int = 0) -> str:
        """The end of the log, from `start` on."""
        with self.log.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(start, size - _LOG_BYTES))
            return file.read().decode("utf-8", "replace")

    def _end_of_log(self, text: str | None = None) -> str:
        lines = (self._said() if text is None else text).splitlines()[-_LAST_LINES:]
        return "\n".join([f"Last lines of {self.log}:", *(f"  {line}" for line in lines)]) if lines else f"It wrote nothing to {self.log}"

    def _note(self, text: str) -> None:
        """A line of ours in the log, and for the user."""
        self._say(text)
        self.notes.append(text)

    def _say(self, text: str) -> None:
        """A line of ours in the log."""
        with self.log.open("a", encoding="utf-8", errors="backslashreplace") as file:
            file.write(f"gpueval: {self.kind.name} {self._redactor.text(text)}\n")


class _PortTaken(Exception):
    """Somebody was faster, as a rule at taking a port."""


def environment_with(**variables: str) -> dict[str, str]:
    """The environment of this process with some variables changed."""
    return {**os.environ, **variables}


def _kill(program: Program, seconds: float) -> None:
    for process in program.processes():
        send(process, signal.SIGKILL)
    program.wait(seconds)


def _ended(code: int | None) -> str:
    return f"it was ended by signal {-code}" if code is not None and code < 0 else f"it ended with exit code {code}"
