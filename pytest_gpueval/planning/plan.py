"""The plan of a session: which items there are, how long they take, and which worker runs them when. Pure.

works = [Work(nodeid_base, case, rows, estimate), ...]
counts = shard_counts(pieces_of(works), lanes, OVERHEAD_S)
plan = make(jobs_of(works, counts), slots_of(lanes), budget_s)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import count
from typing import Any, Final

from pytest_gpueval.suites.model import Shard, Unit

from .dispatch import Dispatcher, Job, Slot, Source, Start
from .sharding import Piece

__all__ = ["Assignment", "Dispatcher", "Estimate", "Job", "Piece", "Plan", "Slot", "Start", "Work"]

# What an item costs beside its rows: fixtures, its run directory, its report.
OVERHEAD_S: Final = 0.02
# Joining the results of shards: reading them and scoring anew, some 20,000 rows a second.
MERGE_S: Final = 0.2


@dataclass(frozen=True, slots=True)
class Estimate:
    """How fast one worker goes through rows (samples/s), and how long it loads the model before. `source` is the rate's."""

    rate: float
    startup_s: float
    source: Source


@dataclass(frozen=True, slots=True)
class Work:
    """A whole case that is to be run: `base` is its node id up to the bracket, `rows` what a limit leaves of its split."""

    base: str
    case: Unit
    rows: int
    estimate: Estimate

    @property
    def nodeid(self) -> str:
        """The node id of the whole case: the group of its shards, and the item that joins them."""
        return f"{self.base}[{self.case.id}]"

    @property
    def model(self) -> str | None:
        """What a worker must have loaded."""
        return self.case.loads

    @property
    def seconds(self) -> float:
        """All rows on one worker, rounded so that every process counts with the same number."""
        return round(self.rows / self.estimate.rate, 6)


def pieces_of(works: Iterable[Work]) -> list[Piece]:
    """What `shard_counts` needs to know."""
    return [Piece(work.nodeid, work.rows, work.seconds, work.estimate.startup_s, work.case.shards, work.model, work.case.gpus) for work in works]


def jobs_of(works: Iterable[Work], counts: Mapping[str, int], overhead_s: float = OVERHEAD_S) -> list[Job]:
    """One job for each case; for one that is cut, a job for each shard, then the one that joins them. Group -> shards in `counts`."""
    jobs: list[Job] = []
    for work in works:
        number = counts.get(work.nodeid, 1)
        if number == 1:
            jobs.append(job_of(work, None, overhead_s))
            continue
        parts = [job_of(work, Shard(part + 1, number), overhead_s) for part in range(number)]
        jobs += [*parts, merge_of(work, [part.id for part in parts])]
    return jobs


def merge_of(work: Work, parts: Iterable[str]) -> Job:
    """The job that joins the shards with these ids."""
    return Job(work.nodeid, work.nodeid, MERGE_S, source=work.estimate.source, after=tuple(parts))


def job_of(work: Work, part: Shard | None, overhead_s: float = OVERHEAD_S) -> Job:
    """A case, or a shard of it."""
    first, stop = part.bounds(work.rows) if part else (0, work.rows)
    return Job(
        id=work.nodeid if part is None else f"{work.base}[{work.case.whole_id}-{part.id}]",
        group=work.nodeid,
        seconds=round((stop - first) / work.estimate.rate + overhead_s, 6),
        startup_s=work.estimate.startup_s,
        model=work.model,
        gpus=work.case.gpus,
        source=work.estimate.source,
    )


@dataclass(frozen=True, slots=True)
class Assignment:
    """A job on a slot; seconds count from the session's start. `startup_s` is what it pays for loading its model, 0 where that is loaded."""

    job: Job
    slot: Slot
    start_s: float
    end_s: float
    startup_s: float

    def as_dict(self) -> dict[str, Any]:
        """The JSON form."""
        job = self.job
        return {
            "id": job.id,
            "group": job.group,
            "slot": self.slot.name,
            "start_s": round(self.start_s, 3),
            "end_s": round(self.end_s, 3),
            "seconds": round(job.seconds, 3),
            "startup_s": round(self.startup_s, 3),
            "source": job.source,
            "merge": bool(job.after),
        }


