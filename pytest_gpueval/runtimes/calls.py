"""Calls of a model's `predict`: what they return, what they raise, and what is done when a batch is too much for the memory.

Servers' models read it too, in other interpreters: it imports the standard library alone, and is linked beside them.
"""

from __future__ import annotations

import gc
import sys
import traceback
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any


def describe(error: BaseException) -> str:
    """`ValueError: no such label`, on one line."""
    try:
        text = str(error)
    except Exception as second:
        text = f"(its text raises {type(second).__name__})"
    return " ".join(f"{type(error).__name__}: {text}".split())[:500].removesuffix(":")


def line_of(error: Exception, path: Path) -> str:
    """Where in the file an import failed."""
    if isinstance(error, SyntaxError):  # says so itself
        return ""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    return f" (line {lines[-1]})" if lines else ""


def wrong_answers(values: Any, rows: int, first: Any, target: str) -> str | None:
    """What is wrong with the answers to a batch of so many rows, of which the first has the id `first`; None for one answer for each, in an order."""
    try:
        count = None if isinstance(values, (str, bytes, Mapping, AbstractSet)) else len(values)
    except TypeError:  # generators, None, arrays without a dimension
        count = None
    if count == rows:
        return None
    found = f"{count} predictions" if count is not None else f"a {type(values).__name__}"
    return (
        f"model {target} returned {found} for a batch of {rows} (first row: {first!r}).\n"
        "predict(batch) must return a list with one prediction for each row, in their order."
    )


def close(model: Any) -> None:
    """Close a model, if it can be closed."""
    if hasattr(model, "close"):
        model.close()


def lacks_memory(error: BaseException) -> bool:
    """Whether an error of a model says that there was not enough memory, the GPU's or the machine's."""
    return isinstance(error, MemoryError) or "OutOfMemory" in type(error).__name__ or "out of memory" in describe(error).lower()


def take_fewer(rows: int) -> tuple[int, str]:
    """How many rows to ask for at a time, after so many were too many; and what the user is told. Called once the error, which holds memory, is gone."""
    gc.collect()
    torch, cupy = sys.modules.get("torch"), sys.modules.get("cupy")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()
    if cupy is not None:
        cupy.get_default_memory_pool().free_all_blocks()
    fewer = max(1, rows // 2)
    return fewer, f"out of memory with {rows} rows; {fewer} at a time from here on"
