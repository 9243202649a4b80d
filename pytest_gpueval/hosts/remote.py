"""What hosts behind a link have in common, whatever the link is: programs from start to end, files through `cat` and `tail`, workers through a relay."""

from __future__ import annotations

import base64
import json
import os
import sys
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self

from pytest_gpueval.errors import StorageError, Unreachable, UsageProblem

from .host import NOTHING, Done, Stdin, pieces

CHUNK = 1 << 20
# Programs at a time. sshd's MaxSessions is 10; two are left to end programs whose time is over.
_SESSIONS = 8
# How long one that is being begun may take to, once we are interrupted.
_BEGINS_S = 2.0
# What is written is beside its place until all of it is there: a link that breaks looks like the end of the file from there.
_PUT = """
place=$1 beside=$2 size=$3 mode=$4
if [ -d "$place" ]; then echo "it is a directory" >&2; exit 1; fi
mkdir -p -- "$(dirname -- "$place")" || exit 1
trap 'rm -f -- "$beside"' EXIT
trap 'exit 1' HUP INT TERM
trap '' PIPE  # nobody may be there any more to read what goes wrong
(umask 077; cat >"$beside") || exit 1
[ "$(wc -c <"$beside")" -eq "$size" ] || { echo "the file did not come whole" >&2; exit 1; }
chmod "$mode" "$beside" && mv -f -- "$beside" "$place"
"""
_GET = """
[ -e "$1" ] || { echo "there is no such file" >&2; exit 1; }
[ -f "$1" ] || { echo "it is not a regular file" >&2; exit 1; }
if [ "$2" = 0 ]; then exec cat -- "$1"; fi
exec tail -c "+$(($2 + 1))" -- "$1"
"""
# dash's own kill knows no `-KILL --`.
_KILL = 'kill -s KILL -- "-$1" 2>/dev/null || kill -s KILL "$1"'


@dataclass(frozen=True, slots=True)
class Ended:
    """How a program ended: its exit code or minus its signal; None where it could not be started or its time was over."""

    code: int | None
    said: str
    timed_out: bool = False


