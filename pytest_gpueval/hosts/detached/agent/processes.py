"""Who lives on this host, whose they are, and how they end."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from typing import Any, Callable, Iterator

MARKER = "GPUEVAL_DETACHED"
POLL_S = 0.02
LOOKS = 4
SETTLE_S = 20.0  # until what was killed must be gone


class Refused(Exception):
    """The request cannot be done; `kind` is usage, conflict, missing, storage or fault."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


def step(name: str) -> None:
    """Where tests cut the work off."""


class Process:
    """One /proc/PID/stat. `started`, in clock ticks since boot, tells a process from a later one that got the same pid."""

    __slots__ = ("dead", "parent", "pid", "session", "started")

    def __init__(self, pid: int, stat: bytes) -> None:
        fields = stat.rpartition(b") ")[2].split()
        self.pid, self.parent, self.session, self.started = pid, int(fields[1]), int(fields[3]), int(fields[19])
        self.dead = fields[0] in (b"Z", b"X") and int(fields[17]) <= 1

    @property
    def identity(self) -> tuple[int, int]:
        """What no other process since boot has had."""
        return self.pid, self.started


def look(pid: int) -> Process | None:
    """The process as it is now, or None."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return Process(pid, file.read(4096))
    except OSError:
        return None


def boot() -> str:
    """Which boot of the machine this is; empty where a sandbox does not tell."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""


def identity(pid: int) -> dict[str, Any]:
    """Who a process is: pid, start and boot. Raises Refused."""
    found = look(pid)
    if found is None:
        raise Refused("fault", "/proc is not there; runs cannot be followed without it")
    return {"pid": pid, "started": found.started, "boot": boot()}


def started_of(who: dict[str, Any] | None) -> int | None:
    """The start of whoever has this pid now; None if nobody lives who has."""
    found = look(who["pid"]) if who else None
    return None if found is None or found.dead else found.started


def lives(who: dict[str, Any] | None) -> bool:
    """Whether this very process is there."""
    return who is not None and who["boot"] == boot() and started_of(who) == who["started"]


def mark_of(pid: int) -> str | None:
    """The marker in a process's environment; None where it has none or is not ours to read."""
    prefix = f"{MARKER}=".encode()
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return next((entry[len(prefix) :].decode("ascii", "replace") for entry in file.read().split(b"\0") if entry.startswith(prefix)), None)
    except OSError:
        return None


def everyone() -> Iterator[Process]:
    """Every process, alive or dead, one after the other."""
    return filter(None, map(look, (int(name) for name in os.listdir("/proc") if name.isdecimal())))


def marks() -> dict[int, tuple[Process, str | None]]:
    """Every process that lives, with its marker."""
    return {process.pid: (process, mark_of(process.pid)) for process in everyone() if not process.dead}


def family(nonce: str, runner: dict[str, Any] | None, spare: set[tuple[int, int]]) -> list[Process]:
    """Who belongs to a run: all with its marker, and all that descend from them or from its runner, unless they have another run's marker."""
    return family_in(marks(), nonce, runner, spare)


def family_in(table: dict[int, tuple[Process, str | None]], nonce: str, runner: dict[str, Any] | None, spare: set[tuple[int, int]]) -> list[Process]:
    """The same, of a look at every process."""
    found = [pid for pid, (_, mark) in table.items() if mark == nonce]
    if lives(runner) and runner is not None and runner["pid"] not in found:
        found.append(runner["pid"])
    if not found:
        return []
    children: dict[int, list[int]] = {}
    for process, _ in table.values():
        children.setdefault(process.parent, []).append(process.pid)
    known = set(found)
    for pid in found:  # grows while we walk: what has cleared its environment is found by its parents
        fresh = [child for child in children.get(pid, []) if child not in known and table[child][1] is None]
        known.update(fresh)
        found += fresh
    around = {pid for pid, _ in spare if runner is None or pid != runner["pid"]}
    living = [table[pid][0] for pid in found if pid in table and pid != os.getpid() and table[pid][0].identity not in spare]
    # What tmux runs in its panes has sessions of its own; who is in tmux's writes for it, for a moment, who is logged in (utempter).
    return [process for process in living if process.parent not in around or process.parent not in table or process.session != table[process.parent][0].session]


def children() -> list[int]:
    """The pids of this process's own children: at once where the kernel lists them, else by a look at everybody."""
    me = os.getpid()
    try:
        with open(f"/proc/{me}/task/{me}/children", "rb") as file:
            return [int(word) for word in file.read().split()]
    except OSError:
        return [process.pid for process in everyone() if process.parent == me]


def send(process: Process, number: int) -> None:
    """Signal this very process; nobody if it has ended, whoever has its pid now."""
    handle = -1
    try:
        if hasattr(os, "pidfd_open") and hasattr(signal, "pidfd_send_signal"):
            with contextlib.suppress(OSError):  # a kernel or sandbox without it
                handle = os.pidfd_open(process.pid)
        now = look(process.pid)
        if now is not None and now.identity == process.identity:
            if handle >= 0:
                signal.pidfd_send_signal(handle, number)
            else:
                os.kill(process.pid, number)
    except OSError:
        return  # ended between two lines, or not ours: what is left is said at the end
    finally:
        if handle >= 0:
            os.close(handle)


def end(find: Callable[[], list[Process]], grace_s: float, wait: Callable[[float], None]) -> tuple[int, int, list[int]]:
    """TERM, grace, then STOP and KILL until nobody is found. Returns how many were asked, how many killed, and pids that outlived it."""

    def look_again() -> list[Process]:
        # A look is not one moment: who is forked during one, by somebody who ends, is met by the next.
        return next(filter(None, (find() for _ in range(LOOKS))), [])

    asked: set[tuple[int, int]] = set()
    killed: set[tuple[int, int]] = set()
    limit = time.monotonic() + grace_s
    living = look_again()
    while living and time.monotonic() < limit:
        for process in living:
            if process.identity not in asked:
                asked.add(process.identity)
                send(process, signal.SIGTERM)
                send(process, signal.SIGCONT)  # what is stopped would not hear it
        wait(POLL_S)
        living = look_again()
    limit = time.monotonic() + SETTLE_S
    while living and time.monotonic() < limit:
        held: set[tuple[int, int]] = set()
        while any(process.identity not in held for process in living) and time.monotonic() < limit:  # the stopped start nobody
            for process in living:
                held.add(process.identity)
                send(process, signal.SIGSTOP)
            living = look_again()
        for process in living:
            killed.add(process.identity)
            send(process, signal.SIGKILL)
        wait(POLL_S)
        living = look_again()
    return len(asked), len(killed), [process.pid for process in living]


def prctl(option: int, value: int) -> None:
    """Ask the kernel; without ctypes the marker alone has to do."""
    with contextlib.suppress(ImportError, OSError):
        import ctypes  # noqa: PLC0415 - some interpreters come without it

        ctypes.CDLL(None).prctl(option, ctypes.c_ulong(value), ctypes.c_ulong(0), ctypes.c_ulong(0), ctypes.c_ulong(0))
