"""gpueval hosts: which there are, how they are, and making them ready."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .detached import RootOption, place_of
from .output import Form, Json, Pretty, form, show, show_document, tell, user_errors

if TYPE_CHECKING:
    from pytest_gpueval.hosts.bootstrap.prepare import Prepared
    from pytest_gpueval.hosts.bootstrap.status import Status
    from pytest_gpueval.hosts.declared import Declared
    from pytest_gpueval.hosts.sync.client import Synced

app = typer.Typer(help="Machines of hosts.toml: list them, ask how they are, send code, make them ready.", no_args_is_help=True, rich_markup_mode=None)

_MOST_SHOWN = 20
# A clock that is further off is worth a word.
_CLOCK_S = 60.0
_Host = Annotated[str, typer.Argument(metavar="HOST", help="A name of hosts.toml or ssh_config, an address, or local.")]
_DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be sent and done; change nothing.")]


@app.command("list")
def list_(*, json_: Json = False, pretty: Pretty = False) -> None:
    """The hosts of hosts.toml.

    Example:
      gpueval hosts list
    """
    from pytest_gpueval.hosts import declared

    with user_errors():
        hosts = declared.every(Path.cwd())
    out = form(json_, pretty)
    if out is not Form.TABLE:
        show_document([{"name": each.name, **each.entry.model_dump()} for each in hosts], out)
    elif not hosts:
        print(f"there is no host in {Path.cwd() / declared.FILE_NAME}; local, ssh://[USER@]HOST[:PORT] and names of ssh_config need none")  # noqa: T201
    else:
        rows = [{"name": each.name, **{key: getattr(each.entry, key) for key in ("address", "workdir", "python", "gpus", "internet")}} for each in hosts]
        show(rows, ("name", "address", "workdir", "python", "gpus", "internet"), out)


@app.command("status")
def status(
    names: Annotated[list[str] | None, typer.Argument(metavar="[HOST]...", help="Which (default: all of hosts.toml).")] = None,
    *,
    timeout: Annotated[float, typer.Option("--timeout", min=0.1, max=600, metavar="SECONDS", help="Who has not answered by then is unreachable.")] = 20.0,
    outputs: RootOption = None,
    json_: Json = False,
    pretty: Pretty = False,
) -> None:
    """How hosts are: volume, GPUs, Python, disk, sessions, runs, clock. Exit code 3 if one is unreachable, 4 if one refuses us, 1 if one is unfit.

    Examples:
      gpueval hosts status

      gpueval hosts status gpu-a local --json
    """
    from pytest_gpueval.hosts import declared
    from pytest_gpueval.hosts.bootstrap.status import look, statuses

    with user_errors():
        root = Path.cwd()
        hosts = [declared.named(name, root) for name in dict.fromkeys(names or ())] or declared.every(root) or [declared.named("local", root)]
        places = {one.name: place_of(outputs, one.name) for one in hosts}

    def ask(one: Declared, here: Path, limit_s: float) -> Status:
        return look(one, here, limit_s, places[one.name])

    found = {}
    for each in statuses(hosts, root, timeout, ask=ask):
        found[each.declared.name] = each
        if not (json_ or pretty):
            print("\n".join(_lines(each)), flush=True)  # noqa: T201
    if json_ or pretty:
        show_document([_record(found[host.name]) for host in hosts], form(json_, pretty))
    codes = [each.error.exit_code for each in found.values() if each.error is not None] + [1 for each in found.values() if each.problems]
    if codes:
        raise typer.Exit(max(codes))


@app.command("sync")
def sync(host: _Host, *, outputs: RootOption = None, dry_run: _DryRun = False, json_: Json = False, pretty: Pretty = False) -> None:
    """Send the code of this directory, and nothing else: what git knows, without .env*, environments, caches, data and models.

    Examples:
      gpueval hosts sync gpu-a

      gpueval hosts sync gpu-a --dry-run
    """
    from pytest_gpueval.hosts import declared
    from pytest_gpueval.hosts.sync.client import sync as send
    from pytest_gpueval.hosts.sync.place import base

    with user_errors():
        root = Path.cwd()
        where = declared.named(host, root)
        with declared.opened(where) as machine:
            rules = declared.code_rules(root)
            done = send(
                machine,
                root,
                base(root, where.entry.workdir),
                rules=rules,
                python=where.entry.python,
                runs=place_of(outputs, host),
                dry_run=dry_run,
                tell=tell,
            )
    if json_ or pretty:
        show_document({"host": host, **_synced(done, dry_run=dry_run)}, form(json_, pretty))
    else:
        print("\n".join(_sync_lines(host, done, dry_run=dry_run)))  # noqa: T201


@app.command("bootstrap")
def bootstrap(
    host: _Host,
    *,
    wandb_login: Annotated[bool, typer.Option("--wandb-login", help="Write WANDB_API_KEY of your environment to ~/.netrc there.")] = False,
    outputs: RootOption = None,
    dry_run: _DryRun = False,
    json_: Json = False,
    pretty: Pretty = False,
) -> None:
    """Make a host ready: check it, send the code, make its Python environment. What is done is not done again; what was cut off is completed.

    Examples:
      gpueval hosts bootstrap gpu-a --dry-run

      gpueval hosts bootstrap gpu-a --wandb-login
    """
    from pytest_gpueval.hosts import declared
    from pytest_gpueval.hosts.bootstrap import netrc
    from pytest_gpueval.hosts.bootstrap.prepare import prepare

    login = None
    with user_errors():
        root = Path.cwd()
        where = declared.named(host, root)
        if wandb_login:
            netrc.key_of(os.environ)
        with declared.opened(where) as machine:
            done = prepare(where, machine, root, rules=declared.code_rules(root), runs=place_of(outputs, host), dry_run=dry_run, tell=tell)
            if wandb_login and not dry_run:
                login = netrc.login(where, machine, os.environ)
    todo = [*done.todo, *(["write WANDB_API_KEY to ~/.netrc"] if wandb_login and dry_run else [])]
    if json_ or pretty:
        told = {"python": done.python, "environment": dict(done.environment), "again": done.again, "todo": todo, "wandb": login}
        show_document({"host": host, **_synced(done.synced, dry_run=dry_run), **told, "notes": list(done.notes)}, form(json_, pretty))
        return
    print("\n".join([*_sync_lines(host, done.synced, dry_run=dry_run), *_ready_lines(done, todo), *([login] if login else [])]))  # noqa: T201


def _synced(done: Synced, *, dry_run: bool) -> dict[str, Any]:
    sent = {"files": len(done.tree.items), "sent": [_name(item.path) for item in done.sent], "sent_bytes": done.sent_bytes}
    about = {"directory": done.directory, "base": done.base, "tree": done.tree.digest, "again": done.again}
    notes = [*done.tree.notes, *done.notes]
    return {
        **about,
        **sent,
        "left_out": {_name(name): why for name, why in done.tree.left_out.items()},
        "notes": notes,
        "outcome": "dry run, nothing sent" if dry_run else "sent",
    }


def _name(path: str) -> str:
    """A path as text: what is not UTF-8 in it is escaped."""
    return path.encode("utf-8", "backslashreplace").decode()


def _sync_lines(host: str, done: Synced, *, dry_run: bool) -> list[str]:
    from pytest_gpueval.reports.table import plain

    left = sorted(done.tree.left_out.items())
    lines = [f"left out: {name!a}: {why}" for name, why in left[:_MOST_SHOWN]]
    lines += [f"left out: {len(left) - _MOST_SHOWN:,} more (--json names them)"] if len(left) > _MOST_SHOWN else []
    lines += [f"note: {note}" for note in (*done.tree.notes, *done.notes)]
    outcome = "dry run, nothing sent" if dry_run else "it was there already" if done.again else "sent"
    count = f"{len(done.sent):,} of {len(done.tree.items):,} files, {done.sent_bytes:,} bytes"
    return [plain(line) for line in [*lines, f"{host}: {done.directory or done.base}: {count} ({outcome})"]]


def _ready_lines(done: Prepared, todo: list[str]) -> list[str]:
    import shlex

    from pytest_gpueval.reports.table import plain

    if done.python is None:
        return [plain(f"would: {text}") for text in todo]
    lines = [f"note: {note}" for note in done.notes if note not in done.synced.notes]
    return [plain(line) for line in [*lines, f"python: {shlex.join(done.python)}", f"{done.host}: ready{' (it was before)' if done.again else ''}"]]


def _lines(found: Status) -> list[str]:
    """One host: a line, and one for each GPU, problem and run that goes on."""
    from pytest_gpueval.hosts.detached.text import harmless
    from pytest_gpueval.reports.table import clock, plain

    from . import run_words

    name = found.declared.name
    if found.error is not None:
        kind = {3: "unreachable", 4: "no access"}.get(found.error.exit_code, "error")
        return [plain(f"{name}: {kind}: {found.error}".replace("\n", " "))]
    facts = found.facts
    running = [run for run in found.runs if not run.state.ended]
    volume = facts["volume"]
    parts = [
        f"Python {'.'.join(map(str, facts['python']['version']))}",
        f"{facts['disk']['free'] / 1e9:,.0f} of {facts['disk']['total'] / 1e9:,.0f} GB free",
        *([f"{volume['path']} {'mounted' if volume['mounted'] else 'NOT MOUNTED'}"] if volume else []),
        f"{len(found.gpus)} GPUs" if found.gpus is not None else f"no GPUs ({facts['gpus']['why']})",
        f"{facts['sessions']} workers, {len(running)} of {len(found.runs)} runs going on",
        f"clock {found.clock_s:+.1f} s",
        f"{found.seconds:.2f} s",
    ]
    lines = [f"{name}: ok: {' · '.join(parts)}" if not found.problems else f"{name}: unfit: {' · '.join(parts)}"]
    lines += [f"  {problem}" for problem in found.problems]
    if abs(found.clock_s) > _CLOCK_S:
        lines.append(f"  its clock is {clock(abs(found.clock_s))} {'ahead' if found.clock_s > 0 else 'behind'}: so are times in its logs and metadata")
    lines += [f"  GPU {gpu.index} {gpu.name}: {gpu.used_mib} of {gpu.total_mib} MiB, {len(gpu.processes)} processes" for gpu in found.gpus or ()]
    for run in running:
        told = [run_words.short_progress(run.progress), f"GPU {gpus}" if (gpus := run_words.short_gpus(run)) else ""]
        lines.append(f"  run {run.run_id}: {', '.join(filter(None, [str(run.state), *told]))}")
    return [plain(harmless(line.encode("utf-8", "backslashreplace"))) for line in lines]


def _record(found: Status) -> dict[str, Any]:
    """The same as JSON."""
    name, address = found.declared.name, str(found.declared.address)
    if found.error is not None:
        return {
            "name": name,
            "address": address,
            "reachable": found.error.exit_code not in (3, 4),
            "error": str(found.error),
            "exit_code": found.error.exit_code,
        }
    from dataclasses import asdict

    from pytest_gpueval.cli.detached import record

    facts = {key: found.facts[key] for key in ("hostname", "python", "disk", "volume", "uv", "sessions")}
    shown = {"gpus": None if found.gpus is None else [asdict(gpu) for gpu in found.gpus], "problems": list(found.problems)}
    more = {"runs": [record(run) for run in found.runs], "clock_s": found.clock_s, "seconds": found.seconds}
    return {"name": name, "address": address, "reachable": True, **facts, **shown, **more}
