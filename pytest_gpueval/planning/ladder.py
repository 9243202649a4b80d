"""Ready jobs, longest first, whose lengths are corrected in groups. Pure.

A correction scales all jobs that share a rung alike, so their order within it stands: correcting 10,000 jobs costs as much as correcting one.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush, heapreplace


class _Rung:
    """Jobs that share a factor: a heap of (-seconds, number, id), and the seconds of those not taken yet.

    `entry` stands for the rung among the tops: its current top, or a longer job that was taken since.
    """

    __slots__ = ("entry", "factor", "jobs", "seconds")

    def __init__(self) -> None:
        self.entry: tuple[float, int, str] | None = None
        self.jobs: list[tuple[float, int, str]] = []
        self.factor = 1.0
        self.seconds = 0.0


class Ladder:
    """Every operation takes O(log n). `jobs` counts those not taken, `load_s` sums their corrected seconds.

    `on(rung, id)` tells whether a job still waits on that rung. Jobs that were taken or moved stay in the heaps until they come to the top.
    """

    def __init__(self, on: Callable[[str, str], bool]) -> None:
        self.load_s = 0.0
        self.jobs = 0
        self._on = on
        self._rungs: dict[str, _Rung] = {}
        self._tops: list[tuple[float, int, str]] = []  # the entry of each rung, and earlier ones, which are dropped when met

    def push(self, rung: str, seconds: float, number: int, id_: str) -> None:
        """Add a job; of two that are equally long the lower number goes first."""
        place = self._rungs.setdefault(rung, _Rung())
        heappush(place.jobs, (-seconds, number, id_))
        self.jobs += 1
        self._count(place, seconds)
        if place.jobs[0][2] == id_:
            self._enter(place, rung)

    def take(self, rung: str, seconds: float) -> None:
        """A job of this length has left the rung."""
        self.jobs -= 1
        self._count(self._rungs[rung], -seconds)

    def scale(self, rung: str, factor: float) -> None:
        """Set the factor of all jobs on a rung, if it ever had one."""
        place = self._rungs.get(rung)
        if place is None or place.factor == factor:
            return
        self.load_s += place.seconds * (factor - place.factor)
        place.factor = factor
        if place.jobs:
            self._enter(place, rung)

    def top(self) -> tuple[float, str] | None:
        """The corrected seconds and the id of the longest job; None where there is none."""
        while self._tops:
            rung = self._tops[0][2]
            place = self._rungs[rung]
            if self._tops[0] != place.entry:
                heappop(self._tops)
                continue
            while place.jobs and not self._on(rung, place.jobs[0][2]):
                heappop(place.jobs)
            if not place.jobs:
                heappop(self._tops)
                continue
            seconds, number, id_ = place.jobs[0]
            current = (seconds * place.factor, number, rung)
            if current == self._tops[0]:
                return -current[0], id_
            place.entry = current
            heapreplace(self._tops, current)
        return None

    def _enter(self, place: _Rung, rung: str) -> None:
        place.entry = (place.jobs[0][0] * place.factor, place.jobs[0][1], rung)
        heappush(self._tops, place.entry)

    def _count(self, place: _Rung, seconds: float) -> None:
        place.seconds += seconds
        self.load_s += seconds * place.factor
