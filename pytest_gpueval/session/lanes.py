"""Lanes: the processes that run items. One for each GPU, one for each group of GPUs where cases need several, or shares of the CPU cores."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from pytest_gpueval.errors import UsageProblem
from pytest_gpueval.gpus.devices import Device
from pytest_gpueval.hosts import workers
from pytest_gpueval.planning.dispatch import Slot
from pytest_gpueval.processes.command import supervised

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

# Numeric libraries start a thread for every core; lanes side by side must share them.
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


# What a worker tells that was given its GPUs by what has started it.
GPUS: Final = "gpus"


@dataclass(frozen=True, slots=True)
class Lane:
    """One worker process: its name, its GPUs (none on the CPU), and what its environment gets. Lanes that share a GPU take turns.

    `host` is the name of the host that it is on; "" where that is this machine. A lane that is `queued` waits for a job of Slurm, and its GPUs are known
    once that has begun.
    """

    name: str
    gpus: tuple[Device, ...]
    environment: Mapping[str, str]
    host: str = ""
    queued: bool = False

    def spec(self, python: Sequence[str]) -> str:
        """The execnet specification that xdist starts it by, through the command `python`. Raises UsageProblem for what a specification cannot hold."""
        variables = (f"env:{key}={value}" for key, value in self.environment.items())
        return "//".join(["popen", f"python={workers.spec_python(python)}", f"id={self.name}", *variables])

    @property
    def slot(self) -> Slot:
        """The lane as the plan sees it."""
        return Slot(self.name, frozenset(f"{self.host}/{device.uuid}" if self.host else device.uuid for device in self.gpus), f"{self.host} {self.gpu_name}")

    @property
    def gpu_name(self) -> str | None:
        """The model of its GPUs, None on the CPU."""
        return self.gpus[0].name if self.gpus else None

    def as_dict(self) -> dict[str, Any]:
        """The JSON form used in session.json."""
        told: dict[str, Any] = {"name": self.name, "gpus": [device.uuid for device in self.gpus], "gpu_name": self.gpu_name}
        return {**told, "host": self.host} if self.host else told


def on_gpus(chosen: Sequence[Device], widths: Collection[int]) -> list[Lane]:
    """A lane for each GPU, and for each width above 1 as many groups of so many GPUs as there are. Raises UsageProblem for a width that can never fit."""
    lanes = [_lane([device]) for device in chosen] if 1 in widths or not widths else []
    for width in sorted(set(widths) - {1}, reverse=True):
        if width > len(chosen):
            raise UsageProblem(f"a runtime of this suite needs {width} GPUs at once, and --gpus gives {len(chosen)}. Give it more GPUs, or another runtime.")
        if any(device.parent for device in chosen):
            raise UsageProblem(f"a runtime of this suite needs {width} GPUs at once; a process can use only one MIG instance. Give it whole GPUs.")
        lanes += [_lane(chosen[first : first + width]) for first in range(0, len(chosen) - width + 1, width)]
    return lanes


def on_cpu(processes: int | None, most: int, widths: Collection[int], environment: Mapping[str, str] = os.environ, *, cores: int | None = None) -> list[Lane]:
    """Lanes that share the CPU cores: `processes` of them, or as many as there are cores and items. Raises UsageProblem for a runtime that needs GPUs."""
    if widths and max(widths) > 1:
        raise UsageProblem(f"a runtime of this suite needs {max(widths)} GPUs at once, and there are only CPU lanes. Choose another --gpueval-runtime.")
    cores = cores or len(os.sched_getaffinity(0))
    count = processes or max(1, min(cores, most))
    threads = {name: str(max(1, cores // count)) for name in _THREAD_VARIABLES if name not in environment}
    return [Lane(f"cpu{number}", (), {"CUDA_VISIBLE_DEVICES": "", **threads}) for number in range(count)]


def _lane(devices: Sequence[Device]) -> Lane:
    name = "+".join(device.label for device in devices)
    return Lane(f"gpu{name}", tuple(devices), {"CUDA_VISIBLE_DEVICES": ",".join(device.uuid for device in devices)})


def check_workers(laid: Sequence[Lane], spec: str, processes: int | None) -> None:
    """Raise UsageProblem if `-n` contradicts the number of GPUs."""
    count = len({device.uuid for lane in laid for device in lane.gpus})
    if count and processes not in (None, 0, count):
        raise UsageProblem(f"--gpus {spec} means {count} worker(s), one for each GPU, but -n asks for {processes}. Leave out -n.")


def processes(asked: Any) -> int | None:
    """What `-n` asks for, None without it. Raises UsageProblem for `auto` and `logical`: those are the lanes' business."""
    if isinstance(asked, str):
        raise UsageProblem(f"-n {asked} beside --gpus: --gpus decides the number of workers; leave out -n, or give a number for CPU lanes.")
    return asked if asked is None else int(asked)


def command_here(lane: Lane, guards: Mapping[str, Path]) -> list[str]:
    """What starts a worker of this machine, under a supervisor that holds its GPUs' guards."""
    return supervised([sys.executable], leases=[guards[device.uuid] for device in lane.gpus if device.uuid in guards])


def start_by_xdist(laid: Sequence[Lane], config: pytest.Config, command: Callable[[Lane], Sequence[str]]) -> None:
    """Make the lanes xdist's workers, each started by its command. Raises UsageProblem for `--tx` or `--dist` beside `--gpus`."""
    option = config.option
    if option.tx and not option.numprocesses:  # xdist has turned -n into tx by now
        raise UsageProblem("--gpus decides the workers; leave out --tx.")
    if option.dist not in ("no", "load"):
        raise UsageProblem(f"--gpus decides which worker runs what, the longest items first; leave out --dist {option.dist}.")
    option.numprocesses = None  # else xdist replaces tx
    option.tx = [lane.spec(command(lane)) for lane in laid]
    option.dist = "load"
    if option.maxworkerrestart is None:  # unlimited with tx
        option.maxworkerrestart = str(2 * len(laid))


def xdist_workers(option: Any) -> int:
    """Workers that xdist alone starts; 0 without it."""
    return len(getattr(option, "tx", None) or ()) if getattr(option, "dist", "no") != "no" else 0


def processes_in_words(option: Any) -> str:
    """What runs the items where there are no lanes."""
    workers = xdist_workers(option)
    return f"{workers} xdist worker{'s' if workers > 1 else ''}" if workers else "one process"


def describe(laid: Sequence[Lane]) -> str:
    """The lanes in words: `2 CPU lanes`, `8 x NVIDIA H100`, `4 jobs of Slurm`."""
    names = list({(lane.host, device.uuid): device.name for lane in laid for device in lane.gpus}.values())
    on = f" on {', '.join(dict.fromkeys(lane.host for lane in laid))}" if any(lane.host for lane in laid) else ""
    waiting = sum(lane.queued and not lane.gpus for lane in laid)
    told = [f"{names.count(name)} x {name}" for name in dict.fromkeys(names)] + ([f"{waiting} job{'s' if waiting != 1 else ''} of Slurm"] if waiting else [])
    return (", ".join(told) or f"{len(laid)} CPU lane{'s' if len(laid) != 1 else ''}") + on
