"""From what a host says of its servers to the one state that each is in. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from .agent.serving import URL
from .gpus import Gpu, held
from .text import harmless

if TYPE_CHECKING:
    from .client import DetachedRun

__all__ = ["URL", "Served", "Servers", "Serving", "judged", "served"]


class Serving(StrEnum):
    """Where a server is."""

    LOADING = "loading"
    SERVING = "serving"
    SILENT = "silent"
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class Served:
    """A server on a host, as it was seen there. `reason` is empty where the state says it all."""

    run: DetachedRun
    url: str
    state: Serving
    reason: str
    # As the server calls them; None while it does not list them.
    models: tuple[str, ...] | None
    # How often one of this name was started, this time included.
    starts: int
    # From its start until it was first seen to answer.
    load_s: float | None
    # GPU memory of its own processes, MiB, by the UUID of the GPU; None where nvidia-smi is not there.
    gpu_memory_mib: Mapping[str, int] | None


@dataclass(frozen=True, slots=True)
class Servers:
    """What a host said: its servers, what a URL answered that was asked besides, who listens at a port, its GPUs (None without nvidia-smi)."""

    servers: Sequence[Served]
    url: Mapping[str, Any] | None
    listener: str | None
    gpus: tuple[Gpu, ...] | None


def served(run: DetachedRun, seen: Mapping[str, Any], gpus: Sequence[Gpu] | None, now: float) -> Served:
    """A server from its run and what was seen of it; `now` is the host's clock, seconds since the epoch."""
    models = tuple(harmless(name.encode("utf-8", "replace")) for name in seen["models"]) if seen.get("models") is not None else None
    state, reason = judged(run, seen)
    begun = now - run.seconds if run.seconds is not None else None
    load_s = seen["ready"]["at"] - begun if seen["ready"] and begun is not None and not run.state.ended else None
    memory = None if gpus is None else {one.gpu.uuid: one.memory_mib for one in held(gpus, seen["pids"]) if one.memory_mib is not None}
    return Served(run, seen["url"], state, reason, models, seen["starts"], load_s, memory)


def judged(run: DetachedRun, seen: Mapping[str, Any]) -> tuple[Serving, str]:
    """The state, and why. What a run that has ended says of its end goes before everything else."""
    if run.state.ended:
        return Serving.ENDED, f"{run.state}: {run.outcome.reason}" if run.outcome.reason else str(run.state)
    if seen.get("models") is not None:
        return Serving.SERVING, ""
    listener = seen["listener"]
    if listener and not seen["own"]:
        words = harmless(listener["words"])
        return (Serving.SILENT if seen["ready"] else Serving.LOADING), f"its port is taken by {words}"
    if listener and seen.get("status") in {401, 403}:
        return Serving.SILENT, f"it lists its models to nobody without a key (HTTP {seen['status']}): --secret API_KEY, or what it reads"
    if seen["ready"]:
        return Serving.SILENT, "it answered before, and does not now"
    return Serving.LOADING, "it listens, and does not answer yet" if listener else "it does not listen yet"
