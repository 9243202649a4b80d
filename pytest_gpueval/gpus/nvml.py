"""NVML, NVIDIA's management library, through nvidia-ml-py: which GPUs there are, and what they are doing.

No library and no loaded driver mean that there are no GPUs here; everything else that goes wrong is a fault to be told.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from pytest_gpueval.errors import RuntimeFault

_MIB = 1 << 20

# NVML's error codes, nvml.h.
_NOT_FOUND = 6
_GPU_IS_LOST = 15
_VERSION_MISMATCH = 18
_ABSENT = (9, 12, 28)  # driver not loaded, library not found, no GPU found
# Not supported, invalid argument (what MIG instances answer), no permission, function not found, no data, structure version, deprecated.
_WITHOUT = (2, 3, 4, 13, 21, 25, 26)

_ADVICE = {
    _GPU_IS_LOST: "It fell off the bus: reboot the machine.",
    _VERSION_MISMATCH: "The driver was updated while it was loaded: reboot, or reload its kernel modules.",
}


@dataclass(frozen=True, slots=True)
class Gpu:
    """One physical GPU. `instances` are (UUID, name) of its MIG instances, None where MIG is off."""

    uuid: str
    name: str
    instances: tuple[tuple[str, str], ...] | None = None


@dataclass(frozen=True, slots=True)
class Process:
    """A process that computes on a GPU; its id may be that of another container's namespace."""

    pid: int
    memory_mib: int | None


@dataclass(frozen=True, slots=True)
class Reading:
    """What one GPU or MIG instance was doing at one moment; None is what its driver does not tell.

    `memory_used_mib` leaves out what the driver reserves for itself where the driver tells the two apart; `utilization` is in percent;
    `energy_j` counts from the loading of the driver.
    """

    uuid: str
    memory_used_mib: int | None
    memory_total_mib: int | None
    utilization: int | None
    temperature_c: int | None
    power_w: float | None
    energy_j: float | None
    processes: tuple[Process, ...] | None


@contextmanager
def session() -> Iterator[Any]:
    """NVML, open until the end of the block; None where there is no library or no driver. Raises RuntimeFault.

    Errors that NVML raises inside the block become RuntimeFault too.
    """
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        if error.value not in _ABSENT:
            raise _fault(error) from None
        yield None
        return
    try:
        yield pynvml
    except pynvml.NVMLError as error:
        raise _fault(error) from None
    finally:
        with suppress(pynvml.NVMLError):
            pynvml.nvmlShutdown()


def gpus() -> list[Gpu]:
    """All GPUs, in the order of nvidia-smi; empty where there is no driver. Raises RuntimeFault."""
    with session() as nvml:
        return [_gpu(nvml, index) for index in range(nvml.nvmlDeviceGetCount())] if nvml is not None else []


def readings(uuids: Sequence[str]) -> dict[str, Reading]:
    """What each of these GPUs or MIG instances is doing. Raises RuntimeFault, also for one that is gone."""
    with session() as nvml:
        return read(nvml, uuids)


def read(nvml: Any, uuids: Sequence[str]) -> dict[str, Reading]:
    """`readings` in a session that is open already."""
    if nvml is None and uuids:
        raise RuntimeFault(f"GPU {uuids[0]} cannot be read: no NVIDIA driver is loaded any more. See what `nvidia-smi` says.")
    return {uuid: _reading(nvml, uuid) for uuid in uuids}


def driver() -> str | None:
    """The driver's version; None where there is none. Raises RuntimeFault."""
    with session() as nvml:
        return str(nvml.nvmlSystemGetDriverVersion()) if nvml is not None else None


def _gpu(nvml: Any, index: int) -> Gpu:
    try:
        handle = nvml.nvmlDeviceGetHandleByIndex(index)
        uuid, name = str(nvml.nvmlDeviceGetUUID(handle)), str(nvml.nvmlDeviceGetName(handle))
        mode = _told(nvml, nvml.nvmlDeviceGetMigMode, handle)
        if not (mode and mode[0]):
            return Gpu(uuid, name)
        return Gpu(uuid, name, tuple(_instances(nvml, handle)))
    except nvml.NVMLError as error:
        raise _fault(error, f"GPU {index}") from None


def _instances(nvml: Any, handle: Any) -> Iterator[tuple[str, str]]:
    for number in range(nvml.nvmlDeviceGetMaxMigDeviceCount(handle)):
        try:
            instance = nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, number)
        except nvml.NVMLError as error:
            if error.value == _NOT_FOUND:  # numbers may have gaps
                continue
            raise
        yield str(nvml.nvmlDeviceGetUUID(instance)), str(nvml.nvmlDeviceGetName(instance))


def _reading(nvml: Any, uuid: str) -> Reading:
    try:
        handle = nvml.nvmlDeviceGetHandleByUUID(uuid)
        memory = _told(nvml, nvml.nvmlDeviceGetMemoryInfo, handle, nvml.nvmlMemory_v2) or _told(nvml, nvml.nvmlDeviceGetMemoryInfo, handle)
        rates = _told(nvml, nvml.nvmlDeviceGetUtilizationRates, handle)
        power_mw = _told(nvml, nvml.nvmlDeviceGetPowerUsage, handle)
        energy_mj = _told(nvml, nvml.nvmlDeviceGetTotalEnergyConsumption, handle)
        running = _told(nvml, nvml.nvmlDeviceGetComputeRunningProcesses_v3, handle)
        return Reading(
            uuid=uuid,
            memory_used_mib=memory.used // _MIB if memory else None,
            memory_total_mib=memory.total // _MIB if memory else None,
            utilization=rates.gpu if rates else None,
            temperature_c=_told(nvml, nvml.nvmlDeviceGetTemperature, handle, nvml.NVML_TEMPERATURE_GPU),
            power_w=None if power_mw is None else power_mw / 1000,
            energy_j=None if energy_mj is None else energy_mj / 1000,
            processes=None if running is None else tuple(_process(one) for one in running),
        )
    except nvml.NVMLError as error:
        raise _fault(error, f"GPU {uuid}") from None


def _process(told: Any) -> Process:
    return Process(told.pid, None if told.usedGpuMemory is None else told.usedGpuMemory // _MIB)


def _told(nvml: Any, call: Callable[..., Any], *arguments: Any) -> Any:
    """The answer; None where the device, the driver or our rights do not reach that far."""
    try:
        return call(*arguments)
    except nvml.NVMLError as error:
        if error.value in _WITHOUT:
            return None
        raise


def _fault(error: Any, where: str = "") -> RuntimeFault:
    advice = _ADVICE.get(error.value, "See what `nvidia-smi` says; restart the container, or reload the driver.")
    gone = " (it is gone: removed, or its MIG layout changed)" if error.value == _NOT_FOUND else ""
    about = f" about {where}" if where else ""
    return RuntimeFault(f"the NVIDIA driver does not answer{about}: {str(error).rstrip('.')}{gone}. {advice} `--gpus none` works without GPUs.")
