"""What failed, and whose failure it is: of a gate, of the machines, or of anything else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import pytest

from pytest_gpueval.errors import GateFailure, GpuevalError
from pytest_gpueval.suites.model import Status

# The exit status of pytest where all that failed are the machines. pytest's own end at 6; 1 stays "tests failed".
INFRASTRUCTURE_EXIT: Final = 10
# The property of a test report that tells whose failure it is.
PROPERTY: Final = "gpueval.failure"

Kind = Literal["gate", "infrastructure", "other"]
_OF_MACHINES: Final = frozenset({"crashed", "oom", "timeout"})


def kind_of(error: BaseException | None, status: Status = "error") -> Kind:
    """Whose failure it is that a run ended so. What cannot be told for sure is "other": it must block."""
    if isinstance(error, GateFailure):
        return "gate"
    infrastructure = status in _OF_MACHINES or (isinstance(error, GpuevalError) and error.infrastructure)
    return "infrastructure" if infrastructure else "other"


@dataclass(frozen=True, slots=True)
class Failure:
    """One test that failed. `file` is relative to pytest's root, `line` counts from 1."""

    nodeid: str
    kind: Kind
    file: str
    line: int | None
    text: str


class Failures:
    """Plugin of the controller: keeps what failed."""

    def __init__(self) -> None:
        self.found: list[Failure] = []

    @pytest.hookimpl
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take down a failure."""
        if report.failed:
            told = dict(report.user_properties).get(PROPERTY)
            kind: Kind = told if told in ("gate", "infrastructure") else "other"
            file, line, _ = report.location
            self.found.append(Failure(report.nodeid, kind, file, None if line is None else line + 1, str(report.longrepr or "")))

    def exit_status(self, session: pytest.Session, error: GpuevalError | None) -> int:
        """What the session's exit status shall be: another than 1 where nothing but infrastructure failed."""
        status = int(session.exitstatus)
        if status == INFRASTRUCTURE_EXIT:  # asked before
            status = int(pytest.ExitCode.TESTS_FAILED)
        if error is not None and status in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
            status = int(pytest.ExitCode.TESTS_FAILED)
        if status != pytest.ExitCode.TESTS_FAILED:
            return status
        kinds = {failure.kind for failure in self.found} | ({kind_of(error)} if error is not None else set())
        elsewhere = session.testsfailed > len(self.found)  # such as a file that could not be collected
        return INFRASTRUCTURE_EXIT if kinds == {"infrastructure"} and not elsewhere else status
