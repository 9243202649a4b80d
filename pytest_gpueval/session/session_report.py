"""The reports of a session, written beside its runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_gpueval.reports import markdown, session_page
from pytest_gpueval.reports.session_page import Budget
from pytest_gpueval.runs.files import write_atomically
from pytest_gpueval.suites.sweep import Sweep

from .page_cases import page_of

if TYPE_CHECKING:
    from pytest_gpueval.reports.session_page import Samples
    from pytest_gpueval.reports.sweep import Sweep as Rows
    from pytest_gpueval.reports.table import Row
    from pytest_gpueval.runs.records import SessionRun
    from pytest_gpueval.runs.redact import Redactor
    from pytest_gpueval.suites.load import AnySuite


def write(
    directory: Path,
    record: Mapping[str, Any],
    rows: Sequence[Row],
    suites: Sequence[AnySuite],
    runs: Sequence[SessionRun],
    redactor: Redactor,
    samples: Callable[[Row, Budget], Samples | None] = lambda _row, _budget: None,
) -> str:
    """report.md, whose text it gives back, and report.html; for each sweep also a page with its figures. `samples`: those of a row's run.

    Raises StorageError.
    """
    sections, texts = [], []
    for name, found in _sweeps(directory, suites, runs).items():
        from pytest_gpueval.reports import sweep  # noqa: PLC0415 - evaluations need none of it

        page = f"sweep-{name}.html"
        write_atomically(directory / page, sweep.html(found))  # of files that hold no secrets
        sections.append(sweep.section(found, page=page))
        texts.append(sweep.markdown(found, level=2))
    text = redactor.text(markdown.session(record, rows, texts))
    write_atomically(directory / "report.md", text)
    budget = Budget()
    pages = [page_of(directory / row.run_id, row, samples(row, budget)) for row in rows]
    write_atomically(directory / "report.html", session_page.page(record, pages, sections, redactor.text))
    return text


def _sweeps(directory: Path, suites: Sequence[AnySuite], runs: Sequence[SessionRun]) -> dict[str, Rows]:
    """The sweeps of a session with the rows that it has run or reused."""
    sweeps = [suite for suite in suites if isinstance(suite, Sweep)]
    if not sweeps:
        return {}
    from pytest_gpueval.reports.sweep import Sweep as Rows  # noqa: PLC0415
    from pytest_gpueval.reports.sweep import SweepRow  # noqa: PLC0415
    from pytest_gpueval.runs import sweep_rows  # noqa: PLC0415

    there = {row.run_id: row for row in sweep_rows.read(directory, SweepRow)}
    found = {}
    for suite in sweeps:
        ids = {run.case: run.run_id for run in runs if run.suite == suite.name}
        rows = [there[ids[id_]] for id_ in suite.points if ids.get(id_) in there]
        if rows:
            found[suite.name] = Rows(suite.name, suite.file.metric, suite.file.goal, rows)
    return found
