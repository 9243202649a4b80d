"""The gates of a case that look at its baseline: the samples that both have, what changed, and what the statistics say of it."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

import orjson

from pytest_gpueval import gates
from pytest_gpueval.reports import changed
from pytest_gpueval.reports.changed import ChangedLabel, ChangedSample
from pytest_gpueval.runs import baselines
from pytest_gpueval.scoring.task import BadRow
from pytest_gpueval.scoring.terms import numpy, total
from pytest_gpueval.suites.garbage import no_garbage

from .comparison import row_columns
from .foresight import rules_of

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_gpueval.datasets.parquet import ParquetSplit
    from pytest_gpueval.runs.baselines import Scores
    from pytest_gpueval.scoring.paired import Asked
    from pytest_gpueval.scoring.task import Parts, Sample, Task
    from pytest_gpueval.scoring.terms import Ratio
    from pytest_gpueval.suites.model import Case
    from pytest_gpueval.suites.schema import Gate

    from .comparison import Paired

# In a message.
LABELS: Final = 3
SAMPLES: Final = 10
# Of more changed samples, the first are looked at, where a metric is no ratio of sums.
_LOOKED_AT: Final = 20_000


class Beside:
    """A case's run beside its baseline: the samples that have a score on both sides, read once more where their scores are looked into."""

    def __init__(self, case: Case, task: Task, split: ParquetSplit, pair: Paired) -> None:
        """Read what the gates ask for. Raises DataError, MissingExtra."""
        self._case = case
        self._task = task
        self._split = split
        self._common = pair.alignment.common
        self._words = pair.alignment.words
        wanted = {key for one in _asked(case) for key in (one.key, (one.metric, None))}
        with no_garbage():
            there, here = (baselines.of_samples(samples, task, wanted) for samples in (pair.baseline.samples, pair.now))
        self._before, self._now = baselines.scored(
            baselines.Scores(lambda: pair.baseline.samples, pair.alignment.baseline, there), baselines.Scores(lambda: pair.now, pair.alignment.current, here)
        )

    @property
    def notes(self) -> list[str]:
        """What a reader should know of the samples that are compared."""
        apart = self._common - len(self._now)
        without = f"{apart:,} samples have no score here or in the baseline, and are not compared" if apart else ""
        return [f"compared with the baseline: {words}" for words in (self._words, without) if words]

    def verdicts(self) -> list[gates.Verdict]:
        """What the gates say. Raises MissingExtra, DataError for a column of clusters that the split has not."""
        column = self._case.comparison.cluster
        clusters = None if column is None else clusters_of(self._split, column, self._now.places.tolist())
        return judge(self._case, self._task, self._before, self._now, clusters)

    def details(self, verdicts: Sequence[gates.Verdict], results: Path, clean: Callable[[str], str], command: str, *, texts: bool) -> str:
        """What changed most in the first metric that fell too far, and how to run just this again; only that where no such gate failed.

        `texts`: whether samples are shown with more than their ids and figures.
        """
        worst = next((verdict for verdict in verdicts if verdict.change is not None and not verdict.ok), None)
        if worst is None:
            return changed.message([], [], command)
        rises = worst.bound.startswith("rise")
        with no_garbage():
            fell = [(int(self._now.places[at]), was, now) for at, was, now in samples_that_fell(self._task, self._before, self._now, worst.metric, rises=rises)]
            labels = labels_that_fell(self._task, self._before, self._now, worst.metric, rises=rises)
        return clean(changed.message(labels, shown(fell, results, self._sample if texts else lambda _place: None, clean), command))

    def _sample(self, place: int) -> Sample | None:
        try:
            return self._task.sample(next(self._split.read(row_columns(self._task, self._split), place, place + 1)))
        except (BadRow, StopIteration):
            return None


def judge(case: Case, task: Task, before: Scores, now: Scores, clusters: Sequence[Hashable] | None) -> list[gates.Verdict]:
    """What the gates against a baseline say. `clusters`: what each sample belongs to. Raises MissingExtra."""
    from pytest_gpueval.scoring.paired import differences  # noqa: PLC0415 - heavy

    rules, entry = rules_of(case), case.comparison
    found = differences(task, before, now, _asked(case), level=rules.own_level, sides=entry.sides, resamples=entry.resamples, clusters=clusters)
    return gates.judge_drops(_own(case), found, rules)


def _own(case: Case) -> list[Gate]:
    """The gates against a baseline that look at quality."""
    return [gate for gate in case.gates if gate.is_paired and not gate.is_speed]


def _asked(case: Case) -> list[Asked]:
    """What these gates ask."""
    from pytest_gpueval.scoring.paired import Asked  # noqa: PLC0415 - heavy

    asked = []
    for gate in _own(case):
        margin = gate.max_drop if gate.max_drop is not None else gate.max_rise or 0.0
        absolute, share = (0.0, margin) if gate.relative else (margin, 0.0)
        asked.append(Asked(gate.metric, gate.label, absolute, share, lower_is_better=gate.max_rise is not None))
    return asked


