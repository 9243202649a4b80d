"""gpueval runs submit: a run that goes on when nobody is connected."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .detached import REPO_VARIABLE, DryRun, HostOption, RootOption, in_words, record, runs_of, show_job
from .output import Form, Json, Pretty, form, interruptible, show_document, tell, user_errors

if TYPE_CHECKING:
    from pytest_gpueval.hosts.bootstrap.prepare import Prepared
    from pytest_gpueval.hosts.detached.client import Agent, Submitted
    from pytest_gpueval.hosts.detached.submission import JobRequest, Submission
    from pytest_gpueval.hosts.jobs.client import Jobs


def submit(
    command: Annotated[
        list[str],
        typer.Argument(
            metavar="-- COMMAND...",
            help="What to run; {run_dir} and {run_id} in it are its directory and id, on a cluster {shard_index} and {shard_count} its shard.",
        ),
    ],
    *,
    host: HostOption = "local",
    repo: Annotated[
        str | None, typer.Option("--remote-repo", envvar=REPO_VARIABLE, metavar="DIR", help="Directory on the host where it runs (local: this one).")
    ] = None,
    sync: Annotated[
        bool, typer.Option("--sync", help="Send this repository as it is now, make its Python, and run there; python and pytest in the command are that one's.")
    ] = False,
    root: RootOption = None,
    run_id: Annotated[str | None, typer.Option("--run-id", metavar="ID", help="Its name (default: after the suite and the time).")] = None,
    variables: Annotated[list[str] | None, typer.Option("--env", metavar="NAME=VALUE", help="A variable of its environment.")] = None,
    secrets: Annotated[list[str] | None, typer.Option("--secret", metavar="NAME", help="A variable of yours that goes with it, unseen.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Put an earlier run of this id aside, and run again.")] = False,
    no_tmux: Annotated[bool, typer.Option("--no-tmux", help="Without a terminal to attach to.")] = False,
    gpus_per_job: Annotated[int | None, typer.Option("--gpus-per-job", min=0, metavar="N", help="Slurm: GPUs (default: gres of hosts.toml, or 1).")] = None,
    time_limit: Annotated[str | None, typer.Option("--time-limit", metavar="HH:MM:SS", help="Slurm: its time (default: hosts.toml's).")] = None,
    no_requeue: Annotated[bool, typer.Option("--no-requeue", help="Slurm: not again after its node failed; secrets are kept for a moment only.")] = False,
    dry_run: DryRun = False,
    json_: Json = False,
    pretty: Pretty = False,
) -> None:
    """Start a run that goes on when you leave. The same id and command again give the same run: it starts once.

    Examples:
      gpueval runs submit --run-id nightly -- pytest --gpueval-suite guardrails_ru --gpus all

      gpueval runs submit --host gpu-a --sync -- pytest --gpueval-suite guardrails_ru --gpus all

      gpueval runs submit --secret HF_TOKEN -- pytest --gpueval-suite guardrails_ru --gpueval-data hub --gpueval-output-dir={run_dir}

      gpueval runs submit --host cluster --gpus-per-job 4 --time-limit 08:00:00 -- pytest --gpueval-suite fineweb10B --gpus all
    """
    from dataclasses import replace
    from datetime import UTC, datetime

    from pytest_gpueval.hosts.detached import submission

    with user_errors(), runs_of(host, root) as runs:
        code = _sent(runs, host, repo, dry_run=dry_run) if sync else None
        directory = (code.directory or f"{code.synced.base}/snapshots") if code else _directory(repo, host)
        made = submission.submission(
            command, directory=directory, run_id=run_id, variables=variables or [], secrets=secrets or [], own=os.environ, now=datetime.now(UTC)
        )
        if code is not None:
            made = replace(made, command=code.command(made.command), environment={**code.environment, **made.environment})
        made = replace(made, job=_job(runs, host, gpus_per_job, time_limit, requeue=not no_requeue))
        if dry_run:
            _show_submit(runs, made, host, {"do": "launch", "force": force, "tmux": not no_tmux}, form(json_, pretty))
            return
        with interruptible(made.unsure):
            done = runs.submit(made, os.environ, force=force, tmux=not no_tmux)
    _say_submitted(done, host, runs.root, form(json_, pretty))


def _sent(runs: Agent | Jobs, host: str, repo: str | None, *, dry_run: bool) -> Prepared:
    """The code of this repository on the host, and a Python for it. Raises UsageProblem, and what stands in the way there."""
    from pytest_gpueval.errors import UsageProblem
    from pytest_gpueval.hosts import declared
    from pytest_gpueval.hosts.bootstrap.prepare import prepare
    from pytest_gpueval.hosts.detached.client import Agent

    if not isinstance(runs, Agent):
        raise UsageProblem(f"--sync: the pods of {host} have the code of their image")
    if repo:
        raise UsageProblem(f"--sync sends the code to a place of its own: leave out --remote-repo ({REPO_VARIABLE})")
    root = Path.cwd()
    said = "would be sent" if dry_run else "sent"
    done = prepare(
        declared.named(host, root),
        runs.host,
        root,
        rules=declared.code_rules(root),
        runs=runs.root,
        dry_run=dry_run,
        tell=tell,
    )
    for text in (f"{len(done.synced.sent)} of {len(done.synced.tree.items)} files {said}", *done.todo, *done.notes):
        tell(f"{host}: {text}")
    return done


def _job(runs: Agent | Jobs, host: str, gpus: int | None, time_limit: str | None, *, requeue: bool) -> JobRequest | None:
    """What Slurm is asked for, where the host is one of Slurm. Raises UsageProblem."""
    from pytest_gpueval.errors import UsageProblem
    from pytest_gpueval.hosts.detached.client import Agent
    from pytest_gpueval.hosts.detached.submission import JobRequest
    from pytest_gpueval.hosts.slurm import SlurmHost

    machine = runs.host if isinstance(runs, Agent) else None
    if isinstance(machine, SlurmHost):
        return JobRequest(tuple(machine.options.sized(gpus, time_limit).words()), machine.python, requeue)
    if gpus is not None or time_limit is not None or not requeue:
        raise UsageProblem(f"--gpus-per-job, --time-limit and --no-requeue are for hosts of slurm://, and {host} is none")
    return None


def _directory(repo: str | None, host: str) -> str:
    """Where a command runs. Raises UsageProblem."""
    from pytest_gpueval.errors import UsageProblem
    from pytest_gpueval.hosts import declared
    from pytest_gpueval.hosts.address import KubernetesJobs

    if host == "local":
        return str(Path(repo or ".").expanduser().absolute())
    there = declared.named(host, Path.cwd())
    repo = repo or there.entry.workdir or ("~" if isinstance(there.address, KubernetesJobs) else None)
    if not repo:
        raise UsageProblem(f"--remote-repo is missing: say in which directory of {host} the command runs, as {REPO_VARIABLE}, or as its workdir in hosts.toml")
    return repo


def _show_submit(runs: Agent | Jobs, made: Submission, host: str, how: Mapping[str, Any], form: Form) -> None:
    from pytest_gpueval.hosts.detached.client import Agent

    if isinstance(runs, Agent):
        show_request(made, host, runs.root, how, form)
        return
    show_job(runs.manifest(made), host, made.secrets, form)


def show_request(made: Submission, host: str, root: str, how: Mapping[str, Any], form: Form) -> None:
    """What would be sent and run. Secrets are names here, as in the request itself."""
    import shlex

    from pytest_gpueval.reports.table import plain

    request = {**how, "root": root, "request": made.request(host)}
    if form is not Form.TABLE:
        show_document({"host": host, "request": request}, form)
        return
    around = "tmux -L ... new-session -d" if how["tmux"] else "setsid"
    if made.job is not None:
        around = shlex.join(["sbatch", "--requeue" if made.job.requeue else "--no-requeue", *made.job.options])
    lines = [f"host: {host}", f"run: {root}/{made.run_id}", f"directory: {made.directory}", f"command: {shlex.join(made.command)}"]
    lines += [f"environment: {name}={value}" for name, value in made.environment.items()] + [f"secret: {name} (through stdin)" for name in made.secrets]
    print(plain("\n".join([*lines, f"started by: {around}", "dry run, nothing started"])))  # noqa: T201


def _say_submitted(done: Submitted, host: str, root: str | None, form: Form) -> None:
    import shlex

    if form is not Form.TABLE:
        show_document({"again": done.again, "notes": list(done.notes), **record(done.run)}, form)
        return
    flags = shlex.join(["--host", host, *(["--remote-outputs-dir", root] if root else []), "--run-id", done.run.run_id])
    before = " (it was submitted before; --force runs it again once it has ended)" if done.again else ""
    lines = [f"{done.run.run_id}: {in_words(done.run)}{before}", *(f"note: {note}" for note in done.notes), f"directory: {done.run.directory}"]
    lines += [f"attach there: tmux -L {done.run.tmux} attach"] if done.run.tmux and not done.run.state.ended else []
    print("\n".join([*lines, f"read it: gpueval runs logs -f {flags}"]))  # noqa: T201
