"""The files of a session that `gpueval runs merge` joined: the same record and reports that pytest would have left. Knows nothing of pytest."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from markupsafe import Markup

from pytest_gpueval.reports import junit, markdown, session_page
from pytest_gpueval.reports.session_page import Budget, Samples
from pytest_gpueval.reports.table import Row
from pytest_gpueval.runs.files import to_json
from pytest_gpueval.runs.gather import JUNIT, SESSION
from pytest_gpueval.runs.merge import Found, Plan
from pytest_gpueval.runs.redact import Redactor

from . import sweep_pages
from .page_cases import page_of
from .rows import label, row, told

_SamplesOf = Callable[[Found, Budget], Samples | None]


def record(plan: Plan, redactor: Redactor) -> dict[str, Any]:
    """What session.json says of the joined session."""
    found: dict[str, Any] = redactor.value(plan.record.model_dump(mode="json"))
    return found


def files(plan: Plan, record: Mapping[str, Any], redactor: Redactor, samples: _SamplesOf = lambda _run, _budget: None) -> tuple[dict[str, str], list[str]]:
    """The texts of session.json, junit.xml (where a session has one), the reports and the pages of sweeps by their names, and what to say about them.

    `samples`: of a run. Raises UsageProblem for a broken junit.xml.
    """
    several = len(plan.record.suites) != 1
    summaries = {run_id: run.summary for run_id, run in plan.taken.items()}
    rows = [row(run, summary, label(run, several=several)) for run, summary in told(plan.record.runs, summaries)]
    sweeps = sweep_pages.of_runs([run for run in plan.record.runs if run.run_id in plan.taken], lambda run_id: plan.taken[run_id].path)
    texts = {
        SESSION: to_json(record),
        "report.md": redactor.text(markdown.session(record, rows, sweeps.texts)),
        "report.html": _page(plan, record, rows, sweeps.sections, redactor, samples),
        **sweeps.pages,
    }
    written = {number: session for number, session in enumerate(plan.sessions) if session.junit is not None}
    if written:
        places = {number: place for place, number in enumerate(written)}
        kept = {run_id: places.get(number, -1) for run_id, number in plan.kept().items()}
        names = [str(session.path / JUNIT) for session in written.values()]
        text = junit.join([session.junit or "" for session in written.values()], names, kept, str(plan.target.resolve()))
        texts[JUNIT] = redactor.text(text)
    # A session that was continued with other items has the test cases of its last invocation alone.
    untold = [run_id for run_id, run in plan.taken.items() if run.summary is not None and f'/{run_id}"' not in texts.get(JUNIT, "")]
    return texts, [f"{JUNIT} has no test case of {run_id}" for run_id in untold] if written else []


def _page(
    plan: Plan,
    record: Mapping[str, Any],
    rows: Sequence[Row],
    sections: Sequence[Markup],
    redactor: Redactor,
    samples: _SamplesOf,
) -> str:
    """report.html."""
    budget = Budget()
    pages = [page_of(run.path, row, samples(run, budget)) for row in rows for run in (plan.taken[row.run_id],)]
    return session_page.page(record, pages, sections, redactor.text)
