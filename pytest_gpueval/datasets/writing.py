"""Small files that are there whole or not at all."""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from pathlib import Path

from pytest_gpueval.errors import StorageError


def write_whole(path: Path, text: str, advice: str = "") -> None:
    """Write a file in place of what is there, with its folders. Raises StorageError, which ends with the `advice`."""
    half = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.half")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        half.write_text(text, encoding="utf-8")
        half.replace(path)
    except OSError as error:
        raise StorageError(f"{path}: cannot be written: {error.strerror}" + (f".\n{advice}" if advice else "")) from None
    finally:
        with suppress(OSError):
            half.unlink()
