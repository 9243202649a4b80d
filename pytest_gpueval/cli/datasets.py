"""gpueval datasets: splits of a suite's Hub repositories."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .budget import budget
from .output import Form, Json, Pretty, form, show, show_document, tell, user_errors

if TYPE_CHECKING:
    from pytest_gpueval.datasets.hub import Hub, Repository
    from pytest_gpueval.datasets.labelled import Annotation
    from pytest_gpueval.datasets.publish import Proposal
    from pytest_gpueval.scoring.task import Task
    from pytest_gpueval.suites.model import Suite
    from pytest_gpueval.suites.schema import DatasetEntry

app = typer.Typer(
    name="datasets",
    help="Splits of a suite's Hub repositories: pin them, check them, choose fast ones, publish them. HF_TOKEN, or `hf auth login`, says who you are.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.command()(budget)
SuiteName = Annotated[str, typer.Argument(metavar="SUITE", help="Name of a suite: a folder in suites/.")]
Only = Annotated[list[str] | None, typer.Option("--dataset", metavar="NAME", help="Only this dataset of the suite; may be given several times.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would be done, and do nothing.")]
Split = Annotated[str, typer.Option(metavar="NAME", help="The split.")]


@app.command()
def lock(suite: SuiteName, dry_run: DryRun = False) -> None:  # noqa: FBT002 - command-line switch
    """Write datasets.lock beside suite.toml: the commit and the files of every split, as the Hub has them now.

    Sessions with --gpueval-data hub then take these rows on every machine, until this command is run again.

    Examples:
      gpueval datasets lock guardrails_ru

      gpueval datasets lock guardrails_ru --dry-run
    """
    from pytest_gpueval.datasets import locks
    from pytest_gpueval.datasets.hub import Hub
    from pytest_gpueval.datasets.remote import MAIN

    with user_errors():
        read, hub = _suite(suite), Hub()
        before = locks.read(read.directory)
        found = {}
        for name, entry in read.file.datasets.items():
            base = hub.repository(_repo(read, name), entry.revision or MAIN)  # all splits of one commit
            found.update({(name, split): hub.split(base.name, base.revision, split, entry.config) for split in entry.splits})
        changed = [f"{name}-{split}" for (name, split), remote in found.items() if before.get((name, split)) != remote]
        if not dry_run:
            locks.write(read.directory, found)
    said = f"{len(changed)} of {len(found)} splits changed: {', '.join(changed)}" if changed else f"all {len(found)} splits are as locked"
    print(f"{'would write' if dry_run else 'wrote'} {read.directory / locks.FILE_NAME}; {said}")  # noqa: T201


@app.command()
def verify(
    suite: SuiteName,
    dataset: Only = None,
    split: Split = "fast",
    source: Annotated[str, typer.Option(metavar="NAME", help="Split that all rows must be in; empty for none.")] = "full",
    json_: Json = False,  # noqa: FBT002 - command-line switch
    pretty: Pretty = False,  # noqa: FBT002 - command-line switch
) -> None:
    """Look at published splits as others will meet them: fresh cache, forced download. Exit code 1 if something is wrong.

    Checked are the content hash, row counts (file, metadata, suite), the schema of every row, the label map, duplicates, rows that are not in
    --source, and `datasets.load_dataset`.

    Examples:
      gpueval datasets verify guardrails_ru

      gpueval datasets verify guardrails_ru --dataset meddies --json
    """
    from pytest_gpueval.datasets import verify as looks
    from pytest_gpueval.datasets.hub import Hub
    from pytest_gpueval.datasets.remote import MAIN

    rows: list[dict[str, Any]] = []
    with user_errors():
        read, hub = _suite(suite), Hub()
        for name in _chosen(read, dataset):
            entry = read.file.datasets[name]
            base = hub.repository(_repo(read, name), entry.revision or MAIN)
            known = entry.splits[split].rows if split in entry.splits else None
            subject = looks.Subject(
                split, _annotation(read, entry), _task(read, name, split), known, source if source not in ("", split) else None, entry.config
            )
            rows += [{"dataset": name, "revision": base.revision[:7], **asdict(finding)} for finding in looks.findings(hub, base, subject)]
    wanted = form(json_, pretty)
    cells = rows if wanted is not Form.TABLE else [{**row, "ok": "ok" if row["ok"] else "WRONG"} for row in rows]
    show(cells, ("dataset", "revision", "what", "ok", "seen"), wanted)
    if not all(row["ok"] for row in rows):
        raise typer.Exit(1)


@app.command()
def rebalance(
    suite: SuiteName,
    dataset: Only = None,
    rows: Annotated[int | None, typer.Option(min=1, metavar="N", help="Rows of each split (default: what suite.toml says).")] = None,
    negatives: Annotated[float, typer.Option(min=0.0, max=1.0, metavar="SHARE", help="Share of rows without a label, where there are such.")] = 0.2,
    seed: Annotated[str, typer.Option(metavar="TEXT", help="Another seed chooses other rows.")] = "gpueval-1",
    split: Split = "fast",
    source: Annotated[str, typer.Option(metavar="NAME", help="The split to choose from.")] = "full",
    dry_run: DryRun = False,  # noqa: FBT002 - command-line switch
    json_: Json = False,  # noqa: FBT002 - command-line switch
    pretty: Pretty = False,  # noqa: FBT002 - command-line switch
) -> None:
    """Choose a fast split out of the full one, balanced by label, and publish it with its metadata in one commit.

    The choice is the same on every machine, whatever the order of the rows, and a larger one contains a smaller one.

    Examples:
      gpueval datasets rebalance guardrails_ru --dry-run

      gpueval datasets rebalance guardrails_ru --dataset meddies --rows 800
    """
    with user_errors():
        read = _suite(suite)
        names = _chosen(read, dataset)
        sizes = {name: rows or _rows(read, name, split) for name in names}
        done = publish_sizes(read, sizes, negatives=negatives, seed=seed, split=split, source=source, dry_run=dry_run)
        _report(done, form(json_, pretty), dry_run=dry_run)


def publish(suite: str, sizes: Mapping[str, int], split: str, wanted: Form, *, dry_run: bool) -> None:
    """Publish splits of these sizes, and say so. Raises GpuevalError."""
    _report(publish_sizes(_suite(suite), sizes, split=split, dry_run=dry_run), wanted, dry_run=dry_run)


def publish_sizes(
    suite: Suite, sizes: Mapping[str, int], *, negatives: float = 0.2, seed: str = "gpueval-1", split: str = "fast", source: str = "full", dry_run: bool
) -> list[dict[str, Any]]:
    """Fast splits of these rows for datasets of a suite, one repository after the other. Raises GpuevalError, with what was done before it on stderr."""
    from pytest_gpueval.datasets import publish
    from pytest_gpueval.datasets.hub import Hub

    hub, done = Hub(), list[dict[str, Any]]()
    with TemporaryDirectory(prefix="gpueval-rebalance-") as folder:
        for number, (name, rows) in enumerate(sizes.items(), 1):
            entry = suite.file.datasets[name]
            tell(f"{name} ({number} of {len(sizes)})")
            wish = publish.Wish(rows, _annotation(suite, entry), split, source, negatives, seed, config=entry.config)

            def propose(base: Repository, wish: publish.Wish = wish) -> Proposal:
                return publish.rebalance(hub, base, wish, Path(folder))

            done.append(_publish(hub, name, _repo(suite, name), propose, dry_run=dry_run))
    return done


@app.command("publish-info")
def publish_info(
    suite: SuiteName,
    dataset: Only = None,
    dry_run: DryRun = False,  # noqa: FBT002 - command-line switch
    json_: Json = False,  # noqa: FBT002 - command-line switch
    pretty: Pretty = False,  # noqa: FBT002 - command-line switch
) -> None:
    """Mend a repository's metadata where it is not what its parquet files hold; nothing else of the card changes.

    Examples:
      gpueval datasets publish-info guardrails_ru --dry-run

      gpueval datasets publish-info guardrails_ru --dataset meddies
    """
    from pytest_gpueval.datasets import publish
    from pytest_gpueval.datasets.hub import Hub

    with user_errors():
        read, hub, done = _suite(suite), Hub(), list[dict[str, Any]]()
        for name in _chosen(read, dataset):
            config = read.file.datasets[name].config
            wrong: list[str] = []

            def propose(base: Repository, config: str | None = config, wrong: list[str] = wrong) -> Proposal:
                proposal, found = publish.mend(hub, base, config)
                wrong[:] = [str(one) for one in found]
                return proposal

            done.append({**_publish(hub, name, _repo(read, name), propose, dry_run=dry_run), "wrong": wrong})
        _report(done, form(json_, pretty), dry_run=dry_run)


def _publish(hub: Hub, name: str, repo: str, propose: Callable[[Repository], Proposal], *, dry_run: bool) -> dict[str, Any]:
    """One repository: what would be, or was, committed."""
    from pytest_gpueval.datasets import publish
    from pytest_gpueval.datasets.remote import MAIN

    proposal, commit = propose(hub.repository(repo, MAIN)), None
    if not dry_run:
        proposal, commit = publish.commit(hub, repo, propose, proposal)
    return {
        "dataset": name,
        "repo": repo,
        "parent": proposal.base.revision,
        "commit": commit,
        "changes": not proposal.empty,
        "rows_before": proposal.rows[0] if proposal.rows else None,
        "rows": proposal.rows[1] if proposal.rows else None,
        "labels": {label: {"before": before, "after": after} for label, (before, after) in proposal.labels.items()},
        "notes": list(proposal.notes),
        "diff": proposal.diff,
    }


def _report(done: Sequence[dict[str, Any]], wanted: Form, *, dry_run: bool) -> None:
    if wanted is not Form.TABLE:
        show_document(list(done), wanted)
        return
    for one in done:
        what = f"committed {one['commit'][:7]}" if one["commit"] else "would be committed" if dry_run and one["changes"] else "nothing to do"
        print(f"{one['dataset']}: {one['repo']}@{one['parent'][:7]}: {what}")  # noqa: T201
        for line in (*one.get("wrong", ()), *one["notes"]):
            print(f"  {line}")  # noqa: T201
        if one["labels"]:
            table = [{"label": label, **counts} for label, counts in one["labels"].items()]
            show([*table, {"label": "all rows", "before": one["rows_before"], "after": one["rows"]}], ("label", "before", "after"), wanted)
        if one["diff"] and dry_run:
            print("".join(f"  {line}\n" for line in one["diff"].splitlines()), end="")  # noqa: T201


def _suite(name: str) -> Suite:
    """A suite by its name. Raises UsageProblem."""
    from pytest_gpueval.session import cases

    return cases.evaluation_named(name, Path.cwd())


def _chosen(suite: Suite, names: Sequence[str] | None) -> list[str]:
    """The datasets that are asked for, by default all. Raises UsageProblem."""
    from pytest_gpueval.errors import UsageProblem, valid_values

    for name in names or ():
        if name not in suite.file.datasets:
            raise UsageProblem(f"suite {suite.name!r} has no dataset {name!r}. {valid_values(name, suite.file.datasets, what='datasets')}")
    return list(dict.fromkeys(names)) if names else list(suite.file.datasets)


def _repo(suite: Suite, name: str) -> str:
    from pytest_gpueval.errors import UsageProblem

    repo = suite.file.datasets[name].repo
    if repo is None:
        raise UsageProblem(f"{suite.path}: datasets.{name}.repo: missing; name the Hub repository that holds it")
    return repo


def _rows(suite: Suite, name: str, split: str) -> int:
    from pytest_gpueval.errors import UsageProblem

    entry = suite.file.datasets[name].splits.get(split)
    if entry is None or entry.rows is None:
        raise UsageProblem(f"{suite.path}: datasets.{name}.splits.{split}.rows: missing; say there how many rows the split shall have, or give --rows")
    return entry.rows


def _annotation(suite: Suite, entry: DatasetEntry) -> Annotation:
    """What of a dataset's rows is their labels. Raises UsageProblem for a task that is not the package's own."""
    from pytest_gpueval.datasets.labelled import Annotation

    options = {**suite.file.task_options, **entry.task_options}
    return Annotation(suite.file.task, bool(options.get("multilabel")), tuple(suite.file.labels), entry.label_map or None, columns=entry.columns)


def _task(suite: Suite, dataset: str, split: str) -> Task | None:
    """The task that reads the rows; None for one that a conftest.py adds, which no session has loaded here."""
    from pytest_gpueval.errors import UsageProblem
    from pytest_gpueval.session import tasks

    try:
        (case,) = [case for case in suite.cases(split) if case.dataset == dataset]
        return tasks.made(case, tasks.OWN)
    except (UsageProblem, ValueError):
        return None
