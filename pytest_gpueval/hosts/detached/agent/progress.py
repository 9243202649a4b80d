"""How far a run is: what its command tells in progress.json, else what the end of its log shows."""

from __future__ import annotations

import base64
import os
import re
from typing import Any

from .files import Run, read_bytes, size_of

PROGRESS = "progress.json"
MOST_TOLD = 1 << 12
LOG_END = 1 << 12
# tqdm's ` 45%|`, pytest's `[ 45%]`.
_SHARE = re.compile(rb"(?<![\d.])(\d{1,3})%\||\[ {0,2}(\d{1,3})%\]")


def progress_of(run: Run) -> dict[str, Any]:
    """What the file holds, if it is no longer than it may be, when it was written, and the last percentage of the log."""
    path = os.path.join(run.directory, PROGRESS)
    told = read_bytes(path, 0, MOST_TOLD + 1)
    try:
        at = os.stat(path).st_mtime if told else None
    except OSError:
        at = None
    end = read_bytes(run.log, max(0, size_of(run.log) - LOG_END), LOG_END)
    return {"told": base64.b64encode(told if len(told) <= MOST_TOLD else b"").decode(), "at": at, "percent": last_percent(end)}


def last_percent(text: bytes) -> int | None:
    """The last percentage that a progress bar of tqdm or pytest shows; None where none does."""
    shown = [int(share[1] or share[2]) for share in _SHARE.finditer(text)]
    return next((share for share in reversed(shown) if share <= 100), None)
