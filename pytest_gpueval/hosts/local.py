"""The machine we are on."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self

from pytest_gpueval.errors import StorageError, Unreachable

from .host import NOTHING, Done, Stdin, pieces


def call(argv: Sequence[str], cwd: Path, timeout_s: float = 30, *, stdin: bytes = b"", environment: Mapping[str, str] = NOTHING) -> Done:
    """Run a program to its end."""
    try:
        done = subprocess.run(argv, cwd=cwd, input=stdin, capture_output=True, check=False, timeout=timeout_s, env=os.environ | environment)  # noqa: S603 - an argv list
    except OSError as error:
        return _not_started(argv, error)
    except subprocess.TimeoutExpired:
        return Done(None, b"", f"{argv[0]} took longer than {timeout_s:g} s")
    return Done(done.returncode, done.stdout, done.stderr.decode("utf-8", "replace"))


def _not_started(argv: Sequence[str], error: OSError) -> Done:
    return Done(None, b"", f"{error.filename or argv[0]}: {error.strerror or error}")  # the directory's name, where it is the one that is missing


def run(argv: Sequence[str], cwd: Path, timeout_s: float = 30) -> str | None:
    """The standard output of a program, or None if it is not there, failed or took too long."""
    done = call(argv, cwd, timeout_s)
    return done.output.decode("utf-8", "replace") if done.code == 0 else None


class Lines:
    """The lines that a program writes, as they come; it is ended when it is left, or its time is over."""

    def __init__(self, argv: Sequence[str], *, timeout_s: float) -> None:
        """Start it. Raises OSError."""
        self._process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)  # noqa: S603 - an argv list
        self._timer = threading.Timer(timeout_s, self._process.kill)
        self._timer.daemon = True
        self._timer.start()

    def __iter__(self) -> Iterator[bytes]:
        assert self._process.stdout is not None  # noqa: S101 - it was asked for
        return iter(self._process.stdout)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
        self._process.kill()
        self._process.communicate()


def _kill(process: subprocess.Popen[bytes]) -> None:
    """All of its group, if it has not been waited for: whose pid that is afterwards nobody knows."""
    with suppress(ProcessLookupError):
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)


def _end(process: subprocess.Popen[bytes]) -> None:
    _kill(process)
    for stream in (process.stdin, process.stdout, process.stderr):
        with suppress(OSError):
            if stream is not None:
                stream.close()
    process.wait()


class LocalHost:
    """The machine we are on, as a host among others. Relative paths count from `directory`, or from where we are."""

    def __init__(self, name: str = "local", *, directory: str | None = None, environment: Mapping[str, str] = NOTHING) -> None:
        self.name = name
        self._directory = Path(directory).expanduser() if directory else Path.cwd()
        self._environment = dict(environment)
        self._running: set[subprocess.Popen[bytes]] = set()
        self._interrupted = False

    def run(
        self, argv: Sequence[str], *, stdin: Stdin = b"", timeout_s: float = 60.0, environment: Mapping[str, str] = NOTHING, directory: str | None = None
    ) -> Done:
        """As Host says. A program has a group of its own, all of which ends where its time is over, or we are interrupted."""
        place = self._directory / (Path(directory).expanduser() if directory else "")
        variables, pipe = {**os.environ, **self._environment, **environment}, subprocess.PIPE
        self._check()
        try:
            process = subprocess.Popen(argv, cwd=place, env=variables, stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True)  # noqa: S603 - an argv list
        except OSError as error:
            return _not_started(argv, error)
        self._running.add(process)
        try:
            self._check()
            output, said = process.communicate(b"".join(pieces(stdin)), timeout_s)
            self._check()
        except subprocess.TimeoutExpired:
            return Done(None, b"", f"{argv[0]} took longer than {timeout_s:g} s")
        finally:
            _end(process)
            self._running.discard(process)
        return Done(process.returncode, output, said.decode("utf-8", "replace"))

    def _check(self) -> None:
        if self._interrupted:
            raise Unreachable(f"{self.name}: interrupted.")

    def put(self, source: Path, target: str, *, timeout_s: float = 3600.0) -> None:  # noqa: ARG002 - a copy on one machine waits for nobody
        """As Host says. Raises StorageError."""
        place = self._directory / target
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=place.parent, prefix=f".{place.name}.") as beside:
                Path(shutil.copy(source, Path(beside) / "whole")).replace(place)
        except OSError as error:
            raise StorageError(f"{self.name}: {source} cannot be copied to {target}: {error.strerror or error}") from error

    def get(self, source: str, target: Path, *, offset: int = 0, timeout_s: float = 3600.0) -> int:  # noqa: ARG002 - the same
        """As Host says. Raises StorageError."""
        place = self._directory / source
        try:
            if place.exists() and not place.is_file():  # to open a pipe would wait for a writer
                raise StorageError(f"{self.name}: {source} cannot be copied to {target}: it is not a regular file")
            with place.open("rb") as there, target.open("ab") as here:
                before = here.tell()
                there.seek(offset)
                shutil.copyfileobj(there, here, 1 << 20)
                return here.tell() - before
        except OSError as error:
            raise StorageError(f"{self.name}: {source} cannot be copied to {target}: {error.strerror or error}") from error

    def worker_command(self, argv: Sequence[str]) -> list[str]:
        """As Host says: itself."""
        return list(argv)

    def interrupt(self) -> None:
        """As Host says."""
        self._interrupted = True
        for process in list(self._running):
            _kill(process)

    def close(self) -> None:
        """As Host says."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
