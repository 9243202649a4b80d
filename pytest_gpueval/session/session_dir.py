"""Where a session writes, and that nobody else does."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_gpueval.errors import Conflict, UsageProblem
from pytest_gpueval.runs import ownership
from pytest_gpueval.runs.files import storage
from pytest_gpueval.runs.redact import Redactor
from pytest_gpueval.suites.load import AnySuite
from pytest_gpueval.suites.sweep import Sweep

from .settings import Settings

if TYPE_CHECKING:
    from filelock import FileLock


def named(settings: Settings, suites: Sequence[AnySuite], redactor: Redactor) -> Path:
    """The session's directory: the one named; of sweeps, which go on where they were, one named after them; else a new one with the time in its name."""
    if settings.session is not None:
        if redactor.text(settings.session) != settings.session:
            raise UsageProblem("--gpueval-session: this name holds a secret of the environment; choose another one")
        return settings.output_dir / settings.session
    names = "+".join(suite.name for suite in suites)[:80] or "session"
    if suites and all(isinstance(suite, Sweep) for suite in suites):
        return settings.output_dir / names
    name = f"{names}-{datetime.now(UTC):%Y%m%d-%H%M%S}"
    candidates = [name, *(f"{name}-{number}" for number in range(2, 1000))]
    return next(path for path in (settings.output_dir / candidate for candidate in candidates) if not path.exists())


def own(directory: Path) -> FileLock:
    """Make the directory and own it until the session ends. Raises Conflict, StorageError."""
    with storage(directory):
        directory.mkdir(parents=True, exist_ok=True)
        try:
            lock = ownership.take(directory)
        except ownership.Taken as taken:
            raise Conflict(f"{directory}: another session is writing here ({taken}).\nWait for it, or choose another --gpueval-session.") from None
        ownership.sign(directory)
    return lock
