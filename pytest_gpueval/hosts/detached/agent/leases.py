"""Leases of GPUs for a run that is a server: the same files, locked in the same way, as those of sessions. See `gpus.leases`."""

from __future__ import annotations

import json
import os
import re
import time
from typing import Any

from pytest_gpueval.gpus.lock_files import held_record, lease_directory, lock_name, lock_signature, prepare_directory, take_lock, unusable, write_record

from .files import Run, read_json, write_json
from .gpus import ASKED_S, NO_SMI, GpuLook
from .processes import POLL_S, Refused

LIST = (("-L",),)
CARD = re.compile(r"GPU (\d+): .*\(UUID: (GPU-[^)]+)\)")
INSTANCE = re.compile(r"\s+MIG .*\(UUID: (MIG-[^)]+)\)")
LOOKED_AT_S = 0.5  # who only looks at a lease holds it for an instant


def leasable(environment: dict[str, str]) -> tuple[list[dict[str, Any]], list[str]]:
    """The GPUs that CUDA_VISIBLE_DEVICES leaves a command, all where it says nothing, free to be leased; and notes on why they cannot be. Raises Refused."""
    spec = environment.get("CUDA_VISIBLE_DEVICES")
    if spec is not None and not spec.strip():
        return [], []
    said, why = GpuLook(ASKED_S, LIST).said()
    if why:
        return [], [f"its GPUs are not leased, sessions know them by their memory alone: {why}"] if spec or why != NO_SMI else []
    cards = chosen(spec, listed(said[0]))
    for card in cards:
        owner = holder(card)
        if owner is not None:
            raise Refused("conflict", gpu_is_taken(card, owner))
    return cards, []


def listed(said: bytes) -> list[dict[str, Any]]:
    """GPUs, and after each its MIG instances, of what `nvidia-smi -L` printed."""
    found: list[dict[str, Any]] = []
    index, parent = "", ""
    for line in said.decode("utf-8", "replace").splitlines():
        card, instance = CARD.match(line), INSTANCE.match(line)
        if card:
            index, parent = card[1], card[2]
            found.append({"label": index, "uuid": parent, "parent": None})
        elif instance and parent:
            found.append({"label": f"{index}, a MIG instance,", "uuid": instance[1], "parent": parent})
    return found


def chosen(spec: str | None, cards: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The cards that a CUDA_VISIBLE_DEVICES names, as CUDA reads it: by index, or by the beginning of a UUID; what comes after nonsense does not count."""
    if spec is None:
        return [card for card in cards if card["parent"] is None]
    found = []
    for word in map(str.strip, spec.split(",")):
        by_uuid = word[:4] in ("GPU-", "MIG-")
        fitting = [card for card in cards if (card["uuid"].startswith(word) if by_uuid else card["parent"] is None and card["label"] == word)]
        if len(fitting) != 1 or fitting[0] in found:
            break
        found.append(fitting[0])
    return found


def place_of_lease(uuid: str, kind: str = "lease") -> str:
    """The lock file of a GPU."""
    return os.path.join(lease_directory(), lock_name(uuid, kind))


def holder(card: dict[str, Any]) -> str | None:
    """Who has leased a GPU, or that of a MIG instance, whole; None where nobody has."""
    for uuid in filter(None, (card["uuid"], card["parent"])):
        record = held_record(place_of_lease(uuid))
        if record is not None:
            return owner_words(record)
    return None


def owner_words(record: bytes) -> str:
    """What an owner says of itself. The file is everybody's, and so is what stands in it."""
    try:
        told = json.loads(record.decode("utf-8", "replace"))
        parts = [f"{word} {str(told[name])[:200]}" for word, name in (("pid", "pid"), ("user", "user"), ("session", "session")) if told.get(name)]
    except (ValueError, LookupError, AttributeError, RecursionError):
        parts = []
    return ", ".join(parts) or "an unknown process"


def gpu_is_taken(card: dict[str, Any], owner: str) -> str:
    """Why a server cannot have a GPU."""
    way_on = "Wait until it is free, name others with --gpus, or use it all the same with --gpus-shared."
    return f"GPU {card['label']} ({card['uuid']}) is in use: {owner}.\n{way_on}"


def write_leases(run: Run, claim: dict[str, Any], cards: list[dict[str, Any]]) -> None:
    """What the runner is to lease. Most runs lease nothing, and have no such file; one of a submit that was cut off may say something else by now."""
    path = run.place(claim, "leases.json")
    if cards or os.path.exists(path):
        write_json(path, cards)


def take_leases(run: Run, claim: dict[str, Any]) -> list[int]:
    """Lease what this run was to lease; the descriptors hold it, for whoever inherits them, too. Raises Refused; then nothing is leased."""
    cards: list[dict[str, Any]] = read_json(run.place(claim, "leases.json")) or []
    held: list[int] = []
    place = lease_directory()
    try:
        if cards:
            prepare_directory(place)
        wanted = {card["uuid"]: (card, True) for card in cards}
        for card in cards:
            if card["parent"] is not None:
                wanted.setdefault(card["parent"], (card, False))
        for uuid in sorted(wanted):  # in the order of sessions: nobody waits for each other
            card, alone = wanted[uuid]
            held.append(leased(uuid, card, run.id, alone=alone))
        for card in cards:
            os.close(leased(card["uuid"], card, run.id, kind="workers"))  # of a session that died
    except (OSError, Refused) as error:
        for descriptor in held:
            os.close(descriptor)
        raise error if isinstance(error, Refused) else Refused("storage", unusable(place, error)) from None
    return held


def leased(uuid: str, card: dict[str, Any], name: str, *, kind: str = "lease", alone: bool = True) -> int:
    """One lock, signed where it is a lease of our own. Raises Refused and OSError."""
    path = place_of_lease(uuid, kind)
    limit = time.monotonic() + LOOKED_AT_S
    while True:
        descriptor = take_lock(path, exclusive=alone)
        if descriptor is not None:
            break
        record = held_record(path)
        if time.monotonic() > limit:
            words = "workers of a session that has ended" if kind == "workers" else owner_words(record or b"")
            raise Refused("conflict", gpu_is_taken(card, words))
        time.sleep(POLL_S)
    if kind == "lease" and alone:
        write_record(descriptor, json.dumps({**lock_signature(f"server {name}"), "parent": card["parent"]}).encode())
    return descriptor
