"""gpueval runs status, logs, stop, fetch, archive: runs that go on when nobody is connected."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pytest_gpueval.hosts.detached import OUTPUTS_VARIABLE

from .output import Form, Json, Pretty, form, show, show_document, tell, user_errors

if TYPE_CHECKING:
    from pytest_gpueval.hosts.detached.client import Agent, DetachedRun, Piece, Stopped
    from pytest_gpueval.hosts.jobs.client import Jobs

HOST_VARIABLE, REPO_VARIABLE = "OPS_DEFAULT_HOST", "OPS_REMOTE_REPO"
# How long one request of `logs -f` waits on the host for more.
_FOLLOW_S = 20.0

HostOption = Annotated[str, typer.Option("--host", envvar=HOST_VARIABLE, help="Where the run is.")]
RootOption = Annotated[
    str | None, typer.Option("--remote-outputs-dir", envvar=OUTPUTS_VARIABLE, metavar="DIR", help="Where runs are on the host (default: ~/gpueval-runs).")
]
_RunId = Annotated[str, typer.Option("--run-id", metavar="ID", help="Which run.")]
_TailLines = Annotated[int, typer.Option("--tail-lines", min=0, metavar="N", help="The last N lines of its log.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be asked of the host; ask nothing.")]


def status(
    *,
    host: HostOption = "local",
    root: RootOption = None,
    run_ids: Annotated[list[str] | None, typer.Option("--run-id", metavar="ID", help="Which run, any number of times (default: all).")] = None,
    tail_lines: _TailLines = 5,
    dry_run: DryRun = False,
    json_: Json = False,
    pretty: Pretty = False,
) -> None:
    """How runs are (queued, starting, running, passed, failed, lost, cancelled), how far, and what they hold of GPUs.

    Exit code 1 if one that is named failed, is lost or was cancelled.

    Examples:
      gpueval runs status

      gpueval runs status --run-id nightly --tail-lines 20
    """
    from pytest_gpueval.hosts.detached.states import State

    with user_errors():
        place = place_of(root, host)
        if dry_run:
            asked = {"do": "status", "root": place, "run_ids": run_ids, "tail_lines": tail_lines, "gpus": True}
            if json_ or pretty:
                show_document({"host": host, "request": asked}, form(json_, pretty))
            else:
                print(f"host: {host}\nruns: {', '.join(run_ids or ['all'])} in {place}\ndry run, nothing asked")  # noqa: T201
            return
        with runs_of(host, root) as there:
            runs = _looked(there, run_ids, tail_lines if run_ids or json_ or pretty else 0)
    if json_ or pretty:
        show_document([record(run) for run in runs], form(json_, pretty))
    elif run_ids:
        for run in runs:
            _say_run(run)
    else:
        show_runs(runs, Form.TABLE)
    if run_ids and any(run.state in (State.FAILED, State.LOST, State.CANCELLED) for run in runs):
        raise typer.Exit(1)


def logs(
    *,
    run_id: _RunId,
    host: HostOption = "local",
    root: RootOption = None,
    tail_lines: _TailLines = 50,
    index: Annotated[int | None, typer.Option("--index", min=0, metavar="I", help="Of a Job: which shard's (default: the first that failed).")] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the run ends.")] = False,
    json_: Json = False,
    pretty: Pretty = False,
) -> None:
    """The end of a run's stdout.log. What steers a terminal is shown escaped. With --json a document for each piece.

    Example:
      gpueval runs logs --run-id nightly -f
    """
    from pytest_gpueval.hosts.detached.text import Harmless

    with user_errors(), runs_of(host, root, index=index) as agent:
        text, out = Harmless(), form(json_, pretty)
        piece = agent.logs(run_id, tail_lines=tail_lines)
        while True:
            last = not follow or (piece.ended and not piece.data)
            _show_piece(piece, text.feed(piece.data, last=last), out)
            if last:
                break
            before, piece = piece, agent.logs(run_id, after=piece, wait_s=_FOLLOW_S)
            if piece.nonce != before.nonce:
                tell(f"{run_id} was started anew")
    if follow:
        tell(f"{run_id}: {in_words(piece.run)}")


def stop(
    *,
    run_id: _RunId,
    host: HostOption = "local",
    root: RootOption = None,
    grace: Annotated[float, typer.Option("--grace", min=0, max=3600, metavar="SECONDS", help="Between TERM and KILL.")] = 10.0,
    dry_run: DryRun = False,
    json_: Json = False,
    pretty: Pretty = False,
) -> None:
    """End every process of a run, and nobody else's: TERM, then KILL, then a look that none is left, and that its GPU memory was given back.

    Example:
      gpueval runs stop --run-id nightly
    """
    from . import run_words

    with user_errors():
        if dry_run:
            with runs_of(host, root) as there:
                (run,) = _looked(there, [run_id], 0)
            about = {"host": host, "run_id": run_id, "state": str(run.state), "processes": run.processes}
            would = {**about, "gpus": run_words.record(run)["gpus"], "outcome": "dry run, nothing stopped"}
            if json_ or pretty:
                show_document(would, form(json_, pretty))
            else:
                carry = "processes carry its mark" if run.parts == "processes" else run.parts
                print("\n".join([f"{run_id}: {in_words(run)}, {run.processes} {carry} (dry run, nothing stopped)", *run_words.gpu_lines(run)]))  # noqa: T201
            return
        with runs_of(host, root) as there:
            done = there.stop(run_id, grace_s=grace)
    _say_stopped(done, form(json_, pretty))


def fetch(
    *,
    run_id: _RunId,
    host: HostOption = "local",
    root: RootOption = None,
    to: Annotated[Path | None, typer.Option("--to", metavar="DIR", help="Where it goes: DIR/ID (default: reports/fetched/HOST).")] = None,
    max_mib: Annotated[int, typer.Option("--max-mib", min=1, metavar="MIB", help="No more than this.")] = 10_240,
    max_files: Annotated[int, typer.Option("--max-files", min=1, metavar="N", help="No more than these.")] = 10_000,
    dry_run: DryRun = False,
    json_: Json = False,
    pretty: Pretty = False,
) -> None:
    """Bring a run's files here: what changed, from where it stopped, each once its hash is right. Links and hostile names stay there.

    Example:
      gpueval runs fetch --run-id nightly --to reports/gpu-a
    """
    import re

    from pytest_gpueval.hosts.detached import fetch as fetching
    from pytest_gpueval.reports.table import plain

    if dry_run and _shown_reader(host, root, run_id, form(json_, pretty)):
        return
    with user_errors(), files_of(host, root, run_id) as agent:
        target = to or Path("reports/fetched", re.sub(r"[^A-Za-z0-9._-]+", "-", host).strip("-.") or "host")
        if dry_run:
            _, plan, _ = fetching.look(agent, run_id, fetching.Place(target, run_id), max_files)
            done = fetching.Fetched(target / run_id, plan.files, plan.unchanged, plan.refused, ())
        else:
            done = fetching.fetch(agent, run_id, target, most_bytes=max_mib << 20, most_files=max_files)
    files = {entry.name: entry.size for entry in done.files}
    outcome = "dry run, nothing fetched" if dry_run else "fetched"
    told = {"target": str(done.target), "outcome": outcome, "files": files, "unchanged": len(done.unchanged), "left_there": dict(done.refused)}
    if json_ or pretty:
        show_document({**told, "changing": list(done.changing)}, form(json_, pretty))
    else:
        lines = [f"left there: {name!a}: {why}" for name, why in done.refused.items()]
        lines += [f"{done.target}: {len(files)} file(s), {sum(files.values()):,} bytes ({outcome}), {len(done.unchanged)} unchanged"]
        print(plain("\n".join(lines)))  # noqa: T201
    with user_errors():
        fetching.explain(done)


def archive(
    paths: Annotated[list[str], typer.Argument(metavar="PATH...", help="Files and directories on the host; quoted patterns as well.")],
    *,
    run_id: _RunId,
    host: HostOption = "local",
    root: RootOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be moved; move nothing.")] = False,
    json_: Json = False,
    pretty: Pretty = False,
) -> None:
    """Move what a run that has ended left elsewhere on the host into its directory, as archived/NAME.

    Example:
      gpueval runs archive --run-id nightly '/mnt/eval_*'
    """
    from pytest_gpueval.hosts.detached.text import harmless

    if dry_run and _shown_reader(host, root, run_id, form(json_, pretty)):
        return
    with user_errors(), files_of(host, root, run_id, ended=True) as agent:
        moved = agent.archive(run_id, paths, dry_run=dry_run)
    outcome = "dry run, nothing moved" if dry_run else "moved"
    if json_ or pretty:
        show_document({"run_id": run_id, "outcome": outcome, "moved": dict(moved)}, form(json_, pretty))
        return
    lines = [harmless(f"{source} -> {target}".encode("utf-8", "backslashreplace")) for source, target in moved]
    print("\n".join([*lines, f"{run_id}: {len(moved)} file(s) or directories ({outcome})"]))  # noqa: T201


def listing(host: str, root: str | None) -> list[DetachedRun]:
    """The runs of a host. Raises GpuevalError."""
    with runs_of(host, root) as there:
        return _looked(there, None, 0)


def record(run: DetachedRun) -> dict[str, Any]:
    """A run as JSON."""
    from . import run_words

    known = (
        "run_id",
        "directory",
        "submitted_at",
        "seconds",
        "exit_code",
        "signal",
        "tmux",
        "processes",
        "log_bytes",
        "lost_bytes",
        "summary",
    )
    of_slurm = ("job", "node", "attempt") if run.job is not None else ()
    texts = {"state": str(run.state), "reason": run.outcome.reason, "command": list(run.command), "results": dict(run.results)}
    return {**texts, **{name: getattr(run, name) for name in (*known, *of_slurm)}, **run_words.record(run), "tail": run.tail.splitlines()}


def show_runs(runs: list[DetachedRun], form: Form) -> None:
    """A line for each run."""
    import shlex

    from pytest_gpueval.reports.table import clock, plain

    from . import run_words

    if form is not Form.TABLE:
        show([record(run) for run in runs], (), form)
        return
    rows = [
        {
            "run": run.run_id,
            "state": run.state,
            "time": "" if run.seconds is None else clock(run.seconds),
            "progress": run_words.short_progress(run.progress),
            "GPUs": run_words.short_gpus(run),
            "why": run.outcome.reason,
            "command": plain(shlex.join(run.command)),
        }
        for run in runs
    ]
    shown = [name for name in ("progress", "GPUs") if any(row[name] for row in rows)]
    show(rows, ("run", "state", "time", *shown, "why", "command"), form)


def _looked(agent: Agent | Jobs, run_ids: list[str] | None, tail_lines: int) -> list[DetachedRun]:
    """The runs; those that cannot be looked at are named on stderr."""
    found = agent.look(run_ids, tail_lines=tail_lines, gpus=True)
    for text in found.skipped:
        tell(f"passed over: {text}")
    return found.runs


@contextmanager
def agent_at(host: str, root: str | None) -> Iterator[Agent]:
    """The agent of a host of this name, whose runs have files. Raises UsageProblem."""
    from pytest_gpueval.hosts import declared
    from pytest_gpueval.hosts.detached.client import Agent

    with declared.opened(declared.named(host, Path.cwd())) as machine:
        yield Agent(machine, place_of(root, host))


@contextmanager
def files_of(host: str, root: str | None, run_id: str, *, ended: bool = False) -> Iterator[Agent]:
    """The agent beside the files of a run; with `ended` of one that has ended. Raises UsageProblem, Conflict."""
    jobs = _jobs(host, root)
    with agent_at(host, root) if jobs is None else jobs.files(run_id, ended=ended, tell=tell) as agent:
        yield agent


def _shown_reader(host: str, root: str | None, run_id: str, form: Form) -> bool:
    """Whether the host's runs are Jobs, whose files a pod of its own reads: a dry run shows that, and makes none."""
    with user_errors():
        jobs = _jobs(host, root)
        if jobs is not None:
            show_job(jobs.reader(run_id), host, (), form)
    return jobs is not None


