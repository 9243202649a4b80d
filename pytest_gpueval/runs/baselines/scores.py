"""A baseline's samples as a comparison asks for them: ids, and score parts that became columns of figures and were let go."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pytest_gpueval.scoring import paired
from pytest_gpueval.suites.garbage import no_garbage

from . import reading
from .baseline import Baseline
from .samples import Keys, Samples, repeated

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np

    from pytest_gpueval.scoring.task import Parts, Task
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
    with no_garbage():
        found = None if baseline.results is None else _of_results(baseline.results, baseline.record.rows.total or 0, task, wanted)
        return of_samples(replace(baseline).samples, task, wanted) if found is None else found  # of a copy, which keeps them


def of_samples(samples: Samples, task: Task, wanted: Collection[Key]) -> Measured:
    """The same of samples that have been read. Raises DataError, MissingExtra."""
    import numpy as np  # noqa: PLC0415 - heavy

    has_score = samples.has_score
    scored = None if has_score.all() else np.flatnonzero(has_score)
    found = paired.over_steps(task, ((parts, places.to_numpy()) for parts, places in samples.steps(scored)), int(has_score.sum()), wanted)
    if found is None:
        found = paired.ratios(task, [parts for parts in samples.parts(scored) if parts is not None], wanted)
    return Measured(samples.keys, has_score, found)


def _of_results(path: Path, expected: int, task: Task, wanted: Collection[Key]) -> Measured | None:
    """The same from results, a block of lines after the other; None where ids repeat, or something else is unusual."""
    import numpy as np  # noqa: PLC0415 - heavy
    import pyarrow as pa  # noqa: PLC0415 - heavy

    ids: list[Any] = [pa.array([], pa.string())]
    has_score = [np.zeros(0, bool)]

    def steps() -> Iterator[tuple[list[Parts], Places]]:
        for block in reading.blocks(path):
            texts = block.different
            parts = reading.tables(texts)
            if parts is None:
                raise _UnusualError
            number = {reading.NULL: -1, **{text: at for at, text in enumerate(texts)}}
            places = np.fromiter(map(number.__getitem__, block.scores), np.int64, len(block.scores))
            ids.append(pa.array(block.ids, pa.string()))
            has_score.append(places >= 0)
            yield parts, places[places >= 0]

    try:
        found = paired.over_steps(task, steps(), expected, wanted)
    except _UnusualError:
        return None
    keys = Keys(pa.chunked_array(ids), None)
    return None if found is None or repeated(keys.ids) else Measured(keys, np.concatenate(has_score), found)


class _UnusualError(Exception):
    """A score that is to be looked at by itself."""


@dataclass(frozen=True)
class Scores:
    """The scores of `samples` at `places`, each of which has one, as `measured` or `of_samples` found them."""

    samples: Callable[[], Samples]
    places: Places
    known: Measured

    def __len__(self) -> int:
        return len(self.places)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """The score parts, read once more."""
        return (parts for parts in self.samples().parts(self.places) if parts is not None)

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
