"""Whether what used a GPU has given its memory back."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from pytest_gpueval.errors import RuntimeFault
from pytest_gpueval.processes.supervisor import look

from . import nvml
from .nvml import Reading

# What a driver may keep for a while, or round.
SLACK_MIB = 64
# Until a driver has taken back what a process had that has ended; less where the user waits for everything to end.
PATIENCE_S = 10.0
_HURRY_S = 2.0
_POLL_S = 0.1


class MemoryWatch:
    """Compares the memory that is in use on GPUs before a program starts there, and after it has ended; without GPUs there is nothing to compare."""

    def __init__(self, uuids: Sequence[str], patience_s: float = PATIENCE_S) -> None:
        self._uuids = tuple(uuids)
        self._patience_s = patience_s
        self._before: dict[str, Reading] = {}
        self._unread: str | None = None

    def before(self) -> None:
        """Read them. A driver that does not answer is told of afterwards: it does not keep the program from starting."""
        self._before, self._unread = {}, None
        try:
            self._before = nvml.readings(self._uuids) if self._uuids else {}
        except RuntimeFault as fault:
            self._unread = str(fault)

    def after(self, *, hurry: bool = False) -> list[str]:
        """Wait until they are back at what they were. Returns a sentence for each that is not, or for why it cannot be told; less patient in a `hurry`."""
        if self._unread is not None:
            return [f"whether it gave its GPU memory back cannot be told: {self._unread}"]
        if not self._before:
            return []
        begin = time.monotonic()
        try:
            left = self._wait(begin + min(self._patience_s, _HURRY_S if hurry else self._patience_s))
        except RuntimeFault as fault:
            return [f"whether it gave its GPU memory back cannot be told: {fault}"]
        waited = time.monotonic() - begin
        return [
            f"{waited:.0f} s later GPU {uuid} has {mib:,} MiB more in use than before, by no process that the driver shows; "
            "`gpueval gpus` says who uses it. Perhaps this very process does."
            for uuid, mib in left.items()
        ]

    def _wait(self, deadline: float) -> dict[str, int]:
        """What is too much on each GPU, once nothing is or the deadline has come. Raises RuntimeFault."""
        with nvml.session() as library:
            while True:
                now = nvml.read(library, self._uuids)
                left = {uuid: surplus_mib(reading, now[uuid], _lives) for uuid, reading in self._before.items()}
                left = {uuid: mib for uuid, mib in left.items() if mib > SLACK_MIB}
                if not left or time.monotonic() >= deadline:
                    return left
                time.sleep(_POLL_S)  # a driver tells nobody when memory becomes free


def surplus_mib(before: Reading, after: Reading, lives: Callable[[int], bool]) -> int:
    """MiB in use after, less those before, less what other processes took meanwhile; 0 where the driver does not tell.

    Others are those that were there before, and new ones that live. A dead one is the program's own, which the driver still lists; so may be one of another
    container, whose pid says nothing here: then it is too much rather than too little.
    """
    if before.memory_used_mib is None or after.memory_used_mib is None:
        return 0
    there = {process.pid for process in before.processes or ()}
    others = sum(process.memory_mib or 0 for process in after.processes or () if process.pid in there or lives(process.pid))
    return after.memory_used_mib - before.memory_used_mib - (others - sum(process.memory_mib or 0 for process in before.processes or ()))


def _lives(pid: int) -> bool:
    process = look(pid)
    return process is not None and not process.dead
