"""The machine we are on."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path


def run(argv: Sequence[str], cwd: Path, timeout_s: float = 30) -> str | None:
    """The standard output of a program, or None if it is not there, failed or took too long."""
    try:
        done = subprocess.run(argv, cwd=cwd, capture_output=True, check=False, timeout=timeout_s)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.decode("utf-8", "replace") if done.returncode == 0 else None
