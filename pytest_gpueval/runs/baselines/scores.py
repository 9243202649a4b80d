"""A baseline's samples as a comparison asks for them: ids, and score parts that became columns of figures and were let go."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pytest_gpueval.scoring import paired
from pytest_gpueval.suites.garbage import no_garbage

from .baseline import Baseline
from .samples import Keys

if TYPE_CHECKING:
    import numpy as np

    from pytest_gpueval.scoring.task import Task
    from pytest_gpueval.scoring.terms import Key, Ratio

    Places = np.ndarray[Any, np.dtype[np.int64]]
    Flags = np.ndarray[Any, np.dtype[np.bool_]]


@dataclass(frozen=True)
class Measured:
    """What a baseline's samples are called, which of them have a score, and the metrics that are ratios of sums, over those that have one."""

    keys: Keys
    has_score: Flags
    ratios: Mapping[Key, Ratio]


def measured(baseline: Baseline, task: Task, wanted: Collection[Key]) -> Measured:
    """Read a baseline's samples for these metrics; they do not stay in memory. Raises DataError, MissingExtra."""
    import numpy as np  # noqa: PLC0415 - heavy

    with no_garbage():
        samples = replace(baseline).samples  # a copy, which keeps them
        has_score = samples.has_score
        scored = None if has_score.all() else np.flatnonzero(has_score)
        steps = ((parts, places.to_numpy()) for parts, places in samples.steps(scored))
        found = paired.over_steps(task, steps, int(has_score.sum()), wanted)
        if found is None:
            found = paired.ratios(task, [parts for parts in samples.parts(scored) if parts is not None], wanted)
        return Measured(samples.keys, has_score, found)


@dataclass(frozen=True)
class Scores:
    """The scores of the samples of `baseline` at `places`, each of which has one, as `measured` found them."""

    baseline: Baseline
    places: Places
    known: Measured

    def __len__(self) -> int:
        return len(self.places)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """The score parts, read once more."""
        return (parts for parts in self.baseline.samples.parts(self.places) if parts is not None)

    def ratios(self, _task: Task, keys: Collection[Key], /) -> dict[Key, Ratio]:
        """Those of the metrics that were measured."""
        import numpy as np  # noqa: PLC0415 - heavy

        found = {key: ratio for key, ratio in self.known.ratios.items() if key in keys}
        among_scored = (np.cumsum(self.known.has_score) - 1)[self.places]
        whole = np.array_equal(among_scored, np.arange(int(self.known.has_score.sum())))
        return found if whole else paired.taken(found, among_scored)


def scored(first: Scores, second: Scores) -> tuple[Scores, Scores]:
    """Those of two sides' samples, one for one, that have a score on both."""
    both = first.known.has_score[first.places] & second.known.has_score[second.places]
    return replace(first, places=first.places[both]), replace(second, places=second.places[both])
