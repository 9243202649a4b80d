"""The paired comparison of two runs, metric by metric: which method speaks, and what it says."""

from __future__ import annotations

import math
from collections.abc import Collection, Hashable, Sequence
from typing import TYPE_CHECKING

from pytest_gpueval.scoring.power import against_same_rows
from pytest_gpueval.scoring.task import Parts, Task
from pytest_gpueval.scoring.terms import Key, numpy, total

from . import jackknife, proportions
from .bootstrap import Bootstrap, Pair
from .columns import Scores, ratios
from .records import Asked, Difference, Evidence, Level, Sides

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

RESAMPLES = 10_000


def differences(
    task: Task,
    baseline: Scores | Sequence[Parts],
    current: Scores | Sequence[Parts],
    asked: Collection[Asked],
    *,
    level: float = 0.05,
    sides: Sides = "one",
    resamples: int = RESAMPLES,
    clusters: Sequence[Hashable] | None = None,
    seed: int = 0,
) -> dict[Key, Difference]:
    """Compare the score parts of the same samples, `baseline[i]` and `current[i]`, in the metrics asked for.

    What samples have or have not (accuracy, recall of documents) is compared by McNemar's exact test or, with a margin, by Tango's; other ratios of sums by
    a bootstrap over samples; anything else by a jackknife through the task's counts. `clusters`: what each sample belongs to, such as the document it
    repeats; those of a cluster are then drawn together. `level`, `sides`: see `Level`. The same seed gives the same figures.

    Raises ValueError where the sequences differ in length, a metric is asked for twice, or a level or margin makes no sense; MissingExtra.
    """
    if not len(baseline) == len(current) == len(current if clusters is None else clusters):
        raise ValueError(f"{len(baseline)} and {len(current)} samples, {'no' if clusters is None else len(clusters)} clusters: not one for one")
    if len({one.key for one in asked}) != len(asked):
        raise ValueError("a metric is asked for twice")
    comparison = _Comparison(task, baseline, current, Level(level, sides), clusters)
    return {one.key: found for one, found in comparison.all(asked, resamples, seed).items()}


