"""How fast slots of one kind are beside those of others: machines differ. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

# As with the lengths of jobs: what seems further apart was not measured well.
_WIDEST: Final = 50.0


class Paces:
    """The seconds of a job on a slot of some kind, over those predicted: as is known before, until jobs of all kinds have ended and tell. 1 for one kind."""

    def __init__(self, known: Mapping[str, float]) -> None:
        """`known` has every kind."""
        self._known = dict(known)
        self._sums: dict[str, tuple[float, float]] = {}
        self.mixed = len(self._known) > 1

    def of(self, kind: str) -> float:
        """The pace of a kind: 2 takes twice as long as predicted, or as all do on average."""
        if not self.mixed:
            return 1.0
        if self._sums.keys() != self._known.keys():
            return self._known.get(kind, 1.0)
        measured, predicted = self._sums[kind]
        every = sum(pair[0] for pair in self._sums.values()) / sum(pair[1] for pair in self._sums.values())
        return min(max(measured / predicted / every, 1 / _WIDEST), _WIDEST)

    def take(self, kind: str, measured_s: float, predicted_s: float) -> None:
        """A job took so long that was predicted well: from what others of its group took, here or in earlier sessions. Both are above 0."""
        before = self._sums.get(kind, (0.0, 0.0))
        self._sums[kind] = (before[0] + measured_s, before[1] + predicted_s)
