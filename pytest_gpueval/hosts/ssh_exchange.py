"""One program on the other side of an SSH connection, from its start to its end."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from secrets import token_hex
from typing import Self

from pytest_gpueval.errors import AccessDenied

from . import shell
from .host import NOTHING
from .link import BROKEN, Link
from .remote import CHUNK, Ended, killing

# To end a program that is not wanted any more; Ctrl-C waits for it.
_KILL_S = 5.0
# What is kept of a profile's talk, to quote it where the program never began.
_MOST_TALK = 1 << 16


class Exchange:
    """A program that runs there. Left before its end, by an exception, it is killed there.

    Two things wake whoever waits here: the connection's watch, where the link is dead, and a timer of our own, where the time is over.
    """

    def __init__(
        self,
        link: Link,
        argv: Sequence[str],
        *,
        environment: Mapping[str, str] = NOTHING,
        directory: str | None = None,
        timeout_s: float | None = None,
        open_s: float | None = None,
        on_stderr: Callable[[bytes], None] | None = None,
    ) -> None:
        """Start it, and wait until it has begun; its session is open within `open_s`. `on_stderr` gets what it says as it comes, else it is kept for `end`.

        Raises Unreachable, AccessDenied.
        """
        self._link, self._mark, self._on_stderr = link, token_hex(16), on_stderr
        line = shell.command(shell.script(argv, mark=self._mark, environment=environment, directory=directory))
        self._said = bytearray()
        self._begun: shell.Begun | None = None
        self._first = self._seen = b""
        self._timed_out = self._ended = self._torn = False
        self._timer = threading.Timer(timeout_s, self._time_is_over) if timeout_s is not None else None
        self._channel = link.channel(open_s)
        self._reader = threading.Thread(target=self._read_stderr, name="gpueval ssh stderr", daemon=True)
        if self._timer is not None:
            self._timer.daemon = True
            self._timer.start()
        try:
            self._start(line)
        except Exception:
            self.close()
            raise
        except BaseException:  # Ctrl-C: what has begun there would go on, and we may not know yet which process it is
            with suppress(*BROKEN):
                self._channel.settimeout(_KILL_S)
                self._until_begun()
            self.close()
            raise

    def _start(self, line: str) -> None:
        try:
            self._channel.exec_command(line)
        except BROKEN as error:
            if self._timed_out:
                return
            raise self._link.broken(error) from None
        self._reader.start()
        self._until_begun()
        if self._begun is not None:
            self._first = self._begun.output
            return
        if not self._timed_out:
            self._wait()
        if self._timed_out:
            return
        talk = " ".join((self._seen[-2000:] + bytes(self._said[-2000:])).decode("utf-8", "replace").split())
        raise AccessDenied(f"{self._link.name}: the account's login shell does not run /bin/sh. It said: {talk[:500] or 'nothing'}")

    def _until_begun(self) -> None:
        while self._begun is None and (data := self._received(self._channel.recv)):
            # Chatter ends with a newline or not, the mark may come in two parts: look at all of it, within reason.
            self._seen = (self._seen + data)[-_MOST_TALK - CHUNK :]
            self._begun = shell.begun(self._seen, self._mark)

    def read(self) -> bytes:
        """What its stdout holds next, waited for; nothing at its end."""
        first, self._first = self._first, b""
        return first or self._received(self._channel.recv)

    def _received(self, receive: Callable[[int], bytes]) -> bytes:
        """What comes next. paramiko confirms what it hands out, and what it cannot confirm is lost: from then on nothing comes, so that nothing has a gap."""
        if self._torn:
            return b""
        try:
            return receive(CHUNK)
        except BROKEN as error:
            self._torn = True
            self._link.give_up(error)
            return b""

    def write(self, data: bytes) -> bool:
        """Into its stdin. False once it does not read any more."""
        try:
            self._channel.sendall(data)
        except BROKEN:
            return False
        return True

    def finish_stdin(self) -> None:
        """It finds the end of its stdin."""
        with suppress(*BROKEN):  # its end says what there is to say
            self._channel.shutdown_write()

    def end(self) -> Ended:
        """Wait until it has ended, whose stdout has been read to its end. Raises Unreachable where nobody knows how."""
        code = None if self._timed_out else self._wait()
        if self._timed_out:
            return self._over()
        self._ended = True
        said, started = shell.said(bytes(self._said), self._mark)
        return Ended(code if started else None, said)

    def _wait(self) -> int | None:
        self._channel.status_event.wait()
        if self._reader.is_alive():
            self._reader.join()
        if self._timed_out:
            return None
        whole = self._channel.eof_received or getattr(self._channel, "gpueval_closed", False)
        if self._torn or not whole:  # an exit code may overtake output: what comes after it is lost with the link
            raise self._link.broken()
        code: int = self._channel.exit_status
        if code >= 0:
            return code
        name = getattr(self._channel, "gpueval_signal", None)
        if name is None:  # paramiko's -1: no exit code came
            why = EOFError("the server ended the session, and nobody knows how the program ended") if self._link.alive else None
            raise self._link.broken(why)
        try:
            return -signal.Signals[f"SIG{name}"]
        except KeyError:
            return None

    def _over(self) -> Ended:
        if self._timer is not None:
            self._timer.join()
        return Ended(None, "", timed_out=True)

    def _time_is_over(self) -> None:
        self._timed_out = True
        self._kill()
        self._close_channel()

    def _close_channel(self) -> None:
        with suppress(*BROKEN):  # it was closed by what broke
            self._channel.close()

    def _kill(self) -> None:
        """The program there would outlive its channel. Its process id is its group's: the login shell has become it."""
        if self._begun is None or not self._link.alive:
            return
        with suppress(Exception), Exchange(self._link, killing(self._begun.pid), timeout_s=_KILL_S, open_s=_KILL_S) as ending:
            ending.read()
            ending.end()

    def _read_stderr(self) -> None:
        begun = False
        while data := self._received(self._channel.recv_stderr):
            if self._on_stderr is None or not begun:
                self._said += data
            if self._on_stderr is not None:
                if not begun:
                    _, found, data = bytes(self._said).partition(self._mark.encode() + b"\n")
                    begun = bool(found)
                failed = data.endswith(self._mark.encode() + b"!")
                if failed:
                    self._said += data
                    data = data[: -len(self._mark) - 1]
                if begun and data:
                    self._on_stderr(data)

    def close(self) -> None:
        """Give the channel back; what still runs there is killed."""
        if self._timer is not None:
            self._timer.cancel()
        if not self._ended and not self._timed_out and not self._channel.exit_status_ready():
            self._kill()
        self._close_channel()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