def show_job(document: Mapping[str, Any], host: str, secrets: Sequence[str], form: Form) -> None:
    """A Job that would be created, as YAML or JSON."""
    from pytest_gpueval.hosts.jobs import template

    if form is not Form.TABLE:
        show_document({"host": host, "request": document, "secrets": list(secrets)}, form)
        return
    lines = [template.library().safe_dump(document, sort_keys=False, allow_unicode=True).rstrip()]
    lines += [f"# secret: {name} (through stdin, in a Secret that the Job owns)" for name in secrets]
    print("\n".join([*lines, "# dry run, nothing created"]))  # noqa: T201


@contextmanager
def runs_of(host: str, root: str | None, *, index: int | None = None) -> Iterator[Agent | Jobs]:
    """The runs of a host: its agent's, or the Jobs of a cluster. Raises UsageProblem."""
    from pytest_gpueval.errors import UsageProblem

    jobs = _jobs(host, root, index)
    if jobs is not None:
        yield jobs
        return
    if index is not None:
        raise UsageProblem(f"--index {index}: {host} has no Jobs, and a run there has one log")
    with agent_at(host, root) as agent:
        yield agent


def _jobs(host: str, root: str | None, index: int | None = None) -> Jobs | None:
    """The Jobs that are a host's runs; None where an agent has them. Raises UsageProblem."""
    from pytest_gpueval.hosts import declared

    return declared.jobs(declared.named(host, Path.cwd()), root, index=index)


