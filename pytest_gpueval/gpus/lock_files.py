"""Lock files that all users of a host share: where they lie, how they are opened and locked.

The directory is open to everybody, so what lies in it is trusted for nothing but its locks: no links are followed, only regular files with one name are opened.
The standard library alone, Python 3.8: what is sent to bare hosts leases GPUs with it, too.
"""

from __future__ import annotations

import fcntl
import os
import pwd
import socket
import stat
import time
from collections.abc import Mapping
from typing import Any

LEASE_DIRECTORY = "GPUEVAL_LEASE_DIR"
_OPEN_LOCK = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
_LONGEST_RECORD = 4096
_LOCK_TRIES = 20


def lease_directory(environment: Mapping[str, str] = os.environ) -> str:
    """One directory for all users of a host: GPUEVAL_LEASE_DIR, else below /run/lock, else below /tmp.

    Containers that share GPUs must share it too: mount one directory and name it.
    """
    named = environment.get(LEASE_DIRECTORY)
    if named:
        return named
    open_to_all = stat.S_ISVTX | stat.S_IWOTH
    try:
        usable = os.stat("/run/lock").st_mode & open_to_all == open_to_all
    except OSError:
        usable = False
    return os.path.join("/run/lock" if usable else "/tmp", "pytest-gpueval")  # noqa: S108 - shared on purpose, see above


def lock_name(uuid: str, kind: str) -> str:
    """The file of a GPU or MIG instance; `kind` is lease or workers. Old drivers' MIG instances have slashes."""
    return f"{uuid.replace('/', '_')}.{kind}"


def prepare_directory(directory: str) -> None:
    """Make the directory if it is not there, for everybody. Raises OSError."""
    os.makedirs(os.path.dirname(os.path.abspath(directory)), exist_ok=True)
    try:
        os.mkdir(directory)
    except FileExistsError:
        pass
    else:
        os.chmod(directory, 0o1777)  # noqa: S103 - for everybody; mkdir obeys the umask
    if not stat.S_ISDIR(os.lstat(directory).st_mode):
        raise NotADirectoryError(0, "it is not a directory")


def open_lock(path: str) -> int:
    """A descriptor of the lock file, made if it is not there. Raises OSError.

    Where fs.protected_regular is set, the kernel refuses to open somebody else's file in such a directory with O_CREAT, whatever its
    mode: so O_CREAT comes only with O_EXCL, after the file was found absent.
    """
    refused = OSError(0, "it keeps being made and removed")
    for _ in range(_LOCK_TRIES):
        try:
            return _checked(os.open(path, _OPEN_LOCK))
        except FileNotFoundError:
            try:
                descriptor = os.open(path, _OPEN_LOCK | os.O_CREAT | os.O_EXCL, 0o666)
            except FileExistsError:  # somebody else was faster
                continue
            os.fchmod(descriptor, 0o666)
            return descriptor
        except PermissionError as error:
            refused = error
            time.sleep(0.01)  # its maker may be between open and fchmod
    raise refused


def _checked(descriptor: int) -> int:
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
        os.close(descriptor)
        raise OSError(0, "it is not a plain file with one name")
    return descriptor


def take_lock(path: str, *, exclusive: bool) -> int | None:
    """Take the lock and return its descriptor, or None if it is held otherwise. Never blocks. Raises OSError.

    The lock ends with the last process that has the descriptor: exec closes it (CLOEXEC), a fork without exec shares it.
    """
    for _ in range(_LOCK_TRIES):
        descriptor = open_lock(path)
        try:
            fcntl.flock(descriptor, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        except OSError:
            os.close(descriptor)
            raise
        if _is_still(path, descriptor):
            return descriptor
        os.close(descriptor)
    raise OSError(0, "it keeps being replaced")


def _is_still(path: str, descriptor: int) -> bool:
    """Whether the path names the file that is open: a cleaner of old files may have come between."""
    try:
        return os.path.samestat(os.lstat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def lock_signature(session: str) -> dict[str, Any]:
    """What this process says of itself in a lock that it holds."""
    try:
        user = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # containers run under numbers
        user = str(os.getuid())
    at = time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime())
    return {"pid": os.getpid(), "user": user, "session": session, "started_at": at, "host": socket.gethostname()}


def write_record(descriptor: int, record: bytes) -> None:
    """Say who holds the lock. Raises OSError."""
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, record, 0)


def held_record(path: str) -> bytes | None:
    """What who holds the lock exclusively says of itself; None if nobody does, or there is no such file. Never blocks, makes no file."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return os.pread(descriptor, _LONGEST_RECORD, 0)
    except OSError:
        return None
    finally:
        os.close(descriptor)
    return None


def unusable(path: str, error: OSError) -> str:
    """What to tell whoever needs a lock that cannot be had."""
    return (
        f"{path}: cannot be used for leases of GPUs: {error.strerror or error}.\n"
        f"Have it repaired or removed by its owner, or let all sessions of this host name another directory with {LEASE_DIRECTORY}."
    )
