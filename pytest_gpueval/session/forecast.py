"""What the controller expects of a session: how long its items take, how they are cut, when they end."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest

from pytest_gpueval.errors import GpuevalError
from pytest_gpueval.reports import schedule
from pytest_gpueval.suites.model import Case, Shard, Suite

from . import cases, plan, shards
from .costs import History
from .lanes import Lane
from .settings import Settings

# Rows of a split that neither the suite nor the file tells.
_UNKNOWN_ROWS = 1000


class Forecast:
    """Costs of the cases of some suites on some lanes, from earlier sessions of the same output directory and from the suites."""

    def __init__(self, settings: Settings, suites: Sequence[Suite], laid: Sequence[Lane]) -> None:
        self.slots = [plan.Slot(lane.name, frozenset(device.uuid for device in lane.gpus)) for lane in laid]
        self.budget_s = sum(suite.file.budget_s or 0.0 for suite in suites) or None
        self._settings = settings
        self._suites = suites
        self._gpu = next((device.name for lane in laid for device in lane.gpus), None)

    @cached_property
    def works(self) -> dict[str, plan.Work]:
        """Every case by its key."""
        history = History.read(self._settings.output_dir)
        chosen = [(suite, case) for suite in self._suites for case in cases.chosen(suite, self._settings)]
        return {
            cases.key(case): plan.Work(f"{suite.path}::test_eval", case, rows(case, self._settings), history.estimate(case, self._gpu)) for suite, case in chosen
        }

    def cutting(self, counts: Mapping[str, int]) -> shards.Cutting:
        """What workers cut by; nothing is cut where there is one lane. `counts` are cuts that were made before."""
        places = len({need for slot in self.slots for need in slot.needs})
        if places < 2 and not counts and not self._settings.part:
            return shards.Cutting()
        pieces = {key: replace(piece, group=key) for key, piece in zip(self.works, plan.pieces_of(self.works.values()), strict=True)}
        return shards.Cutting(places, pieces, counts, self._settings.part)

    def jobs(self, ids: Sequence[str], collected: shards.Collected) -> list[plan.Job]:
        """A job for each node id, in their order. Tests of the user's own are guessed to take as long as the others do on average."""
        known = {nodeid: (self.works[key], parts, count) for nodeid, key, parts, count in collected if key in self.works}
        jobs = {nodeid: _job(nodeid, *known[nodeid], known) for nodeid in ids if nodeid in known}
        mean_s = sum(job.seconds for job in jobs.values()) / len(jobs) if jobs else 1.0
        found: list[plan.Job] = []
        for index, nodeid in enumerate(ids):
            job = jobs.pop(nodeid, None)
            found.append(job or plan.Job(f"{nodeid}#{index}", nodeid, mean_s))
        return found

    def plan(self, jobs: Iterable[plan.Job]) -> plan.Plan:
        """What runs where and when."""
        return plan.make(jobs, self.slots or [plan.Slot("main")], self.budget_s)


def rows(case: Case, settings: Settings) -> int:
    """The rows of a case under the session's limit: what the suite says, else what its file says, else a guess."""
    found = case.rows
    if found is None:
        try:
            found = cases.open_split(case, settings).rows
        except GpuevalError:  # the item itself will say what is wrong with it
            found = _UNKNOWN_ROWS
    return found if settings.limit is None else min(found, settings.limit)


def _job(nodeid: str, work: plan.Work, parts: int, count: int, known: Mapping[str, Any]) -> plan.Job:
    base, _, bracket = nodeid.partition("[")
    work = replace(work, base=base)
    if parts > 1:
        return plan.merge(work, [Shard(number, parts) for number in range(1, parts + 1) if f"{base}[{work.case.id}-{number}of{parts}]" in known])
    shard = Shard(int(bracket.rpartition("-")[2].partition("of")[0]), count) if count > 1 else None
    return plan.job(work, shard)


class DryRun:
    """Plugin: prints the plan of what pytest has selected, and runs nothing."""

    def __init__(self, forecast: Forecast) -> None:
        self._forecast = forecast

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Instead of running the items."""
        config = session.config
        shards.expand(session.items, self._forecast.cutting({}), config.stash.get(shards.NAMED, {}), lambda _items: None)
        lines = self._forecast.plan(self._forecast.jobs([item.nodeid for item in session.items], shards.collected(session.items))).as_dict()
        reporter = config.pluginmanager.getplugin("terminalreporter")
        for line in schedule.plan_lines(lines).splitlines():
            reporter.write_line(line)
        return True


def earlier_counts(record: Mapping[str, Any], session_dir: Path) -> dict[str, int]:
    """The cuts of a session that is continued; a dataset that was joined and passed is not cut any more, since nothing of it is left to run."""
    counts: dict[str, int] = {key: int(count) for key, count in (record.get("cuts") or {}).items()}
    return {key: 1 if cases.is_finished(session_dir, key) else count for key, count in counts.items()}

