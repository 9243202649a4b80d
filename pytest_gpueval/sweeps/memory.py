"""Whether the kernel ends processes of this control group for want of memory."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

# Control groups of version 2 (https://docs.kernel.org/admin-guide/cgroup-v2.html, memory.events) and 1 (.../cgroup-v1/memory.html, memory.oom_control).
_ROOT = Path("/sys/fs/cgroup")


def oom_kills(root: Path = _ROOT, own: Path = Path("/proc/self/cgroup")) -> int:
    """Processes of this control group, and of those below it, that the kernel has ended so far for want of memory; 0 where it does not say."""
    for path in _places(root, own):
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except OSError:
            continue
        for line in lines:
            name, _, count = line.partition(" ")
            if name == "oom_kill" and count.strip().isdecimal():
                return int(count)
    return 0


def _places(root: Path, own: Path) -> tuple[Path, ...]:
    """Where the count may be. A container sees its group as the root."""
    try:
        return _places_of(root, own.read_text(encoding="utf-8"))
    except OSError:
        return _places_of(root, "")


@lru_cache(maxsize=16)  # a process seldom changes its group, and each of its runs asks twice
def _places_of(root: Path, text: str) -> tuple[Path, ...]:
    groups = [line.split(":", 2) for line in text.splitlines()]
    found = [root / path.strip("/") / "memory.events" for number, _, path in groups if number == "0"]
    found += [root / "memory" / path.strip("/") / "memory.oom_control" for _, kinds, path in groups if "memory" in kinds.split(",")]
    return (*found, root / "memory.events", root / "memory" / "memory.oom_control")
