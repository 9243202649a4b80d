"""Two proportions of the same samples: tests and an interval from the four counts alone.

Without a margin the test is McNemar's, exact: under the hypothesis, a sample that changed is as likely to have become right as wrong (McNemar 1947,
*Psychometrika* 12; its power is taken over the number of samples that change, Miettinen 1968, *Biometrics* 24). With a margin it is Tango's score test of
non-inferiority (Tango 1998, *Equivalence test and confidence interval for the difference in proportions for the paired-sample design*, Statistics in
Medicine 17, 891-908), whose nuisance parameter has its maximum likelihood under the hypothesis. The interval is Newcombe's method 10 (Newcombe 1998,
*Improved confidence intervals for the difference between binomial proportions based on paired data*, Statistics in Medicine 17, 2635-2650).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_gpueval.scoring.power import POWER, against_same_rows
from pytest_gpueval.scoring.terms import numpy, special

from .records import Evidence, Level

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Whole = npt.NDArray[np.int64]
    Shares = npt.NDArray[np.float64]

# Less than a sample of any split: no margin, and none that squares to 0.
_NO_MARGIN = 1e-12


@dataclass(frozen=True, slots=True)
class Pairs:
    """Samples by what the baseline and the current run say of them: `both` right, only the baseline (`lost`), only the current one (`gained`), `neither`."""

    both: int
    lost: int
    gained: int
    neither: int

    @property
    def n(self) -> int:
        """All samples."""
        return self.both + self.lost + self.gained + self.neither

    def turned(self) -> Pairs:
        """The same with right and wrong exchanged."""
        return Pairs(self.neither, self.gained, self.lost, self.both)


def mcnemar(lost: int, gained: int) -> float:
    """One-sided exact p of the hypothesis that as many samples are truly gained as lost, or more; 1 where nothing changed."""
    return 1.0 if not lost else float(special().bdtrc(lost - 1, lost + gained, 0.5))


def tango(pairs: Pairs, margin: float) -> float:
    """One-sided p of the hypothesis that the true drop of the proportion is at least 0 and at most `margin`, 0 < margin < 1."""
    n, lost, gained = pairs.n, pairs.lost / pairs.n, pairs.gained / pairs.n
    z = (lost - gained - margin) / math.sqrt(_restricted(lost, gained, margin) / n)
    return float(special().ndtr(-z))


def _restricted(lost: float, gained: float, margin: float) -> float:
    """The variance of one sample's change where the drop is `margin`, the shares of samples that were lost and gained being as likely as can be."""
    b = -lost - gained + (2 - lost + gained) * margin
    c = -gained * margin * (1 - margin)
    q = max(0.0, (math.sqrt(b * b - 8 * c) - b) / 4)
    return 2 * q + margin * (1 - margin)


def tango_power(n: int, drop: float, gain: float, margin: float, tail: float) -> float:
    """The same of Tango's test, by the normal approximation (Nam 1997, *Biometrics* 53, 1422-1430)."""
    sp = special()
    expected = drop - margin + float(sp.ndtri(tail)) * math.sqrt(_restricted(gain + drop, gain, margin) / n)
    return float(sp.ndtr(expected / math.sqrt(max(1e-300, 2 * gain + drop - drop * drop) / n)))


def newcombe(pairs: Pairs, tail: float) -> tuple[float, float]:
    """The interval of the difference, current minus baseline, that leaves out `tail` on each side."""
    n, e, f, g, h = pairs.n, pairs.both, pairs.gained, pairs.lost, pairs.neither
    z = -float(special().ndtri(tail))
    p1, p2 = (e + f) / n, (e + g) / n
    (l1, u1), (l2, u2) = _wilson(p1, n, z), _wilson(p2, n, z)
    product = (e + f) * (g + h) * (e + g) * (f + h)
    cross = float(e * h - f * g)
    cross = max(cross - n / 2, 0.0) if cross > 0 else cross
    phi = cross / math.sqrt(product) if product else 0.0
    below = (p1 - l1) ** 2 - 2 * phi * (p1 - l1) * (u2 - p2) + (u2 - p2) ** 2
    above = (u1 - p1) ** 2 - 2 * phi * (u1 - p1) * (p2 - l2) + (p2 - l2) ** 2
    return max(-1.0, p1 - p2 - math.sqrt(max(0.0, below))), min(1.0, p1 - p2 + math.sqrt(max(0.0, above)))


