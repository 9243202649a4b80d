"""What sessions left that were killed with their supervisors: found by marker and identity, never by name, and ended."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import tempfile
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from .identity import Identity, abandoned, myself, own_name
from .supervisor import Process, lives, look, pids, send

# What a supervisor writes into the environment of all that it starts.
MARKER = "GPUEVAL_SUPERVISOR"
SHARED_MEMORY = Path("/dev/shm")

# Ends the names of files that list the segments of a program of ours, which named them itself.
_LIST = ".segments"
_POLL_S = 0.02
_TERM_S = 3.0
_KILL_S = 10.0


def processes() -> list[Process]:
    """Processes of this user that live although the supervisor that vouched for them does not."""
    boot = myself().boot
    found = []
    for pid in pids():
        text = _marker(pid)
        supervisor = Identity.parse(text) if text else None
        # Of another boot: the environment of a container that was moved. It is not ours to judge.
        if supervisor is None or supervisor.boot != boot or supervisor.lives():
            continue
        process = look(pid)
        if process is not None and not process.dead:
            found.append(process)
    return found


def end() -> list[str]:
    """End those processes, remove what they and their sessions left in /dev/shm and the directory for temporary files. Says what, a line each."""
    found = processes()
    said = [f"ended process {process.pid} ({process.name}) of a session that is gone" for process in found]
    for number, patience_s in ((signal.SIGTERM, _TERM_S), (signal.SIGKILL, _KILL_S)):
        limit = time.monotonic() + patience_s
        for process in found:
            send(process, number)
        while found and time.monotonic() < limit:
            time.sleep(_POLL_S)  # they are nobody's children of ours: nothing announces their end
            found = [process for process in found if lives(process)]
    said += [f"could not end process {process.pid} ({process.name}) of a session that is gone" for process in found]
    for directory in (SHARED_MEMORY, Path(tempfile.gettempdir())):
        for path in abandoned(directory):
            with suppress(OSError):
                _remove(path)
                said.append(f"removed {path} of a session that is gone")
    return said


class Segments:
    """Segments of shared memory that a program of this process has made and named: written down, so that whoever finds us gone can remove them."""

    def __init__(self) -> None:
        self.paths: set[Path] = set()
        self._list: Path | None = None

    def add(self, paths: Iterable[Path]) -> None:
        """From now on these, too."""
        fresh = set(paths) - self.paths
        if fresh:
            self.paths |= fresh
            self._list = self._list or SHARED_MEMORY / f"{own_name()}{_LIST}"
            with suppress(OSError), self._list.open("a", encoding="utf-8") as file:  # no place for them there, then none for a list
                file.writelines(f"{path.stat().st_ino} {path.name}\n" for path in fresh if path.exists())

    def remove(self) -> None:
        """Remove them, and the list; what has gone is as it should be."""
        paths = [*self.paths, *([self._list] if self._list else [])]
        self.paths, self._list = set(), None
        for path in paths:
            with suppress(OSError):
                path.unlink()


def _remove_listed(lines: str) -> None:
    """Remove the segments of a list; not another one that has got the name since."""
    for line in lines.splitlines():
        number, _, name = line.partition(" ")
        path = SHARED_MEMORY / Path(name).name
        with suppress(OSError):
            found = path.lstat()
            if stat.S_ISREG(found.st_mode) and found.st_uid == os.getuid() and str(found.st_ino) == number:
                path.unlink()


def _remove(path: Path) -> None:
    if path.name.endswith(_LIST) and path.is_file() and not path.is_symlink():
        _remove_listed(path.read_text(encoding="utf-8", errors="replace"))
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def _marker(pid: int) -> str | None:
    """The marker in a process's environment; None where it has none, is not ours, or has ended."""
    place = Path(f"/proc/{pid}/environ")
    try:
        if place.stat().st_uid != os.getuid():
            return None
        variables = place.read_bytes().split(b"\0")
    except OSError:
        return None
    prefix = f"{MARKER}=".encode()
    return next((entry[len(prefix) :].decode("utf-8", "replace") for entry in variables if entry.startswith(prefix)), None)
