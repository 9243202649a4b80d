"""Rents a pod once and waits until it lets itself be logged in to; what of it stands in hosts.toml."""

from __future__ import annotations

import re
import socket
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pytest_gpueval.errors import Conflict, GpuevalError, MissingExtra, Unreachable, UsageProblem, valid_values

from . import declared
from .address import Ssh
from .lium import Lium, NoAnswer, Node, Pod

TTL: Final = re.compile(r"[1-9]\d{0,3}(?:\.\d)?[mhd]\Z")
NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}\Z")
_LOOK_S: Final = 5.0
_TRY_EVERY_S: Final = 0.5


@dataclass(frozen=True, slots=True)
class Rental:
    """What is to be rented. `volume` is its id, None for none; `ttl` as lium writes it: 45m, 6h, 2d."""

    name: str
    node: Node
    ttl: str
    volume: str | None
    template: str | None = None

    def words(self, timeout_s: float) -> list[str]:
        """The words after `lium up`. It is never without an end: --ttl."""
        words = [
            self.node.id,
            f"--count={self.node.gpu_count}",
            f"--name={self.name}",
            f"--ttl={self.ttl}",
            f"--timeout={max(1, int(timeout_s))}",
            "--yes",
            "--json",
        ]
        words += [f"--volume=id:{self.volume}"] if self.volume else []
        return [*words, *([f"--template_id={self.template}"] if self.template else [])]


def chosen(lium: Lium, node: str | None, *, gpu: str | None, count: int | None, country: str | None, max_price: float | None) -> Node:
    """The node of an id, or the cheapest that fits. Raises UsageProblem."""
    if node is None and gpu is None:
        raise UsageProblem("say which node (gpueval pods ls lists them), or --gpu TYPE for the cheapest of its kind")
    found = lium.nodes(gpu=gpu, count=count, country=country, max_price=max_price)
    nodes = [one for one in found if count is None or one.gpu_count == count]  # whatever was answered: more GPUs cost more
    if node is None:
        if not nodes:
            raise UsageProblem(f"no node is free with these wishes (--gpu {gpu}); gpueval pods ls shows what is")
        return nodes[0]
    matching = [one for one in nodes if node in (one.id, one.huid)]
    if len(matching) != 1:
        near = valid_values(node, [one.huid for one in nodes], what="nodes")
        raise UsageProblem(f"node {node!r}: {'several are called so; give its id' if matching else 'there is none that is free'}. {near}")
    return matching[0]


def named(pods: Sequence[Pod], name: str) -> Pod:
    """The one pod of a name, HUID or id: a word that is exactly that. Raises UsageProblem."""
    matching = [pod for pod in pods if name in (pod.name, pod.huid, pod.id)]
    if len(matching) == 1:
        return matching[0]
    if matching:
        raise UsageProblem(f"{name!r}: {len(matching)} pods are called so; give the HUID: {', '.join(pod.huid for pod in matching)}")
    word = "" if NAME.match(name) and not name.isdecimal() else " Patterns, lists and row numbers are not taken: one name, HUID or id for each pod."
    raise UsageProblem(f"there is no pod {name!r}.{word} {valid_values(name, [pod.huid for pod in pods], what='pods')}")


def rented(lium: Lium, rental: Rental, *, timeout_s: float, told: Callable[[str], None]) -> Pod:
    """Rent, and look what is there where the answer was lost: it is never asked twice.

    Raises NoAnswer with what was found; GpuevalError where nothing was rented.
    """
    try:
        return lium.rent(rental.words(timeout_s), timeout_s=timeout_s + 60)
    except NoAnswer as lost:
        told(f"{lost}\nlooking whether {rental.name!r} is there ...")
        raise NoAnswer(f"{lost}\n{seen_after(lium, rental.name)}") from None
    except KeyboardInterrupt:
        told(f"interrupted; looking whether {rental.name!r} is there ...")
        raise NoAnswer(f"interrupted while it was being rented.\n{seen_after(lium, rental.name)}") from None


def seen_after(lium: Lium, name: str) -> str:
    """What is there of a pod that may have been rented, in words."""
    again = f"gpueval pods up --name {name} takes it on"
    try:
        found = [pod for pod in lium.pods() if pod.name == name]
    except GpuevalError as error:
        return f"Whether a pod {name!r} is there could not be seen: {error}\nLook with gpueval pods ps before you rent again: it may be billing."
    if not found:
        return f"There is no pod {name!r} now; it may still appear. Look with gpueval pods ps before you rent again."
    pod = found[0]
    end = f"ends {pod.removal_at}" if pod.removal_at else "HAS NO END: lium rm NAME --in 6h sets one"
    there = f"The pod {name!r} ({pod.huid}) is there, {pod.status}, at ${pod.price_per_hour or 0:.2f} an hour, and {end}."
    return f"{there}\n{again}; gpueval pods rm {pod.huid} ends it."


