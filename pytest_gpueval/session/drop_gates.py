"""The last steps of Holm's procedure: gates against a baseline that fail once all others of their suite have spoken."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import pytest

from pytest_gpueval.suites.model import Case, Unit

from . import cases
from .rows import summary_or_none

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_gpueval.runs.records import Summary, VerdictRecord

    from .controller import Controller

# What the report of their verdict is called, as if it were a test of the suite's file.
NAME = "test_drop_gates"


class DropGates:
    """Plugin of the controller, where cases are compared with baselines."""

    def __init__(self, controller: Controller, units: Sequence[Unit]) -> None:
        self._controller = controller
        self._units = units

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Once all items have ended: a report for each suite whose gates were compared."""
        by_suite: dict[Path, list[Case]] = {}
        for unit in self._units:
            if isinstance(unit, Case) and unit.shard is None:
                by_suite.setdefault(unit.directory, []).append(unit)
        for directory, found in by_suite.items():
            ran = {run.case for run in self._controller.runs.values() if run.suite == found[0].suite}
            summaries = {case.id: summary_or_none(self._controller.session_dir / cases.run_name([case.suite, case.id])) for case in found if case.id in ran}
            compared, failure = judge(found[0].suite, found, summaries)
            if compared:
                self._say(session, directory / "suite.toml", failure)

    def _say(self, session: pytest.Session, file: Path, failure: str | None) -> None:
        root = session.config.rootpath
        place = str(file.relative_to(root) if file.is_relative_to(root) else file)
        report = pytest.TestReport(f"{place}::{NAME}", (place, None, NAME), {}, "failed" if failure else "passed", failure, "call")
        session.config.hook.pytest_runtest_logreport(report=report)
        if failure and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED


def judge(suite: str, every: Sequence[Case], summaries: Mapping[str, Summary | None]) -> tuple[bool, str | None]:
    """Whether any gate of these cases, all that the suite has of a split, was compared with a baseline here, and why more of them fail now.

    `summaries` are by the cases' ids. A gate that has not spoken counts as one whose p-value is 1.
    """
    entry = every[0].comparison
    spoken = [(id_, verdict) for id_, summary in summaries.items() if summary is not None for verdict in summary.gates if verdict.change is not None]
    if not spoken:
        return False, None
    found = [(id_, verdict) for id_, verdict in spoken if verdict.change is not None and verdict.change.p is not None]
    if entry.correction != "holm":
        return True, None
    from pytest_gpueval.scoring.paired import holm  # noqa: PLC0415 - heavy

    p = [verdict.change.p for _, verdict in found if verdict.change is not None and verdict.change.p is not None]
    adjusted = holm([*p, *[1.0] * max(0, every[0].comparisons - len(p))])
    late = [(id_, verdict, value) for (id_, verdict), value in zip(found, adjusted, strict=False) if value <= entry.level and verdict.outcome != "fail"]
    if not late:
        return True, None
    head = f"{suite}: {len(late)} more gate{'s' if len(late) > 1 else ''} failed beside the others of the suite (Holm, level {entry.level:g})"
    return True, "\n".join([head, *(_line(id_, verdict, value) for id_, verdict, value in late)])


def _line(id_: str, verdict: VerdictRecord, adjusted: float) -> str:
    name = f"{verdict.metric}[{verdict.label}]" if verdict.label else verdict.metric
    assert verdict.change is not None  # noqa: S101 - for the type checker
    change = verdict.change
    interval = f"[{change.low:+.4f}, {change.high:+.4f}]"
    return f"  {id_}: {name} {change.difference:+.4f} {interval}, {verdict.bound}, p {change.p:.3g}, adjusted {adjusted:.3g}"
