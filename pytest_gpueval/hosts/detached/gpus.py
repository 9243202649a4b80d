"""The GPUs of a host, as its agent saw them, and what of their memory is whose. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from .agent.gpus import NO_SMI
from .text import harmless

_OTHERS_MIB: Final = 1024


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


@dataclass(frozen=True, slots=True)
class GivenBack:
    """A GPU whose memory processes held that have ended: what they held, what was in use before and is after, MiB; `pids` of them that are still listed."""

    index: int
    held_mib: int | None
    before_mib: int | None
    after_mib: int | None
    pids: tuple[int, ...]
    back: bool

    @property
    def words(self) -> str:
        """What became of it."""
        if self.back:
            return f"GPU {self.index}: {'memory' if self.held_mib is None else f'{self.held_mib:,} MiB'} given back"
        if self.pids:
            return f"GPU {self.index}: nvidia-smi still lists its pid {', '.join(map(str, self.pids))} there, which has ended"
        if self.after_mib is None:
            return f"GPU {self.index}: nvidia-smi does not list it any more"
        return f"GPU {self.index} has {self.after_mib:,} MiB in use, {self.before_mib:,} before: its memory was not given back, or others took it"


@dataclass(frozen=True, slots=True)
class Freed:
    """What became of the GPU memory of processes that were ended; None where nobody looked, or nobody knows: `unknown` says why, if there is a nvidia-smi."""

    gpus: tuple[GivenBack, ...] | None = None
    unknown: str = ""

    @property
    def notes(self) -> tuple[str, ...]:
        """What is not as it should be."""
        unknown = (f"whether GPU memory was given back is not known: {self.unknown}",) if self.unknown else ()
        return (*(one.words for one in self.gpus or () if not one.back), *unknown)


def freed(answer: Mapping[str, Any]) -> Freed:
    """Of the answer to a stop."""
    _, unknown = memory(answer["gpus"], answer["pids"])
    told = answer["given_back"]
    if told["gpus"] is None or unknown:
        return Freed(None, unknown or ("" if told["why"] == NO_SMI else harmless(told["why"])))
    return Freed(tuple(GivenBack(**{**one, "pids": tuple(one["pids"])}) for one in told["gpus"]))


def memory(answer: Mapping[str, Any], pids: Collection[int]) -> tuple[tuple[Held, ...] | None, str]:
    """What processes hold of the GPUs, and why that is not known. Both are empty where there are no processes, and without nvidia-smi."""
    found = gpus(answer) if pids else None
    if found is None:
        return None, harmless(answer["why"]) if pids and answer["why"] != NO_SMI else ""
    own = held(found, pids)
    unknown = "" if own else unattributed(answer, found)
    return (None if unknown else own), unknown


def gpus(answer: Mapping[str, Any]) -> tuple[Gpu, ...] | None:
    """What an agent saw; None where nvidia-smi was not there, or did not answer: `why` says so then."""
    if answer["gpus"] is None:
        return None
    return tuple(Gpu(**{**each, "name": harmless(each["name"]), "processes": tuple((pid, used) for pid, used in each["processes"])}) for each in answer["gpus"])


def held(found: Sequence[Gpu], pids: Collection[int]) -> tuple[Held, ...]:
    """The GPUs that these processes hold memory of."""
    own = [(gpu, [used for pid, used in gpu.processes if pid in pids]) for gpu in found]
    return tuple(Held(gpu, _sum(memory)) for gpu, memory in own if memory)


def unattributed(answer: Mapping[str, Any], found: Sequence[Gpu]) -> str:
    """In words, that memory is in use of which nvidia-smi does not say whose it is; empty where there is no such.

    What drivers and screens take is less than a GiB.
    """
    strangers = set(answer["strangers"])
    for gpu in found:
        told = sum(used or 0 for pid, used in gpu.processes if pid not in strangers)
        if gpu.used_mib is not None and gpu.used_mib - told >= _OTHERS_MIB:
            return f"nvidia-smi shows {gpu.used_mib:,} MiB of GPU {gpu.index} in use, and not by which of the processes here, as in a container"
    return ""


def _sum(memory: Sequence[int | None]) -> int | None:
    told = [used for used in memory if used is not None]
    return sum(told) if told else None
