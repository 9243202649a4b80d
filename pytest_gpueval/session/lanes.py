"""Lanes: the processes that run items, one for each GPU, or for a share of the CPU cores where there is none."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_gpueval.errors import UsageProblem
from pytest_gpueval.gpus import devices

if TYPE_CHECKING:
    import pytest

# Numeric libraries start a thread for every core; lanes side by side must share them.
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True, slots=True)
class Lane:
    """One worker process: its name, its GPU (None on the CPU), and what its environment gets."""

    name: str
    gpu: devices.Device | None
    environment: Mapping[str, str]

    def spec(self) -> str:
        """The execnet specification that xdist starts it by."""
        return "//".join(["popen", f"id={self.name}", *(f"env:{key}={value}" for key, value in self.environment.items())])

    def as_dict(self) -> dict[str, Any]:
        """The JSON form used in session.json."""
        return {"name": self.name, "gpu": self.gpu.uuid if self.gpu else None, "gpu_name": self.gpu.name if self.gpu else None}


def lay(spec: str | None, processes: int | None, most: int, environment: Mapping[str, str] = os.environ) -> list[Lane]:
    """The lanes of `--gpus SPEC`; none where the option is absent. At most `most` CPU lanes. Raises UsageProblem.

    `processes` is what `-n` asks for: it sets the number of CPU lanes, and must agree with the number of GPUs.
    """
    if spec is None:
        return []
    chosen = devices.select(spec, devices.visible(environment) if spec != "none" else [])
    if chosen:
        if processes not in (None, 0, len(chosen)):
            raise UsageProblem(f"--gpus {spec} means {len(chosen)} worker(s), one for each GPU, but -n asks for {processes}. Leave out -n.")
        return [Lane(f"gpu{device.index}", device, {"CUDA_VISIBLE_DEVICES": device.uuid}) for device in chosen]
    cores = len(os.sched_getaffinity(0))
    count = processes or max(1, min(cores, most))
    threads = {name: str(max(1, cores // count)) for name in _THREAD_VARIABLES if name not in environment}
    return [Lane(f"cpu{number}", None, {"CUDA_VISIBLE_DEVICES": "", **threads}) for number in range(count)]


def apply(lanes: Sequence[Lane], config: pytest.Config) -> bool:
    """Make the lanes this session's workers; True if xdist will run them, False if this process is the only lane.

    Raises UsageProblem for `--tx` beside `--gpus`.
    """
    option = config.option
    serial = len(lanes) == 1 or not config.pluginmanager.hasplugin("xdist") or option.numprocesses == 0 or option.usepdb or option.collectonly
    if serial:
        os.environ.update(lanes[0].environment)
        return False
    if option.tx and not option.numprocesses:  # xdist has turned -n into tx by now
        raise UsageProblem("--gpus decides the workers; leave out --tx.")
    option.numprocesses = None  # else xdist replaces tx
    option.tx = [lane.spec() for lane in lanes]
    option.dist = "load" if option.dist == "no" else option.dist
    option.maxschedchunk = option.maxschedchunk or 1
    if option.maxworkerrestart is None:  # unlimited with tx
        option.maxworkerrestart = str(2 * len(lanes))
    return True


def describe(lanes: Sequence[Lane]) -> str:
    """The lanes in words: `2 CPU lanes`, `8 x NVIDIA H100`."""
    names = [lane.gpu.name for lane in lanes if lane.gpu is not None]
    if names:
        return ", ".join(f"{names.count(name)} x {name}" for name in dict.fromkeys(names))
    return f"{len(lanes)} CPU lane{'s' if len(lanes) != 1 else ''}"
