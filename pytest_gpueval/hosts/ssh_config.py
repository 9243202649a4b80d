"""What ssh_config says of a host: asked of `ssh` itself, so that Include, Match and tokens mean what they mean to it."""

from __future__ import annotations

import fnmatch
import getpass
import os
import re
import shlex
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pytest_gpueval.errors import UsageProblem

from . import local
from .address import Ssh

SYSTEM = Path("/etc/ssh/ssh_config")
_ASK_S = 20.0
_HOST_LINE = re.compile(r"\s*(host|include)(?:\s*=\s*|\s+)(.*)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Settings:
    """How to reach a host and who to be there. Paths are absolute; commands have their tokens in place."""

    host: str
    port: int
    user: str
    identities: tuple[Path, ...] = ()
    # Keys of the agent count only where they are among `identities`.
    identities_only: bool = False
    known_hosts: tuple[Path, ...] = ()
    # The name that known_hosts has it under, where that is not the host's.
    alias: str | None = None
    jumps: tuple[str, ...] = ()
    proxy_command: str | None = None


def user_file() -> Path:
    """The user's own ssh_config."""
    return Path.home() / ".ssh" / "config"


def read(address: Ssh, file: Path | None = None) -> Settings:
    """What holds for an address. `file` is read instead of the user's and the system's. Raises UsageProblem for a file that ssh refuses."""
    if file is not None and not file.is_file():
        raise UsageProblem(f"{file}: there is no such ssh_config")
    if shutil.which("ssh"):
        done = local.call(question(address, file), Path.cwd(), _ASK_S)
        if done.code != 0:
            raise UsageProblem(f"{address}: ssh does not understand its configuration: {done.said.strip() or 'it says nothing'}")
        values = answer(done.output.decode("utf-8", "surrogateescape"))
    else:
        values = _by_paramiko(address, file)
    return settings(address, values, Path.home(), os.environ)


def question(address: Ssh, file: Path | None) -> list[str]:
    """The command that prints what ssh would do."""
    argv = ["ssh", "-G"]
    argv += ["-F", str(file)] if file is not None else []
    argv += ["-l", address.user] if address.user else []
    argv += ["-p", str(address.port)] if address.port is not None else []
    return [*argv, "--", address.host]


def answer(text: str) -> dict[str, list[str]]:
    """Keyword -> what its lines say."""
    values: dict[str, list[str]] = {}
    for line in text.splitlines():
        key, _, value = line.partition(" ")
        values.setdefault(key.lower(), []).append(value)
    return values


def settings(address: Ssh, values: Mapping[str, list[str]], home: Path, environment: Mapping[str, str]) -> Settings:
    """Keywords as settings. What is given in the address goes first."""

    def one(key: str) -> str | None:
        value = (values.get(key) or [""])[0]
        return None if value in {"", "none"} else value

    host, user = one("hostname") or address.host, address.user or one("user") or getpass.getuser()
    port = address.port or int(one("port") or 22)
    tokens = {"%": "%", "d": str(home), "h": host, "n": address.host, "p": str(port), "r": user, "u": getpass.getuser()}

    def paths(key: str, *, several: bool) -> tuple[Path, ...]:
        # ssh prints a list of files without quotes around what holds a space.
        found = [word for line in values.get(key, ()) for word in (re.split(r"\s+(?=[/~])", line) if several else [line]) if word != "none"]
        return tuple(dict.fromkeys(Path(_path(_tokens(word, tokens), home, environment)) for word in found))

    known = paths("userknownhostsfile", several=True) or (home / ".ssh" / "known_hosts",)
    jump, command = one("proxyjump"), one("proxycommand")
    return Settings(
        host=host,
        port=port,
        user=user,
        identities=paths("identityfile", several=False),
        identities_only=(one("identitiesonly") or "no") in {"yes", "true"},
        known_hosts=(*known, *paths("globalknownhostsfile", several=True)),
        alias=one("hostkeyalias"),
        jumps=tuple(part.strip() for part in jump.split(",")) if jump else (),
        proxy_command=_tokens(command, tokens) if command and not jump else None,
    )


def jump_address(text: str) -> Ssh:
    """A part of ProxyJump: [user@]host[:port] or ssh://..."""
    user, at, place = text.removeprefix("ssh://").rpartition("@")
    found = re.fullmatch(r"\[(.*)\](?::(\d+))?", place) or re.fullmatch(r"(.*?)(?::(\d+))?", place, re.DOTALL)
    host, port = found.groups() if found else (place, None)
    return Ssh(host, user if at else None, int(port) if port else None)


def names(file: Path | None = None) -> list[str]:
    """The names and patterns that ssh_config has, but for those that match everything."""
    files = [file] if file is not None else [user_file(), SYSTEM]
    return list(dict.fromkeys(name for path in files for name in _hosts(path, 0)))


def is_named(name: str, patterns: Iterable[str]) -> bool:
    """Whether a name is one of ssh_config's."""
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def _hosts(path: Path, depth: int) -> Iterator[str]:
    try:
        text = path.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:  # ssh itself goes on without a file that it cannot read
        return
    for found in map(_HOST_LINE.match, text.splitlines()):
        if found is None:
            continue
        words = _split(found[2])
        if found[1].lower() == "host":
            yield from (word for word in words if not word.startswith("!") and word.strip("*?"))
        elif depth < 16:  # as ssh
            base = SYSTEM.parent if path.is_relative_to(SYSTEM.parent) else Path.home() / ".ssh"
            for word in words:
                pattern = Path(word).expanduser()
                for included in sorted(Path("/").glob(str((pattern if pattern.is_absolute() else base / pattern).relative_to("/")))):
                    yield from _hosts(included, depth + 1)


def _split(line: str) -> list[str]:
    try:
        return shlex.split(line, posix=True)
    except ValueError:  # a quote that does not end
        return line.split()


def _tokens(text: str, tokens: Mapping[str, str]) -> str:
    """Put in what %h and its like stand for; what is not known stays."""
    return re.sub("%(.)", lambda found: tokens.get(found[1], found[0]), text)


def _path(text: str, home: Path, environment: Mapping[str, str]) -> str:
    text = re.sub(r"\$\{([^}]*)\}", lambda found: environment.get(found[1], found[0]), text)
    return str(home / text[2:]) if text.startswith("~/") else text


def _by_paramiko(address: Ssh, file: Path | None) -> dict[str, list[str]]:
    """Without an ssh: paramiko's reading, which knows no Include."""
    from paramiko import SSHConfig  # noqa: PLC0415 - an extra

    path = file or user_file()
    if not path.is_file():
        return {}
    found: Mapping[str, str | list[str]] = SSHConfig.from_path(str(path)).lookup(address.host)
    return {key: value if isinstance(value, list) else [value] for key, value in found.items()}