def place_of(root: str | None, host: str) -> str:
    """The directory of runs on a host. Raises UsageProblem."""
    from pytest_gpueval.hosts import declared
    from pytest_gpueval.hosts.address import KubernetesJobs
    from pytest_gpueval.hosts.detached.submission import root_of

    address = declared.named(host, Path.cwd()).address
    if isinstance(address, KubernetesJobs):
        return str(address)
    return str(Path(root).expanduser().absolute()) if root and host == "local" else root_of(root)


def _say_run(run: DetachedRun) -> None:
    from pytest_gpueval.reports.table import clock, number, plain

    from .run_words import gpu_lines, progress_line

    time = "" if run.seconds is None else f", {clock(run.seconds)}"
    lines = [f"{run.run_id}: {in_words(run)}{time}", f"directory: {run.directory}"]
    lines += [f"attach there: tmux -L {run.tmux} attach"] if run.tmux and not run.state.ended else []
    lines += [f"its log lacks {run.lost_bytes:,} bytes, which the disk did not take"] if run.lost_bytes else []
    lines += [f"progress: {progress_line(run.progress, ended=run.state.ended)}"] if run.progress else []
    lines += gpu_lines(run)
    lines += [f"{name}: {number(value)}" for name, value in run.results.items()]
    lines += [f"summary: {run.summary.get('status', run.summary.get('ok'))}"] if run.summary else []
    lines += [f"  {line}" for line in run.tail.splitlines()]
    print(plain("\n".join(lines)))  # noqa: T201


