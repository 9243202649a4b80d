"""Where code lies on a host. Pure but for who and where we are."""

from __future__ import annotations

import getpass
import hashlib
import re
import socket
from pathlib import Path
from typing import Final

FOLDER: Final = "gpueval-code"


def folder(root: Path, *, user: str | None = None, machine: str | None = None) -> str:
    """The name of a repository's directory there: another user's, or another clone's, is another one."""
    whose = f"{user or getpass.getuser()}@{machine or socket.gethostname()}:{root}"
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", root.name).strip("-.")[:40] or "code"
    return f"{name}-{hashlib.sha256(whose.encode('utf-8', 'surrogateescape')).hexdigest()[:10]}"


def base(root: Path, workdir: str | None) -> str:
    """Its directory there: below the host's workdir, or below the home directory."""
    return f"{(workdir or '~').rstrip('/')}/{FOLDER}/{folder(root)}"
