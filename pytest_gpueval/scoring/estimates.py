"""Ratios of sums over documents, with intervals that know that errors cluster in documents.

Precision, recall, F1 and every rate here are ratios of two sums over documents. Spans of one document are not independent,
so the interval uses the variance *between* documents (Taylor linearisation of a ratio of cluster totals: Cochran,
*Sampling Techniques*, 3rd ed. 1977, ch. 6.3 and 9A.5), turned into an effective sample size that a Wilson score interval then uses
(Wilson 1927; with an effective sample size, less where few documents tell the variance: Korn and Graubard 1998, Franco et al. 2019). It stays
inside [0, 1], does not collapse at 0 or 1, needs sums only, and so is the same however the documents were sharded.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import compress
from operator import mul, or_

# Two-sided 95 % quantile of the standard normal distribution.
Z_95 = 1.959963984540054


@dataclass(frozen=True, slots=True)
class Estimate:
    """A metric with its 95 % interval.

    `value` is None where the metric is undefined (no gold, no prediction): *unscored*, never 0. `n` is the number of documents
    that had a say.
    """

    value: float | None
    low: float | None
    high: float | None
    n: int

    def as_dict(self) -> dict[str, float | int | None]:
        """The JSON form used in summary.json."""
        return {"value": self.value, "low": self.low, "high": self.high, "n": self.n}


UNSCORED = Estimate(None, None, None, 0)


def wilson(p: float, n: float) -> tuple[float, float]:
    """The 95 % Wilson score interval of a proportion `p` seen in `n` (possibly fractional, effective) trials."""
    z2 = Z_95 * Z_95
    centre = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = Z_95 / (1 + z2 / n) * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n))
    # In exact arithmetic p is inside; at 0 and 1 rounding could leave it out.
    return min(p, max(0.0, centre - half)), max(p, min(1.0, centre + half))


def t_95(df: int) -> float:
    """Two-sided 95 % quantile of Student's t, within 1 % from 4 degrees of freedom on (Abramowitz and Stegun 1964, 26.7.5)."""
    z = Z_95
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / df + second / df**2 + third / df**3


def ratio(n: int, sx: float, sy: float, sxx: float, sxy: float, syy: float) -> Estimate:
    """The estimate of sum(x) / sum(y) over `n` documents with y > 0, where 0 <= x <= y in each.

    Arguments are the sums over documents of x, y, x*x, x*y and y*y.
    """
    if n == 0 or sy <= 0:
        return UNSCORED
    r = min(1.0, max(0.0, sx / sy))
    # sum of squared residuals (x - r y)^2; its n/(n-1) multiple estimates the variance of sx - r sy.
    residual = max(0.0, sxx - 2 * r * sxy + r * r * syy)
    variance = residual * n / (n - 1) / (sy * sy) if n > 1 else 0.0
    spread = r * (1 - r)
    # Documents that all agree tell nothing about the variance: fall back to one vote per document.
    effective = spread / variance * (Z_95 / t_95(n - 1)) ** 2 if variance > 0 and spread > 0 else float(n)
    low, high = wilson(r, min(effective, sy))
    return Estimate(r, low, high, n)


