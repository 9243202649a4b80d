"""A batch that is too much for the memory: how that shows, and what is done before fewer rows are tried.

Servers' models read it too, in other interpreters: it imports the standard library alone, and is linked beside them.
"""

from __future__ import annotations

import gc
import sys


def is_lacking(error: BaseException) -> bool:
    """Whether an error of a model says that there was not enough memory, the GPU's or the machine's."""
    return isinstance(error, MemoryError) or "OutOfMemory" in type(error).__name__ or "out of memory" in str(error).lower()


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
