"""One program in a pod, from its start to its end, through a `kubectl exec` of its own."""

from __future__ import annotations

import base64
import os
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from typing import IO, Self

from pytest_gpueval.errors import GpuevalError, UsageProblem

from . import local, shell
from .host import NOTHING, Done
from .remote import CHUNK, Ended, killing

# Reads the script from stdin, a line of base64, to its newline and no further: the rest is the program's.
_LOADER = 'IFS= read -r s && eval "$(printf %s "$s" | base64 -d)"'
# To end a program that is not wanted any more; Ctrl-C waits for it.
_KILL_S = 5.0
# How long kubectl, killed, may take to be gone.
_GONE_S = 10.0


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds to wait for a program to begin: the API server, the kubelet and the container's runtime have their part in that."""

    connect_s: float = 60.0


@dataclass(frozen=True, slots=True)
class Lost:
    """A kubectl that ended without saying how the program did: what it said, and whether the program had begun; `silent` where nothing came in time."""

    done: Done
    begun: bool
    silent: bool = False


class Exchange:
    """A program that runs in a pod. Left before its end, by an exception, it is killed there.

    kubectl's own exit code and words look like the program's. So a shell there says in-band that the program has begun, and how it ended; where its last word
    is missing, the link broke. kubectl gives a silent link up after a minute by itself.
    """

    def __init__(
        self,
        command: Sequence[str],
        argv: Sequence[str],
        *,
        explain: Callable[[Lost], GpuevalError],
        patience: Patience,
        environment: Mapping[str, str] = NOTHING,
        directory: str | None = None,
        timeout_s: float | None = None,
        on_stderr: Callable[[bytes], None] | None = None,
    ) -> None:
        """Start it, by `command`, a `kubectl exec ... --`, and wait until it has begun. `explain` makes the error of a link that broke, which is raised."""
        self._command, self._explain, self._on_stderr = list(command), explain, on_stderr
        mark = token_hex(16)
        text = shell.reporting(argv, mark=mark, environment=environment, directory=directory)
        self._mark, self._report, self._said = mark, shell.Report(mark), bytearray()
        self._begun: shell.Begun | None = None
        self._first = self._seen = b""
        self._timed_out = self._silent = self._ended = False
        self._writing = threading.Lock()
        try:
            self._process = subprocess.Popen(  # noqa: S603 - an argv list
                [*command, "/bin/sh", "-c", _LOADER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0, start_new_session=True
            )
        except OSError as error:
            raise UsageProblem(f"kubectl cannot be started: {error.strerror or error}") from None
        self._reader = threading.Thread(target=self._read_stderr, name="gpueval kubectl stderr", daemon=True)
        self._reader.start()
        limit_s = min(patience.connect_s, timeout_s if timeout_s is not None else patience.connect_s)
        self._timers = [threading.Timer(limit_s, self._not_begun, args=(limit_s == timeout_s,))]
        if timeout_s is not None:
            self._timers.append(threading.Timer(timeout_s, self._time_is_over))
        for timer in self._timers:
            timer.daemon = True
            timer.start()
        try:
            self._start(base64.b64encode(text.encode("utf-8", "surrogateescape")) + b"\n")
        except Exception:
            self.close()
            raise
        except BaseException:  # Ctrl-C: what has begun there would go on, and we may not know yet which process it is
            self._timers.append(threading.Timer(_KILL_S, self._process.kill))
            self._timers[-1].daemon = True
            self._timers[-1].start()
            self._until_begun()
            self.close()
            raise

    def _start(self, line: bytes) -> None:
        self.write(line)
        self._until_begun()
        if self._begun is not None:
            self._timers[0].cancel()
            self._first = self._begun.output
        elif not self._timed_out:
            raise self._lost()

    def _until_begun(self) -> None:
        while self._begun is None and (data := self._received()):
            self._seen += data
            self._begun = shell.begun(self._seen, self._mark)

    def read(self) -> bytes:
        """What its stdout holds next, waited for; nothing at its end."""
        first, self._first = self._first, b""
        return first or self._received()

    def _received(self) -> bytes:
        return os.read(_pipe(self._process.stdout).fileno(), CHUNK)

    def write(self, data: bytes) -> bool:
        """Into its stdin. False once it does not read any more."""
        view = memoryview(data)
        try:
            with self._writing:
                while view:
                    view = view[os.write(_pipe(self._process.stdin).fileno(), view) :]
        except (OSError, ValueError):  # kubectl has ended; or it was closed here
            return False
        return True

    def finish_stdin(self) -> None:
        """It finds the end of its stdin."""
        with suppress(OSError), self._writing:
            _pipe(self._process.stdin).close()

    def end(self) -> Ended:
        """Wait until it has ended, whose stdout has been read to its end. Raises what `explain` makes, Unreachable, where nobody knows how."""
        self._reader.join()
        if self._timed_out:
            return Ended(None, "", timed_out=True)
        if self._report.code is None:
            raise self._lost()
        self._ended = True
        return Ended(None if self._report.failed else shell.code_of(self._report.code), bytes(self._said).decode("utf-8", "replace"))

    def _lost(self) -> GpuevalError:
        self._reader.join()
        code = self._process.wait()
        talk = (self._report.talk + bytes(self._said[-2000:])).decode("utf-8", "replace")
        return self._explain(Lost(Done(code, b"", talk), self._begun is not None or self._report.begun, self._silent))

    def _read_stderr(self) -> None:
        file = _pipe(self._process.stderr).fileno()
        while data := os.read(file, CHUNK):
            self._tell(self._report.feed(data))
        self._tell(self._report.end())

    def _tell(self, data: bytes) -> None:
        if self._on_stderr is None or self._report.failed:
            self._said += data
        elif data:
            self._on_stderr(data)

    def _not_begun(self, as_its_time: bool) -> None:  # noqa: FBT001 - a timer's argument
        if self._begun is None and not as_its_time:
            self._silent = True
            self._process.kill()

    def _time_is_over(self) -> None:
        self._timed_out = True
        self._kill()
        self._process.kill()

    def _kill(self) -> None:
        """The program there would outlive kubectl. The shell around it leads its group, as what a container's runtime starts does."""
        if self._begun is not None:
            local.call([*self._command, *killing(self._begun.pid)], Path.cwd(), _KILL_S)

    def close(self) -> None:
        """End kubectl; what still runs there is killed."""
        for timer in self._timers:
            timer.cancel()
        if not self._ended and not self._timed_out and self._process.poll() is None:
            self._kill()
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait(_GONE_S)
        self._reader.join(_GONE_S)
        self.finish_stdin()
        for pipe in (self._process.stdout, self._process.stderr):
            _pipe(pipe).close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    assert pipe is not None  # noqa: S101 - all three were asked for
    return pipe
