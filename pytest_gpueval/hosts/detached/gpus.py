"""The GPUs of a host, as its agent saw them, and what of their memory is whose. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .text import harmless


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU of a host. Memory in MiB, None where its driver does not tell; `processes` are pids and what each uses."""

    index: int
    uuid: str
    name: str
    used_mib: int | None
    total_mib: int | None
    driver: str
    processes: tuple[tuple[int, int | None], ...]
    utilization_percent: int | None = None


@dataclass(frozen=True, slots=True)
class Held:
    """What some processes hold of a GPU, MiB; None where its driver does not tell."""

    gpu: Gpu
    memory_mib: int | None


def gpus(answer: Mapping[str, Any]) -> tuple[Gpu, ...] | None:
    """What an agent saw; None where nvidia-smi was not there, or did not answer: `why` says so then."""
    if answer["gpus"] is None:
        return None
    return tuple(
        Gpu(**{**each, "name": harmless(each["name"].encode()), "processes": tuple((pid, used) for pid, used in each["processes"])}) for each in answer["gpus"]
    )


def held(found: Sequence[Gpu], pids: Collection[int]) -> tuple[Held, ...]:
    """The GPUs that these processes hold memory of."""
    own = [(gpu, [used for pid, used in gpu.processes if pid in pids]) for gpu in found]
    return tuple(Held(gpu, _sum(memory)) for gpu, memory in own if memory)


def _sum(memory: Sequence[int | None]) -> int | None:
    told = [used for used in memory if used is not None]
    return sum(told) if told else None