class Moments:
    """Sums and second moments over documents of (hits, possible, actual): precision, recall and F1 follow from them.

    Hits are at most `possible` (gold) and at most `actual` (predicted). Adding is exact, for integers of any size and for halves of
    small ones, so shards merge to the very same numbers in any order.
    """

    __slots__ = ("aa", "actual", "ha", "hh", "hits", "hp", "n", "n_actual", "n_possible", "pa", "possible", "pp")

    def __init__(self) -> None:
        self.n = self.n_possible = self.n_actual = 0
        self.possible = self.actual = self.pp = self.pa = self.aa = 0
        self.hits: float = 0
        self.hh: float = 0
        self.hp: float = 0
        self.ha: float = 0

    def add(self, hits: float, possible: int, actual: int, times: int = 1) -> None:
        """Add `times` documents with these counts. A document with nothing to find and nothing found says nothing and is not counted."""
        self.n += times if possible or actual else 0
        self.n_possible += times if possible else 0
        self.n_actual += times if actual else 0
        self.hits += times * hits
        self.possible += times * possible
        self.actual += times * actual
        self.hh += times * hits * hits
        self.hp += times * hits * possible
        self.ha += times * hits * actual
        self.pp += times * possible * possible
        self.pa += times * possible * actual
        self.aa += times * actual * actual

    def extend(self, hits: Sequence[float], possible: Sequence[int], actual: Sequence[int], times: Sequence[int]) -> None:
        """Add columns of counts, each row `times` over: the same as adding one by one, but quicker."""
        self.n += sum(compress(times, map(or_, possible, actual)))
        self.n_possible += sum(compress(times, possible))
        self.n_actual += sum(compress(times, actual))
        h, p, a = list(map(mul, times, hits)), list(map(mul, times, possible)), list(map(mul, times, actual))
        self.hits += sum(h)
        self.possible += sum(p)
        self.actual += sum(a)
        self.hh += sum(map(mul, h, hits))
        self.hp += sum(map(mul, h, possible))
        self.ha += sum(map(mul, h, actual))
        self.pp += sum(map(mul, p, possible))
        self.pa += sum(map(mul, p, actual))
        self.aa += sum(map(mul, a, actual))

    def merge(self, other: Moments) -> None:
        """Add another shard's moments."""
        for name in self.__slots__:
            setattr(self, name, getattr(self, name) + getattr(other, name))

    def precision(self) -> Estimate:
        """Hits / actual over documents with a prediction."""
        return ratio(self.n_actual, self.hits, self.actual, self.hh, self.ha, self.aa)

    def recall(self) -> Estimate:
        """Hits / possible over documents with gold."""
        return ratio(self.n_possible, self.hits, self.possible, self.hh, self.hp, self.pp)

    def f1(self) -> Estimate:
        """2 hits / (possible + actual) over documents with gold or a prediction."""
        return ratio(
            self.n,
            2 * self.hits,
            self.possible + self.actual,
            4 * self.hh,
            2 * (self.hp + self.ha),
            self.pp + 2 * self.pa + self.aa,
        )


def proportion(hits: int, n: int) -> Estimate:
    """The estimate of a plain proportion: `hits` of `n` independent documents."""
    return ratio(n, hits, n, hits, hits, n)


def macro(parts: list[Estimate]) -> Estimate:
    """The unweighted mean of the scored estimates, its interval from their half-widths taken as independent."""
    scored = [(p.value, p.low, p.high, p.n) for p in parts if p.value is not None and p.low is not None and p.high is not None]
    if not scored:
        return UNSCORED
    k = len(scored)
    mean = sum(value for value, *_ in scored) / k
    below = math.sqrt(sum((value - low) ** 2 for value, low, _, _ in scored)) / k
    above = math.sqrt(sum((high - value) ** 2 for value, _, high, _ in scored)) / k
    return Estimate(mean, max(0.0, mean - below), min(1.0, mean + above), max(n for *_, n in scored))


# Every double is a whole multiple of the least one above 0, which is 2 to the power of -1074.
_BITS = 1075
_UNITS = 1 << 1074


class MeanMoments:
    """Sums for the mean of a per-sample figure, whatever its range, with a normal interval.

    Sums are exact, as whole multiples of the least double: shards merge to the very same numbers in any order.
    """

    __slots__ = ("n", "s", "ss")

    def __init__(self) -> None:
        self.n = 0
        self.s = self.ss = 0

    def add(self, value: float) -> None:
        """Add one sample's figure, a finite number."""
        numerator, denominator = float(value).as_integer_ratio()
        shift = _BITS - denominator.bit_length()
        self.n += 1
        self.s += numerator << shift
        self.ss += numerator * numerator << 2 * shift

    def merge(self, other: MeanMoments) -> None:
        """Add another shard's sums."""
        self.n += other.n
        self.s += other.s
        self.ss += other.ss

    def estimate(self) -> Estimate:
        """The mean; its interval needs two samples."""
        n = self.n
        if n == 0:
            return UNSCORED
        mean = self.s / (n * _UNITS)
        if n == 1:
            return Estimate(mean, None, None, 1)
        half = Z_95 * math.sqrt((n * self.ss - self.s * self.s) / (n * n * (n - 1) * _UNITS * _UNITS))
        return Estimate(mean, mean - half, mean + half, n)

    def share(self) -> Estimate:
        """The mean of figures that lie within [0, 1], with an interval that does too."""
        s, ss = self.s / _UNITS, self.ss / (_UNITS * _UNITS)
        return ratio(self.n, s, self.n, ss, s, self.n)
