"""What a run holds of GPUs and how far it is, in words and as JSON. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytest_gpueval.hosts.detached.client import DetachedRun
    from pytest_gpueval.hosts.detached.gpus import Freed, Held
    from pytest_gpueval.hosts.detached.progress import Progress

# Older than this, seconds, what a run told of itself is said to be so old.
_OLD_S = 60.0


def record(run: DetachedRun) -> Mapping[str, Any]:
    """Both as JSON; None where they are not known."""
    told = run.progress
    progress = None if told is None else {"percent": told.percent, **asdict(told)}
    return {"progress": progress, "gpus": None if run.gpus is None else [_gpu(one) for one in run.gpus], "gpus_unknown": run.gpus_unknown or None}


def _gpu(one: Held) -> dict[str, Any]:
    gpu = one.gpu
    about = {"index": gpu.index, "uuid": gpu.uuid, "name": gpu.name, "memory_mib": one.memory_mib}
    return {**about, "used_mib": gpu.used_mib, "total_mib": gpu.total_mib, "utilization_percent": gpu.utilization_percent}


def freed(memory: Freed) -> dict[str, Any]:
    """What became of GPU memory after a stop, MiB by the index of the GPU, as JSON; None where nobody knows."""
    names = ("held_mib", "before_mib", "after_mib", "back")
    gpus = {one.index: {name: getattr(one, name) for name in names} for one in memory.gpus or ()}
    return {"gpu_memory": None if memory.gpus is None else gpus, "notes": list(memory.notes)}


def short_progress(told: Progress | None) -> str:
    """`12/40`, `12`, `45%`."""
    if told is None:
        return ""
    if told.done is None:
        return f"{told.percent}%"
    return f"{told.done:,}/{told.total:,}" if told.total is not None else f"{told.done:,}"


def progress_line(told: Progress, *, ended: bool) -> str:
    """`12/40 items (30%), 1 failed, now: kaggle-test`."""
    from pytest_gpueval.reports.table import clock

    words = f"{short_progress(told)} {told.unit}".rstrip()
    share = f" ({told.percent}%)" if told.done is not None and told.percent is not None else ""
    failed = f", {told.failed:,} failed" if told.failed else ""
    now = f", now: {told.note}" if told.note and not ended else ""
    age = f", told {clock(told.age_s)} ago" if told.age_s is not None and told.age_s > _OLD_S and not ended else ""
    return f"{words}{share}{failed}{now}{age}"


def short_gpus(run: DetachedRun) -> str:
    """`0,1: 61.2 GiB, 97%`: which, their memory that it holds, and how busy they are on average."""
    if run.gpus_unknown:
        return "unknown"
    if not run.gpus:
        return ""
    memory = [one.memory_mib for one in run.gpus if one.memory_mib is not None]
    busy = [one.gpu.utilization_percent for one in run.gpus if one.gpu.utilization_percent is not None]
    parts = [*([_size(sum(memory))] if memory else []), *([f"{sum(busy) / len(busy):.0f}%"] if busy else [])]
    return f"{','.join(str(one.gpu.index) for one in run.gpus)}: {', '.join(parts) or 'in use'}"


def gpu_lines(run: DetachedRun) -> Sequence[str]:
    """A line for each GPU that it holds memory of."""
    if run.gpus_unknown:
        return [f"GPUs: unknown ({run.gpus_unknown})"]
    return [_line(one) for one in run.gpus or ()]


def _line(one: Held) -> str:
    gpu = one.gpu
    memory = "memory" if one.memory_mib is None else f"{one.memory_mib:,} MiB"
    total = f" of {gpu.total_mib:,}" if gpu.total_mib is not None and one.memory_mib is not None else ""
    busy = f", {gpu.utilization_percent}% busy" if gpu.utilization_percent is not None else ""
    return f"GPU {gpu.index} ({gpu.name}): {memory}{total} held{busy}"


def _size(mib: int) -> str:
    return f"{mib / 1024:.1f} GiB" if mib >= 1024 else f"{mib} MiB"
