"""Which job a free worker gets: one policy for the prediction and for the session itself. Pure: time is an argument.

Longest processing time first (Graham 1969), with what he left out: models that take time to load, jobs that need several GPUs, jobs that wait
for others, workers that join late or die, and lengths that turn out different from what was predicted.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final, Literal

from .ladder import Ladder
from .pace import Paces
from .packing import Bin, Parcel, pack

Source = Literal["measured", "suite", "default"]

# Beyond these a whole packing costs more than it can save: with that many jobs left, one start-up more or less moves no end.
MOST_PACKED: Final = 500
_MOST_PLACES: Final = 20_000
# A group that seems 50 times slower or faster than predicted was not measured well; do not let it push all others aside.
_WIDEST_FACTOR: Final = 50.0


@dataclass(frozen=True, slots=True)
class Job:
    """One item. Jobs of one `group` are corrected together; `model` names what must be loaded first, which takes `startup_s` once for each slot.

    `after` are the ids of jobs that must have ended; such a job is short, waits for nothing else, and corrects nothing.
    """

    id: str
    group: str
    seconds: float
    startup_s: float = 0.0
    model: str | None = None
    gpus: int = 1
    source: Source = "default"
    after: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Slot:
    """A worker and the GPUs it uses; none for a CPU lane. Slots that share a GPU never run at the same time. Those of a `kind` are equally fast.

    `pace` is what earlier sessions say: 2 takes twice as long as predicted.
    """

    name: str
    gpus: frozenset[str] = frozenset()
    kind: str = ""
    pace: float = 1.0

    @property
    def needs(self) -> frozenset[str]:
        """What only one running slot can have: its GPUs, or the lane itself."""
        return self.gpus or frozenset((self.name,))


@dataclass(frozen=True, slots=True)
class Start:
    """A job that starts now; `cold` if its slot must load the model first."""

    job: Job
    slot: Slot
    cold: bool


@dataclass(frozen=True, slots=True)
class _Running:
    job: Job
    start_s: float
    seconds: float

    def left_s(self, now_s: float) -> float:
        """Seconds to its end. One that overran its prediction is expected to need as much again as it is late."""
        return abs(self.start_s + self.seconds - now_s)

    def is_late(self, now_s: float) -> bool:
        """Whether it should have ended."""
        return now_s > self.start_s + self.seconds + 1e-6


class Dispatcher:
    """Tell it which slots are ready (`join`), which are gone (`leave`) and which jobs ended (`done`, `lost`, `back`); ask `next` after each.

    The same calls give the same starts. Policy:

    1. A job whose `after` have all ended starts at once: it is short, and it ends its dataset.
    2. A job needs the narrowest slots that hold its GPUs. Wider jobs go first; where none of their slots is free, the one that is free soonest is
       kept for them, and only narrow jobs that end before that start on its GPUs (EASY backfilling: Lifka, "The ANL/IBM SP scheduling system", 1995).
    3. Otherwise the longest goes first. Where slots differ in the models they have loaded, the jobs that are left are packed (see `packing`), and
       the packing is followed until something turns out different. So a slot takes up a model, or waits, only where that ends the session earlier.
    4. Where slots differ in speed, the fastest chooses first, and a slow one leaves a job to the others that would end on it after all that is left.
    """

    def __init__(self, jobs: Iterable[Job], slots: Iterable[Slot]) -> None:
        """`slots` are all that the session may have; none of them is ready before `join`. Ids in `after` that are no jobs count as ended."""
        self._jobs = {job.id: job for job in jobs}
        self._numbers = {id_: number for number, id_ in enumerate(self._jobs)}
        self._slots = {slot.name: slot for slot in slots}
        self._needs = {slot.name: slot.needs for slot in self._slots.values()}
        self._of_width: dict[int, list[Slot]] = {}
        for slot in self._slots.values():
            self._of_width.setdefault(len(slot.needs), []).append(slot)
        self._widths = sorted(self._of_width)
        self._overlapping = {width for width, alike in self._of_width.items() if _overlap(alike)}
        self._neighbours = {
            name: [other for other, theirs in self._needs.items() if other != name and needs & theirs] if len(self._widths) > 1 or self._overlapping else []
            for name, needs in self._needs.items()
        }
        self._paces = Paces({slot.kind: slot.pace for slot in self._slots.values()})
        self._busy: set[str] = set()
        self._warm: dict[str, set[str]] = {}  # slots that have joined -> models they have loaded
        self._running: dict[str, _Running] = {}
        self._where: dict[str, str] = {}  # id -> slot
        self._program: dict[str, deque[str]] = {}
        self._program_for: tuple[str, ...] | None = None  # None: to be made again
        self._measured: dict[str, tuple[float, float]] = {}  # "group G" or "default MODEL" -> seconds measured, seconds predicted
        self._members: dict[str, list[str]] = {}
        self._followers: dict[str, list[str]] = {}
        self._waits: dict[str, set[str]] = {}
        self._ready: dict[str, None] = {}  # without those of `_first`
        self._first: dict[str, None] = {}
        self._ladders: dict[tuple[int, str | None], Ladder] = {}
        self.never = self._impossible()
        self._unstarted = set(self._jobs) - self.never
        for job in self._jobs.values():
            self._members.setdefault(job.group, []).append(job.id)
            self._waits[job.id] = {id_ for id_ in job.after if id_ in self._jobs}
            for id_ in self._waits[job.id]:
                self._followers.setdefault(id_, []).append(job.id)
            if job.id not in self.never:
                self._offer(job)

    # What the caller asks.

    @property
    def pending(self) -> int:
        """How many jobs have not been started; without `never`, those that no slot is wide enough for, and those after them."""
        return len(self._unstarted)

    @property
    def running(self) -> dict[str, Job]:
        """Slot -> job."""
        return {name: running.job for name, running in self._running.items()}

    def next(self, now_s: float) -> list[Start]:
        """What starts now, marked as running. An empty list may mean that a free slot had better wait."""
        starts: list[Start] = []
        self._start_first(now_s, starts)
        kept: dict[str, float] = {}
        widths = [width for width in reversed(self._widths) if any(self._tops(width))]
        for width in widths:
            slots = [slot for slot in self._of_width[width] if slot.name in self._warm]
            if width != widths[-1] or width in self._overlapping:
                self._start_wide(width, slots, kept, now_s, starts)
            else:
                self._start_narrow(width, slots, kept, now_s, starts)
        return starts

    # What the caller tells.

    def join(self, name: str) -> None:
        """A worker is ready, for the first time or as a replacement; it has nothing loaded. Raises KeyError for a slot not given at first."""
        self._warm[self._slots[name].name] = set()
        self._program_for = None

    def leave(self, name: str) -> Job | None:
        """A worker is gone until it joins again. Returns the job it was running, which the caller declares `lost` or `back`."""
        self._warm.pop(name, None)
        self._program_for = None
        running = self._running.get(name)
        return running.job if running else None

    def done(self, id_: str, seconds: float | None = None) -> None:
        """A job ended and its slot is free.

        `seconds` is what it took without loading its model; it corrects what is predicted for the rest of its group, and where the prediction was
        a default, for the other defaults of its model. None where it says nothing, as for a run that was reused.
        """
        slot = self._slots.get(self._where.get(id_, ""))
        if not self._release(id_) and not self._withdraw(id_):
            return
        for follower in self._followers.get(id_, ()):
            self._waits[follower].discard(id_)
            if follower not in self.never:
                self._offer(self._jobs[follower])
        job = self._jobs[id_]
        if seconds is not None and job.seconds > 0 and not job.after:
            kind = slot.kind if slot else ""
            if self._paces.mixed and seconds > 0 and (job.source == "measured" or f"group {job.group}" in self._measured):
                self._paces.take(kind, seconds, self.predicted_s(job))
            self._correct(job, seconds / self._paces.of(kind))
            self._program_for = None

    def lost(self, id_: str) -> None:
        """A job's worker died and it is not run again: for those after it, it has ended."""
        self.done(id_)
        self._program_for = None

    def back(self, id_: str) -> None:
        """A job is to be run again, whether it was running or had ended; those after it that have not started wait for it again."""
        if id_ in self._unstarted or id_ in self.never:
            return
        self._release(id_)
        for follower in self._followers.get(id_, ()):
            self._waits[follower].add(id_)
            self._first.pop(follower, None)
        self._unstarted.add(id_)
        self._offer(self._jobs[id_])
        self._program_for = None

    def predicted_s(self, job: Job) -> float:
        """Seconds of a job without its start-up, as corrected so far."""
        return job.seconds * self._factor(self._rung(job))

    # Lengths.

    def _rung(self, job: Job) -> str:
        """Jobs on one rung share a factor: their group's once it was measured, else that of their model's defaults, else none."""
        group = f"group {job.group}"
        return group if group in self._measured else f"default {job.model}" if job.source == "default" else ""

    def _factor(self, rung: str) -> float:
        measured, predicted = self._measured.get(rung, (1.0, 1.0))
        return min(max(measured / predicted, 1 / _WIDEST_FACTOR), _WIDEST_FACTOR)

    def _correct(self, job: Job, seconds: float) -> None:
        """Take in a measurement: the ratio of sums, in which a short job counts for little."""
        group = f"group {job.group}"
        if group not in self._measured:
            self._move(job.group, (seconds, job.seconds))
        else:
            self._add(group, seconds, job.seconds)
        if job.source == "default":
            self._add(f"default {job.model}", seconds, job.seconds)
        for ladder in self._ladders.values():
            for rung in (group, f"default {job.model}"):
                ladder.scale(rung, self._factor(rung))

    def _add(self, rung: str, measured: float, predicted: float) -> None:
        before = self._measured.get(rung, (0.0, 0.0))
        self._measured[rung] = (before[0] + measured, before[1] + predicted)

    def _move(self, group: str, first: tuple[float, float]) -> None:
        """Put the ready jobs of a group on a rung of its own: it has its first measurement."""
        members = [self._jobs[id_] for id_ in self._members[group] if id_ in self._ready]
        for job in members:
            self._ladder(job).take(self._rung(job), job.seconds)
        self._measured[f"group {group}"] = first
        for job in members:
            self._ladder(job).push(self._rung(job), job.seconds, self._numbers[job.id], job.id)

    # Jobs come and go.

    def _ladder(self, job: Job) -> Ladder:
        key = (job.gpus, job.model)
        if key not in self._ladders:
            self._ladders[key] = Ladder(lambda rung, id_: id_ in self._ready and self._rung(self._jobs[id_]) == rung)
        return self._ladders[key]

    def _offer(self, job: Job) -> None:
        """Put a job where `next` finds it, if it waits for nothing."""
        if self._waits[job.id]:
            return
        if job.after:
            self._first[job.id] = None
            return
        self._ready[job.id] = None
        ladder, rung = self._ladder(job), self._rung(job)
        ladder.push(rung, job.seconds, self._numbers[job.id], job.id)
        ladder.scale(rung, self._factor(rung))

    def _withdraw(self, id_: str) -> bool:
        """Take a job out of those that have not started; False if it is not among them."""
        if id_ not in self._unstarted:
            return False
        self._unstarted.remove(id_)
        self._first.pop(id_, None)
        if id_ in self._ready:
            job = self._jobs[id_]
            self._ladder(job).take(self._rung(job), job.seconds)
            del self._ready[id_]
        return True

    def _release(self, id_: str) -> bool:
        """Free the slot of a job; False if it was not running."""
        name = self._where.pop(id_, None)
        if name is None:
            return False
        del self._running[name]
        self._busy -= self._needs[name]
        return True

    def _impossible(self) -> frozenset[str]:
        """Jobs that no slot is wide enough for, and those that wait for them, or for themselves."""
        widest = self._widths[-1] if self._widths else 0
        possible: set[str] = set()
        waiting = {job.id: [id_ for id_ in job.after if id_ in self._jobs] for job in self._jobs.values() if job.gpus <= widest}
        while found := [id_ for id_, after in waiting.items() if possible.issuperset(after)]:
            possible.update(found)
            for id_ in found:
                del waiting[id_]
        return frozenset(self._jobs.keys() - possible)

    def _start(self, job: Job, slot: Slot, now_s: float) -> Start:
        self._withdraw(job.id)
        cold = self._is_cold(job, slot)
        self._running[slot.name] = _Running(job, now_s, self._length_s(job, slot))
        self._where[job.id] = slot.name
        self._busy |= self._needs[slot.name]
        for other in self._neighbours[slot.name]:  # lent GPUs come back empty
            if self._warm.get(other):
                self._warm[other].clear()
                self._program_for = None
        if job.model is not None:
            self._warm[slot.name].add(job.model)
        return Start(job, slot, cold)

    # Slots.

    def _width(self, gpus: int) -> int:
        return next(width for width in self._widths if width >= gpus)

    def _is_cold(self, job: Job, slot: Slot) -> bool:
        return job.model is not None and job.model not in self._warm[slot.name]

    def _length_s(self, job: Job, slot: Slot) -> float:
        return self.predicted_s(job) * self._paces.of(slot.kind) + (job.startup_s if self._is_cold(job, slot) else 0.0)

    def _free(self, slots: Iterable[Slot]) -> Iterator[Slot]:
        """Those that have joined, and whose GPUs nobody uses."""
        return (slot for slot in slots if slot.name in self._warm and self._busy.isdisjoint(self._needs[slot.name]))

    def _free_in_s(self, slot: Slot, now_s: float) -> float:
        """Seconds until all that the slot needs is free."""
        return max((self._running[name].left_s(now_s) for name in (slot.name, *self._neighbours[slot.name]) if name in self._running), default=0.0)

    # The policy.

    def _tops(self, width: int) -> Iterator[tuple[float, Job]]:
        """The longest ready job of each model for slots of this width, corrected seconds first."""
        for (gpus, _), ladder in self._ladders.items():
            if self._width(gpus) == width and (top := ladder.top()) is not None:
                yield top[0], self._jobs[top[1]]

    def _longest(self, width: int, slot: Slot | None = None) -> Job | None:
        """The job that takes longest, on the slot if there is one."""
        tops = ((seconds + (job.startup_s if slot and self._is_cold(job, slot) else 0.0), -self._numbers[job.id], job) for seconds, job in self._tops(width))
        return max(tops, key=lambda top: top[:2], default=(0.0, 0, None))[2]

    def _start_first(self, now_s: float, starts: list[Start]) -> None:
        """Jobs that waited for others: on any free slot of theirs."""
        for id_ in list(self._first):
            job = self._jobs[id_]
            slot = next(self._free(self._of_width[self._width(job.gpus)]), None)
            if slot is not None:
                starts.append(self._start(job, slot, now_s))

    def _start_wide(self, width: int, slots: Sequence[Slot], kept: dict[str, float], now_s: float, starts: list[Start]) -> None:
        """Start the longest while slots are free, then keep for each that is left the slot that is free soonest: GPU -> seconds until then."""
        while (job := self._longest(width)) is not None:
            free = [slot for slot in self._free(slots) if not self._needs[slot.name] & kept.keys()]
            if not free:
                break
            slot = min(free, key=lambda slot: self._is_cold(job, slot))
            starts.append(self._start(job, slot, now_s))
        waiting = sum(ladder.jobs for (gpus, _), ladder in self._ladders.items() if self._width(gpus) == width)
        for slot in sorted(slots, key=lambda slot: self._free_in_s(slot, now_s)):
            if waiting and not self._needs[slot.name] & kept.keys():
                kept.update(dict.fromkeys(self._needs[slot.name], self._free_in_s(slot, now_s)))
                waiting -= 1

    def _start_narrow(self, width: int, slots: Sequence[Slot], kept: dict[str, float], now_s: float, starts: list[Start]) -> None:
        """Slots that share nothing: by the packing where it matters which slot takes what, else the longest first."""
        ours = [slot for slot in slots if not self._needs[slot.name] & kept.keys()] if kept else slots
        free = list(self._free(ours))
        if free and self._is_uneven(width, ours):
            if len(self._ready) <= MOST_PACKED and len(self._ready) * len(ours) <= _MOST_PLACES:
                starts += self._start_packed(width, ours, free, now_s)
            else:
                starts += self._start_preferred(width, free, len(ours), now_s)
        else:
            starts += self._start_longest(width, free, now_s)
        if not self._running and not starts:  # a packing can ask all to wait only by mistake
            starts += self._start_longest(width, free, now_s)
        starts += self._backfill(width, [slot for slot in self._free(slots) if self._needs[slot.name] & kept.keys()] if kept else [], kept, now_s)

    def _is_uneven(self, width: int, slots: Sequence[Slot]) -> bool:
        """Whether a start-up depends on which slot takes a job."""
        models = [job.model for _, job in self._tops(width) if job.startup_s > 0 and job.model is not None]
        cold = any(model not in self._warm[slot.name] for slot in slots for model in models)
        return cold and (len(models) > 1 or any(self._warm[slot.name] for slot in slots))

    def _start_longest(self, width: int, free: Iterable[Slot], now_s: float) -> Iterator[Start]:
        mixed = self._paces.mixed
        for slot in sorted(free, key=lambda slot: self._paces.of(slot.kind)) if mixed else free:
            if (job := self._suited(slot, width, now_s) if mixed else self._longest(width)) is not None:
                yield self._start(job, slot, now_s)

    def _suited(self, slot: Slot, width: int, now_s: float) -> Job | None:
        """The longest that a slot had better run than leave to faster ones: that ends there before these could have done all that is left."""
        pace, longest = self._paces.of(slot.kind), self._longest(width)
        others = [other for other in self._of_width[width] if other is not slot and other.name in self._warm]
        if longest is None or not any(self._paces.of(other.kind) < pace for other in others):
            return longest
        work_s = sum(ladder.load_s for (gpus, _), ladder in self._ladders.items() if self._width(gpus) == width)
        work_s += sum(self._free_in_s(other, now_s) / self._paces.of(other.kind) for other in others)
        until_s = work_s / sum(1 / self._paces.of(other.kind) for other in others)
        jobs = (self._jobs[id_] for id_ in islice(self._ready, MOST_PACKED))
        fitting = [job for job in (longest, *jobs) if self._width(job.gpus) == width and self._ends_soon(job, slot, others, until_s, now_s)]
        return max(fitting, key=self.predicted_s, default=None)

    def _ends_soon(self, job: Job, slot: Slot, others: Sequence[Slot], until_s: float, now_s: float) -> bool:
        return self._length_s(job, slot) <= max(until_s, min(self._free_in_s(other, now_s) + self._length_s(job, other) for other in others))

    def _start_packed(self, width: int, ours: Sequence[Slot], free: Sequence[Slot], now_s: float) -> Iterator[Start]:
        """What the packing has next for each free slot; the packing is made again where it does not hold any more."""
        names = tuple(slot.name for slot in ours)
        late = any(running.is_late(now_s) for running in self._running.values())
        if names != self._program_for or late:
            jobs = [job for job in map(self._jobs.__getitem__, sorted(self._ready, key=self._numbers.__getitem__)) if self._width(job.gpus) == width]
            bins = [Bin(slot.name, self._free_in_s(slot, now_s), frozenset(self._warm[slot.name])) for slot in ours]
            packing = pack([Parcel(job.id, self.predicted_s(job), job.startup_s, job.model) for job in jobs], bins)
            self._program = {name: deque(ids) for name, ids in packing.order.items()}
            self._program_for = names
        for slot in free:
            queue = self._program.get(slot.name, deque())
            while queue and queue[0] not in self._ready:
                queue.popleft()
            if queue:
                yield self._start(self._jobs[queue.popleft()], slot, now_s)

    def _start_preferred(self, width: int, free: Iterable[Slot], count: int, now_s: float) -> Iterator[Start]:
        """Too many for a packing: another than the longest, if that one could still end in time after it (the makespan is left_s / count at least).

        The other is the longest whose model the slot has loaded; a slot that has loaded none takes up the model with most work for each slot that has it.
        """
        left_s = sum(ladder.load_s for (gpus, _), ladder in self._ladders.items() if self._width(gpus) == width)
        left_s += sum(running.left_s(now_s) for running in self._running.values())
        for slot in free:
            tops = list(self._tops(width))
            job = self._longest(width, slot)
            if job is None:
                return
            loaded = [top for top in tops if not self._is_cold(top[1], slot)]
            if self._is_cold(job, slot):
                seconds, other = max(loaded or tops, key=lambda top: top[0] if loaded else self._need(top[1]))
                nowhere = not any(job.model in models for models in self._warm.values())
                if seconds + self.predicted_s(job) + (job.startup_s if nowhere else 0.0) <= left_s / count:
                    job = other
            yield self._start(job, slot, now_s)

    def _need(self, job: Job) -> float:
        """Seconds of work with the job's model for each slot that has it, one more counted."""
        return self._ladder(job).load_s / (1 + sum(1 for models in self._warm.values() if job.model in models))

    def _backfill(self, width: int, free: Iterable[Slot], kept: dict[str, float], now_s: float) -> Iterator[Start]:
        """On GPUs that are kept for a wider job: the longest that ends before that job can start."""
        for slot in free:
            until_s = min(kept[need] for need in self._needs[slot.name] & kept.keys())
            jobs = (self._jobs[id_] for id_ in islice(self._ready, MOST_PACKED))
            fitting = [job for job in jobs if self._width(job.gpus) == width and self._length_s(job, slot) <= until_s]
            if fitting:
                yield self._start(max(fitting, key=lambda job: self._length_s(job, slot)), slot, now_s)


def _overlap(slots: Sequence[Slot]) -> bool:
    return len({need for slot in slots for need in slot.needs}) < sum(len(slot.needs) for slot in slots)
