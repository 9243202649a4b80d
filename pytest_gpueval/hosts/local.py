"""The machine we are on."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Done:
    """How a program ended: its exit code, None where it could not be started or took too long; what it wrote, and what it said on stderr."""

    code: int | None
    output: bytes
    said: str


def call(argv: Sequence[str], cwd: Path, timeout_s: float = 30) -> Done:
    """Run a program to its end."""
    try:
        done = subprocess.run(argv, cwd=cwd, capture_output=True, check=False, timeout=timeout_s)  # noqa: S603 - an argv list
    except OSError as error:
        return Done(None, b"", f"{argv[0]}: {error.strerror or error}")
    except subprocess.TimeoutExpired:
        return Done(None, b"", f"{argv[0]} took longer than {timeout_s:g} s")
    return Done(done.returncode, done.stdout, done.stderr.decode("utf-8", "replace"))


def run(argv: Sequence[str], cwd: Path, timeout_s: float = 30) -> str | None:
    """The standard output of a program, or None if it is not there, failed or took too long."""
    done = call(argv, cwd, timeout_s)
    return done.output.decode("utf-8", "replace") if done.code == 0 else None
