"""Metrics of any task, compared through its counts alone: the jackknife over groups of units.

Units are dealt to at most 100 groups by their place; each metric is computed without each group in turn, from merged counts of those before and after
it. The variance is that of the delete-a-group jackknife (Shao and Tu 1995, *The Jackknife and Bootstrap*, ch. 2.3; Kott 2001, *The delete-a-group
jackknife*, Journal of Official Statistics 17), quantiles are Student's, with one degree of freedom less than there are groups, or units that changed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Final

from pytest_gpueval.scoring.power import Z_POWER, against_same_rows
from pytest_gpueval.scoring.task import Counts, Metrics, Parts
from pytest_gpueval.scoring.terms import Key, special

from .records import Asked, Evidence, Level

GROUPS: Final = 100
METHOD: Final = "jackknife over groups, Student's t"

Values = Mapping[Key, float]


def values(metrics: Metrics, keys: Collection[Key]) -> dict[Key, float]:
    """The wanted metrics that have a finite value."""
    found: dict[Key, float] = {}
    for name, label in keys:
        estimate = (metrics.overall if label is None else metrics.labels.get(label, {})).get(name)
        if estimate is not None and estimate.value is not None and math.isfinite(estimate.value):
            found[name, label] = estimate.value
    return found


def deleted(counts: Callable[[], Counts], parts: Iterable[Parts], groups: Sequence[int], keys: Collection[Key]) -> tuple[Values, list[Values]]:
    """The wanted metrics over all samples, and without each group in turn. `groups`: of each sample, from 0."""
    k = max(groups) + 1
    each = [counts() for _ in range(k)]
    for one, group in zip(parts, groups, strict=True):
        each[group].add(one)
    after = [counts() for _ in range(k + 1)]  # after[g]: groups g and later
    for at in range(k - 1, -1, -1):
        after[at].merge(after[at + 1])
        after[at].merge(each[at])
    before, without = counts(), list[Values]()
    for at in range(k):
        rest = counts()
        rest.merge(before)
        rest.merge(after[at + 1])
        without.append(values(rest.metrics(), keys))
        before.merge(each[at])
    return values(after[0].metrics(), keys), without


def compared(asked: Asked, whole: tuple[float, float], without: Sequence[tuple[Values, Values]], changed: int, rows: int, level: Level) -> Evidence:
    """One metric that differs somewhere. `whole`: of baseline and current; `without`: both without each group; `changed`: units that did; `rows`: units."""
    key, (base, value) = asked.key, whole
    sign = -1.0 if asked.lower_is_better else 1.0
    if len(without) < 2 or not all(key in sides for pair in without for sides in pair):
        return Evidence(None, None, None, None, None, METHOD)
    df = max(1, min(len(without), changed) - 1)
    differences = [current[key] - before[key] for before, current in without]
    # A relative margin moves with the baseline: the test is of the difference and the share together.
    tested = [sign * d + asked.relative * abs(before[key]) for d, (before, _) in zip(differences, without, strict=True)]
    se, se_tested = _error(differences), _error(tested)
    sp = special()
    half = -float(sp.stdtrit(df, level.tail)) * se
    difference = value - base

    def p(distance: float, error: float) -> float:
        return float(sp.stdtr(df, distance / error)) if error > 0 else 1.0 if distance >= 0 else 0.0

    margin = asked.margin + asked.relative * abs(base)
    least = margin + (Z_POWER - float(sp.ndtri(level.tail))) * se if se > 0 else against_same_rows(0.0, 1.0, rows, margin, level.tail)
    return Evidence(
        difference - half,
        difference + half,
        p(sign * difference + margin, se_tested),
        p(-sign * difference, se),
        least,
        METHOD,
    )


def _error(without: Sequence[float]) -> float:
    """The standard error from a figure without each of the groups."""
    k = len(without)
    mean = math.fsum(without) / k
    return math.sqrt((k - 1) / k * math.fsum((value - mean) ** 2 for value in without))
