"""gpueval runs."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import detached, submit
from .output import Form, Json, Pretty, form, show, show_document, user_errors

if TYPE_CHECKING:
    from pytest_gpueval.runs.merge import Plan

app = typer.Typer(help="Look at the runs that sessions left, and join them; start runs that go on alone.", no_args_is_help=True)
app.command("submit")(submit.submit)
app.command("status")(detached.status)
app.command("logs")(detached.logs)
app.command("stop")(detached.stop)
app.command("fetch")(detached.fetch)
app.command("archive")(detached.archive)

_Root = Annotated[Path, typer.Argument(help="A run, a session, or a directory of sessions.")]
_DEFAULT_ROOT = Path("reports/evaluations")


@app.command("list")
def list_(
    root: _Root = _DEFAULT_ROOT,
    *,
    host: Annotated[str | None, typer.Option("--host", help="List the submitted runs of this host instead.")] = None,
    outputs: Annotated[str | None, typer.Option("--remote-outputs-dir", envvar=detached.OUTPUTS_VARIABLE, metavar="DIR", help="Where they are there.")] = None,
    json_: Json = False,
    pretty: Pretty = False,
) -> None:
    """List runs with their status and headline metric; with --host the runs that were submitted there.

    Examples:
      gpueval runs list

      gpueval runs list reports/evaluations/nightly --json

      gpueval runs list --host local
    """
    from pytest_gpueval.runs import validate

    if host is not None:
        with user_errors():
            detached.show_runs(detached.listing(host, outputs), form(json_, pretty))
        return
    with user_errors():
        rows = [validate.outline(path) for path in validate.run_directories(root)]
    show(rows, ("session", "run_id", "status", "rows", "headline", "value", "seconds"), form(json_, pretty))


@app.command("validate")
def validate_(root: _Root = _DEFAULT_ROOT, json_: Json = False, pretty: Pretty = False) -> None:  # noqa: FBT002
    """Check every file of every run against the contract; exit code 1 if one breaks it.

    Example:
      gpueval runs validate reports/evaluations/nightly
    """
    from pytest_gpueval.errors import UsageProblem
    from pytest_gpueval.runs import validate

    with user_errors():
        found = validate.problems(root)
        checked = len(validate.run_directories(root))
        if not checked and not found:
            raise UsageProblem(f"{root}: there is no run at or below it; give a run, a session, or a directory of sessions")
    if found or json_ or pretty:
        show([{"file": str(path), "problem": problem} for path, problem in found], ("file", "problem"), form(json_, pretty))
    if found:
        raise typer.Exit(1)
    if not (json_ or pretty):
        print(f"{checked} run(s) follow the contract")  # noqa: T201


@app.command("merge")
def merge_(
    target: Annotated[Path, typer.Argument(help="The new session: a directory that does not exist, or is empty.")],
    sessions: Annotated[list[Path], typer.Argument(metavar="SESSION...", help="The sessions to join; they stay as they are.")],
    *,
    allow_differences: Annotated[bool, typer.Option("--allow-differences", help="Join sessions of different code, options or data, and record that.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be joined; write nothing.")] = False,
    json_: Json = False,
    pretty: Pretty = False,
) -> None:
    """Join sessions that ran parts of a suite, on one machine or several, into a new session. Exit code 1 if a part is missing.

    report.html shows texts of samples as far as every session was to, where the rows are on this machine: run it in the directory that has suites/.

    Examples:
      gpueval runs merge reports/evaluations/nightly machine-a/nightly machine-b/nightly

      gpueval runs merge joined machine-*/nightly --dry-run
    """
    import os

    from pytest_gpueval.runs import gather, merge
    from pytest_gpueval.runs.redact import Redactor, arguments
    from pytest_gpueval.session import joined
    from pytest_gpueval.session.joined_samples import Reader

    redactor = Redactor.of(os.environ)
    argv = ["gpueval", "runs", "merge", str(target), *map(str, sessions), *(["--allow-differences"] if allow_differences else [])]
    with user_errors(), gather.opened(sessions, create_locks=not dry_run) as (opened, notes):
        plan = merge.plan(target.absolute(), opened, arguments(argv, redactor), allow_differences=allow_differences)
        record = joined.record(plan, redactor)
        done = gather.state(plan, record)
        texts = [] if done or dry_run else [Reader(Path.cwd(), plan.record.report_texts)]
        files, untold = joined.files(plan, record, redactor, *texts)  # before the first byte is copied: what is broken is said now
        skipped = [] if done or dry_run else gather.write(plan, files)
    outcome = "already there, nothing to do" if done else "dry run, nothing written" if dry_run else "written"
    _say(plan, [*notes, *plan.notes, *untold, *skipped], outcome, form(json_, pretty))
    if plan.missing:
        raise typer.Exit(1)


@app.command("export")
def export_(
    session: Annotated[Path, typer.Argument(help="The session of a sweep.")],
    *,
    output: Annotated[Path | None, typer.Option("--output", help="FILE.csv or FILE.parquet (default: CSV on the screen).", metavar="FILE")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace FILE.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Read and check everything; write nothing.")] = False,
    json_: Json = False,
    pretty: Pretty = False,
) -> None:
    """Write the rows of a sweep as one flat table: status, attempts, seconds, parameters and metrics.

    Examples:
      gpueval runs export reports/evaluations/fineweb10B --output sweep-results.csv

      gpueval runs export reports/evaluations/fineweb10B --json
    """
    from pytest_gpueval.reports import sweep
    from pytest_gpueval.runs import sweep_rows

    with user_errors():
        if output is not None:
            sweep_rows.check(output, force=force)
        rows = sweep_rows.read(session, sweep.SweepRow)
        table = sweep.export(sweep.Sweep(session.resolve().name, None, "min", rows))
        if output is not None and not dry_run:
            sweep_rows.write(output, table.csv(), table.columns, force=force)
    if output is not None:
        done = {"output": str(output), "outcome": "dry run, nothing written" if dry_run else "written", "rows": len(rows), "columns": list(table.columns)}
        if json_ or pretty:
            show_document(done, form(json_, pretty))
        else:
            print(f"{output}: {len(rows)} row(s), {len(table.columns)} columns ({done['outcome']})")  # noqa: T201
    elif json_ or pretty:
        show_document([dict(zip(table.columns, map(_json, cells), strict=True)) for cells in zip(*table.columns.values(), strict=True)], form(json_, pretty))
    else:
        print(table.csv(), end="")  # noqa: T201


def _json(value: object) -> object:
    """What JSON can hold: nan and infinities are texts, as in summary.json."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _say(plan: Plan, notes: list[str], outcome: str, form: Form) -> None:
    """What became of a merge: its runs, what to know, what is missing, what to do next, where to look."""
    from pytest_gpueval.reports.table import plain

    rows = [{"run": run_id, "status": run.status, "session": run.session} for run_id, run in plan.taken.items()]
    said = {"missing": list(plan.missing), "next": list(plan.commands), "notes": [*notes, *(f"differs: {line}" for line in plan.record.differences)]}
    if form is not Form.TABLE:
        show_document({"target": str(plan.target), "outcome": outcome, "runs": rows, **said}, form)
        return
    show(rows, ("run", "status", "session"), form)
    lines = [*(f"note: {note}" for note in said["notes"]), *(f"missing: {part}" for part in plan.missing)]
    lines += [f"judge the shards: {command}" for command in plan.commands]
    lines += [f"session: {plan.target} ({outcome})", f"report: {plan.target / 'report.html'}"]
    print(plain("\n".join(lines)))  # noqa: T201
