"""Segments of shared memory with a name: which there are, and who has them."""

from __future__ import annotations

from pathlib import Path

from pytest_gpueval.processes.leftovers import SHARED_MEMORY


def named() -> set[Path]:
    """All segments that have a name."""
    try:
        return set(SHARED_MEMORY.iterdir())
    except OSError:
        return set()


def mapped(pid: int) -> set[Path]:
    """Segments that a process has mapped, and that have a name still."""
    try:
        lines = Path(f"/proc/{pid}/maps").read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:  # it has ended
        return set()
    names = {line.split(maxsplit=5)[5] for line in lines if f" {SHARED_MEMORY}/" in line}
    return {Path(name) for name in names if not name.endswith(" (deleted)")}
