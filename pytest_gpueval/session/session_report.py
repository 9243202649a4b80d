"""The reports of a session, written beside its runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_gpueval.reports import markdown, session_page
from pytest_gpueval.reports.session_page import Budget
from pytest_gpueval.runs.files import write_atomically

from . import sweep_pages
from .page_cases import page_of

if TYPE_CHECKING:
    from pytest_gpueval.reports.session_page import Samples
    from pytest_gpueval.reports.table import Row
    from pytest_gpueval.runs.records import SessionRun
    from pytest_gpueval.runs.redact import Redactor


def write(
    directory: Path,
    record: Mapping[str, Any],
    rows: Sequence[Row],
    runs: Sequence[SessionRun],
    redactor: Redactor,
    samples: Callable[[Row, Budget], Samples | None] = lambda _row, _budget: None,
) -> str:
    """report.md, whose text it gives back, and report.html; for each sweep also a page with its rows, in the order of `runs`. `samples`: of a row's run.

    Raises StorageError.
    """
    sweeps = sweep_pages.of_runs(runs, lambda run_id: directory / run_id)
    for name, page in sweeps.pages.items():
        write_atomically(directory / name, page)
    text = redactor.text(markdown.session(record, rows, sweeps.texts))
    write_atomically(directory / "report.md", text)
    budget = Budget()
    pages = [page_of(directory / row.run_id, row, samples(row, budget)) for row in rows]
    write_atomically(directory / "report.html", session_page.page(record, pages, sweeps.sections, redactor.text))
    return text
