"""Who a process is, for longer than its pid says: pid, start time and boot; and names of files that tell whose they are."""

from __future__ import annotations

import os
import re
import secrets
from dataclasses import dataclass
from pathlib import Path

from .supervisor import identity, look

_PREFIX = "gpueval"
_NAME = re.compile(rf"{_PREFIX}\.(\d+)\.(\d+)\.(\d+)\.([0-9a-f]*)\.")


@dataclass(frozen=True, slots=True)
class Identity:
    """A process of one boot of this machine; `started` is in clock ticks since that boot (field 22 of /proc/PID/stat)."""

    pid: int
    started: int
    boot: str

    @classmethod
    def parse(cls, text: str) -> Identity | None:
        """What `str` wrote; None for anything else."""
        pid, _, rest = text.partition(":")
        started, _, boot = rest.partition(":")
        return cls(int(pid), int(started), boot) if pid.isdecimal() and started.isdecimal() else None

    def __str__(self) -> str:
        return f"{self.pid}:{self.started}:{self.boot}"

    def lives(self) -> bool:
        """Whether this very process is still there."""
        process = look(self.pid)
        return process is not None and not process.dead and process.started == self.started and myself().boot.startswith(self.boot)


def myself() -> Identity:
    """The identity of this process."""
    found = Identity.parse(identity())
    assert found is not None
    return found


def own_name() -> str:
    """A name for a file or a segment of this process, which says whose it is once the process is gone.

    Pids count within a namespace, and containers may share /tmp and /dev/shm: the namespace is part of the name.
    """
    me = myself()
    return f"{_PREFIX}.{_namespace()}.{me.pid}.{me.started}.{me.boot[:8]}.{secrets.token_hex(3)}"


def abandoned(directory: Path) -> list[Path]:
    """Files and folders of this user that a process that is gone named by `own_name`."""
    found = []
    for path in sorted(directory.glob(f"{_PREFIX}.*")):
        match = _NAME.match(path.name)
        if match is None or int(match[1]) != _namespace():
            continue
        try:
            mine = path.lstat().st_uid == os.getuid()
        except OSError:  # gone meanwhile
            continue
        if mine and not Identity(int(match[2]), int(match[3]), match[4]).lives():
            found.append(path)
    return found


def _namespace() -> int:
    try:
        return os.stat("/proc/self/ns/pid").st_ino
    except OSError:  # a sandbox that does not tell
        return 0
