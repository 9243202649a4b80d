"""Known jobs on known slots: who runs what, so that the last ends early although loading a model takes time. Pure.

Longest processing time first (LPT) is Graham, "Bounds on multiprocessing timing anomalies", SIAM J. Appl. Math. 17 (1969): at most
4/3 - 1/(3m) of the best makespan. It does not know of start-ups; the other two ways do, and the best of all is taken.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from heapq import heapify, heapreplace
from operator import attrgetter

# Halvings of the interval in which the makespan is looked for: 1/1,000 of it is left.
_HALVINGS = 10
# Seconds that decide nothing: sums in another order differ by less.
_HAIR_S = 1e-9


@dataclass(frozen=True, slots=True)
class Parcel:
    """A job that is ready: how long it takes, and what loading its model adds where that is not loaded."""

    id: str
    seconds: float
    startup_s: float
    model: str | None


@dataclass(frozen=True, slots=True)
class Bin:
    """A slot: when it is free, counted from now, and the models it has loaded."""

    name: str
    free_s: float
    warm: frozenset[str]


@dataclass(frozen=True, slots=True)
class Packing:
    """The jobs of each slot in their order, and when the last of them ends."""

    order: Mapping[str, tuple[str, ...]]
    makespan_s: float


class _Open:
    """A slot that is being filled."""

    __slots__ = ("ids", "load_s", "name", "warm")

    def __init__(self, bin_: Bin) -> None:
        self.name = bin_.name
        self.load_s = bin_.free_s
        self.warm = set(bin_.warm)
        self.ids: list[str] = []

    def end_s(self, parcel: Parcel) -> float:
        """When the parcel would end here."""
        cold = parcel.model is not None and parcel.model not in self.warm
        return self.load_s + parcel.seconds + (parcel.startup_s if cold else 0.0)

    def put(self, parcel: Parcel) -> None:
        """Take the parcel."""
        self.load_s = self.end_s(parcel)
        self.ids.append(parcel.id)
        if parcel.model is not None:
            self.warm.add(parcel.model)


def pack(parcels: Sequence[Parcel], bins: Sequence[Bin]) -> Packing:
    """The best of four packings; on a tie the first. Ties within one are decided by the order given. `bins` must not be empty."""
    longest = sorted(parcels, key=lambda parcel: -parcel.seconds)
    whole = sorted(parcels, key=lambda parcel: -(parcel.seconds + parcel.startup_s))
    found = [_earliest_end(longest, bins), _earliest_end(whole, bins), _in_turn(longest, bins)]
    best = min(found, key=lambda packing: packing.makespan_s)
    fitted = _multifit(longest, bins, best.makespan_s)
    return best if fitted is None or fitted.makespan_s >= best.makespan_s - _HAIR_S else fitted


def _in_turn(parcels: Iterable[Parcel], bins: Sequence[Bin]) -> Packing:
    """LPT: the slot that is free first takes the longest."""
    opened = [_Open(bin_) for bin_ in bins]
    free = [(slot.load_s, number) for number, slot in enumerate(opened)]
    heapify(free)
    for parcel in parcels:
        number = free[0][1]
        opened[number].put(parcel)
        heapreplace(free, (opened[number].load_s, number))
    return _packed(opened)


def _earliest_end(parcels: Iterable[Parcel], bins: Sequence[Bin]) -> Packing:
    """Each job, longest first, to the slot where it ends first, start-up included."""
    opened = [_Open(bin_) for bin_ in bins]
    for parcel in parcels:
        min(opened, key=lambda slot: slot.end_s(parcel)).put(parcel)
    return _packed(opened)


def _multifit(parcels: Sequence[Parcel], bins: Sequence[Bin], ceiling_s: float) -> Packing | None:
    """Look for the least deadline by which everything fits, model by model; None if nothing beats `ceiling_s`.

    MULTIFIT (Coffman, Garey, Johnson, SIAM J. Comput. 7, 1978), with the start-up as part of what a slot must hold. Keeping a model on few slots
    is what it does better than the other ways.
    """
    work: dict[str | None, float] = {}
    for parcel in parcels:
        work[parcel.model] = work.get(parcel.model, parcel.startup_s) + parcel.seconds
    place = {model: number for number, model in enumerate(sorted(work, key=lambda model: -work[model]))}
    ordered = sorted(parcels, key=lambda parcel: place[parcel.model])  # stable: longest first within a model
    low = sum(parcel.seconds for parcel in parcels) / len(bins)
    high, best = ceiling_s, None
    for _ in range(_HALVINGS):
        deadline_s = (low + high) / 2
        packing = _first_fit(ordered, bins, deadline_s)
        if packing is None:
            low = deadline_s
        else:
            high, best = min(deadline_s, packing.makespan_s), packing
    return best


def _first_fit(parcels: Iterable[Parcel], bins: Sequence[Bin], deadline_s: float) -> Packing | None:
    """Each job to a slot that has its model and the time, else to the emptiest that still has the time; None if one fits nowhere."""
    opened = [_Open(bin_) for bin_ in bins]
    for parcel in parcels:
        fitting = [slot for slot in opened if slot.end_s(parcel) <= deadline_s]
        if not fitting:
            return None
        loaded = next((slot for slot in fitting if parcel.model in slot.warm), None)
        (loaded or min(fitting, key=attrgetter("load_s"))).put(parcel)
    return _packed(opened)


def _packed(opened: Iterable[_Open]) -> Packing:
    used = [slot for slot in opened if slot.ids]
    return Packing({slot.name: tuple(slot.ids) for slot in used}, max((slot.load_s for slot in used), default=0.0))
