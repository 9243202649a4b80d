"""A machine that is reached through SSH."""

from __future__ import annotations

import base64
import json
import os
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from pytest_gpueval.errors import MissingExtra, StorageError, Unreachable, UsageProblem

from . import ssh_config
from .address import Ssh, parsed
from .host import NOTHING, Done

if TYPE_CHECKING:
    from .link import Link, Patience
    from .ssh_exchange import Exchange

# sshd's MaxSessions is 10; two are left to end programs whose time is over.
_SESSIONS = 8
_MOST_JUMPS = 8
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


class SshHost:
    """A machine that is reached through SSH, by one connection for all that is asked of it, made when it is first needed and again after it broke.

    ssh_config, the agent and known_hosts mean what they mean to `ssh`; a key that is not known is never accepted, whatever StrictHostKeyChecking says.
    Files travel through `cat` and `tail` there, not through SFTP: that is as fast, and all it needs is a POSIX shell with base64.
    Relative paths count from `directory`, or from the home directory there. Any number of threads may use it.
    """

    def __init__(
        self,
        name: str,
        address: Ssh,
        *,
        directory: str | None = None,
        environment: Mapping[str, str] = NOTHING,
        python: str = "python3",
        host_key: str | None = None,
        config: Path | None = None,
        patience: Patience | None = None,
    ) -> None:
        """`host_key` is the fingerprint (SHA256:...) that alone is right. `config` is read in place of the user's ssh_config. `python` runs there."""
        self.name = name
        self._address, self._directory, self._environment, self._python = address, _below("~", directory), dict(environment), python
        self._host_key, self._config, self._patience = host_key, config, patience
        self._link: Link | None = None
        self._connecting = threading.Lock()
        self._sessions = threading.BoundedSemaphore(_SESSIONS)

    def run(
        self, argv: Sequence[str], *, stdin: bytes = b"", timeout_s: float = 60.0, environment: Mapping[str, str] = NOTHING, directory: str | None = None
    ) -> Done:
        """As Host says. A program whose time is over is killed there. Raises Unreachable, AccessDenied."""
        with self._sessions, self._started(argv, timeout_s=timeout_s, environment=environment, directory=directory) as program:
            if stdin:
                threading.Thread(target=_feed, args=(program, stdin), name="gpueval ssh stdin", daemon=True).start()
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
                    while left and (data := file.read(min(left, 1 << 20))) and program.write(data):
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
        """As Host says: a relay of its own connection, and there a supervisor around the program, which ends it once the relay is gone."""
        return [sys.executable, "-P", "-m", "pytest_gpueval.hosts.relay", self.described(), "--", *argv]

    def described(self) -> str:
        """The host as one word, for another process on this machine. It holds no secrets."""
        table: dict[str, Any] = {
            "name": self.name,
            "address": str(self._address),
            "directory": self._directory,
            "environment": self._environment,
            "python": self._python,
            "host_key": self._host_key,
            "config": None if self._config is None else str(self._config.absolute()),
            "patience": None if self._patience is None else asdict(self._patience),
        }
        return base64.urlsafe_b64encode(json.dumps({key: value for key, value in table.items() if value}).encode()).decode("ascii")

    @classmethod
    def of(cls, word: str) -> Self:
        """The host that `described` told. Raises UsageProblem."""
        try:
            table = json.loads(base64.urlsafe_b64decode(word))
            address = parsed(table.pop("address"))
            config, patience = table.pop("config", None), table.pop("patience", None)
        except (ValueError, KeyError, TypeError, AttributeError):
            raise UsageProblem(f"{word[:40]!r} does not describe a host") from None
        if not isinstance(address, Ssh):
            raise UsageProblem(f"{address} is not an SSH host")
        return cls(**table, address=address, config=Path(config) if config else None, patience=_paramiko().Patience(**patience) if patience else None)

    def start(self, argv: Sequence[str], **more: Any) -> Exchange:
        """A program that is talked to while it runs: what the relay does. Raises Unreachable, AccessDenied."""
        return self._started(argv, timeout_s=None, **more)

    @property
    def python(self) -> str:
        """The interpreter there."""
        return self._python

    def close(self) -> None:
        """As Host says."""
        with self._connecting:
            link, self._link = self._link, None
        if link is not None:
            link.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _started(
        self, argv: Sequence[str], *, timeout_s: float | None, environment: Mapping[str, str] = NOTHING, directory: str | None = None, **more: Any
    ) -> Exchange:
        link = self._connected()  # first: it says how to get paramiko
        from .ssh_exchange import Exchange  # noqa: PLC0415 - an extra

        return Exchange(link, argv, timeout_s=timeout_s, environment={**self._environment, **environment}, directory=_below(self._directory, directory), **more)

    def _connected(self) -> Link:
        """The connection, made anew where it broke. Raises Unreachable, AccessDenied."""
        with self._connecting:
            if self._link is not None and self._link.alive:
                return self._link
            if self._link is not None:
                self._link.close()
                self._link = None
            self._link = self._chain(self._address, self._host_key, 0)
            return self._link

    def _chain(self, address: Ssh, host_key: str | None, depth: int) -> Link:
        """A connection, through those that ProxyJump names; each host on the way is checked like the last."""
        if depth > _MOST_JUMPS:
            raise UsageProblem(f"{self.name}: ProxyJump leads in a circle at {address}; see: ssh -G {self._address.host}")
        settings, through = ssh_config.read(address, self._config), None
        module = _paramiko()
        try:
            for jump in settings.jumps:
                place = ssh_config.jump_address(jump)
                if through is None:
                    through = self._chain(place, None, depth + 1)
                else:
                    through = module.Link(f"{self.name}, by {jump}", ssh_config.read(place, self._config), patience=self._patience, through=through)
            name = self.name if depth == 0 else f"{self.name}, by {address.host}"
            link: Link = module.Link(name, settings, host_key=host_key, patience=self._patience, through=through)
            return link
        except BaseException:
            if through is not None:
                through.close()
            raise

    def _done(self, program: Exchange, what: str, timeout_s: float) -> None:
        while program.read():
            pass
        ended = program.end()
        if ended.timed_out:
            raise Unreachable(f"{self.name}: {what}: it took longer than {timeout_s:g} s")
        if ended.code != 0:
            raise StorageError(f"{self.name}: {what}: {ended.said.strip() or f'exit code {ended.code}'}")


def _paramiko() -> Any:
    """What needs paramiko. Raises MissingExtra."""
    try:
        from . import link  # noqa: PLC0415 - an extra
    except ModuleNotFoundError as error:
        if error.name != "paramiko":
            raise
        raise MissingExtra("paramiko", needed_for="an SSH host", extra="hosts") from None
    return link


def _below(base: str, directory: str | None) -> str:
    """Where a directory is; said in full, since a profile may change the directory before anything of ours runs."""
    if directory is None or directory.startswith(("/", "~/")) or directory == "~":
        return directory or base
    return f"{base}/{directory}"


def _path(path: str) -> str:
    """Never an option of a program there."""
    return path if path.startswith("/") else f"./{path}"


def _feed(program: Exchange, data: bytes) -> None:
    program.write(data)
    program.finish_stdin()