@dataclass(frozen=True, slots=True)
class Plan:
    """What runs where and when, if everything takes as long as predicted. Assignments are in the order of their start.

    `bound_s` no plan can beat; `total_s` are seconds times GPUs, start-ups excluded. `over_budget` end after the budget; `too_wide` no slot can hold,
    or they wait for such a job.
    """

    assignments: tuple[Assignment, ...]
    slots: tuple[Slot, ...]
    makespan_s: float
    bound_s: float
    total_s: float
    budget_s: float | None
    over_budget: tuple[str, ...]
    too_wide: tuple[str, ...]

    @property
    def order(self) -> tuple[str, ...]:
        """The ids of the jobs in the order of their start."""
        return tuple(assignment.job.id for assignment in self.assignments)

    @property
    def finish_by_slot(self) -> dict[str, float]:
        """When the last job of each slot ends; 0 for a slot that runs none."""
        return {slot.name: max((a.end_s for a in self.assignments if a.slot.name == slot.name), default=0.0) for slot in self.slots}

    def as_dict(self) -> dict[str, Any]:
        """The JSON form used in session.json and by `gpueval plan`: builtin types only, seconds to the millisecond."""
        finish = self.finish_by_slot
        return {
            "makespan_s": round(self.makespan_s, 3),
            "bound_s": round(self.bound_s, 3),
            "total_s": round(self.total_s, 3),
            "budget_s": self.budget_s,
            "over_budget": list(self.over_budget),
            "too_wide": list(self.too_wide),
            "slots": [{"name": slot.name, "gpus": sorted(slot.gpus), "finish_s": round(finish[slot.name], 3)} for slot in self.slots],
            "assignments": [assignment.as_dict() for assignment in self.assignments],
        }


def make(jobs: Iterable[Job], slots: Sequence[Slot], budget_s: float | None = None) -> Plan:
    """Run the dispatcher on a clock that jumps from end to end: all slots ready at 0 with nothing loaded, all lengths as predicted."""
    jobs = list(jobs)
    dispatcher = Dispatcher(jobs, slots)
    for slot in slots:
        dispatcher.join(slot.name)
    assignments: list[Assignment] = []
    ends: list[tuple[float, int, str]] = []
    numbers = count()
    now_s = 0.0
    while True:
        for start in dispatcher.next(now_s):
            startup_s = start.job.startup_s if start.cold else 0.0
            end_s = now_s + startup_s + start.job.seconds * start.slot.pace
            assignments.append(Assignment(start.job, start.slot, now_s, end_s, startup_s))
            heappush(ends, (end_s, next(numbers), start.job.id))
        if not ends:
            break
        now_s = ends[0][0]
        while ends and ends[0][0] <= now_s:
            dispatcher.done(heappop(ends)[2])
    planned = [job for job in jobs if job.id not in dispatcher.never]
    return Plan(
        assignments=tuple(assignments),
        slots=tuple(slots),
        makespan_s=max((a.end_s for a in assignments), default=0.0),
        bound_s=bound_s(planned, slots),
        total_s=sum(job.gpus * job.seconds for job in planned),
        budget_s=budget_s,
        over_budget=tuple(a.job.id for a in assignments if budget_s is not None and a.end_s > budget_s),
        too_wide=tuple(job.id for job in jobs if job.id in dispatcher.never),
    )


def bound_s(jobs: Sequence[Job], slots: Iterable[Slot]) -> float:
    """Seconds that no plan on cold slots can beat: the largest of what is unavoidable.

    - GPU-seconds of all jobs, and of loading each model once, divided by the number of GPUs;
    - GPU-seconds of the jobs that need a model divided by the number of GPUs, and the shortest start-up: every GPU that takes part pays that one first;
    - the longest job with its start-up and, where one waits for it, that one.

    Start-ups that a plan may or may not pay (the same model on a second lane, a second model on a lane) are left out: their number is the plan's choice.
    """
    places = len({need for slot in slots for need in slot.needs})
    if not jobs or not places:
        return 0.0
    least: dict[str, float] = {}  # where jobs of one model say different start-ups, only the least is certain
    loads: dict[str, float] = {}
    for job in jobs:
        if job.model is not None:
            least[job.model] = min(least.get(job.model, job.startup_s), job.startup_s)
            loads[job.model] = min(loads.get(job.model, job.gpus * job.startup_s), job.gpus * job.startup_s)
    total_s = sum(job.gpus * job.seconds for job in jobs)
    loaded_s = sum(job.gpus * job.seconds for job in jobs if job.model is not None)
    alone = {job.id: job.seconds + (least[job.model] if job.model is not None else 0.0) for job in jobs}
    longest_s = max(max((alone[id_] for id_ in job.after if id_ in alone), default=0.0) + alone[job.id] for job in jobs)
    return max((total_s + sum(loads.values())) / places, min(least.values(), default=0.0) + loaded_s / places, longest_s)
