"""How many rows each dataset of a suite gets: as many as a time budget holds, with the largest drop that goes undetected as small as can be. Pure.

Water-filling: every dataset gets the fewest rows whose minimum detectable drop (MDE) is at or below a common level, clipped to its floor and ceiling, and the
level is as low as the time allows. That is the minimax: with less for any dataset that is not at its floor, that dataset would be the worst.

Time is GPU-seconds over GPUs, after one start-up that all GPUs pay side by side. A plan reaches that where datasets may be cut into shards (`shards = "auto"`,
see `planning.sharding`); one that may not bounds the session by its own length (`places`), and so has a ceiling of its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from heapq import heapify, heappop, heapreplace
from typing import Final

from pytest_gpueval.errors import UsageProblem

FLOOR: Final = 200
STEP: Final = 50
# Halvings of the level, as a ratio: far below what one row changes.
_HALVINGS: Final = 50


@dataclass(frozen=True, slots=True)
class Demand:
    """A dataset: its samples/s on one worker of `gpus` GPUs, and its MDE in the metric's unit, which never rises with the rows.

    `ceiling` is the rows that there are, None where nobody knows; it wins over `floor`. `places` is the number of workers that can share the dataset.
    """

    name: str
    rate: float
    mde: Callable[[int], float]
    floor: int = FLOOR
    ceiling: int | None = None
    gpus: int = 1
    places: int | None = None

    def gpu_seconds(self, rows: int) -> float:
        """What rows cost, start-up excluded."""
        return self.gpus * rows / self.rate


@dataclass(frozen=True, slots=True)
class Limits:
    """Wall seconds, the start-up included, on a number of GPUs; rows are multiples of `step`, or all that there are."""

    seconds: float
    gpus: int = 1
    startup_s: float = 0.0
    step: int = STEP

    @property
    def gpu_seconds(self) -> float:
        """What there is for rows."""
        return max(0.0, self.seconds - self.startup_s) * self.gpus


def seconds(demands: Sequence[Demand], rows: Mapping[str, int], limits: Limits) -> float:
    """Wall seconds of these rows, the start-up included: GPU-seconds over GPUs, or the longest dataset on all workers that can share it."""
    together_s = sum(demand.gpu_seconds(rows[demand.name]) for demand in demands) / limits.gpus
    alone_s = max((rows[demand.name] / demand.rate / _places(demand, limits) for demand in demands), default=0.0)
    return limits.startup_s + max(together_s, alone_s)


def propose(demands: Sequence[Demand], limits: Limits) -> dict[str, int]:
    """Dataset -> rows. Raises UsageProblem where the floors alone exceed the budget.

    Rows grow in steps, always of the dataset with the largest MDE, until that one's step does not fit: so a larger budget takes no rows from any dataset, and
    what is left over is less than that step. A dataset at its ceiling is out, and so is one that shows no drop whatever it gets.
    """
    tops = {demand.name: _top(demand, limits) for demand in demands}
    rows = {demand.name: _at_least(demand.floor, tops[demand.name], limits.step) for demand in demands}
    _check(demands, rows, limits)
    tops |= _hopeless(demands, tops, rows, limits)
    rows = _down_to_a_level(demands, tops, rows, limits)
    left_s = limits.gpu_seconds - sum(demand.gpu_seconds(rows[demand.name]) for demand in demands)
    # What the level leaves: datasets that reach it together need not all fit.
    waiting = [(-demand.mde(rows[demand.name]), number) for number, demand in enumerate(demands)]
    heapify(waiting)
    while waiting:
        demand = demands[waiting[0][1]]
        now, top = rows[demand.name], tops[demand.name]
        if now >= top or demand.mde(top) >= demand.mde(now):  # more rows are not there, or show nothing more
            heappop(waiting)
            continue
        more = min(now + limits.step - now % limits.step, top)
        cost_s = demand.gpu_seconds(more) - demand.gpu_seconds(now)
        if cost_s > left_s:
            break
        left_s -= cost_s
        rows[demand.name] = more
        heapreplace(waiting, (-demand.mde(more), waiting[0][1]))
    return rows


def _places(demand: Demand, limits: Limits) -> int:
    """Workers that can run parts of a dataset at the same time."""
    there = max(1, limits.gpus // demand.gpus)
    return there if demand.places is None else min(demand.places, there)


def _top(demand: Demand, limits: Limits) -> int:
    """The most rows of a dataset: as many as there are, and as its workers can do in the time."""
    in_time = math.floor(max(0.0, limits.seconds - limits.startup_s) * demand.rate * _places(demand, limits))
    most = max(in_time // limits.step, -(-demand.floor // limits.step)) * limits.step
    return most if demand.ceiling is None else min(demand.ceiling, most)


def _at_least(rows: int, top: int, step: int) -> int:
    """The fewest rows on the grid: multiples of the step, and the top."""
    return min(-(-rows // step) * step, top)


def _check(demands: Sequence[Demand], rows: Mapping[str, int], limits: Limits) -> None:
    """Raise UsageProblem where these rows, the fewest, do not fit."""
    over_s = seconds(demands, rows, limits) - limits.seconds
    if over_s <= 0 or not demands:
        return
    costs_s = {demand.name: demand.gpu_seconds(rows[demand.name]) for demand in demands}
    worst = max(demands, key=lambda demand: costs_s[demand.name])
    start_up = f", after {_duration(limits.startup_s)} of start-up and other overhead" if limits.startup_s else ""
    raise UsageProblem(
        f"{limits.seconds / 60:.3g} minutes on {_gpus(limits.gpus)} are {_duration(over_s)} too short for the fewest rows that datasets may have.\n"
        f"{worst.name} costs most: {rows[worst.name]:,} rows at {worst.rate:,.3g}/s are {_duration(costs_s[worst.name])} "
        f"of the {_duration(sum(costs_s.values()))} of GPU time that all need{start_up}.\n"
        f"Give it --minutes {math.ceil((limits.seconds + over_s) / 6) / 10:g}, more --gpus, or a lower --floor."
    )


def _hopeless(demands: Sequence[Demand], tops: Mapping[str, int], least: Mapping[str, int], limits: Limits) -> dict[str, int]:
    """The rows of datasets that would show no drop if they had all the time that the others' fewest rows leave."""
    left_s = limits.gpu_seconds - sum(demand.gpu_seconds(least[demand.name]) for demand in demands)
    found: dict[str, int] = {}
    for demand in demands:
        most = min(tops[demand.name], least[demand.name] + math.floor(max(0.0, left_s) * demand.rate / demand.gpus))
        if math.isinf(demand.mde(most)):
            found[demand.name] = least[demand.name]
    return found


