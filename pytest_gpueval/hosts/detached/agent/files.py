"""What a run has on disk."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import re
import stat
import time
from typing import Any, Iterator

from .processes import POLL_S, Refused, lives

STATE = ".gpueval"
RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
RUN_ID_WORDS = "use letters, digits, '.', '_' and '-', at most 64, a letter or digit first"
ATTEMPT = re.compile(r"attempt-(\d+)")
LOCK_S = 20.0
TAIL = 1 << 18


def read_json(path: str) -> Any:
    """What the file holds; None where there is none. Raises Refused."""
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValueError as error:
        raise Refused("storage", f"{path} is damaged: {error}") from None


def write_text(path: str, text: str, *, once: bool = False, mode: int = 0o644) -> bool:
    """Write a whole file, on disk before we return. With `once` only where there is none yet: False if there is."""
    beside = f"{path}.{os.getpid()}.tmp"
    with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "w", encoding="utf-8", errors="surrogateescape") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    if not once:
        os.replace(beside, path)
        return True
    try:
        os.link(beside, path)
        return True
    except FileExistsError:
        return False
    finally:
        os.unlink(beside)


def write_json(path: str, value: Any, *, once: bool = False) -> bool:
    """As write_text."""
    return write_text(path, json.dumps(value, indent=1) + "\n", once=once)


def back_up(path: str) -> None:
    """Move a file aside, to a name that nothing has."""
    stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
    for number in range(10_000):
        target = f"{path}.bak-{stamp}" + (f"-{number}" if number else "")
        try:
            os.link(path, target)
        except FileExistsError:
            continue
        except FileNotFoundError:
            return
        os.unlink(path)
        return


@contextlib.contextmanager
def alone(path: str, what: str, limit_s: float) -> Iterator[int]:
    """Hold a lock; whoever inherits its descriptor holds it too. Raises Refused, with `what` goes on, where another holds it longer than that."""
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    limit = time.monotonic() + limit_s
    try:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > limit:
                    raise Refused("conflict", f"{what}; it has not ended for {limit_s:g} s. Try again") from None
                time.sleep(POLL_S)
        yield lock
    finally:
        os.close(lock)


class Run:
    """The directory of a run. Raises Refused for a name that is none."""

    def __init__(self, root: str, run_id: str) -> None:
        if not RUN_ID.fullmatch(run_id):
            raise Refused("usage", f"run id {run_id!r}: {RUN_ID_WORDS}")
        self.id = run_id
        self.directory = os.path.join(root, run_id)
        self.state = os.path.join(self.directory, STATE)
        self.log = os.path.join(self.directory, "stdout.log")

    def claim(self) -> dict[str, Any] | None:
        """What was submitted last."""
        found: dict[str, Any] | None = read_json(os.path.join(self.state, "claim.json"))
        return found

    def place(self, claim: dict[str, Any], name: str = "", attempt: int = 1) -> str:
        """A file of this submission, or of a later attempt of it, which has a folder of its own."""
        return os.path.join(self.state, claim["nonce"], *([f"attempt-{attempt}"] if attempt > 1 else []), name)

    def attempt(self, claim: dict[str, Any]) -> int:
        """Which attempt has a runner, or had one last: Slurm may put a job back into its queue. From 1 on."""
        if "slurm" not in claim["request"]:
            return 1
        try:
            numbers = [int(found[1]) for found in map(ATTEMPT.fullmatch, os.listdir(self.place(claim))) if found]
        except FileNotFoundError:
            return 1
        return max([number for number in numbers if os.path.exists(self.place(claim, "runner.json", number))], default=1)

    def part(self, claim: dict[str, Any], name: str) -> dict[str, Any] | None:
        """A record of this submission: job or stop; runner, started or exit of its last attempt."""
        found: dict[str, Any] | None = read_json(self.place(claim, f"{name}.json", 1 if name in ("job", "stop") else self.attempt(claim)))
        return found

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Alone with this run. Raises Refused."""
        with alone(os.path.join(self.state, "lock"), f"{self.id}: somebody else submits or stops it right now", LOCK_S):
            yield

    def spare(self, claim: dict[str, Any]) -> set[tuple[int, int]]:
        """The runner that lives and the tmux server around it: they end by themselves once the rest has, and say how it was."""
        runner = self.part(claim, "runner")
        around = (runner or {}).get("around")
        return {(who["pid"], who["started"]) for who in (runner, around) if who is not None and lives(who)}


def size_of(path: str) -> int:
    """Bytes of a file, 0 where there is none."""
    try:
        return os.stat(path).st_size
    except OSError:
        return 0


def read_bytes(path: str, offset: int, most: int) -> bytes:
    """A piece of a regular file; nothing where there is none. Whatever else a command made of it, a pipe for one, holds nobody up."""
    try:
        opened = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENXIO, errno.ELOOP):
            return b""
        raise
    try:
        return os.pread(opened, most, offset) if stat.S_ISREG(os.fstat(opened).st_mode) else b""
    finally:
        os.close(opened)


def tail_offset(path: str, lines: int) -> int:
    """Where the last lines of a file begin, at most TAIL bytes before its end."""
    size = size_of(path)
    begin = max(0, size - TAIL)
    data = read_bytes(path, begin, TAIL)
    at = len(data) - (1 if data.endswith(b"\n") else 0)
    for _ in range(lines):
        at = data.rfind(b"\n", 0, max(at, 0))
        if at < 0:
            return begin
    return begin + at + 1


def named(message: dict[str, Any]) -> tuple[Run, dict[str, Any]]:
    """The run that a request names. Raises Refused."""
    run = Run(message["root"], message["run_id"])
    claim = run.claim()
    if claim is None:
        raise Refused("missing", run.id)
    return run, claim


def placed(message: dict[str, Any]) -> tuple[Run, dict[str, Any] | None]:
    """The same, where the run may be `foreign`: a directory below ROOT of which somebody else knows how the run is. Raises Refused."""
    if not message.get("foreign"):
        return named(message)
    run = Run(message["root"], message["run_id"])
    if os.path.islink(run.directory) or not os.path.isdir(run.directory):
        raise Refused("missing", run.id)
    return run, None
