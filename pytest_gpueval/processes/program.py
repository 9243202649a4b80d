"""A program that runs beside us under a supervisor: whatever happens to us, nothing of it is left."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from pytest_gpueval.errors import RuntimeFault

from .command import WORDS, supervised
from .serving import Started, SupervisorServer
from .supervisor import SETTLE_S, TERM_S, Process, descendants, look, pids

# What a pipe takes at once: 16 pages (man 7 pipe).
MOST_STDIN = 1 << 16
# The supervisor's own words: something could not be ended.
_NOT_ENDED = 70


class Program:
    """Started at once. It ends with `stop`, by itself, or with this process, also by SIGKILL: the supervisor's stdin then hangs up."""

    def __init__(
        self,
        argv: Sequence[str],
        *,
        output: int,
        environment: Mapping[str, str],
        directory: Path | None = None,
        grace_s: float = 8.0,
        stdin: bytes = b"",
        ask: str = "INT",
        server: SupervisorServer | None = None,
    ) -> None:
        """Start `argv`; `output` gets its stdout and stderr. The request to end is the signal `ask`; `grace_s` later come TERM and KILL.

        It reads `stdin` first, and never meets its end: up to MOST_STDIN bytes, which the pipe holds, so that nobody waits for a program that does not read.
        Raises ValueError for more. The supervisor is forked by `server` where there is one, which takes a millisecond, else an interpreter is started for it.
        """
        if len(stdin) > MOST_STDIN:
            raise ValueError(f"{len(stdin)} bytes of stdin; at most {MOST_STDIN}")
        self._grace_s = grace_s
        command = supervised(argv, grace_s=grace_s, at_once=True, ask=ask)
        reader, writer = os.pipe()
        self._stdin = open(writer, "wb", buffering=0)
        try:
            started = server.start(command[WORDS:], stdin=reader, output=output, environment=environment, directory=directory) if server is not None else None
            # No preexec_fn: a fork in a process that uses gRPC can abort the child.
            self._supervisor: Started = started or subprocess.Popen(command, stdin=reader, stdout=output, stderr=output, cwd=directory, env=dict(environment))
        except BaseException:
            self._stdin.close()
            raise
        finally:
            os.close(reader)
        if stdin:
            with suppress(BrokenPipeError):  # it has ended already, which `exit_code` says
                self._stdin.write(stdin)

    @property
    def exit_code(self) -> int | None:
        """None while it runs; minus the signal that ended it."""
        return self._supervisor.poll()

    def wait(self, seconds: float) -> bool:
        """Whether it has ended, which is waited for so long."""
        try:
            self._supervisor.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def processes(self) -> list[Process]:
        """The program and all that it started, as far as they live."""
        if self._supervisor.poll() is not None:  # its pid may be somebody else's
            return []
        return descendants([process for process in map(look, pids()) if process is not None], self._supervisor.pid)

    def ask(self) -> None:
        """Ask it to end, and wait for nothing. Again shortens its grace."""
        if self._supervisor.poll() is None:
            self._supervisor.send_signal(signal.SIGTERM)

    def stop(self) -> int:
        """End it and all that it started; again is harmless. Returns its exit code. Raises RuntimeFault if something outlived even SIGKILL."""
        if self._supervisor.poll() is None:
            self._supervisor.send_signal(signal.SIGTERM)
        try:
            code = self._supervisor.wait(self._grace_s + TERM_S + SETTLE_S + 5)
        except subprocess.TimeoutExpired:
            raise RuntimeFault(f"the supervisor {self._supervisor.pid} does not end") from None
        finally:
            self._stdin.close()
        if code == _NOT_ENDED:
            raise RuntimeFault("a process could not be ended, not even by SIGKILL; the end of the server's log names it")
        return code
