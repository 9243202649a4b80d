"""From what a host says of itself to what is wrong with it. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from pytest_gpueval.errors import DataError, GpuevalError, RuntimeFault, StorageError, UsageProblem
from pytest_gpueval.hosts.declared import HostEntry
from pytest_gpueval.hosts.detached.gpus import Gpu, gpus
from pytest_gpueval.hosts.detached.text import harmless

_OLDEST, _TOO_NEW = (3, 11), (3, 14)
# An environment with what most projects ask for.
INSTALL_BYTES: Final = 2 << 30
_MIB: Final = 1 << 20


def problems(entry: HostEntry, facts: Mapping[str, Any], *, installing: bool = True, assets: bool = True) -> list[GpuevalError]:
    """Whatever must be put right before anything starts there; of disk and data only where something is to be `installing`, and `assets` were looked at."""
    found = [*_python(entry, facts["python"]), *_volume(facts["volume"]), *_gpus(entry, facts)]
    return [*found, *(_disk(entry, facts["disk"]) if installing else ()), *(_assets(entry, facts) if assets else ())]


def _python(entry: HostEntry, python: Mapping[str, Any]) -> Iterator[GpuevalError]:
    version = tuple(python["version"])
    if _OLDEST <= version < _TOO_NEW:
        return
    why = "this package's requires-python stops there, since packages it stands on do" if version >= _TOO_NEW else "it is too old"
    yield UsageProblem(f"python = {entry.python!r} is Python {'.'.join(map(str, version))} there: {why}. Name a Python 3.11, 3.12 or 3.13.")


def _volume(volume: Mapping[str, Any] | None) -> Iterator[GpuevalError]:
    if volume is not None and not volume["mounted"]:
        yield StorageError(f"volume = {volume['path']!r} is not mounted there; mount it, or take the line out of hosts.toml")


def _disk(entry: HostEntry, disk: Mapping[str, Any]) -> Iterator[GpuevalError]:
    needed = INSTALL_BYTES if entry.install is not False else 0
    if not disk["writable"]:
        yield StorageError(f"{disk['path']} cannot be written there; name another workdir")
    if disk["free"] < needed:
        yield StorageError(
            f"{disk['path']} has {disk['free'] / _MIB:,.0f} MiB free there, and {needed / _MIB:,.0f} MiB should be; free some, or name another workdir"
        )


def _gpus(entry: HostEntry, facts: Mapping[str, Any]) -> Iterator[GpuevalError]:
    if entry.gpus in (None, "none", "auto") or entry.address.startswith("slurm:"):
        return  # GPUs of Slurm are not those of the node where one logs in
    found = gpus(facts["gpus"])
    if not found:
        yield RuntimeFault(f"gpus = {entry.gpus!r}, and no GPU can be used there: {harmless(facts['gpus']['why']) or 'nvidia-smi lists none'}")
        return
    missing = [word for word in str(entry.gpus).split(",") if not _is_there(word, found)]
    if missing:
        there = ", ".join(f"{each.index} ({each.uuid})" for each in found)
        yield RuntimeFault(f"gpus = {entry.gpus!r}: {', '.join(missing)} not there. It has: {there}")


def _is_there(word: str, found: Sequence[Gpu]) -> bool:
    if word == "all" or word.startswith("MIG-"):
        return True  # instances are not what nvidia-smi's table lists: the session says what is wrong with them
    if word.startswith("GPU-"):
        return any(each.uuid.startswith(word) for each in found)
    first, _, last = word.partition(":")[0].partition("-")
    indices = {each.index for each in found}
    return set(range(int(first), int(last or first) + 1)) <= indices


def _assets(entry: HostEntry, facts: Mapping[str, Any]) -> Iterator[GpuevalError]:
    if entry.internet:
        return
    for name in ("data", "models"):
        path = getattr(entry, name)
        if path is None:
            yield UsageProblem(
                f"internet = false, so {name} = ... must say where {name} and their manifest.json lie; `gpueval assets download` makes such a directory"
            )
        elif wrong := facts["assets"][name]["problems"]:
            more = f", and {len(wrong) - 5} more" if len(wrong) > 5 else ""
            yield DataError(f"internet = false, and {name} are not what their manifest says: {'; '.join(wrong[:5])}{more}")
