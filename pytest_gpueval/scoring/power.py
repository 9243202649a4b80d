"""How small a drop a test can see: minimum detectable drops (MDE) of a metric as a function of the rows it is measured on.

A metric over n independent rows is taken as normal with variance v(p) / n, where v is what one row contributes at the true figure p. A one-sided test
at level alpha = 0.05 rejects "no worse than p0" once the measured figure lies further below p0 than chance explains. It detects a true drop d with
power 0.8 where (Fleiss, Levin and Paik, *Statistical Methods for Rates and Proportions*, 3rd ed. 2003, ch. 2.5 and 4.2, for one and two samples,
without continuity correction; the normal approximation throughout, and the two quantiles' part, as in Cohen, *Statistical Power Analysis*, 2nd ed. 1988)

    against a fixed bound p0:                d = z_alpha sqrt(v(p0) / n) + z_beta sqrt(v(p0 - d) / n)
    against a baseline p0 of n other rows:   d = (z_alpha + z_beta) sqrt((v(p0) + v(p0 - d)) / n)

    against a baseline on the same rows:     d = margin + (z_alpha + z_beta) sqrt((c + g d) / n)

The first two are quadratic in d, since v is, and so is the third, squared. Its variance is that of the differences between rows: c of one row while
nothing is truly worse, and g more for each unit of drop (for a share of rows that are right, c is the share of rows that change and g is 1:
Miettinen 1968, *Biometrics* 24, 339-352). An earlier run alone does not tell c: `churn_of` takes it from an assumed correlation of the two runs.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist
from typing import Final

from .estimates import Z_95, Estimate

ALPHA: Final = 0.05
POWER: Final = 0.8
# One-sided quantiles of the standard normal distribution, of 1 - ALPHA and of POWER.
Z_ALPHA: Final = 1.6448536269514722
Z_POWER: Final = 0.8416212335729143


@dataclass(frozen=True, slots=True)
class Spread:
    """What one row contributes to a metric's variance at a true figure p: `fixed + binomial * p * (1 - p)`.

    A share of rows that are right has `binomial` 1. It is below 1 where a row has several spans that count on their own, above 1 where only some
    rows have a say. A mean of figures of any range has `fixed` alone. Both are variances of one row, in squares of the metric's unit.
    """

    fixed: float = 0.0
    binomial: float = 0.0

    def at(self, p: float) -> float:
        """The variance of one row at a true figure p; a share is taken as one within [0, 1]."""
        inside = min(1.0, max(0.0, p))
        return self.fixed + self.binomial * inside * (1 - inside)


# Without an earlier run: a share that a row moves by all or nothing.
ONE_UNIT_A_ROW: Final = Spread(binomial=1.0)

# A design: the MDE for a spread, the figure that the drop counts from, and the rows.
Design = Callable[[Spread, float, float], float]


def spread_of(estimate: Estimate, rows: int) -> Spread | None:
    """What a row contributes, from a metric and its 95 % interval as an earlier run of `rows` rows reported them; None where it has no interval.

    Within [0, 1] the interval is taken as a Wilson interval at an effective number of trials (see `estimates`): that number is what an interval so wide has,
    and each row carries its share of it. `ratio` counts fewer trials where few documents tell the variance; that stays in, so few rows promise less. An
    interval that leaves [0, 1] is a mean's, `value +- z sd / sqrt(n)`.
    """
    value, low, high = estimate.value, estimate.low, estimate.high
    if value is None or low is None or high is None or rows < 1:
        return None
    if low < 0 or high > 1:
        return Spread(fixed=((high - low) / (2 * Z_95)) ** 2 * rows)
    trials = trials_of(value, high - low)
    if math.isinf(trials):  # an interval without width, of figures that are all the same: nothing that could be measured
        return Spread()
    return Spread(binomial=rows / trials) if trials > 0 else None


def trials_of(p: float, width: float) -> float:
    """The (fractional) number of trials whose Wilson interval at a share p is as wide: the inverse of `estimates.wilson`.

    From width^2 (n + z^2)^2 = 4 z^2 (p (1 - p) n + z^2 / 4), whose left side outgrows the right: one root is above 0 while the width is below 1.
    """
    if width <= 0:
        return math.inf
    if width >= 1:
        return 0.0
    z2, w2, pq = Z_95**2, width * width, p * (1 - p)
    half = z2 * (2 * pq - w2)  # of the linear coefficient, negated
    return (half + math.sqrt(half * half + w2 * z2 * z2 * (1 - w2))) / w2


def against_bound(spread: Spread, bound: float, rows: float) -> float:
    """How far below a fixed bound the true figure must lie to be found below it; infinity where `rows` rows can show no such drop."""
    base = spread.at(bound)
    expected = Z_ALPHA * math.sqrt(base / rows)
    if spread.binomial and expected >= bound:
        return math.inf
    b = Z_POWER**2 / rows
    bc = b * spread.binomial
    half = expected + bc * (2 * bound - 1) / 2
    rest = expected * expected - b * base
    return (half + math.sqrt(max(0.0, half * half - (1 + bc) * rest))) / (1 + bc)


def against_baseline(spread: Spread, value: float, rows: float) -> float:
    """How far the true figure must lie below a baseline's, measured on as many other rows, to be found below it; infinity where no drop is large enough."""
    k = (Z_ALPHA + Z_POWER) ** 2 / rows
    kc = k * spread.binomial
    half = kc * (2 * value - 1) / 2
    drop = (half + math.sqrt(half * half + (1 + kc) * 2 * k * spread.at(value))) / (1 + kc)
    return math.inf if spread.binomial and drop > value else drop


# Of two runs of much the same model: how alike what their rows contribute is taken to be, where nothing was measured.
CORRELATION: Final = 0.8


def churn_of(spread: Spread, value: float, correlation: float = CORRELATION) -> float:
    """The variance of one row's difference between two runs with the same true figure: 2 (1 - correlation) v(value)."""
    return 2 * (1 - correlation) * spread.at(value)


def against_same_rows(churn: float, growth: float, rows: float, margin: float = 0.0, alpha: float = ALPHA) -> float:
    """How far the true figure must lie below a baseline's, measured on the same rows, to be found more than `margin` below it.

    `churn`: the variance of one row's difference without a drop, in squares of the metric's unit, as `churn_of` assumes it or an earlier comparison found it.
    `growth`: what a drop of 1 adds to it, the `binomial` of a share's spread and 0 of a mean's. `alpha`: one-sided.
    """
    z_alpha = Z_ALPHA if alpha == ALPHA else NormalDist().inv_cdf(1 - alpha)
    k = (z_alpha + Z_POWER) ** 2 / rows
    half = k * growth / 2
    return margin + half + math.sqrt(half * half + k * (churn + growth * margin))


def least_apart(margin: float, error: float, alpha: float = ALPHA) -> float:
    """How much worse than `margin` a figure must truly be to be found so, where the difference of two measurements has this standard error."""
    return margin + (NormalDist().inv_cdf(1 - alpha) + Z_POWER) * error


def paired(spread: Spread, value: float, rows: float, *, margin: float = 0.0, churn: float | None = None, alpha: float = ALPHA) -> float:
    """The same from a baseline alone: its figure, what a row contributes, and a churn (else an assumed one); infinity where no drop is large enough."""
    drop = against_same_rows(churn_of(spread, value) if churn is None else churn, spread.binomial, rows, margin, alpha)
    return math.inf if spread.binomial and drop > value else drop
