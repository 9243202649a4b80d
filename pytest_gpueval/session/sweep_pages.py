"""The sweeps among runs -> their pages, and what the session's reports say of them. Knows nothing of pytest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pytest_gpueval.runs import sweep_rows
from pytest_gpueval.suites.sweep import PROGRAM

from .rows import is_own_test, metadata

if TYPE_CHECKING:
    from markupsafe import Markup

    from pytest_gpueval.reports.sweep import Sweep
    from pytest_gpueval.runs.records import SessionRun


class SweepPages(NamedTuple):
    """`pages`: name of a file -> its HTML; a section for report.html and a text for report.md of each sweep."""

    pages: dict[str, str]
    sections: list[Markup]
    texts: list[str]


def of_runs(runs: Sequence[SessionRun], path_of: Callable[[str], Path]) -> SweepPages:
    """The pages of the sweeps among `runs`, whose order is that of their rows; `path_of` a run's id is its directory."""
    found = SweepPages({}, [], [])
    # A row that a test of the user's own ran too is shown as its suite runs it.
    by_suite: dict[str, dict[str, SessionRun]] = {}
    for run in sorted(runs, key=lambda run: not is_own_test(run.nodeid)):
        if run.runtime == PROGRAM and metadata(path_of(run.run_id)):  # what is wrong with others, `gpueval runs validate` tells
            by_suite.setdefault(run.suite, {})[run.case] = run
    place = {run.run_id: number for number, run in enumerate(runs)}
    for suite, cases in by_suite.items():
        from pytest_gpueval.reports import sweep  # noqa: PLC0415 - evaluations need none of it

        paths = [path_of(run.run_id) for run in sorted(cases.values(), key=lambda run: place[run.run_id])]
        rows, page = _sweep(suite, paths), f"sweep-{suite}.html"
        found.pages[page] = sweep.html(rows)  # of files that hold no secrets
        found.sections.append(sweep.section(rows, page=page))
        found.texts.append(sweep.markdown(rows, level=2))
    return found


def _sweep(suite: str, paths: Sequence[Path]) -> Sweep:
    """The rows in these directories, one at least."""
    from pytest_gpueval.reports.sweep import Sweep, SweepRow  # noqa: PLC0415

    said = [metadata(path) for path in paths]
    scoring = said[0].get("scoring") or {}
    rows = [SweepRow(**sweep_rows.fields(path, told)) for path, told in zip(paths, said, strict=True)]
    return Sweep(suite, scoring.get("metric"), "max" if scoring.get("goal") == "max" else "min", rows)
