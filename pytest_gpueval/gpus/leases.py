"""Leases: two sessions on one host never share a GPU, whoever runs them.

A GPU has two lock files. `<uuid>.lease` is locked by the session's process; the kernel frees it however that process ends. `<uuid>.workers` is
locked, shared, by the supervisor of every worker on the GPU, so that the next session waits until a dead one's workers are gone. (A supervisor
that has locked it must look once more whether its session still lives: it may have been started as that session died.) A MIG
instance's lease shares its GPU's `.lease`: it excludes whoever wants the whole GPU, not its siblings.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

from pytest_gpueval.errors import Conflict, StorageError

from . import lock_files, locks, nvml
from .devices import Device, select, visible
from .locks import Owner
from .nvml import Reading

_POLL_S = 0.2
_PROBES = 100
_PROBE_S = 0.005
_IDLE_MEMORY_MIB = 1024
_IDLE_MEMORY_SHARE = 0.05
_IDLE_UTILIZATION = 20
CLEANUP_S = 20.0


class Leased(Conflict):
    """Another session has the GPU."""

    def __init__(self, device: Device, why: str, next_step: str) -> None:
        super().__init__(f"GPU {device.label} ({device.uuid}) {why}.\n{next_step}")
        self.device = device
        self.why = why


@dataclass(frozen=True, slots=True)
class _Lock:
    path: Path
    exclusive: bool
    device: Device


class Leases:
    """GPUs that are this process's until `release`. `guards` maps their UUIDs to the files that supervisors lock, shared, for their life."""

    def __init__(self, guards: Mapping[str, Path]) -> None:
        self.guards: dict[str, Path] = dict(guards)
        self._descriptors: list[int] = []
        self._signed: set[int] = set()
        self._pid = os.getpid()

    def release(self) -> None:
        """Give them back; again is harmless. In a forked child it forgets them and leaves them to its parent."""
        while self._descriptors:
            descriptor = self._descriptors.pop()
            if os.getpid() == self._pid:
                # Closing alone leaves the lock to a forked child that shares it.
                with suppress(OSError):
                    if descriptor in self._signed:
                        os.ftruncate(descriptor, 0)  # else the next owner's first moments are ours
                    fcntl.flock(descriptor, fcntl.LOCK_UN)
            os.close(descriptor)

    def add(self, descriptor: int, *, signed: bool) -> None:
        """Take over a lock; a signed one has our record in it."""
        self._descriptors.append(descriptor)
        if signed:
            self._signed.add(descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.release()


def _nobody_listens(_: str) -> None:
    """No progress wanted."""


def acquire(
    devices: Sequence[Device],
    *,
    session: str,
    wait_s: float = 0,
    on_wait: Callable[[str], None] = _nobody_listens,
    directory: Path | None = None,
    cleanup_s: float = CLEANUP_S,
) -> Leases:
    """Lease all these GPUs or none, waiting up to `wait_s` for sessions and up to `cleanup_s` for workers of dead ones.

    `on_wait` gets each new reason for waiting once. Locks are taken in the order of their names, so that two sessions cannot wait for each
    other. Raises Leased (a Conflict) and StorageError.
    """
    place = directory if directory is not None else locks.default_directory()
    locks.prepare(place)
    leases = Leases({device.uuid: _file(place, device.uuid, "workers") for device in devices})
    deadline = time.monotonic() + wait_s
    try:
        for wanted in _plan(devices, place):
            descriptor = _patiently(partial(_attempt, wanted, place), deadline, on_wait)
            leases.add(descriptor, signed=wanted.exclusive)
            if wanted.exclusive:
                _sign(wanted, descriptor, session)
        deadline = time.monotonic() + cleanup_s
        for device in devices:
            os.close(_patiently(partial(_attempt_guard, device, leases.guards[device.uuid], cleanup_s), deadline, on_wait))
    except BaseException:
        leases.release()
        raise
    return leases


def _plan(devices: Sequence[Device], place: Path) -> list[_Lock]:
    wanted = {device.uuid: _Lock(_file(place, device.uuid, "lease"), True, device) for device in devices}
    for device in devices:
        if device.parent is not None:
            wanted.setdefault(device.parent, _Lock(_file(place, device.parent, "lease"), False, device))
    return [wanted[uuid] for uuid in sorted(wanted)]


def _sign(lock: _Lock, descriptor: int, session: str) -> None:
    try:
        locks.write(descriptor, locks.myself(session, lock.device.parent))
    except OSError as error:
        raise StorageError(f"{lock.path}: cannot be written: {error.strerror}. Free some space there.") from None


def _patiently(attempt: Callable[[], int], deadline: float, on_wait: Callable[[str], None]) -> int:
    """Attempt until it works or the deadline is over. flock can wait, but not until a deadline: hence polling."""
    told: set[str] = set()
    while True:
        try:
            return attempt()
        except Leased as refusal:
            remaining_s = deadline - time.monotonic()
            if remaining_s <= 0:
                raise
            reason = f"GPU {refusal.device.label} {refusal.why}"
            if reason not in told:
                told.add(reason)
                on_wait(reason)
            time.sleep(min(_POLL_S, remaining_s))


def _attempt(wanted: _Lock, place: Path) -> int:
    for _ in range(_PROBES):
        descriptor = locks.lock(wanted.path, exclusive=wanted.exclusive)
        if descriptor is not None:
            return descriptor
        owner = locks.held(wanted.path)
        if owner is not None:
            raise _leased(wanted.device, owner)
        for owner in _owners_of_instances(wanted.device.uuid, place):
            raise _leased(wanted.device, owner, " as MIG instances")
        time.sleep(_PROBE_S)  # somebody was only looking, see `holder`: they are gone in no time
    raise _leased(wanted.device, Owner())


def _leased(device: Device, owner: Owner, how: str = "") -> Leased:
    return Leased(device, f"is in use{how}: {owner}", "Wait for it with --gpus-wait SECONDS, choose other GPUs with --gpus, or see `gpueval gpus`.")


def _owners_of_instances(uuid: str, place: Path) -> Iterator[Owner]:
    for path in sorted(place.glob("MIG-*.lease")):
        owner = locks.held(path)
        if owner is not None and owner.parent == uuid:
            yield owner


def _attempt_guard(device: Device, guard: Path, cleanup_s: float) -> int:
    descriptor = locks.lock(guard, exclusive=True)
    if descriptor is None:
        why = "is still used by workers of a session that has ended"
        raise Leased(device, why, f"They were given {cleanup_s:g} s to go. See `nvidia-smi` for what runs there, or choose other GPUs with --gpus.")
    return descriptor


def holder(uuid: str, directory: Path | None = None) -> Owner | None:
    """Who has leased this GPU or MIG instance, for showing: never waits, makes nothing.

    It looks by taking the lock shared for an instant. An answer may be old when it arrives; and `acquire`, refused in that very
    instant, finds no owner and tries again.
    """
    return locks.held(_file(directory if directory is not None else locks.default_directory(), uuid, "lease"))


def _file(place: Path, uuid: str, kind: str) -> Path:
    return place / lock_files.lock_name(uuid, kind)


def busy(*reads: Reading) -> str | None:
    """Words for why others seem to use a GPU, judged by the lowest of several reads (one spike is no use); None if it looks free.

    Memory above 1024 MiB or 5 % of the total, whichever is more, or utilisation from 20 % on. Processes are not asked: containers hide them.
    """
    used = [read.memory_used_mib for read in reads if read.memory_used_mib is not None]
    total = max((read.memory_total_mib or 0 for read in reads), default=0)
    rates = [read.utilization for read in reads if read.utilization is not None]
    why = []
    if used and min(used) > max(_IDLE_MEMORY_MIB, total * _IDLE_MEMORY_SHARE):
        why.append(f"{min(used)} of {total} MiB of memory in use")
    if rates and min(rates) >= _IDLE_UTILIZATION:
        why.append(f"{min(rates)} % utilisation")
    return ", ".join(why) or None


@dataclass(frozen=True, slots=True)
class Pick:
    """The GPUs a session takes, and those that `auto` passed over, with words why."""

    chosen: tuple[Device, ...] = ()
    passed_over: tuple[tuple[Device, str], ...] = ()


def pick(
    spec: str,
    devices: Sequence[Device],
    *,
    reads: Mapping[str, Sequence[Reading]],
    leased: Mapping[str, str],
    shared: bool = False,
    environment: Mapping[str, str] = os.environ,
) -> Pick:
    """What `--gpus` takes of these devices. `reads` and `leased` (words on the owner) go by UUID; `shared` takes busy ones too.

    `auto` passes over busy and leased GPUs. Named ones must not be busy; their leases are left to `acquire`, which may wait. Raises
    UsageProblem, Conflict for a named GPU that is busy, and for `auto` where there are GPUs but none is free.
    """
    named = select(spec, devices, environment)
    judged = {} if shared else reads
    if spec != "auto":
        _refuse_busy(named, judged)
        return Pick(tuple(named))
    why_not = {uuid: f"busy: {why}" for uuid, several in judged.items() if (why := busy(*several)) is not None} | dict(leased)
    passed_over = tuple((device, why_not[device.uuid]) for device in named if device.uuid in why_not)
    chosen = tuple(device for device in named if device.uuid not in why_not)
    if named and not chosen:
        listing = "".join(f"\n  GPU {device.label} ({device.uuid}): {why}" for device, why in passed_over)
        raise Conflict(
            f"--gpus auto: no GPU is free.{listing}\n"
            "Wait with --gpus-wait SECONDS, use busy ones all the same with --gpus-shared, or take CPU lanes with --gpus none."
        )
    return Pick(chosen, passed_over)


def _refuse_busy(devices: Sequence[Device], reads: Mapping[str, Sequence[Reading]]) -> None:
    for device in devices:
        why = busy(*reads.get(device.uuid, ()))
        if why is not None:
            raise Conflict(
                f"GPU {device.label} ({device.uuid}) is used by somebody without a lease: {why}.\n"
                "Choose other GPUs with --gpus, let --gpus auto pass it over, or use it all the same with --gpus-shared."
            )


def observe(uuids: Sequence[str], *, times: int = 4, interval_s: float = 0.25) -> dict[str, list[Reading]]:
    """Read GPUs; again, up to `times` in all, those that look busy: only what stays counts. Raises RuntimeFault."""
    with nvml.session() as library:
        reads = {uuid: [reading] for uuid, reading in nvml.read(library, uuids).items()}
        for _ in range(times - 1):
            unsettled = [uuid for uuid, several in reads.items() if busy(*several)]
            if not unsettled:
                break
            time.sleep(interval_s)  # NVML's rates are averages over about that long
            for uuid, reading in nvml.read(library, unsettled).items():
                reads[uuid].append(reading)
    return reads


@dataclass(frozen=True, slots=True)
class Reservation:
    """GPUs that a session may use until it releases `leases`, and those that `auto` passed over."""

    leases: Leases
    devices: tuple[Device, ...] = ()
    passed_over: tuple[tuple[Device, str], ...] = ()


def reserve(
    spec: str,
    *,
    session: str,
    wait_s: float = 0,
    shared: bool = False,
    on_wait: Callable[[str], None] = _nobody_listens,
    directory: Path | None = None,
    environment: Mapping[str, str] = os.environ,
) -> Reservation:
    """Everything in its order: see, choose, lease, make sure that nobody without a lease is there.

    Raises UsageProblem, Conflict, StorageError, RuntimeFault.
    """
    if spec == "none":
        return Reservation(Leases({}))
    devices = visible(environment)  # and NVML closed again: an open one is in the way of those who reset GPUs while we wait
    if spec == "auto":
        return _reserve_free(devices, session=session, wait_s=wait_s, shared=shared, on_wait=on_wait, directory=directory)
    chosen = select(spec, devices, environment)
    leases = acquire(chosen, session=session, wait_s=wait_s, on_wait=on_wait, directory=directory)
    try:  # who had the lease until now may have been what made it busy
        if not shared:
            _refuse_busy(chosen, observe([device.uuid for device in chosen]))
    except BaseException:
        leases.release()
        raise
    return Reservation(leases, tuple(chosen))


def _reserve_free(
    devices: Sequence[Device], *, session: str, wait_s: float, shared: bool, on_wait: Callable[[str], None], directory: Path | None
) -> Reservation:
    if not devices:
        return Reservation(Leases({}))
    deadline = time.monotonic() + wait_s
    told: set[str] = set()
    while True:
        leased = {device.uuid: f"leased: {owner}" for device in devices if (owner := holder(device.uuid, directory)) is not None}
        free = [device.uuid for device in devices if device.uuid not in leased]
        reads = {} if shared else observe(free)
        try:
            return _lease_free(devices, reads, leased, session=session, shared=shared, on_wait=on_wait, directory=directory)
        except Conflict as refusal:
            remaining_s = deadline - time.monotonic()
            if remaining_s <= 0:
                raise
            reason = str(refusal).rpartition("\n")[0]
            if reason not in told:
                told.add(reason)
                on_wait(reason)
            time.sleep(min(1, remaining_s))  # busy GPUs tell nobody when they become free


def _lease_free(
    devices: Sequence[Device],
    reads: Mapping[str, Sequence[Reading]],
    leased: dict[str, str],
    *,
    session: str,
    shared: bool,
    on_wait: Callable[[str], None],
    directory: Path | None,
) -> Reservation:
    while True:  # ends: each turn adds to `leased`
        picked = pick("auto", devices, reads=reads, leased=leased, shared=shared)
        try:
            return Reservation(acquire(picked.chosen, session=session, on_wait=on_wait, directory=directory), picked.chosen, picked.passed_over)
        except Leased as refusal:
            leased[refusal.device.uuid] = refusal.why
