"""A script of ours for a host that has nothing of ours: its text goes along with the command."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Sequence
from pathlib import Path


def carried(python: str, script: Path, arguments: Sequence[str]) -> list[str]:
    """The command that runs a script, which needs the standard library alone, by an interpreter there."""
    # Without a slash: execnet splits commands at //.
    text = base64.urlsafe_b64encode(zlib.compress(script.read_bytes(), 9)).decode("ascii")
    loader = f"import base64,zlib;exec(compile(zlib.decompress(base64.urlsafe_b64decode('{text}')),'{script.name}','exec'))"
    return [python, "-I", "-S", "-c", loader, *arguments]
