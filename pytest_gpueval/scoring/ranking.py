"""How well scores rank positives above negatives: areas under the ROC and the precision-recall curve, in bounded memory.

Up to `EXACT` distinct scores are kept as they are, and figures are those of all pairs. Beyond that scores are rounded to a grid that is as fine near
1 as near 0, where models put most of theirs: 31 octaves of the distance to the nearer end, each in equal steps (1,024 for up to 16 labels, in steps
of 0.00024 around 0.5; fewer for more labels, so that up to a thousand labels hold about a million bins together). Scores of one bin count as ties, so
that

    AUROC              is off by at most half the share of (positive, negative) pairs that meet in one bin,
    average precision  is off by at most the sum over bins of the bin's share of the positives x the bin's share of the scores in or above it.

With scores spread evenly over [0, 1] that is at most 0.0001 and 0.0005. Whether scores are on the grid depends on the scores alone, not on their order:
shards merge to the very same figures in any order.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterator, Mapping, Sequence
from operator import add

from .estimates import UNSCORED, Z_95, Estimate, t_95, wilson

# Distinct scores of a label that are kept exactly, and steps of an octave beyond that; both for suites of at most 16 labels.
EXACT = 4096
STEPS = 1024
_OCTAVES = 31
_LEAST = 2.0 ** -(_OCTAVES + 1)


class ScoreCounts:
    """Scores in [0, 1] of samples that have a label and of those that have not. `labels`: the number of labels that share the memory."""

    __slots__ = ("_exact", "_grid", "_most", "_steps")

    def __init__(self, labels: int) -> None:
        many = max(1.0, labels / 16)
        self._most = max(64, int(EXACT / many))
        self._steps = max(16, int(STEPS / many))
        self._exact: dict[float, list[int]] = {}
        self._grid: tuple[array[int], array[int]] | None = None  # negatives and positives of each bin

    def add(self, score: float, positive: bool) -> None:  # noqa: FBT001 - the two classes
        """Add one sample's score."""
        if self._grid is None:
            found = self._exact.get(score)
            if found is None:
                found = self._exact[score] = [0, 0]
                found[positive] = 1
                if len(self._exact) > self._most:
                    self._round()
            else:
                found[positive] += 1
        else:
            self._grid[positive][self._bin(score)] += 1

    def merge(self, other: ScoreCounts) -> None:
        """Add another shard's scores, of as many labels."""
        if self._grid is None and other._grid is not None:
            self._round()
        if self._grid is not None:
            self._fill(self._grid, other._exact)
            if other._grid is not None:
                negatives, positives = (array("q", map(add, *sides)) for sides in zip(self._grid, other._grid, strict=True))
                self._grid = negatives, positives
            return
        for score, counts in other._exact.items():
            found = self._exact.setdefault(score, [0, 0])
            found[:] = [here + there for here, there in zip(found, counts, strict=True)]
        if len(self._exact) > self._most:
            self._round()

    def columns(self) -> list[tuple[int, int]]:
        """(negatives, positives) that tie, from the lowest score to the highest."""
        if self._grid is None:
            return [(negatives, positives) for _, (negatives, positives) in sorted(self._exact.items())]
        return [pair for pair in zip(*self._grid, strict=True) if pair != (0, 0)]

    def _round(self) -> None:
        """Put the scores so far on the grid."""
        bins = 2 * (_OCTAVES * self._steps + 2)
        scores, self._exact = self._exact, {}
        self._grid = array("q", bytes(8 * bins)), array("q", bytes(8 * bins))
        self._fill(self._grid, scores)

    def _fill(self, grid: tuple[array[int], array[int]], scores: Mapping[float, Sequence[int]]) -> None:
        """Add scores that were kept exactly to a grid."""
        for score, counts in scores.items():
            at = self._bin(score)
            for side, times in zip(grid, counts, strict=True):
                side[at] += times

    def _bin(self, score: float) -> int:
        """The bin of a score; all arithmetic here is exact, so that every machine finds the same."""
        distance = score if score <= 0.5 else 1.0 - score
        if distance < _LEAST:
            at = 0
        else:
            mantissa, exponent = math.frexp(distance)  # mantissa in [0.5, 1), exponent from -31 to 0
            at = 1 + (exponent + _OCTAVES) * self._steps + int((2 * mantissa - 1) * self._steps)
        return at if score <= 0.5 else 2 * (_OCTAVES * self._steps + 2) - 1 - at


def auroc(scores: ScoreCounts) -> Estimate:
    """The probability that a positive's score is above a negative's, ties counting half; unscored without one of each.

    The variance is that of DeLong, DeLong and Clarke-Pearson 1988 (*Biometrics* 44, 837-845), turned into an effective sample size for a Wilson
    interval as `estimates.ratio` does; where it is 0, the smaller class is the sample. `n` counts samples.
    """
    columns = scores.columns()
    negatives, positives = (sum(side) for side in zip(*columns, strict=True)) if columns else (0, 0)
    if not negatives or not positives:
        return UNSCORED
    # Placements, doubled so that halves are whole: of a positive among the negatives, of a negative among the positives.
    below, above = 0, 2 * positives
    s = ss_positives = ss_negatives = 0
    for n, p in columns:
        above -= 2 * p
        of_positive, of_negative = below + n, above + p
        below += 2 * n
        s += p * of_positive
        ss_positives += p * of_positive * of_positive
        ss_negatives += n * of_negative * of_negative
    area = s / (2 * positives * negatives)
    smaller = min(positives, negatives)
    effective = float(smaller)
    if smaller > 1:
        variance = _spread(positives, s, ss_positives) / (4 * negatives * negatives) / positives
        variance += _spread(negatives, s, ss_negatives) / (4 * positives * positives) / negatives
        if variance > 0 and 0 < area < 1:
            effective = min(area * (1 - area) / variance * (Z_95 / t_95(smaller - 1)) ** 2, positives + negatives)
    return Estimate(area, *wilson(area, effective), positives + negatives)


def _spread(n: int, s: int, ss: int) -> float:
    """The sample variance of `n` whole numbers with the sum `s` and the sum of squares `ss`."""
    return (n * ss - s * s) / (n * (n - 1))


def average_precision(scores: ScoreCounts) -> Estimate:
    """The area under the precision-recall curve as its step-wise sum, as scikit-learn has it; unscored without a positive.

    The interval is the binomial one of Boyd, Eng and Page 2013 (*Area under the precision-recall curve: point estimates and confidence intervals*,
    ECML PKDD), in which the positives are the trials, in Wilson's form. `n` counts samples.
    """
    columns = scores.columns()
    positives = sum(p for _, p in columns)
    if not positives:
        return UNSCORED
    area = min(1.0, math.fsum(_steps(columns)) / positives)
    return Estimate(area, *wilson(area, positives), sum(map(sum, columns)))


def _steps(columns: list[tuple[int, int]]) -> Iterator[float]:
    """Positives x precision at each score, from the highest down."""
    hits = seen = 0
    for n, p in reversed(columns):
        hits += p
        seen += n + p
        yield p * hits / seen
