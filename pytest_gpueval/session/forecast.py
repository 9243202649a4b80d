"""What the controller expects of a session: how long its items take, how they are cut, when they end."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from pytest_gpueval.datasets.sources import Location
from pytest_gpueval.planning import plan
from pytest_gpueval.planning.dispatch import Slot
from pytest_gpueval.planning.history import History
from pytest_gpueval.suites.load import FILE_NAME, AnySuite
from pytest_gpueval.suites.model import Case, Shard, Suite, Unit

from . import cases
from .cutting import Collected, Cutting
from .data import Data, location
from .lanes import Lane
from .settings import Settings

# Rows of a split that neither the suite nor its file tells: about what a fast split has.
UNKNOWN_ROWS = 1000


class Forecast:
    """Costs of the cases of some suites on some lanes, from earlier sessions of the same output directory and from the suites."""

    def __init__(self, settings: Settings, data: Data, suites: Sequence[AnySuite], laid: Sequence[Lane], chosen: Sequence[Unit] | None = None) -> None:
        self._laid = laid
        budgets = [suite.file.budget_s for suite in suites]
        self.budget_s = None if None in budgets else sum(budget_s for budget_s in budgets if budget_s) or None
        self.unknown: list[str] = []  # cases whose rows are guessed
        self._settings = settings
        self._data = data
        self._suites = suites
        self._chosen = chosen
        self._gpu = laid[0].gpu_name if laid else None

    @cached_property
    def units(self) -> Sequence[Unit]:
        """The cases and rows of the suites under the session's options. Raises UsageProblem."""
        if self._chosen is not None:
            return self._chosen
        return [unit for suite in self._suites for unit in cases.units(suite, self._settings)]

    @cached_property
    def _history(self) -> History:
        return History.read(self._settings.output_dir)

    @cached_property
    def slots(self) -> list[Slot]:
        """The lanes as the scheduler sees them: with how fast their GPUs are beside the ones that costs are told for."""
        names = {lane.gpu_name for lane in self._laid}
        if len(names) < 2:
            return [lane.slot for lane in self._laid]
        paces = {name: self._history.pace(self.units, name, self._gpu) for name in names}
        return [replace(lane.slot, pace=paces[lane.gpu_name]) for lane in self._laid]

    @cached_property
    def works(self) -> dict[str, plan.Work]:
        """Every case by its key."""
        found: dict[str, plan.Work] = {}
        bases = {suite.directory: f"{_shown(suite.directory / FILE_NAME, self._settings.root)}::{cases.function_of(suite)}" for suite in self._suites}
        locations = {suite.directory: location(suite) for suite in self._suites if isinstance(suite, Suite)}
        for unit in self.units:
            rows = self._rows(unit, locations[unit.directory]) if isinstance(unit, Case) else 1
            found[cases.key(unit)] = plan.Work(bases[unit.directory], unit, rows, self._history.estimate(unit, self._gpu))
        return found

    def _rows(self, case: Case, where: Location) -> int:
        rows = self._data.rows(case, where)
        if rows is None:
            self.unknown.append(case.id)
            rows = min(UNKNOWN_ROWS, self._settings.limit or UNKNOWN_ROWS)
        return rows

    def cutting(self, counts: Mapping[str, int]) -> Cutting:
        """What workers cut by; nothing is cut where there is one lane. `counts` are cuts that were made before."""
        places = len({need for slot in self.slots for need in slot.needs})
        if places < 2 and not self._settings.part:
            return Cutting(counts=counts)
        works = self.works
        if all(work.case.shards != "auto" for work in works.values()):  # then what is not cut bears on no other
            works = {key: work for key, work in works.items() if work.case.shards != 1}
        pieces = {key: replace(piece, group=key) for key, piece in zip(works, plan.pieces_of(works.values()), strict=True)}
        return Cutting(places, pieces, counts, self._settings.part)

    def earlier_counts(self, session_dir: Path, cuts: Mapping[str, int]) -> dict[str, int]:
        """How a session that is continued keeps its datasets cut: as it recorded, and whole where the whole has begun.

        A dataset that was joined and passed is not cut any more, since nothing of it is left to run.
        """
        there = set() if self._settings.force else cases.run_names(session_dir)
        found: dict[str, int] = {}
        for key in (cases.key(unit) for unit in self.units if isinstance(unit, Case)):  # rows of sweeps are never cut
            ran = bool(there) and cases.run_name_of(key) in there
            if ran and cases.is_finished(session_dir, key):
                found[key] = 1
            elif key in cuts:
                found[key] = int(cuts[key])
            elif ran and cases.has_begun(session_dir, key):
                found[key] = 1
        return found

    def jobs(self, ids: Sequence[str], collected: Collected) -> list[plan.Job]:
        """A job for each node id, in their order. Tests of the user's own are guessed to take as long as the others do on average."""
        known = {nodeid: (self.works[key], parts, count) for nodeid, key, parts, count in collected if key in self.works}
        jobs = {nodeid: _job(nodeid, *known[nodeid], known) for nodeid in ids if nodeid in known}
        mean_s = sum(job.seconds for job in jobs.values()) / len(jobs) if jobs else 1.0
        found: list[plan.Job] = []
        for index, nodeid in enumerate(ids):
            job = jobs.pop(nodeid, None)
            found.append(job or plan.Job(f"{nodeid}#{index}", nodeid, mean_s))
        return found

    def whole(self) -> plan.Plan:
        """The plan of all cases."""
        counts = self.cutting({}).of_datasets([work.case for work in self.works.values()])
        return self.plan(plan.jobs_of(self.works.values(), {work.nodeid: counts.get(key, 1) for key, work in self.works.items()}))

    def plan(self, jobs: Iterable[plan.Job], workers: Sequence[str] = ()) -> plan.Plan:
        """What runs where and when; on `workers` where there are no lanes."""
        return plan.make(jobs, self.slots or [plan.Slot(name) for name in workers or ["main"]], self.budget_s)


def _shown(path: Path, root: Path) -> Path:
    return path.relative_to(root) if path.is_relative_to(root) else path


def _job(nodeid: str, work: plan.Work, parts: int, count: int, known: Mapping[str, Any]) -> plan.Job:
    base, _, bracket = nodeid.partition("[")
    if base != work.base:  # a function of another name
        work = replace(work, base=base)
    if parts > 1:
        ids = (f"{base}[{work.case.id}-{number}of{parts}]" for number in range(1, parts + 1))
        return plan.merge_of(work, [id_ for id_ in ids if id_ in known])
    shard = Shard(int(bracket.rpartition("-")[2].partition("of")[0]), count) if count > 1 else None
    return plan.job_of(work, shard)