def _down_to_a_level(demands: Sequence[Demand], tops: Mapping[str, int], least: dict[str, int], limits: Limits) -> dict[str, int]:
    """The rows at the lowest level that fits, `least` where none does: what single steps would reach too, in many more of them."""
    ceilings = {demand.name: demand.mde(tops[demand.name]) for demand in demands}
    finite = [mde for mde in ceilings.values() if 0 < mde < math.inf]
    if not finite:
        return least
    low = min(finite) / 2
    starts = [demand.mde(least[demand.name]) for demand in demands]
    high = max([start for start in starts if start < math.inf] + finite)
    best = least
    for _ in range(_HALVINGS):
        level = math.sqrt(low * high)
        rows = {demand.name: _rows_at(demand, level, least[demand.name], tops[demand.name], limits.step) for demand in demands}
        if seconds(demands, rows, limits) <= limits.seconds:
            best, high = rows, level
        else:
            low = level
    return best


def _rows_at(demand: Demand, level: float, least: int, top: int, step: int) -> int:
    """The fewest rows on the grid, from `least` to `top`, with an MDE at or below the level; where there are none, those that show no less than the top."""
    level = max(level, demand.mde(top))
    first, last = 0, -(-(top - least) // step)  # in steps above `least`
    while first < last:
        middle = (first + last) // 2
        if demand.mde(_at_least(least + middle * step, top, step)) <= level:
            last = middle
        else:
            first = middle + 1
    return _at_least(least + first * step, top, step)


def _gpus(number: int) -> str:
    return f"{number:,} GPU{'s' if number != 1 else ''}"


def _duration(length_s: float) -> str:
    """Rounded up, so that what is too long never reads 0 s."""
    whole = math.ceil(length_s)
    return f"{whole} s" if whole < 60 else f"{whole // 60}:{whole % 60:02} min"