def _wilson(p: float, n: int, z: float) -> tuple[float, float]:
    z2 = z * z
    centre = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = z / (1 + z2 / n) * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n))
    return min(p, max(0.0, centre - half)), max(p, min(1.0, centre + half))


def mcnemar_power(n: int, drop: float, gain: float, tail: float) -> float:
    """The probability that the exact test finds, in n samples, that a share of gain + drop was lost and one of gain was gained."""
    np, sp = numpy(), special()
    share = min(1.0, 2 * gain + drop)
    mean, sd = n * share, math.sqrt(n * share * (1 - share))
    changed = np.arange(max(0, math.floor(mean - 6 * sd)), min(n, math.ceil(mean + 6 * sd)) + 1)
    log = sp.gammaln(n + 1) - sp.gammaln(changed + 1) - sp.gammaln(n - changed + 1) + sp.xlogy(changed, share) + sp.xlog1py(n - changed, -share)
    # The least number of losses that is too many: P(X >= x) <= tail under a fair coin. bdtri inverts the cdf; the cdf's steps are settled by hand.
    least = np.ceil(changed / 2 - float(sp.ndtri(tail)) * np.sqrt(changed) / 2 + 0.5).astype(np.int64)
    for _ in range(len(least) + 10):  # the normal quantile is off by a few at most
        high = (least <= changed) & (_at_least(least, changed, 0.5) > tail)
        low = (least > 0) & (_at_least(least - 1, changed, 0.5) <= tail)
        if not (high.any() or low.any()):
            break
        least = least + high - (low & ~high)
    return float((np.exp(log) * _at_least(least, changed, (gain + drop) / share if share else 0.0)).sum())


def _at_least(x: Whole, n: Whole, p: float) -> Shares:
    """P(X >= x) of binomials, for arrays; 0 where x is beyond n."""
    np, sp = numpy(), special()
    inside = sp.betainc(np.maximum(x, 1), np.maximum(n - x + 1, 1), p)
    found: Shares = np.where(x <= 0, 1.0, np.where(x > n, 0.0, inside))
    return found


def detectable(pairs: Pairs, margin: float, tail: float) -> float | None:
    """The smallest true drop that is found with 80 % power, while as many samples change besides as did; None where none is."""
    n = pairs.n
    gain = min(pairs.lost, pairs.gained) / n

    def found(drop: float) -> bool:
        return (tango_power(n, drop, gain, margin, tail) if margin else mcnemar_power(n, drop, gain, tail)) >= POWER

    most = 1.0 - 2 * gain
    low, high = margin, min(most, against_same_rows(2 * gain, 1.0, n, margin, tail))  # about as much
    while not found(high):
        if high == most:
            return None
        low, high = high, min(most, 1.2 * high)
    while high - low > 1e-3 * high:
        middle = (low + high) / 2
        low, high = (low, middle) if found(middle) else (middle, high)
    return high


def compared(pairs: Pairs, margin: float, level: Level) -> Evidence:
    """All about the drop from the baseline's proportion to the current one."""
    low, high = newcombe(pairs, level.tail) if pairs.lost or pairs.gained else (0.0, 0.0)
    improved = mcnemar(pairs.gained, pairs.lost)
    if margin < _NO_MARGIN:
        return Evidence(low, high, mcnemar(pairs.lost, pairs.gained), improved, detectable(pairs, 0.0, level.tail), "exact McNemar, Newcombe's interval")
    p, least = (tango(pairs, margin), detectable(pairs, margin, level.tail)) if margin < 1 else (1.0, None)
    return Evidence(low, high, p, improved, least, "Tango's score test, Newcombe's interval")
