"""Where what can be made anew is kept between sessions."""

from __future__ import annotations

import os
from pathlib import Path

from pytest_gpueval.errors import UsageProblem


def cache_directory() -> Path:
    """`$XDG_CACHE_HOME/pytest-gpueval`, by default under `~/.cache`. Raises UsageProblem where there is no home."""
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pytest-gpueval"
    except RuntimeError:  # a user id without an account, as containers have them
        raise UsageProblem("there is no home directory to keep generated data in; set XDG_CACHE_HOME or HOME") from None