def clusters_of(split: ParquetSplit, column: str, places: Sequence[int]) -> list[Hashable]:
    """What the samples at these places, in order, belong to. Raises DataError for a column that the split has not."""
    wanted = iter(places)
    place = next(wanted, None)
    found: list[Hashable] = []
    for number, row in enumerate(split.read([column])):
        if number == place:
            value = row[column]
            found.append(value if isinstance(value, Hashable) else repr(value))
            place = next(wanted, None)
            if place is None:
                break
    return found


def labels_that_fell(task: Task, baseline: Iterable[Parts], current: Iterable[Parts], metric: str, *, rises: bool) -> list[ChangedLabel]:
    """The labels whose figure changed most for the worse."""
    name = metric
    before, after = (_labels(task, parts) for parts in (baseline, current))
    found = []
    for label, figures in after.items():
        was, now = before.get(label, {}).get(name), figures.get(name)
        if was is not None and now is not None and was.value is not None and now.value is not None and was.value != now.value:
            found.append(ChangedLabel(label, name, was.value, now.value))
    found.sort(key=lambda one: (one.before - one.now if rises else one.now - one.before, one.label))
    return [one for one in found if (one.now > one.before) == rises][:LABELS]


def _labels(task: Task, parts: Iterable[Parts]) -> Any:
    counts = task.counts()
    for one in parts:
        counts.add(one)
    return counts.metrics().labels


def samples_that_fell(task: Task, baseline: Scores, current: Scores, metric: str, *, rises: bool) -> list[tuple[int, float | None, float | None]]:
    """(number of the sample, its metric alone in the baseline, and here) of those that changed most for the worse."""
    before, after = (side.ratios(task, {(metric, None)}).get((metric, None)) for side in (baseline, current))
    if before is not None and after is not None:
        return _that_fell(before, after, rises=rises)
    found = []
    sides = enumerate(zip(baseline, current, strict=True))
    for number, pair in islice(((number, pair) for number, pair in sides if pair[0] != pair[1]), _LOOKED_AT):
        was, now = (_alone(task, parts, metric) for parts in pair)
        loss = (was or 0.0) - (now or 0.0)
        found.append((-loss if rises else loss, number, was, now))
    found.sort(key=lambda one: (-one[0], one[1]))
    return [(number, was, now) for loss, number, was, now in found if loss > 0][:SAMPLES]


def _that_fell(baseline: Ratio, current: Ratio, *, rises: bool) -> list[tuple[int, float | None, float | None]]:
    """The same of a metric that is a ratio of sums, whose columns say it of all samples at once."""
    np = numpy()
    sums = [[total(part) for part in side] for side in (baseline, current)]
    before, after = (np.divide(above, below, out=np.full(len(below), np.nan), where=below > 0) for above, below in sums)
    loss = (np.nan_to_num(before) - np.nan_to_num(after)) * (-1 if rises else 1)
    worst = [int(number) for number in np.argsort(-loss, kind="stable")[:SAMPLES] if loss[number] > 0]
    was, now = ([None if np.isnan(side[number]) else float(side[number]) for number in worst] for side in (before, after))
    return list(zip(worst, was, now, strict=True))


def _alone(task: Task, parts: Parts, metric: str) -> float | None:
    counts = task.counts()
    counts.add(parts)
    estimate = counts.metrics().overall.get(metric)
    return estimate.value if estimate is not None else None


def shown(
    fell: Sequence[tuple[int, float | None, float | None]], results: Path, sample_at: Callable[[int], Sample | None], clean: Callable[[str], str]
) -> list[ChangedSample]:
    """Those samples with their texts and predictions, for a reader; `clean` takes out what must not be shown."""
    records = _records(results, {place for place, _, _ in fell})
    found = []
    for place, before, after in fell:
        record, sample = records.get(place, {}), sample_at(place)
        text = sample.inputs.get("text", sample.inputs.get("prompt")) if sample is not None else None
        shown_text = clean(text if isinstance(text, str) else "")
        found.append(
            ChangedSample(str(record.get("id", "?")), before, after, shown_text, sample.gold if sample is not None else None, record.get("prediction"))
        )
    return found


def _records(results: Path, places: set[int]) -> dict[int, dict[str, Any]]:
    """The results at these places; a file has one for each row, in order."""
    last = max(places, default=-1)
    found: dict[int, dict[str, Any]] = {}
    with results.open("rb") as file:
        for number, line in enumerate(file):
            if number > last:
                break
            if number in places:
                found[number] = orjson.loads(line)
    return found