class Program(Protocol):
    """A program that runs there. Left before its end, by an exception, it is killed there."""

    def read(self) -> bytes:
        """What its stdout holds next, waited for; nothing at its end."""

    def write(self, data: bytes) -> bool:
        """Into its stdin. False once it does not read any more."""

    def finish_stdin(self) -> None:
        """It finds the end of its stdin."""

    def end(self) -> Ended:
        """Wait until it has ended, whose stdout has been read to its end. Raises Unreachable where nobody knows how."""

    def close(self) -> None:
        """End it there, if it has not ended, for whichever thread waits for it; again is harmless."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...


class RemoteHost(ABC):
    """A host whose link starts programs; the rest is here. Any number of threads may use it."""

    # The interpreter there.
    python: str

    def __init__(self, name: str, *, directory: str | None, environment: Mapping[str, str], python: str) -> None:
        self.name, self.python = name, python
        self._directory, self._environment = below("~", directory), dict(environment)
        self._sessions = threading.BoundedSemaphore(_SESSIONS)
        self._running: set[Program] = set()
        # How many are being begun, and whether no more are.
        self._beginning, self._begins = 0, threading.Condition()
        self._interrupted = False

    @abstractmethod
    def _begun(
        self,
        argv: Sequence[str],
        *,
        timeout_s: float | None,
        environment: Mapping[str, str],
        directory: str,
        on_stderr: Callable[[bytes], None] | None,
    ) -> Program:
        """A program that has begun there, with these variables, in this directory, said in full. Raises Unreachable, AccessDenied, UsageProblem."""

    @abstractmethod
    def _table(self) -> dict[str, Any]:
        """What another process needs to reach this host: JSON, without a secret."""

    @abstractmethod
    def close(self) -> None:
        """As Host says."""

    def run(
        self, argv: Sequence[str], *, stdin: Stdin = b"", timeout_s: float = 60.0, environment: Mapping[str, str] = NOTHING, directory: str | None = None
    ) -> Done:
        """As Host says. A program whose time is over is killed there. Raises Unreachable, AccessDenied."""
        with self._sessions, self._started(argv, timeout_s=timeout_s, environment=environment, directory=directory) as program:
            if stdin:
                threading.Thread(target=_feed, args=(program, pieces(stdin)), name="gpueval stdin", daemon=True).start()
            else:
                program.finish_stdin()
            output = bytearray()
            while data := program.read():
                output += data
            ended = program.end()
        if ended.timed_out:
            return Done(None, b"", f"{argv[0]} took longer than {timeout_s:g} s")
        return Done(ended.code, b"" if ended.code is None else bytes(output), ended.said if ended.code is not None else f"{argv[0]}: {ended.said.strip()}")

    def put(self, source: Path, target: str, *, timeout_s: float = 3600.0) -> None:
        """As Host says. Raises StorageError, Unreachable, AccessDenied."""
        try:
            with source.open("rb") as file:
                status = os.fstat(file.fileno())
                beside = f"{os.path.dirname(target) or '.'}/.{os.path.basename(target)}.{os.urandom(6).hex()}"  # noqa: PTH119, PTH120 - a path of another system
                words = [target, beside, str(status.st_size), f"{status.st_mode & 0o777:o}"]
                with self._sessions, self._started(["/bin/sh", "-c", _PUT, "put", *map(_path, words[:2]), *words[2:]], timeout_s=timeout_s) as program:
                    left = status.st_size
                    while left and (data := file.read(min(left, CHUNK))) and program.write(data):
                        left -= len(data)
                    program.finish_stdin()
                    self._done(program, f"{source} cannot be copied to {target}", timeout_s)
        except OSError as error:
            raise StorageError(f"{self.name}: {source} cannot be copied to {target}: {error.strerror or error}") from error

    def get(self, source: str, target: Path, *, offset: int = 0, timeout_s: float = 3600.0) -> int:
        """As Host says. Raises StorageError, Unreachable, AccessDenied."""
        came = 0
        try:
            with (
                target.open("ab") as file,
                self._sessions,
                self._started(["/bin/sh", "-c", _GET, "get", _path(source), str(offset)], timeout_s=timeout_s) as program,
            ):
                program.finish_stdin()
                while data := program.read():
                    file.write(data)
                    came += len(data)
                self._done(program, f"{source} cannot be copied to {target}", timeout_s)
        except OSError as error:
            raise StorageError(f"{self.name}: {source} cannot be copied to {target}: {error.strerror or error}") from error
        return came

    def worker_command(self, argv: Sequence[str]) -> list[str]:
        """As Host says: a relay with a link of its own, and there a supervisor around the program, which ends it once the relay is gone."""
        return [sys.executable, "-P", "-m", "pytest_gpueval.hosts.relay", self.described(), "--", *argv]

    def described(self) -> str:
        """The host as one word, for another process on this machine. It holds no secrets."""
        table = {"name": self.name, "directory": self._directory, "environment": self._environment, "python": self.python, **self._table()}
        return base64.urlsafe_b64encode(json.dumps({key: value for key, value in table.items() if value}).encode()).decode("ascii")

    def interrupt(self) -> None:
        """As Host says."""
        with self._begins:
            self._interrupted = True
            self._begins.wait_for(lambda: not self._beginning, _BEGINS_S)  # until it has begun nobody knows its pid
        for program in list(self._running):
            program.close()

    def start(self, argv: Sequence[str], *, on_stderr: Callable[[bytes], None]) -> AbstractContextManager[Program]:
        """A program that is talked to while it runs: what the relay does. Raises Unreachable, AccessDenied."""
        return self._started(argv, timeout_s=None, on_stderr=on_stderr)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def _started(
        self,
        argv: Sequence[str],
        *,
        timeout_s: float | None,
        environment: Mapping[str, str] = NOTHING,
        directory: str | None = None,
        on_stderr: Callable[[bytes], None] | None = None,
    ) -> Iterator[Program]:
        """The same, with the host's own variables besides; a relative directory is below the host's. Raises Unreachable where we were interrupted."""
        variables, place = {**self._environment, **environment}, below(self._directory, directory)
        self._count(1)
        try:
            program = self._begun(argv, timeout_s=timeout_s, environment=variables, directory=place, on_stderr=on_stderr)
        except BaseException:
            self._count(-1)
            raise
        with program:
            self._running.add(program)
            try:
                self._count(-1)
                if not self._interrupted:  # it may take longer to begin than `interrupt` waits
                    yield program
                if self._interrupted:
                    raise Unreachable(f"{self.name}: interrupted.")
            finally:
                self._running.discard(program)

    def _count(self, more: int) -> None:
        """So many more are being begun. Raises Unreachable once we were interrupted."""
        with self._begins:
            if self._interrupted and more > 0:
                raise Unreachable(f"{self.name}: interrupted.")
            self._beginning += more
            self._begins.notify_all()

    def _done(self, program: Program, what: str, timeout_s: float) -> None:
        while program.read():
            pass
        ended = program.end()
        if ended.timed_out:
            raise Unreachable(f"{self.name}: {what}: it took longer than {timeout_s:g} s")
        if ended.code != 0:
            raise StorageError(f"{self.name}: {what}: {ended.said.strip() or f'exit code {ended.code}'}")


def told(word: str) -> dict[str, Any]:
    """What `described` wrote; it has an address. Raises UsageProblem."""
    try:
        table = json.loads(base64.urlsafe_b64decode(word))
        if isinstance(table, dict) and isinstance(table["address"], str):
            return table
    except (ValueError, KeyError):
        pass
    raise UsageProblem(f"{word[:40]!r} does not describe a host")


def killing(pid: int) -> list[str]:
    """The command that ends a group of processes there, or its process alone where it leads none."""
    return ["/bin/sh", "-c", _KILL, "kill", str(pid)]


def below(base: str, directory: str | None) -> str:
    """Where a directory is; said in full, since a profile may change the directory before anything of ours runs."""
    if directory is None or directory.startswith(("/", "~/")) or directory == "~":
        return directory or base
    return f"{base}/{directory}"


def _path(path: str) -> str:
    """Never an option of a program there."""
    return path if path.startswith("/") else f"./{path}"


def _feed(program: Program, data: Iterable[bytes]) -> None:
    all(map(program.write, data))  # until it does not read any more
    program.finish_stdin()
