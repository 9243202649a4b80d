"""The gates of a case that look at its baseline: the samples that both have, what changed, and what the statistics say of it."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import orjson

from pytest_gpueval import gates
from pytest_gpueval.reports import changed
from pytest_gpueval.reports.changed import ChangedLabel, ChangedSample
from pytest_gpueval.scoring.task import BadRow

from .comparison import row_columns
from .foresight import rules_of

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_gpueval.datasets.parquet import ParquetSplit
    from pytest_gpueval.scoring.task import Parts, Sample, Task
    from pytest_gpueval.suites.model import Case

    from .comparison import Paired

# In a message.
LABELS: Final = 3
SAMPLES: Final = 10
# Of more changed samples, the first are looked at.
_LOOKED_AT: Final = 20_000


@dataclass(frozen=True)
class Scored:
    """The samples that have a score here and in the baseline: their places among this run's results, and both score parts."""

    places: Sequence[int]
    baseline: Sequence[Parts]
    now: Sequence[Parts]

    @classmethod
    def of(cls, pair: Paired) -> Scored:
        """Leave out what failed or was skipped on either side."""
        sides = zip(pair.alignment.current, pair.baseline.samples.parts(pair.alignment.baseline), pair.now.parts(pair.alignment.current), strict=True)
        kept = [(int(place), before, after) for place, before, after in sides if before is not None and after is not None]
        return cls(*(list(column) for column in zip(*kept, strict=True))) if kept else cls((), (), ())

    def changed(self) -> list[int]:
        """Which of them count otherwise than they did."""
        return [number for number, (before, after) in enumerate(zip(self.baseline, self.now, strict=True)) if before != after]


class Beside:
    """A case's run beside its baseline."""

    def __init__(self, case: Case, task: Task, split: ParquetSplit, pair: Paired) -> None:
        self._case = case
        self._task = task
        self._split = split
        self._scored = Scored.of(pair)
        self._common = pair.alignment.common
        self._words = pair.alignment.words

    @property
    def notes(self) -> list[str]:
        """What a reader should know of the samples that are compared."""
        apart = self._common - len(self._scored.places)
        without = f"{apart:,} samples have no score here or in the baseline, and are not compared" if apart else ""
        return [f"compared with the baseline: {words}" for words in (self._words, without) if words]

    def verdicts(self) -> list[gates.Verdict]:
        """What the gates say. Raises MissingExtra, DataError for a column of clusters that the split has not."""
        column = self._case.comparison.cluster
        clusters = None if column is None else clusters_of(self._split, column, self._scored.places)
        return judge(self._case, self._task, self._scored, clusters)

    def details(self, verdicts: Sequence[gates.Verdict], results: Path, clean: Callable[[str], str], command: str, *, texts: bool) -> str:
        """What changed most in the first metric that fell too far, and how to run just this again; only that where no such gate failed.

        `texts`: whether samples are shown with more than their ids and figures.
        """
        worst = next((verdict for verdict in verdicts if verdict.change is not None and not verdict.ok), None)
        if worst is None:
            return changed.message([], [], command)
        rises = worst.bound.startswith("rise")
        fell = samples_that_fell(self._task, self._scored, worst.metric, rises=rises)
        labels = labels_that_fell(self._task, self._scored, worst.metric, rises=rises)
        return clean(changed.message(labels, shown(fell, results, self._sample if texts else lambda _place: None, clean), command))

    def _sample(self, place: int) -> Sample | None:
        try:
            return self._task.sample(next(self._split.read(row_columns(self._task, self._split), place, place + 1)))
        except (BadRow, StopIteration):
            return None


def judge(case: Case, task: Task, scored: Scored, clusters: Sequence[Hashable] | None) -> list[gates.Verdict]:
    """What the gates against a baseline say. `clusters`: what each sample belongs to. Raises MissingExtra."""
    from pytest_gpueval.scoring.paired import Asked, differences  # noqa: PLC0415 - heavy

    own = [gate for gate in case.gates if gate.is_paired and not gate.is_speed]
    rules = rules_of(case)
    asked = []
    for gate in own:
        margin = gate.max_drop if gate.max_drop is not None else gate.max_rise or 0.0
        absolute, share = (0.0, margin) if gate.relative else (margin, 0.0)
        asked.append(Asked(gate.metric, gate.label, absolute, share, lower_is_better=gate.max_rise is not None))
    entry = case.comparison
    found = differences(task, scored.baseline, scored.now, asked, level=rules.own_level, sides=entry.sides, resamples=entry.resamples, clusters=clusters)
    return gates.judge_drops(own, found, rules)


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


def labels_that_fell(task: Task, scored: Scored, metric: str, *, rises: bool) -> list[ChangedLabel]:
    """The labels whose figure changed most for the worse."""
    name = metric
    before, after = (_labels(task, parts) for parts in (scored.baseline, scored.now))
    found = []
    for label, figures in after.items():
        was, now = before.get(label, {}).get(name), figures.get(name)
        if was is not None and now is not None and was.value is not None and now.value is not None and was.value != now.value:
            found.append(ChangedLabel(label, name, was.value, now.value))
    found.sort(key=lambda one: (one.before - one.now if rises else one.now - one.before, one.label))
    return [one for one in found if (one.now > one.before) == rises][:LABELS]


def _labels(task: Task, parts: Sequence[Parts]) -> Any:
    counts = task.counts()
    for one in parts:
        counts.add(one)
    return counts.metrics().labels


def samples_that_fell(task: Task, scored: Scored, metric: str, *, rises: bool) -> list[tuple[int, float | None, float | None]]:
    """(place among this run's results, the metric of the sample alone in the baseline, and here) of those that changed most for the worse."""
    found = []
    for number in scored.changed()[:_LOOKED_AT]:
        before, after = (_alone(task, parts[number], metric) for parts in (scored.baseline, scored.now))
        loss = (before or 0.0) - (after or 0.0)
        found.append((-loss if rises else loss, number, before, after))
    found.sort(key=lambda one: (-one[0], one[1]))
    return [(scored.places[number], before, after) for loss, number, before, after in found if loss > 0][:SAMPLES]


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
