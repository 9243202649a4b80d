"""The GPUs that the caller may see, and those of them that `--gpus` chooses."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from pytest_gpueval.errors import UsageProblem

from . import nvml

_RANGE = re.compile(r"([0-9]{1,9})(?:-([0-9]{1,9}))?")
_INSTANCE = re.compile(r"([0-9]{1,9}):([0-9]{1,9})")
_VALID = "Valid: 0-7, 0,2,4, a GPU's UUID, a MIG instance's UUID, all, auto, none."


@dataclass(frozen=True, slots=True)
class Device:
    """One GPU or MIG instance. `index` counts into what the caller may see.

    `parent` is the UUID of the GPU that a MIG instance belongs to. Instances that the caller sees through their GPU share its index and are
    told apart by `instance`; one that CUDA_VISIBLE_DEVICES names has an index of its own.
    """

    index: int
    uuid: str
    name: str
    parent: str | None = None
    instance: int | None = None

    @property
    def label(self) -> str:
        """`2` for a GPU, `2:0` for an instance of GPU 2: unique among what the caller sees."""
        return str(self.index) if self.instance is None else f"{self.index}:{self.instance}"


def visible(environment: Mapping[str, str] = os.environ) -> list[Device]:
    """The GPUs that NVML reports, narrowed to the caller's CUDA_VISIBLE_DEVICES; GPUs in MIG mode as their instances.

    Empty where there is no driver. Indices count as in nvidia-smi, which is CUDA_DEVICE_ORDER=PCI_BUS_ID. Raises RuntimeFault for a broken
    driver, UsageProblem for a CUDA_VISIBLE_DEVICES that names a GPU and its instance.
    """
    return narrowed(nvml.gpus(), environment.get("CUDA_VISIBLE_DEVICES"))


def narrowed(gpus: Sequence[nvml.Gpu], mask: str | None) -> list[Device]:
    """Apply CUDA_VISIBLE_DEVICES (indices or UUID prefixes) as CUDA does. Raises UsageProblem for a GPU beside its own instance.

    In its order, ending at the first entry that is not there or names several; one named twice leaves none.
    """
    entries = _entries(gpus, mask)
    if entries is None:
        return []
    whole = {entry.uuid for entry in entries if isinstance(entry, nvml.Gpu)}
    devices: list[Device] = []
    for index, entry in enumerate(entries):
        if isinstance(entry, Device):
            if entry.parent in whole:
                raise UsageProblem(f"CUDA_VISIBLE_DEVICES={mask}: {entry.uuid} is an instance of {entry.parent}, which is named too; name the instances alone.")
            devices.append(Device(index, entry.uuid, entry.name, entry.parent))
        elif entry.instances is None:
            devices.append(Device(index, entry.uuid, entry.name))
        else:
            devices += [Device(index, uuid, name, entry.uuid, number) for number, (uuid, name) in enumerate(entry.instances)]
    return devices


def _entries(gpus: Sequence[nvml.Gpu], mask: str | None) -> list[nvml.Gpu | Device] | None:
    """What the mask names: GPUs, and MIG instances as devices without a number yet; None if one is named twice."""
    if mask is None:
        return list(gpus)
    everything: list[nvml.Gpu | Device] = [*gpus, *_all_instances(gpus)]
    chosen: list[nvml.Gpu | Device] = []
    for entry in map(str.strip, mask.split(",")):
        if re.fullmatch("[0-9]{1,9}", entry):
            matches: list[nvml.Gpu | Device] = list(gpus[int(entry) : int(entry) + 1])
        else:
            matches = [one for one in everything if entry and one.uuid.startswith(entry)]
        if len(matches) != 1:
            break
        if matches[0] in chosen:
            return None
        chosen += matches
    return chosen


def _all_instances(gpus: Sequence[nvml.Gpu]) -> Iterator[Device]:
    for gpu in gpus:
        for uuid, name in gpu.instances or ():
            yield Device(-1, uuid, name, gpu.uuid)


def select(spec: str, devices: Sequence[Device], environment: Mapping[str, str] = os.environ) -> list[Device]:
    """The devices that `--gpus` names: `all`, `auto`, `none`, indices and ranges, UUIDs, `2:0` for a MIG instance. Raises UsageProblem.

    `environment` is the one that `devices` were found in; messages speak of it.
    """
    if spec == "none":
        return []
    if spec in ("all", "auto"):
        if spec == "all" and not devices:
            raise UsageProblem(f"--gpus all: {none_here(environment)}")
        return list(devices)
    chosen: list[Device] = []
    for part in parts(spec):
        chosen += _named(spec, part, devices, environment)
    doubled = [device for device in chosen if chosen.count(device) > 1]
    if doubled:
        raise UsageProblem(f"--gpus {spec}: GPU {doubled[0].label} is named twice")
    return chosen


def parts(spec: str) -> list[range | str]:
    """What a list of GPUs names: ranges of indices, UUIDs, labels of MIG instances. Raises UsageProblem."""
    return [_part(spec, part) for part in map(str.strip, spec.split(","))]


def _part(spec: str, part: str) -> range | str:
    if part.startswith(("GPU-", "MIG-")):
        return part
    instance = _INSTANCE.fullmatch(part)
    if instance is not None:
        return f"{int(instance[1])}:{int(instance[2])}"
    match = _RANGE.fullmatch(part)
    if match is None:
        what = repr(part) if len(part) < 100 else f"{part[:100]!r}..."
        raise UsageProblem(f"--gpus {spec[:200]}: {what} is not understood. {_VALID}")
    first, last = int(match[1]), int(match[2] or match[1])
    if first > last:
        raise UsageProblem(f"--gpus {spec}: the range {part} runs backwards; write {last}-{first}")
    return range(first, last + 1)


def _named(spec: str, part: range | str, devices: Sequence[Device], environment: Mapping[str, str]) -> list[Device]:
    if not devices:
        raise UsageProblem(f"--gpus {spec}: {none_here(environment)}")
    if isinstance(part, str):
        return [_by_label(spec, part, devices) if ":" in part else _by_uuid(spec, part, devices)]
    highest = max(device.index for device in devices)
    if part[-1] > highest:
        raise UsageProblem(f"--gpus {spec}: there is no GPU {max(part[0], highest + 1)}. {_listing(devices)}")
    return [_by_index(spec, index, devices) for index in part]


def _by_index(spec: str, index: int, devices: Sequence[Device]) -> Device:
    there = [device for device in devices if device.index == index]
    if not there:  # numbers are missing where a GPU has nothing to offer
        raise UsageProblem(f"--gpus {spec}: GPU {index} is in MIG mode and has no instance; make one with `nvidia-smi mig`. {_listing(devices)}")
    if there[0].instance is not None:
        raise _in_mig_mode(spec, there)
    return there[0]


def _by_label(spec: str, label: str, devices: Sequence[Device]) -> Device:
    for device in devices:
        if device.label == label:
            return device
    raise UsageProblem(f"--gpus {spec}: there is no MIG instance {label}. {_listing(devices)}")


def _by_uuid(spec: str, part: str, devices: Sequence[Device]) -> Device:
    named = [device for device in devices if device.uuid.startswith(part)]
    inside = [device for device in devices if device.parent is not None and device.parent.startswith(part)]
    if len(named) == 1 and not inside:
        return named[0]
    if inside and not named and len({device.parent for device in inside}) == 1:
        raise _in_mig_mode(spec, inside)
    raise UsageProblem(f"--gpus {spec}: {'several GPUs match' if named or inside else 'there is no GPU'} {part!r}. {_listing(devices)}")


def _in_mig_mode(spec: str, instances: Sequence[Device]) -> UsageProblem:
    gpu = str(instances[0].index) if instances[0].instance is not None else instances[0].parent
    return UsageProblem(f"--gpus {spec}: GPU {gpu} is in MIG mode; name its instances alone: {', '.join(device.uuid for device in instances)}")


def none_here(environment: Mapping[str, str]) -> str:
    """Why there is nothing to choose from, and what to do."""
    return f"this machine shows no NVIDIA GPU{hidden(environment)}.\nUse --gpus none for CPU lanes, or --gpus auto for GPUs where there are some."


def hidden(environment: Mapping[str, str]) -> str:
    """The CUDA_VISIBLE_DEVICES that may hide GPUs, in brackets; empty where it is not set."""
    mask = environment.get("CUDA_VISIBLE_DEVICES")
    return "" if mask is None else f" (CUDA_VISIBLE_DEVICES is {'empty' if mask == '' else repr(mask)})"


def _listing(devices: Sequence[Device]) -> str:
    return "Visible GPUs: " + (", ".join(f"{device.label} ({device.name}, {device.uuid})" for device in devices) or "none") + "."
