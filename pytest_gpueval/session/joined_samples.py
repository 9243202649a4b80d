"""The samples of runs that were merged, beside their splits where this machine has them as they were evaluated. Knows nothing of pytest."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache, cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pytest_gpueval.datasets import locks
from pytest_gpueval.datasets.parquet import ParquetSplit
from pytest_gpueval.datasets.remote import RemoteSplit
from pytest_gpueval.errors import DataError, GpuevalError, UsageProblem
from pytest_gpueval.reports.session_page import Budget, Samples, Texts
from pytest_gpueval.runs.redact import Redactor
from pytest_gpueval.suites.load import validated
from pytest_gpueval.suites.schema import PolicyEntry

from . import cases, conftests, tasks
from .data import EMBEDDED, HUB, Data
from .page_samples import of_run
from .settings import Settings

if TYPE_CHECKING:
    from pytest_gpueval.runs.merge import Found
    from pytest_gpueval.runs.records import RunMetadata
    from pytest_gpueval.scoring.task import Task
    from pytest_gpueval.suites.model import Case, Suite

# What origins of splits begin with, but for directories without a manifest, which are their origin.
_MIRROR: Final = "mirror: "
_HUB: Final = f"{HUB}: "


@dataclass(frozen=True)
class Reader:
    """Reads the samples of merged runs. `root` has suites/; `texts` is what all the sessions allowed, None where one of them does not say."""

    root: Path
    texts: Texts | None

    def __call__(self, run: Found, budget: Budget) -> Samples | None:
        """The samples of a run; None where it has none. Where its split is not to be had, their note says why."""
        return of_run(run.path, lambda: self._split(run.metadata), texts=self.texts or "no", redactor=self._redactor(run.metadata.suite), budget=budget)

    @cached_property
    def _suite(self) -> Callable[[str], Suite]:
        """A suite by its name, read once for all its runs. It raises UsageProblem."""
        return cache(partial(cases.evaluation_named, root=self.root))

    def _redactor(self, suite: str) -> Redactor:
        """One that knows what the session's own did, as far as this machine does."""
        options: list[dict[str, Any]] = []
        with suppress(GpuevalError):
            options = [entry.options for entry in self._suite(suite).file.runtimes.values()]
        return Redactor.of(os.environ, options)

    def _split(self, said: RunMetadata) -> tuple[ParquetSplit, Task]:
        """The split that a run was on, and its task. Raises DataError where it is not here, UsageProblem for a suite that is not here or another by now."""
        if self.texts is None:
            raise DataError("one of the sessions does not say which texts its report may hold")
        suite = self._suite(said.suite)
        case = _case(suite, said)
        found = self._found(case, said)
        known = tasks.OWN if case.task in tasks.OWN else {**tasks.OWN, **conftests.tasks_of(self.root, suite.name)}
        return found, tasks.made(case, known)

    def _found(self, case: Case, said: RunMetadata) -> ParquetSplit:
        """The split with the hash of the one that was evaluated: of the place that the run names, else of the suite. The network is not asked."""
        wanted, origin = said.dataset.get("sha256"), str(said.dataset.get("origin"))
        own = origin == EMBEDDED or origin.startswith(f"{EMBEDDED}: ")
        places = [EMBEDDED] if own else [origin.removeprefix(_MIRROR), EMBEDDED]
        problems = []
        for place in places:
            try:
                found = self._cached(case, said) if place == HUB or place.startswith(_HUB) else Data(Settings(self.root, data=place)).open(case)
                if found.sha256 == wanted:
                    return found
                problems.append(f"{found.path} is another file by now")
            except GpuevalError as problem:
                problems.append(str(problem).splitlines()[0])
        raise DataError(f"{case.dataset}/{case.split} as it was evaluated (SHA-256 {str(wanted)[:12]}) is not on this machine: {problems[0]}")

    def _cached(self, case: Case, said: RunMetadata) -> ParquetSplit:
        """A split of the Hub that an earlier session has fetched. Raises DataError, MissingExtra."""
        from pytest_gpueval.datasets.hub import Hub  # noqa: PLC0415 - heavy

        revision, config = str(said.dataset.get("revision")), self._suite(case.suite).file.datasets[case.dataset].config
        remote = locks.read(case.directory).get((case.dataset, case.split))
        if remote is None or remote.revision != revision:
            remote = RemoteSplit(case.repo or "", revision, case.split, config)
        return replace(Hub().held(remote), names=case.columns)


def _case(suite: Suite, said: RunMetadata) -> Case:
    """A run's case as the suite has it now. Raises UsageProblem, also where the suite reads the same rows otherwise by now."""
    rules = validated(PolicyEntry, {name: value for name, value in said.policy.items() if name != "name"}, f"policy of {said.run_id}")
    policy = str(said.policy.get("name")), rules
    every = suite.cases(str(said.dataset.get("split")), str(said.runtime.get("name")), policy)
    case = next((case for case in every if case.dataset == said.dataset.get("name")), None)
    if case is None:
        raise UsageProblem(f"{suite.path}: has no dataset {said.dataset.get('name')!r} with split {said.dataset.get('split')!r} any more")
    now = {"labels": list(case.labels), "label_map": dict(case.label_map), "task_options": dict(case.task_options), "columns": dict(case.columns)}
    unlike = ["task"] * (case.task != said.task) + [name for name, value in now.items() if value != said.scoring.get(name, {})]
    if unlike:
        raise UsageProblem(f"{suite.path}: says otherwise than when this was run: {', '.join(unlike)}")
    return case
