"""Lock files that all users of a host share, and who wrote in them.

The directory is open to everybody, so what lies in it is trusted for nothing but its locks: no links are followed, only regular files with one
name are opened, and an owner's record is text to be shown.
"""

from __future__ import annotations

import fcntl
import json
import os
import pwd
import socket
import stat
import time
import unicodedata
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from pytest_gpueval.errors import StorageError

_VARIABLE = "GPUEVAL_LEASE_DIR"
_OPEN = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
_LONGEST_RECORD = 4096
_LONGEST_FIELD = 200
_TRIES = 20


@dataclass(frozen=True, slots=True)
class Owner:
    """Who says that a lock is theirs. `parent` is the GPU of a leased MIG instance."""

    pid: int | None = None
    user: str | None = None
    session: str | None = None
    started_at: str | None = None
    host: str | None = None
    parent: str | None = None

    def __str__(self) -> str:
        parts = [f"pid {self.pid}" if self.pid is not None else "an unknown process"]
        parts += [f"{word} {value}" for word, value in (("user", self.user), ("session", self.session), ("since", self.started_at)) if value]
        if self.host and self.host != socket.gethostname():
            parts.append(f"on {self.host}")
        return ", ".join(parts)


def myself(session: str, parent: str | None = None) -> Owner:
    """The record of this process."""
    try:
        user = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # containers run under numbers
        user = str(os.getuid())
    return Owner(os.getpid(), user, session, datetime.now(UTC).isoformat(timespec="seconds"), socket.gethostname(), parent)


def parsed(raw: bytes) -> Owner:
    """An owner from what somebody wrote; fields that make no sense are None."""
    try:
        told = json.loads(raw.decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return Owner()
    if not isinstance(told, dict):
        return Owner()
    pid = told.get("pid")
    texts = {key: _plain(told.get(key)) for key in ("user", "session", "started_at", "host", "parent")}
    return Owner(pid=pid if type(pid) is int and 0 < pid < 1 << 32 else None, **texts)


def _plain(value: object) -> str | None:
    """Text that cannot steer a terminal or fill a screen."""
    if not isinstance(value, str):
        return None
    kept = "".join(character for character in value[:_LONGEST_FIELD] if unicodedata.category(character)[0] not in "CZ" or character == " ")
    return kept.strip() or None


def default_directory(environment: Mapping[str, str] = os.environ) -> Path:
    """One directory for all users of a host: GPUEVAL_LEASE_DIR, else below /run/lock, else below /tmp.

    Containers that share GPUs must share it too: mount one directory and name it.
    """
    if environment.get(_VARIABLE):
        return Path(environment[_VARIABLE])
    run_lock = Path("/run/lock")
    open_to_all = stat.S_ISVTX | stat.S_IWOTH
    try:
        usable = run_lock.stat().st_mode & open_to_all == open_to_all
    except OSError:
        usable = False
    return (run_lock if usable else Path("/tmp")) / "pytest-gpueval"


def prepare(directory: Path) -> None:
    """Make the directory if it is not there, for everybody. Raises StorageError."""
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        try:
            directory.mkdir()
        except FileExistsError:
            pass
        else:
            directory.chmod(0o1777)  # mkdir obeys the umask
        if not stat.S_ISDIR(directory.lstat().st_mode):
            raise NotADirectoryError(0, "it is not a directory")
    except OSError as error:
        raise _unusable(directory, error) from None


def open_file(path: Path) -> int:
    """A descriptor of the lock file, made if it is not there. Raises StorageError.

    Where fs.protected_regular is set, the kernel refuses to open somebody else's file in such a directory with O_CREAT, whatever its
    mode: so O_CREAT comes only with O_EXCL, after the file was found absent.
    """
    try:
        for _ in range(_TRIES):
            try:
                return _checked(os.open(path, _OPEN))
            except FileNotFoundError:
                try:
                    descriptor = os.open(path, _OPEN | os.O_CREAT | os.O_EXCL, 0o666)
                except FileExistsError:  # somebody else was faster
                    continue
                os.fchmod(descriptor, 0o666)
                return descriptor
            except PermissionError as error:
                refused = error
                time.sleep(0.01)  # its maker may be between open and fchmod
        raise refused
    except OSError as error:
        raise _unusable(path, error) from None


def _checked(descriptor: int) -> int:
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
        os.close(descriptor)
        raise OSError(0, "it is not a plain file with one name")
    return descriptor


def lock(path: Path, *, exclusive: bool) -> int | None:
    """Take the lock and return its descriptor, or None if it is held otherwise. Never blocks. Raises StorageError.

    The lock ends with the last process that has the descriptor: exec closes it (CLOEXEC), a fork without exec shares it.
    """
    for _ in range(_TRIES):
        descriptor = open_file(path)
        try:
            fcntl.flock(descriptor, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        except OSError as error:
            os.close(descriptor)
            raise _unusable(path, error) from None
        if _is_still(path, descriptor):
            return descriptor
        os.close(descriptor)
    raise _unusable(path, OSError(0, "it keeps being replaced"))


def _is_still(path: Path, descriptor: int) -> bool:
    """Whether the path names the file that is open: a cleaner of old files may have come between."""
    try:
        return os.path.samestat(path.lstat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def write(descriptor: int, owner: Owner) -> None:
    """Put the owner's record into the file. Raises OSError."""
    record = json.dumps(asdict(owner)).encode()
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, record, 0)


def held(path: Path) -> Owner | None:
    """The record of who holds the lock exclusively; None if nobody does, or there is no such file. Never blocks, makes no file."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return parsed(os.pread(descriptor, _LONGEST_RECORD, 0))
    except OSError:
        return None
    finally:
        os.close(descriptor)
    return None


def _unusable(path: Path, error: OSError) -> StorageError:
    return StorageError(
        f"{path}: cannot be used for leases of GPUs: {error.strerror or error}.\n"
        f"Have it repaired or removed by its owner, or let all sessions of this host name another directory with {_VARIABLE}."
    )
