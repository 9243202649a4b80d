"""The GPUs of a session: reserved, pinned where this process runs the items itself, laid out as lanes."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from pytest_gpueval.errors import UsageProblem
from pytest_gpueval.gpus import devices, leases
from pytest_gpueval.processes import leftovers

from . import lanes
from .lanes import Lane

if TYPE_CHECKING:
    from .away import Away
    from .settings import Settings

RESERVATION = pytest.StashKey[leases.Reservation]()
CLEANED = pytest.StashKey[Sequence[str]]()
# The environment before GPUs were pinned: in it their indices count.
_CALLERS = pytest.StashKey[Mapping[str, str]]()


@dataclass(frozen=True)
class Allocation:
    """What a session runs on. `by_xdist`: the lanes are xdist's workers; else this process is the only one. `notes` are for its header.

    `away` are the other hosts that lanes are on.
    """

    lanes: Sequence[Lane] = ()
    notes: Sequence[str] = ()
    by_xdist: bool = False
    away: Mapping[str, Away] = field(default_factory=dict)


def reserve(config: pytest.Config, settings: Settings) -> leases.Reservation:
    """Lease the GPUs of `--gpus` until pytest ends, once. Raises UsageProblem, Conflict, StorageError, RuntimeFault."""
    found = config.stash.get(RESERVATION, None)
    if found is None:
        clean_up(config)
        session = settings.session or "+".join(settings.suite) or "pytest"
        try:
            found = leases.reserve(
                settings.gpus or "none",
                session=session,
                wait_s=settings.gpus_wait_s,
                shared=settings.gpus_shared,
                on_wait=_say,
                environment=config.stash.get(_CALLERS, os.environ),
            )
        except KeyboardInterrupt:  # pytest does not expect one this early
            sys.stderr.write("gpueval: interrupted while it waited for GPUs\n")
            raise SystemExit(int(pytest.ExitCode.INTERRUPTED)) from None
        config.add_cleanup(found.leases.release)
        config.stash[RESERVATION] = found
    return found


def clean_up(config: pytest.Config) -> None:
    """End what dead sessions left on this machine, once: it may hold GPUs and ports."""
    if CLEANED not in config.stash:
        config.stash[CLEANED] = leftovers.end()


def pin(config: pytest.Config, settings: Settings) -> None:
    """Let this process, and what it starts, see only the GPUs of `--gpus`. Raises as `reserve`.

    Which are free, only taking them tells; those that are named are leased later, once the data are here.
    """
    spec = settings.gpus or "none"
    chosen = reserve(config, settings).devices if spec == "auto" else devices.select(spec, devices.visible() if spec != "none" else [])
    if not chosen:
        return
    config.stash[_CALLERS] = dict(os.environ)
    set_environment(config, {"CUDA_VISIBLE_DEVICES": ",".join(device.uuid for device in chosen)})


def set_environment(config: pytest.Config, variables: Mapping[str, str]) -> None:
    """Set variables of this process until pytest ends."""
    before = {name: os.environ.get(name) for name in variables}

    def restore() -> None:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value

    os.environ.update(variables)
    config.add_cleanup(restore)


def lay(config: pytest.Config, settings: Settings, widths: frozenset[int], items: int, *, alone: bool, looks: bool) -> Allocation:
    """The lanes of `--gpus`, ready to start. Raises UsageProblem, Conflict, StorageError, RuntimeFault.

    `widths` are the numbers of GPUs that runtimes need, `items` bounds the CPU lanes. `alone`: this process runs the items. `looks`: nothing will
    run, so nothing is leased.
    """
    spec = settings.gpus
    if settings.hosts:
        return _elsewhere(config, settings, widths, items, alone=alone, looks=looks)
    if spec is None:
        if not looks:
            clean_up(config)
        return Allocation(notes=config.stash.get(CLEANED, ()))
    given = config.option if alone else config.known_args_namespace  # as it was typed: xdist makes numbers of words, before us or after
    processes = lanes.processes(getattr(given, "numprocesses", None))
    if looks:
        chosen: Sequence[devices.Device] = devices.select(spec, devices.visible() if spec != "none" else [])
        reservation = leases.Reservation(leases.Leases({}))
    else:
        reservation = reserve(config, settings)
        chosen = reservation.devices
    laid = lanes.on_gpus(chosen, widths) if chosen else lanes.on_cpu(processes, items, widths)
    lanes.check_workers(laid, spec, processes)
    notes = [*config.stash.get(CLEANED, ()), *(f"GPU {device.label} {why}; passed over" for device, why in reservation.passed_over)]
    if alone or (len(laid) == 1 and not laid[0].gpus):
        laid = [max(laid, key=lambda lane: len(lane.gpus))]
        if not looks:
            set_environment(config, laid[0].environment)
        return Allocation(laid, notes=notes)
    if looks:
        return Allocation(laid, notes=notes)
    guards = reservation.leases.guards
    lanes.start_by_xdist(laid, config, lambda lane: lanes.command_here(lane, guards))
    return Allocation(laid, notes, by_xdist=True)


def _elsewhere(config: pytest.Config, settings: Settings, widths: frozenset[int], items: int, *, alone: bool, looks: bool) -> Allocation:
    """The lanes of `--gpueval-hosts`. Raises UsageProblem, Conflict, StorageError, RuntimeFault, Unreachable, AccessDenied."""
    from . import away  # noqa: PLC0415 - most sessions stay here

    named = away.check(settings, config, alone=alone)
    if looks:
        return Allocation(notes=[f"{', '.join(one.name for one in named)}: asked once something is to run"])
    clean_up(config)
    processes = lanes.processes(getattr(config.known_args_namespace, "numprocesses", None))
    hosts = away.take(named, settings, processes, _tell)
    for one in hosts.found.values():
        config.add_cleanup(one.close)
    laid, narrow = [], []
    for one in hosts.found.values():
        try:
            laid += one.lanes(widths, processes, items)
        except UsageProblem as problem:
            narrow.append(f"{one.name}: {problem}")
    if not laid:
        raise UsageProblem("\n".join(narrow))
    lanes.start_by_xdist(laid, config, lambda lane: hosts.found[lane.host].command(lane))
    passed_over = [f"{one.name}: GPU {label} {why}; passed over" for one in hosts.found.values() for label, why in one.keeper.have["passed_over"]]
    return Allocation(laid, [*config.stash.get(CLEANED, ()), *hosts.notes, *narrow, *passed_over], by_xdist=True, away=hosts.found)


def _say(reason: str) -> None:
    _tell(f"waiting: {reason}")


def _tell(text: str) -> None:
    sys.stderr.write(f"gpueval: {text}\n")
    sys.stderr.flush()
