"""The commands. Each noun has a module of its own."""

from __future__ import annotations

import io
import sys
from typing import Annotated

import typer

from pytest_gpueval import __version__

from . import assets, baselines, compare, datasets, gpus, hosts, plan, pods, report, runs, suites, vllm
from .help import with_examples

EXIT_CODES = """Exit codes: 0 ok, 1 failed, 2 usage, 3 unreachable, 4 not allowed, 5 locked or conflicting."""

app = typer.Typer(
    name="gpueval",
    help="GPU evaluations as pytest sessions: look at suites and GPUs, at what a session would do, and at the runs that sessions left.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("suites")(suites.suites)
app.command("init")(suites.init)
app.command("plan")(plan.plan)
app.command("gpus")(gpus.gpus)
app.command("compare")(compare.compare)
app.command("report")(report.report)
app.add_typer(assets.app, name="assets")
app.add_typer(baselines.app, name="baselines")
app.add_typer(datasets.app, name="datasets")
app.add_typer(hosts.app, name="hosts")
app.add_typer(pods.app, name="pods")
app.add_typer(runs.app, name="runs")
app.add_typer(vllm.app, name="vllm")
with_examples(app)


def _version(wanted: bool) -> None:  # noqa: FBT001 - typer's callback
    if wanted:
        print(f"gpueval {__version__}")  # noqa: T201
        raise typer.Exit


@app.callback()
def _main(version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")] = False) -> None:  # noqa: FBT002
    """Options before the command."""


def run() -> None:
    """The console script."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # as stderr does: a terminal that is not UTF-8 loses nothing
    app()
