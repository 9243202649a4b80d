"""gpueval compare."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from .output import Form, Json, Pretty, form, show, show_document, user_errors

_SOURCE_HELP = "A session (its folder, or its name in reports/evaluations), a folder of baselines, or git:REF."


def compare(
    a: Annotated[str, typer.Argument(help=_SOURCE_HELP)],
    b: Annotated[str, typer.Argument(help="The same; differences are B - A.")],
    suite: Annotated[list[str] | None, typer.Option(metavar="NAME", help="Only this suite; may be given several times.")] = None,
    case: Annotated[list[str] | None, typer.Option(metavar="CASE", help="Only this case, DATASET-SPLIT; may be given several times.")] = None,
    all_: Annotated[bool, typer.Option("--all", help="All metrics, of labels too, and speeds; else the headline metric of each case.")] = False,  # noqa: FBT002
    intersect: Annotated[bool, typer.Option(help="Where data differ, compare the samples that are still the same.")] = False,  # noqa: FBT002
    markdown: Annotated[bool, typer.Option("--markdown", help="Markdown.")] = False,  # noqa: FBT002
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Write a page, in one file.")] = None,
    json_: Json = False,  # noqa: FBT002
    pretty: Pretty = False,  # noqa: FBT002
) -> None:
    """Compare two sessions, baselines or commits: the differences of the same samples, with intervals and p-values.

    A task that the package does not know is looked for in conftest.py here, in suites/ and in the suite's folder, which are then imported.
    Cases that cannot be compared are named in notes, and do not hide the others; the exit code is then not 0.

    Examples:
      gpueval compare baselines nightly

      gpueval compare git:main reports/evaluations/nightly --all --html differences.html
    """
    from pytest_gpueval.reports import comparison
    from pytest_gpueval.reports.table import plain
    from pytest_gpueval.runs.files import write_atomically
    from pytest_gpueval.session import baseline_sources, comparing

    here = Path.cwd()
    with user_errors():
        first, second = (baseline_sources.source(spec, here, here / "reports" / "evaluations", option="") for spec in (a, b))
        found = comparing.compare(first, second, suite or (), case or (), here, everything=all_, intersect=intersect)
        document = found.as_dict()
        if html is not None:
            write_atomically(html, comparison.page(document))
    shown = form(json_, pretty)
    if shown is not Form.TABLE:
        show_document(document, shown)
    elif markdown:
        print(comparison.markdown(document), end="")  # noqa: T201
    else:
        show(comparison.table(document), comparison.HEADERS, Form.TABLE)
        sys.stderr.writelines(f"note: {plain(note)}\n" for note in document["notes"])
        if html is not None:
            print(f"page: {html}")  # noqa: T201
    if found.exit_code:
        raise typer.Exit(found.exit_code)
