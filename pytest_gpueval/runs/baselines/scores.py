"""The score parts of some samples, decoded a step at a time as a comparison goes through them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .samples import PARTS, Samples

if TYPE_CHECKING:
    import numpy as np

    Places = np.ndarray[Any, np.dtype[np.int64]]


@dataclass(frozen=True)
class Scores:
    """Those of the samples at these places, each of which has a score; None: of all samples, in order."""

    samples: Samples
    places: Places | None

    def __len__(self) -> int:
        return len(self.samples) if self.places is None else len(self.places)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (parts for parts in self.samples.parts(self.places) if parts is not None)

    def steps(self) -> Iterator[tuple[list[dict[str, Any]], Places]]:
        """Parts that differ, and which of them each sample has. Raises DataError for parts that are not JSON."""
        return ((parts, numbers.to_numpy()) for parts, numbers in self.samples.steps(self.places))


def scored(first: Samples, places: Places, second: Samples, other_places: Places) -> tuple[Scores, Scores]:
    """The samples `first[places[i]]` and `second[other_places[i]]` that have a score on both sides."""
    both = _has_score(first)[places] & _has_score(second)[other_places]
    return _at(first, places[both]), _at(second, other_places[both])


def _has_score(samples: Samples) -> Any:
    return samples.table.column(PARTS).is_valid().to_numpy()


def _at(samples: Samples, places: Places) -> Scores:
    whole = len(places) == len(samples) and bool((places[1:] > places[:-1]).all())
    return Scores(samples, None if whole else places)
