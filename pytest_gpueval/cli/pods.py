"""gpueval pods ls, up, ps, rm: machines that are rented through lium."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .output import Form, Json, Pretty, form, interruptible, show, show_document, tell, user_errors

if TYPE_CHECKING:
    from pytest_gpueval.hosts.lium import Lium, Pod
    from pytest_gpueval.hosts.pods import Rental

VOLUME_VARIABLE = "LIUM_DEFAULT_VOLUME"

app = typer.Typer(help="Rent GPU pods through lium, always with an end, and make hosts of them.", no_args_is_help=True)

_Gpu = Annotated[str | None, typer.Option("--gpu", metavar="TYPE", help="Kind of GPU: H100, A100, ...")]
_Count = Annotated[int | None, typer.Option("--count", min=1, metavar="N", help="GPUs of the node, exactly.")]
_Country = Annotated[str | None, typer.Option("--country", metavar="CODE", help="Only there: US, NL, ...")]
_MaxPrice = Annotated[float | None, typer.Option("--max-price", min=0, metavar="USD", help="At most this for a GPU and hour.")]
_Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
_Volume = Annotated[str | None, typer.Option("--volume", envvar=VOLUME_VARIABLE, metavar="NAME", help="The volume that is mounted at /mnt.")]


@app.command()
def ls(*, gpu: _Gpu = None, count: _Count = None, country: _Country = None, max_price: _MaxPrice = None, json_: Json = False, pretty: Pretty = False) -> None:
    """What can be rented now, the cheapest GPU first. Prices in USD.

    Example:
      gpueval pods ls --gpu H100 --count 8
    """
    with user_errors():
        nodes = _lium().nodes(gpu=gpu, count=count, country=country, max_price=max_price)
    out = form(json_, pretty)
    if out is not Form.TABLE:
        show([node.model_dump() for node in nodes], (), out)
        return
    rows = [
        {
            "node": node.huid,
            "GPUs": f"{node.gpu_count} x {node.gpu_type}",
            "$/GPU h": f"{node.price_per_gpu_hour:.2f}",
            "$/h": f"{node.price_per_hour:.2f}",
            "country": node.country,
            "VRAM GB": _whole(node.vram_gb),
            "RAM GB": _whole(node.ram_gb),
            "disk GB": _whole(node.disk_gb),
            "Mbps down": _whole(node.download_mbps),
            "tier": node.tier,
        }
        for node in nodes
    ]
    show(rows, ("node", "GPUs", "$/GPU h", "$/h", "country", "VRAM GB", "RAM GB", "disk GB", "Mbps down", "tier"), out)


@app.command()
def ps(*, json_: Json = False, pretty: Pretty = False) -> None:
    """Your pods: what they cost, and when they end.

    Example:
      gpueval pods ps
    """
    with user_errors():
        pods = _lium().pods()
    out = form(json_, pretty)
    if out is not Form.TABLE:
        show([record(pod) for pod in pods], (), out)
        return
    rows = [
        {
            "name": pod.name,
            "huid": pod.huid,
            "status": pod.status,
            "GPUs": pod.gpus,
            "uptime": pod.uptime,
            "$/h": "" if pod.price_per_hour is None else f"{pod.price_per_hour:.2f}",
            "$ spent": "" if pod.spent_usd is None else f"{pod.spent_usd:.2f}",
            "ends": pod.removal_at or "NEVER",
            "ssh": "" if pod.ssh is None else str(pod.ssh),
        }
        for pod in pods
    ]
    show(rows, ("name", "huid", "status", "GPUs", "uptime", "$/h", "$ spent", "ends", "ssh"), out)


@app.command()
def up(
    node: Annotated[str | None, typer.Argument(metavar="[NODE]", help="HUID or id of `gpueval pods ls` (default: the cheapest of --gpu).")] = None,
    *,
    gpu: _Gpu = None,
    count: _Count = None,
    country: _Country = None,
    max_price: _MaxPrice = None,
    name: Annotated[str, typer.Option("--name", metavar="NAME", help="What the pod is called; one that is there already is taken on.")] = "gpueval",
    ttl: Annotated[str, typer.Option("--ttl", metavar="TIME", help="When it ends by itself: 45m, 6h, 2d.")] = "6h",
    volume: _Volume = None,
    no_volume: Annotated[bool, typer.Option("--no-volume", help="Without a volume: what it writes ends with it.")] = False,
    template: Annotated[str | None, typer.Option("--template", metavar="ID", help="lium's template (default: the node's own).")] = None,
    save: Annotated[str | None, typer.Option("--save", metavar="HOST", help="Write it into hosts.toml under this name.")] = None,
    timeout: Annotated[float, typer.Option("--timeout", min=1, metavar="SECONDS", help="Until SSH answers.")] = 900.0,
    yes: _Yes = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be rented, and its price; rent nothing.")] = False,
    json_: Json = False,
    pretty: Pretty = False,
) -> None:
    """Rent a pod, wait until SSH answers, and print its part of hosts.toml. The same --name again takes on the pod that is there.

    Examples:
      gpueval pods up --gpu H100 --count 8 --ttl 12h --volume my_volume --save gpu-a

      gpueval pods up cosmic-hawk-f2 --no-volume --dry-run
    """
    from pytest_gpueval.hosts import pods

    out = form(json_, pretty)
    with user_errors():
        _check(name, ttl, volume=volume, no_volume=no_volume)
        lium = _lium()
        before = next((pod for pod in lium.pods() if pod.name == name), None)
        if save is not None:
            pods.saved(save, Path.cwd(), before.ssh if before is not None else None)
        if before is None:
            place = None if no_volume or volume is None else lium.volume(volume)
            wanted = pods.Rental(name, pods.chosen(lium, node, gpu=gpu, count=count, country=country, max_price=max_price), ttl, place, template)
            if dry_run:
                _say_would(wanted, timeout, out)
                return
            _ask(f"Rent {_words(wanted)}?", yes=yes)
            tell(f"renting {name}; lium waits until it runs, which takes minutes")
            before_or_new = pods.rented(lium, wanted, timeout_s=timeout, told=tell)
        else:
            tell(f"the pod {name!r} ({before.huid}) is there already, {before.status}; nothing new is rented")
            if dry_run:
                show_document({"outcome": "dry run, nothing rented", "pod": record(before)}, out)
                return
            before_or_new = before
        _finish(lium, before_or_new, save, again=before is not None, volume=not no_volume, timeout_s=timeout, out=out)


@app.command()
def rm(
    names: Annotated[list[str], typer.Argument(metavar="POD...", help="Names, HUIDs or ids; no patterns.")],
    *,
    yes: _Yes = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would end; end nothing.")] = False,
    json_: Json = False,
    pretty: Pretty = False,
) -> None:
    """End pods. What is not on a volume, or fetched, is lost.

    Example:
      gpueval pods rm gpueval
    """
    from pytest_gpueval.hosts import pods

    out = form(json_, pretty)
    with user_errors():
        lium = _lium()
        there = lium.pods()
        wanted = list({pod.id: pod for pod in (pods.named(there, name) for name in names)}.values())
        words = ", ".join(f"{pod.name} ({pod.huid}, {pod.gpus}, ${pod.price_per_hour or 0:.2f}/h)" for pod in wanted)
        if not dry_run:
            _ask(f"End {words}? What is not on a volume is lost.", yes=yes)
            for pod in wanted:
                lium.remove(pod.huid)
                tell(f"ended {pod.name} ({pod.huid})")
    if out is not Form.TABLE:
        show_document({"outcome": "dry run, nothing ended" if dry_run else "ended", "pods": [record(pod) for pod in wanted]}, out)
    elif dry_run:
        print(f"dry run, nothing ended: {words}")  # noqa: T201


def record(pod: Pod) -> dict[str, Any]:
    """A pod as JSON."""
    return {**pod.model_dump(), "ssh": None if pod.ssh is None else str(pod.ssh)}


def _whole(number: float | None) -> str:
    return "" if number is None else f"{number:,.0f}"


def _lium() -> Lium:
    from pytest_gpueval.hosts.lium import Lium

    return Lium.found()


def _check(name: str, ttl: str, *, volume: str | None, no_volume: bool) -> None:
    """What can be known to be wrong before anybody is asked. Raises UsageProblem."""
    from pytest_gpueval.errors import UsageProblem
    from pytest_gpueval.hosts import pods

    if not pods.NAME.match(name):
        raise UsageProblem(f"--name {name!r}: letters, digits and . _ -, starting with a letter or digit, 63 at most")
    if not pods.TTL.match(ttl):
        raise UsageProblem(f"--ttl {ttl!r}: write 45m, 6h or 2d; a pod without an end is not rented")
    if volume is None and not no_volume:
        raise UsageProblem(f"which volume? Give --volume NAME (lium volumes list), set {VOLUME_VARIABLE}, or say --no-volume: all it writes then ends with it")


def _words(wanted: Rental) -> str:
    node = wanted.node
    kept = f"with volume {wanted.volume}" if wanted.volume else "without a volume"
    return f"{wanted.name}: {node.gpu_count} x {node.gpu_type} on {node.huid} at ${node.price_per_hour:.2f} an hour, {kept}, ending after {wanted.ttl}"


def _ask(question: str, *, yes: bool) -> None:
    """Raises UsageProblem where nobody can answer; leaves where the answer is no."""
    from pytest_gpueval.errors import UsageProblem

    if yes:
        return
    if not sys.stdin.isatty():
        raise UsageProblem(f"{question}\nNobody is there to ask: say --yes.")
    if not typer.confirm(question, err=True):
        raise typer.Exit(1)


def _say_would(wanted: Rental, timeout_s: float, out: Form) -> None:
    words: Sequence[str] = ["lium", "up", *wanted.words(timeout_s)]
    if out is not Form.TABLE:
        show_document({"outcome": "dry run, nothing rented", "command": list(words), "node": wanted.node.model_dump()}, out)
        return
    import shlex

    print(f"{_words(wanted)}\ncommand: {shlex.join(words)}\ndry run, nothing rented")  # noqa: T201


def _finish(lium: Lium, rented: Pod, save: str | None, *, again: bool, volume: bool, timeout_s: float, out: Form) -> None:
    """Wait until SSH answers; print the pod and its entry, or write it. Raises GpuevalError."""
    from pytest_gpueval.hosts import pods
    from pytest_gpueval.hosts.declared import FILE_NAME

    billed = f"{rented.name} ({rented.huid}) is rented and billed. gpueval pods up --name {rented.name} waits again; gpueval pods rm {rented.huid} ends it."
    with interruptible(billed):
        pod, address, key = pods.awaited(lium, rented, timeout_s=timeout_s, told=tell)
    text = pods.entry(save or pod.name.replace(".", "-"), address, key, volume=volume)
    file = None if save is None else Path.cwd() / FILE_NAME if pods.saved(save, Path.cwd(), address, key) else pods.save(text, Path.cwd())
    if not pod.removal_at and again:
        tell(f"warning: the pod has no end; set one: lium rm {pod.huid} --in 6h")
    if out is not Form.TABLE:
        show_document({"again": again, "pod": record(pod), "host_key": key, "hosts_toml": text, "file": None if file is None else os.fspath(file)}, out)
        return
    price = "" if pod.price_per_hour is None else f", ${pod.price_per_hour:.2f} an hour"
    where = "its key was seen just now, and nobody vouches for it; this pins it:" if file is None else f"it stands in {file}, its key as seen just now:"
    lines = [f"{pod.name} ({pod.huid}): {pod.gpus}{price}, ends {pod.removal_at or 'after its TTL'}, answers at {address}", where, "", text]
    print("\n".join([*lines, f"end it: gpueval pods rm {pod.name}"]))  # noqa: T201
