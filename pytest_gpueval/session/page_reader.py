"""The samples of a session's own runs, with their splits: what its page asks for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_gpueval.datasets.parquet import ParquetSplit
from pytest_gpueval.errors import DataError
from pytest_gpueval.reports.session_page import Budget, Samples
from pytest_gpueval.reports.table import Row
from pytest_gpueval.runs.redact import Redactor
from pytest_gpueval.scoring.task import Task
from pytest_gpueval.suites.model import Case, Unit, without_shard

from . import registry
from .page_samples import of_run
from .rows import metadata

if TYPE_CHECKING:
    from pluggy import HookRelay

    from .data import Data
    from .settings import Settings


@dataclass(frozen=True)
class Reader:
    """Reads the samples of a session's runs. `cases`: suite and case -> the case; `hooks` know the tasks that conftest.py files add."""

    directory: Path
    cases: Mapping[tuple[str, str], Case]
    data: Data
    settings: Settings
    hooks: HookRelay
    redactor: Redactor

    @classmethod
    def of(cls, directory: Path, units: Sequence[Unit], data: Data, settings: Settings, hooks: HookRelay, redactor: Redactor) -> Reader:
        """A reader of the runs of these units."""
        return cls(directory, {(case.suite, case.id): case for case in units if isinstance(case, Case)}, data, settings, hooks, redactor)

    def __call__(self, row: Row, budget: Budget) -> Samples | None:
        """The samples of a row's run; None where it has none."""
        said = metadata(self.directory / row.run_id)
        case = self.cases.get((str(said.get("suite")), without_shard(str(said.get("case")))))

        def split() -> tuple[ParquetSplit, Task]:
            if case is None:
                raise DataError("its case is not of this session")
            return self.data.open(case), registry.task(case, self.hooks)

        return of_run(self.directory / row.run_id, split, texts=self.settings.report_texts, redactor=self.redactor, budget=budget)
