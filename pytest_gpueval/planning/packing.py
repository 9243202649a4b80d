"""Known jobs on known slots: who runs what, so that the last ends early although loading a model takes time. Pure.

Longest processing time first (LPT) is Graham, "Bounds on multiprocessing timing anomalies", SIAM J. Appl. Math. 17 (1969): at most
4/3 - 1/(3m) of the best makespan. It does not know of start-ups; the other two ways do, and the best of all is taken.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from heapq import heapify, heappush, heapreplace
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
        self.warm: set[str | None] = {None, *bin_.warm}
        self.ids: list[str] = []

    def put(self, parcel: Parcel) -> None:
        """Take the parcel."""
        self.load_s += parcel.seconds if parcel.model in self.warm else parcel.seconds + parcel.startup_s
        self.ids.append(parcel.id)
        self.warm.add(parcel.model)


class _Emptiest:
    """The slot of some that is free first. Loads only grow, so an entry that is out of date is too low, and comes to the top in time."""

    def __init__(self, opened: Sequence[_Open], numbers: Iterable[int]) -> None:
        self._opened = opened
        self._heap = [(opened[number].load_s, number) for number in numbers]
        heapify(self._heap)

    def add(self, number: int) -> None:
        """One more slot."""
        heappush(self._heap, (self._opened[number].load_s, number))

    def number(self) -> int | None:
        """Its number; of several that are equally free the lowest."""
        while self._heap:
            load_s, number = self._heap[0]
            if load_s == self._opened[number].load_s:
                return number
            heapreplace(self._heap, (self._opened[number].load_s, number))
        return None


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
    emptiest = _Emptiest(opened, range(len(opened)))
    for parcel in parcels:
        opened[emptiest.number() or 0].put(parcel)
    return _packed(opened)


def _earliest_end(parcels: Iterable[Parcel], bins: Sequence[Bin]) -> Packing:
    """Each job, longest first, to the slot where it ends first, start-up included; of two to the one that has its model."""
    opened = [_Open(bin_) for bin_ in bins]
    emptiest = _Emptiest(opened, range(len(opened)))
    loaded: dict[str | None, _Emptiest] = {}
    for parcel in parcels:
        model = parcel.model
        if model not in loaded:
            loaded[model] = _Emptiest(opened, [number for number, slot in enumerate(opened) if model in slot.warm])
        cold, warm = emptiest.number() or 0, loaded[model].number()
        if warm is not None and opened[warm].load_s <= opened[cold].load_s + parcel.startup_s:
            opened[warm].put(parcel)
        else:
            opened[cold].put(parcel)
            loaded[model].add(cold)
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
    low, high, best = sum(parcel.seconds for parcel in parcels) / len(bins), ceiling_s, None
    for _ in range(_HALVINGS):
        deadline_s = (low + high) / 2
        packing = _first_fit(ordered, bins, deadline_s)
        if packing is None:
            low = deadline_s
        else:
            high, best = min(deadline_s, packing.makespan_s), packing
    return best


def _first_fit(parcels: Iterable[Parcel], bins: Sequence[Bin], deadline_s: float) -> Packing | None:
    """Each job to the first slot that has its model and the time, else to the emptiest of the others; None if one fits nowhere."""
    opened = [_Open(bin_) for bin_ in bins]
    loaded: dict[str | None, list[_Open]] = {}
    for parcel in parcels:
        model = parcel.model
        if model not in loaded:
            loaded[model] = [slot for slot in opened if model in slot.warm]
        latest_s = deadline_s - parcel.seconds
        slot = next((slot for slot in loaded[model] if slot.load_s <= latest_s), None)
        if slot is None:
            slot = min((slot for slot in opened if model not in slot.warm), key=attrgetter("load_s"), default=None)
            if slot is None or slot.load_s + parcel.startup_s > latest_s:
                return None
            loaded[model].append(slot)
        slot.put(parcel)
    return _packed(opened)


def _packed(opened: Iterable[_Open]) -> Packing:
    used = [slot for slot in opened if slot.ids]
    return Packing({slot.name: tuple(slot.ids) for slot in used}, max((slot.load_s for slot in used), default=0.0))
