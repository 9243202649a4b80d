"""A control group of the kernel with little memory, where this machine lets us make one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_ROOT = Path("/sys/fs/cgroup")


def _own() -> Path | None:
    """The group of this process that rules its memory, of version 1 or 2; None where there is none."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        number, kinds, path = line.split(":", 2)
        place = _ROOT / "memory" / path.strip("/") if "memory" in kinds.split(",") else _ROOT / path.strip("/")
        if (place / "memory.limit_in_bytes").exists() or (number == "0" and "memory" in _words(place / "cgroup.subtree_control")):
            return place
    return None


def _words(file: Path) -> list[str]:
    return file.read_text().split() if file.exists() else []


def possible() -> bool:
    """Whether `group` can make one: that needs root, and a container that lets it."""
    own = _own()
    if own is None or os.geteuid() != 0:
        return False
    place = own / f"gpueval-try-{os.getpid()}"
    try:
        place.mkdir()
    except OSError:
        return False
    place.rmdir()
    return True


@contextmanager
def group(name: str, mib: int) -> Iterator[Path]:
    """A group of so much memory and no swap. Who writes its pid into its `cgroup.procs` is in it; all have to be gone at the end."""
    own = _own()
    assert own is not None
    place = own / name
    place.mkdir()
    try:
        if (place / "memory.limit_in_bytes").exists():
            (place / "memory.limit_in_bytes").write_text(str(mib << 20))
            with suppress(OSError):  # some kernels know no swappiness of a group's own
                (place / "memory.swappiness").write_text("0")
        else:
            (place / "memory.max").write_text(str(mib << 20))
            (place / "memory.swap.max").write_text("0")
        yield place
    finally:
        place.rmdir()
