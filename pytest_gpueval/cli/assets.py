"""gpueval assets: what a suite needs of the Hub, for machines that cannot reach it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .output import Form, Json, Pretty, form, show, show_document, user_errors

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_gpueval.datasets.assets import Asset
    from pytest_gpueval.datasets.hub import Hub
    from pytest_gpueval.suites.model import Suite

app = typer.Typer(
    name="assets", help="Datasets and models of a suite in a directory, for machines without a network.", no_args_is_help=True, rich_markup_mode=None
)


@app.command()
def download(
    suite: Annotated[str, typer.Argument(metavar="SUITE", help="Name of a suite: a folder in suites/.")],
    to: Annotated[Path, typer.Option("--to", metavar="DIR", help="Where to; what is there and right is not fetched again.")],
    split: Annotated[list[str] | None, typer.Option(metavar="NAME", help="Only this split; may be given several times (default: all of the suite).")] = None,
    models: Annotated[bool, typer.Option(help="Fetch the models of the suite's servers too.")] = True,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List what would be fetched, and fetch nothing.")] = False,
    json_: Json = False,
    pretty: Pretty = False,
) -> None:
    """Fetch what a suite needs into a directory with a manifest.json. Broken off, it goes on where it was.

    Examples:
      gpueval assets download guardrails_ru --to /mnt/assets --split fast

      pytest --gpueval-suite guardrails_ru --gpueval-data=/mnt/assets
    """
    from pytest_gpueval.datasets import assets
    from pytest_gpueval.datasets.hub import Hub
    from pytest_gpueval.session import cases

    with user_errors():
        hub = Hub()
        found = _wanted(hub, cases.evaluation_named(suite, Path.cwd()), split, models=models)
        missing = assets.missing(to, found)
        rows = [{"file": one.target, "repo": one.repo, "revision": one.revision[:7], "bytes": one.remote.bytes, "fetch": one in missing} for one in found]
        wanted = form(json_, pretty)
        if not dry_run:
            _fetch(hub, to, found, missing)
        if wanted is not Form.TABLE:
            show_document({"directory": str(to), "files": rows, "fetched": 0 if dry_run else len(missing)}, wanted)
            return
        size = sum(one.remote.bytes or 0 for one in missing)
        if dry_run:
            show(rows, ("file", "repo", "revision", "bytes", "fetch"), wanted)
        verb = "would fetch" if dry_run else "fetched"
        print(f"{verb} {len(missing)} of {len(found)} files, {size / 1e6:,.1f} MB, to {to}")


@app.command()
def verify(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Directory with a manifest.json.")],
    json_: Json = False,
    pretty: Pretty = False,
) -> None:
    """Compare every file of a directory with its manifest: there, size, SHA-256. Exit code 1 if something is wrong.

    Example:
      gpueval assets verify /mnt/assets
    """
    from pytest_gpueval.datasets import assets

    with user_errors():
        found = assets.check(directory)
    rows = [{"file": file, "state": problem or "ok"} for file, problem in found]
    wanted = form(json_, pretty)
    wrong = [row for row in rows if row["state"] != "ok"]
    if wrong or wanted is not Form.TABLE:
        show(rows if wanted is not Form.TABLE else wrong, ("file", "state"), wanted)
    if wanted is Form.TABLE:
        print(f"{len(rows) - len(wrong)} of {len(rows)} files are as {directory / 'manifest.json'} says")
    if wrong:
        raise typer.Exit(1)


def _wanted(hub: Hub, suite: Suite, splits: Sequence[str] | None, *, models: bool) -> list[Asset]:
    """What a suite needs. Raises UsageProblem, and as the Hub does."""
    from pytest_gpueval.datasets import assets
    from pytest_gpueval.errors import UsageProblem, valid_values
    from pytest_gpueval.session.data import Data
    from pytest_gpueval.session.settings import Settings

    known = {split for entry in suite.file.datasets.values() for split in entry.splits}
    for split in splits or ():
        if split not in known:
            raise UsageProblem(f"suite {suite.name!r} has no split {split!r}. {valid_values(split, known, what='splits')}")
    data = Data(Settings(Path.cwd(), data="hub"))
    found = []
    for name, entry in suite.file.datasets.items():
        for split in entry.splits:
            if not splits or split in splits:
                found += assets.assets_of_split(name, data.settled(suite, name, split))
    for repo in _models(suite) if models else ():
        found += assets.assets_of_model(hub.repository(repo, "main", kind="model"))
    return found


def _models(suite: Suite) -> list[str]:
    """The Hub repositories among the models of a suite's servers: `owner/name`, where there is no such folder."""
    named = [entry.model for runtime in suite.file.runtimes.values() for entry in (runtime.vllm, runtime.server) if entry is not None]
    repos = [model for model in named if model.count("/") == 1 and not model.startswith((".", "/", "~")) and not (suite.directory / model).exists()]
    return [repo for repo in dict.fromkeys(repos) if not Path(repo).exists()]


def _fetch(hub: Hub, to: Path, found: Sequence[Asset], missing: Sequence[Asset]) -> None:
    """Fetch, with a bar on a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    from pytest_gpueval.datasets import assets

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(file=sys.stderr), transient=True, disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task("fetching", total=sum(one.remote.bytes or 0 for one in missing))
        assets.download(hub, to, found, missing, lambda one: progress.advance(task, one.remote.bytes or 0))
