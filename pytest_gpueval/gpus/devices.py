"""The GPUs of this machine through NVML, and the ones that `--gpus` chooses."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from pytest_gpueval.errors import RuntimeFault, UsageProblem

_RANGE = re.compile(r"([0-9]{1,9})(?:-([0-9]{1,9}))?")


@dataclass(frozen=True, slots=True)
class Device:
    """One GPU. `index` counts into what the caller may see."""

    index: int
    uuid: str
    name: str


def visible(environment: Mapping[str, str] = os.environ) -> list[Device]:
    """The GPUs that NVML reports, narrowed to the caller's CUDA_VISIBLE_DEVICES; empty where there is no driver. Raises RuntimeFault for a broken one."""
    import pynvml  # noqa: PLC0415 - only where GPUs are asked for

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return []
    try:
        handles = [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(pynvml.nvmlDeviceGetCount())]
        found = [(pynvml.nvmlDeviceGetUUID(handle), pynvml.nvmlDeviceGetName(handle)) for handle in handles]
    except pynvml.NVMLError as error:
        raise RuntimeFault(f"the NVIDIA driver does not answer: {error}.\nSee what `nvidia-smi` says; --gpus none works without GPUs.") from None
    finally:
        with suppress(pynvml.NVMLError):
            pynvml.nvmlShutdown()
    return narrowed(found, environment.get("CUDA_VISIBLE_DEVICES"))


def narrowed(found: Sequence[tuple[str, str]], mask: str | None) -> list[Device]:
    """Apply CUDA_VISIBLE_DEVICES (indices or UUID prefixes) as CUDA does.

    In its order, ending at the first entry that is not there or names several; one named twice leaves none.
    """
    if mask is None:
        chosen = list(found)
    else:
        chosen = []
        for entry in mask.split(","):
            match = _matching(found, entry.strip())
            if match is None:
                break
            if match in chosen:
                return []
            chosen.append(match)
    return [Device(index, uuid, name) for index, (uuid, name) in enumerate(chosen)]


def _matching(found: Sequence[tuple[str, str]], entry: str) -> tuple[str, str] | None:
    if re.fullmatch("[0-9]{1,9}", entry):
        return found[int(entry)] if int(entry) < len(found) else None
    matches = [device for device in found if entry and device[0].startswith(entry)]
    return matches[0] if len(matches) == 1 else None


def select(spec: str, devices: Sequence[Device]) -> list[Device]:
    """The devices that `--gpus` names: `all`, `auto`, `none`, indices and ranges, UUIDs. Raises UsageProblem."""
    if spec == "none":
        return []
    if spec in ("all", "auto"):
        if spec == "all" and not devices:
            raise UsageProblem(f"--gpus all: {_none_here()}")
        return list(devices)
    chosen: list[Device] = []
    for part in spec.split(","):
        chosen += _part(spec, part.strip(), devices)
    doubled = [device for device in chosen if chosen.count(device) > 1]
    if doubled:
        raise UsageProblem(f"--gpus {spec}: GPU {doubled[0].index} is named twice")
    return chosen


def _part(spec: str, part: str, devices: Sequence[Device]) -> list[Device]:
    match = _RANGE.fullmatch(part)
    if match is None:
        named = [device for device in devices if part.startswith(("GPU-", "MIG-")) and device.uuid.startswith(part)]
        if len(named) == 1:
            return named
        if part.startswith(("GPU-", "MIG-")):
            raise UsageProblem(f"--gpus {spec}: {'several GPUs match' if named else 'there is no GPU'} {part!r}. {_listing(devices)}")
        raise UsageProblem(f"--gpus {spec}: {part!r} is not understood. Valid: 0-7, 0,2,4, a GPU's UUID, all, auto, none.")
    first, last = int(match[1]), int(match[2] or match[1])
    if first > last:
        raise UsageProblem(f"--gpus {spec}: the range {part} runs backwards; write {last}-{first}")
    if not devices:
        raise UsageProblem(f"--gpus {spec}: {_none_here()}")
    if last >= len(devices):
        raise UsageProblem(f"--gpus {spec}: there is no GPU {max(first, len(devices))}. {_listing(devices)}")
    return list(devices[first : last + 1])


def _none_here() -> str:
    hidden = " (CUDA_VISIBLE_DEVICES is empty)" if os.environ.get("CUDA_VISIBLE_DEVICES") == "" else ""
    return f"this machine shows no NVIDIA GPU{hidden}.\nUse --gpus none for CPU lanes, or --gpus auto for GPUs where there are some."


def _listing(devices: Sequence[Device]) -> str:
    return "Visible GPUs: " + (", ".join(f"{device.index} ({device.name}, {device.uuid})" for device in devices) or "none") + "."