def _say_stopped(done: Stopped, form: Form) -> None:
    from .run_words import freed

    for note in done.memory.notes:
        tell(f"warning: {note}")
    if form is not Form.TABLE:
        show_document({"ended_before": done.ended_before, "asked": done.asked, "killed": done.killed, **freed(done.memory), **record(done.run)}, form)
        return
    memory = "".join(f", {one.words}" for one in done.memory.gpus or () if one.back)
    if done.job is not None:
        over = f"Slurm says that job {done.job} is over"
        print(f"{done.run.run_id}: {done.run.state} ({done.asked} processes asked to end, {done.killed} killed; {over}{memory})")  # noqa: T201
        return
    before = "it had ended before; " if done.ended_before else ""
    print(f"{done.run.run_id}: {done.run.state} ({before}{done.asked} {done.run.parts} asked to end, {done.killed} killed, none left{memory})")  # noqa: T201


def in_words(run: DetachedRun) -> str:
    """Its state, and why."""
    return f"{run.state} ({run.outcome.reason})" if run.outcome.reason else str(run.state)


def _show_piece(piece: Piece, text: str, form: Form) -> None:
    if form is not Form.TABLE and (text or piece.ended):
        show_document({"run_id": piece.run.run_id, "state": str(piece.run.state), "text": text, "offset": piece.offset}, form)
    elif form is Form.TABLE:
        sys.stdout.write(text)
    sys.stdout.flush()