class _Comparison:
    """Two runs of the same samples."""

    def __init__(
        self, task: Task, baseline: Scores | Sequence[Parts], current: Scores | Sequence[Parts], level: Level, clusters: Sequence[Hashable] | None
    ) -> None:
        self._task = task
        self._runs = baseline, current
        self._level = level
        known: dict[Hashable, int] = {}
        self._clusters = None if clusters is None else [known.setdefault(cluster, len(known)) for cluster in clusters]
        self._units = len(baseline) if clusters is None else len(known)

    def all(self, asked: Collection[Asked], resamples: int, seed: int) -> dict[Asked, Difference]:
        """Every metric, in the order asked for."""
        pairs = self._pairs(asked)
        found = self._by_jackknife([one for one in asked if one.key not in pairs])
        drawn: dict[Asked, Pair] = {}
        for one in asked:
            if one.key in pairs:
                settled = self._settled(one, pairs[one.key])
                if settled is None:
                    drawn[one] = self._of_units(pairs[one.key])
                else:
                    found[one] = settled
        if drawn:
            bootstrap = Bootstrap(drawn, resamples, seed, "samples" if self._clusters is None else "clusters")
            for one in drawn:
                found[one] = self._difference(one, pairs[one.key], bootstrap.compared(one, self._level))
        return {one: found[one] for one in asked}

    def _pairs(self, asked: Collection[Asked]) -> dict[Key, Pair]:
        """The metrics that are ratios of sums, the user's own among them."""
        keys = {one.key for one in asked}
        sides = [ratios(self._task, parts, keys) for parts in self._runs]
        return {key: Pair(sides[0][key], sides[1][key]) for key in keys if key in sides[0] and key in sides[1]}

    def _of_units(self, pair: Pair) -> Pair:
        if self._clusters is None:
            return pair
        return pair.summed(numpy().array(self._clusters, dtype=numpy().int64), self._units)

    def _settled(self, asked: Asked, pair: Pair) -> Difference | None:
        """The answer where no resampling is needed: nothing defined, nothing changed, or a share of samples without clusters."""
        base, value = pair.values()
        if base is None or value is None:
            return self._difference(asked, pair, Evidence(None, None, None, None, None, "unscored"))
        margin = asked.margin + asked.relative * abs(base)
        counts = None if self._clusters is not None or asked.relative else _shares(pair)
        if counts is not None:
            return self._difference(asked, pair, proportions.compared(counts.turned() if asked.lower_is_better else counts, margin, self._level), asked)
        if not pair.differ().any():
            units = self._of_units(pair)
            least = against_same_rows(0.0, 1.0, max(1, int(units.speaks().sum())), margin, self._level.tail)
            return self._difference(asked, pair, Evidence(0.0, 0.0, 1.0, 1.0, least, "identical"))
        return None

    def _difference(self, asked: Asked, pair: Pair, evidence: Evidence, turned: Asked | None = None) -> Difference:
        base, value = pair.values()
        if turned is not None and turned.lower_is_better and evidence.low is not None and evidence.high is not None:
            evidence = Evidence(-evidence.high, -evidence.low, evidence.p, evidence.p_improved, evidence.detectable, evidence.method)
        speaks = int(self._of_units(pair).speaks().sum())
        return self._made(asked, (base, value), evidence, speaks, int(pair.differ().sum()))

    def _made(self, asked: Asked, whole: tuple[float | None, float | None], evidence: Evidence, n: int, changed: int) -> Difference:
        base, value = whole
        difference = None if base is None or value is None else value - base
        level = self._level
        # The estimate is in its interval, also where few samples changed and draws are coarse.
        low = evidence.low if evidence.low is None or difference is None else min(evidence.low, difference)
        high = evidence.high if evidence.high is None or difference is None else max(evidence.high, difference)
        p, improved = (None if one is None else level.p(one) for one in (evidence.p, evidence.p_improved))
        least = evidence.detectable
        if least is not None and (not math.isfinite(least) or (base is not None and 0 <= base < least and not asked.lower_is_better)):
            least = None  # nothing falls below 0
        return Difference(asked.metric, asked.label, base, value, difference, low, high, 1 - 2 * level.tail, p, improved, n, changed, least, evidence.method)

    def _by_jackknife(self, asked: Collection[Asked]) -> dict[Asked, Difference]:
        """Metrics that only the task's counts know."""
        if not asked:
            return {}
        units = list(range(self._units)) if self._clusters is None else self._clusters
        k = min(jackknife.GROUPS, self._units)
        groups = [unit % k for unit in units]
        differ = [before != after for before, after in zip(*self._runs, strict=True)]
        changed = {unit for unit, differs in zip(units, differ, strict=True) if differs}
        keys = {one.key for one in asked}
        if k:
            (base, base_without), (value, value_without) = (jackknife.deleted(self._task.counts, parts, groups, keys) for parts in self._runs)
            without = list(zip(base_without, value_without, strict=True))
        else:
            base, value, without = {}, {}, []
        found: dict[Asked, Difference] = {}
        for one in asked:
            whole = base.get(one.key), value.get(one.key)
            if whole[0] is None or whole[1] is None:
                evidence = Evidence(None, None, None, None, None, "unscored")
            elif not changed:
                margin = one.margin + one.relative * abs(whole[0])
                least = against_same_rows(0.0, 1.0, self._units, margin, self._level.tail)
                evidence = Evidence(0.0, 0.0, 1.0, 1.0, least, "identical")
            else:
                evidence = jackknife.compared(one, (whole[0], whole[1]), without, len(changed), self._units, self._level)
            found[one] = self._made(one, whole, evidence, self._units, sum(differ))
        return found


def _shares(pair: Pair) -> proportions.Pairs | None:
    """The four counts, where both runs are shares of the very same samples."""
    before, after = total(pair.baseline.denominator), total(pair.current.denominator)
    if (before != after).any() or not _zero_or_one(before):
        return None
    was, now = total(pair.baseline.numerator), total(pair.current.numerator)
    if not (_zero_or_one(was) and _zero_or_one(now)):
        return None
    has = before == 1
    both, lost, gained = (int(here.sum()) for here in (has & (was == 1) & (now == 1), has & (was == 1) & (now == 0), has & (was == 0) & (now == 1)))
    return proportions.Pairs(both, lost, gained, int(has.sum()) - both - lost - gained)


def _zero_or_one(column: npt.NDArray[np.float64]) -> bool:
    return bool(((column == 0) | (column == 1)).all())