def awaited(lium: Lium, pod: Pod, *, timeout_s: float, told: Callable[[str], None]) -> tuple[Pod, Ssh, str]:
    """The pod once SSH answers there, where that is, and the fingerprint of the key that it shows. Raises Unreachable."""
    limit = time.monotonic() + timeout_s
    why = before = ""
    while True:
        if pod.ssh is not None:
            try:
                return pod, pod.ssh, fingerprint(pod.ssh)
            except OSError as error:
                why = f"{pod.ssh}: {error}"
        else:
            why = f"it is {pod.status or 'unknown'}, and has no SSH address yet"
        if time.monotonic() > limit:
            raise Unreachable(
                f"the pod {pod.name!r} ({pod.huid}) does not answer after {timeout_s:g} s: {why}\n"
                f"It is rented and billed. gpueval pods up --name {pod.name} waits again; gpueval pods rm {pod.huid} ends it."
            )
        if why != before:
            told(f"{pod.name}: {why}")
        before = why
        time.sleep(_TRY_EVERY_S)  # nothing tells when a machine elsewhere answers
        if pod.ssh is None:
            pod = next((one for one in lium.pods() if one.id == pod.id), pod)


def fingerprint(address: Ssh) -> str:
    """SHA256:... of the key that an SSH server shows now; nothing is sent but the greeting. Raises OSError."""
    try:
        import paramiko  # noqa: PLC0415 - of an extra
    except ImportError:
        raise MissingExtra("paramiko", needed_for="waiting for a pod", extra="hosts") from None
    with socket.create_connection((address.host, address.port or 22), _LOOK_S) as connection:
        transport = paramiko.Transport(connection)
        try:
            transport.start_client(timeout=_LOOK_S)
            return str(transport.get_remote_server_key().fingerprint)
        except (paramiko.SSHException, EOFError) as error:
            raise OSError(str(error) or "no SSH server answers yet") from None
        finally:
            transport.close()


def entry(name: str, address: Ssh, key: str, *, volume: bool) -> str:
    """The pod's part of hosts.toml."""
    lines = [f"[hosts.{name}]", f'address = "{address}"', *(['volume = "/mnt"', 'workdir = "/mnt/gpueval"'] if volume else []), f'host_key = "{key}"']
    return "\n".join(lines) + "\n"


def saved(name: str, root: Path, address: Ssh | None = None, key: str | None = None) -> bool:
    """Whether hosts.toml has this host at this address, with this key where it pins one.

    Raises Conflict where it has another of this name, UsageProblem where it can have none.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}", name) or name == "local":
        raise UsageProblem(f"--save {name}: letters, digits, _ and -, starting with a letter or digit; 'local' is taken")
    file = root / declared.FILE_NAME
    there = declared.read(file).hosts.get(name) if file.exists() else None
    if there is not None and (address is None or there.address != str(address)):
        raise Conflict(f"{file}: there is a host {name!r} already, {there.address}; choose another --save, or take that one out")
    if there is not None and None not in {key, there.host_key} and there.host_key != key:
        raise Conflict(f"{file}: host_key of {name!r} is {there.host_key}, and {address} shows {key} now: another machine; take the old one out first")
    return there is not None


def save(text: str, root: Path) -> Path:
    """Add a host to hosts.toml, whole or not at all; what stands there stays as it is. Raises GpuevalError."""
    file = root / declared.FILE_NAME
    try:
        before = file.read_text(encoding="utf-8") if file.exists() else ""
        with tempfile.NamedTemporaryFile("w", dir=root, prefix=".hosts-", suffix=".toml", encoding="utf-8", delete=False) as beside:
            beside.write(f"{before.rstrip()}\n\n{text}" if before.strip() else text)
        place = Path(beside.name)
        try:
            declared.read(place)
            place.chmod(file.stat().st_mode & 0o777 if file.exists() else 0o644)
            place.replace(file)
        finally:
            place.unlink(missing_ok=True)
    except OSError as error:
        raise GpuevalError(f"{file} cannot be written: {error.strerror or error}") from None
    return file
