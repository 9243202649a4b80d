"""gpueval runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .output import Json, Pretty, form, show, user_errors

app = typer.Typer(help="Look at the runs that sessions left.", no_args_is_help=True)

_Root = Annotated[Path, typer.Argument(help="A run, a session, or a directory of sessions.")]
_DEFAULT_ROOT = Path("reports/evaluations")


@app.command("list")
def list_(root: _Root = _DEFAULT_ROOT, json_: Json = False, pretty: Pretty = False) -> None:  # noqa: FBT002
    """List runs with their status and headline metric.

    Examples:
      gpueval runs list

      gpueval runs list reports/evaluations/nightly --json
    """
    from pytest_gpueval.runs import validate

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
