"""Checkpoints and JSON files, each written whole or not at all."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

from .settings import TrainingError

CHECKPOINT = "checkpoint.npz"
State = Mapping[str, Mapping[str, Any]]  # arrays of NumPy or JAX: "weights", "mean", "variance" -> name -> array


def write_json(path: Path, value: object) -> None:
    """Raises ValueError for a number that JSON has no word for."""
    _write_whole(path, lambda file: file.write(json.dumps(value, indent=2, allow_nan=False).encode() + b"\n"))


def save(path: Path, state: State, step: int, essentials: Mapping[str, object]) -> None:
    """The state after ``step`` steps, and what led to it."""
    arrays = {f"{part}/{name}": np.asarray(value) for part, values in state.items() for name, value in values.items()}
    about = json.dumps({"step": step, "essentials": essentials}, sort_keys=True)
    _write_whole(path, lambda file: np.savez(file, about=np.array(about), **arrays))  # type: ignore[arg-type]  # of its own `allow_pickle`


def restore(path: Path, essentials: Mapping[str, object]) -> tuple[dict[str, dict[str, np.ndarray]], int]:
    """State and number of steps done.

    Raises:
        TrainingError: the file cannot be read, or belongs to another configuration.
    """
    state: dict[str, dict[str, np.ndarray]] = {}
    try:
        with np.load(path) as file:
            about = json.loads(str(file["about"]))
            for key in file.files:
                if key != "about":
                    part, _, name = key.partition("/")
                    state.setdefault(part, {})[name] = file[key]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise TrainingError(f"{path}: cannot be read: {error}. Delete it to start from the first step") from None
    if differing := [key for key in essentials if about["essentials"].get(key) != essentials[key]]:
        told = ", ".join(f"{key} {about['essentials'].get(key)!r} there and {essentials[key]!r} now" for key in differing)
        raise TrainingError(f"{path}: of another run: {told}. Delete it, or choose another out_dir")
    return state, about["step"]


def _write_whole(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    beside = path.with_name(path.name + ".part")
    with beside.open("wb") as file:
        write(file)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
