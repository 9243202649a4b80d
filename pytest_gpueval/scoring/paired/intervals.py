"""Intervals and p values from resampled differences: BCa with the tails of Student's t.

The bias-corrected and accelerated interval (Efron 1987, *Better bootstrap confidence intervals*, JASA 82) mends the percentile interval of skew draws;
its acceleration comes from the linear terms of the difference. Both are too short where few samples tell the variance, so the quantile it starts from
is that of a t distribution, times sqrt(df + 1) / sqrt(df) (Hesterberg 2015, *What teachers should know about the bootstrap*, The American Statistician
69, ch. 5: the expanded percentile interval). Most samples of two runs are alike and tell nothing about their difference: the degrees of freedom count
those that changed. With few of them p is then much like that of a sign test over them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_gpueval.scoring.terms import numpy, special

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Column = npt.NDArray[np.float64]

# With fewer resamples beyond a bound, the share of them says little: the normal distribution of the same spread takes their place.
_LEAST_BEYOND = 10


@dataclass(frozen=True, slots=True)
class Resampled:
    """Draws of a quantity, sorted; its estimate; its linear terms' `acceleration`; the degrees of freedom of its spread."""

    draws: Column
    estimate: float
    acceleration: float
    df: int

    def _bias(self) -> float:
        """z0: how far the estimate is from the draws' median, in normal quantiles; ties count half."""
        np = numpy()
        below, at_most = np.searchsorted(self.draws, [_less(self.estimate), _more(self.estimate)])
        return float(special().ndtri(_inside((int(below) + int(at_most)) / 2 / len(self.draws), len(self.draws))))

    def _widening(self) -> float:
        return math.sqrt((self.df + 1) / self.df)

    def _deviation(self) -> float:
        most = max(abs(float(self.draws[0])), abs(float(self.draws[-1])))
        return most * float((self.draws / most).std()) if most else 0.0

    def end(self, tail: float) -> float:
        """The lower end of an interval that leaves out `tail`, or for 1 - tail the upper one."""
        sp = special()
        z0, z = self._bias(), float(sp.stdtrit(self.df, tail)) * self._widening()
        rest = 1 - self.acceleration * (z0 + z)
        share = float(sp.ndtr(z0 + (z0 + z) / rest)) if rest > 0 else float(z > 0)
        place = share * (len(self.draws) - 1)
        under, over = self.draws[math.floor(place)], self.draws[math.ceil(place)]
        return float(under + (place - math.floor(place)) * (over - under))

    def p_below(self, bound: float) -> float:
        """One-sided p of the hypothesis that the true quantity is `bound` or more: the least tail whose interval ends below the bound."""
        np, sp = numpy(), special()
        n = len(self.draws)
        beyond = n - int(np.searchsorted(self.draws, _less(bound)))  # a draw on the bound speaks for the hypothesis
        enough = min(beyond, n - beyond) >= _LEAST_BEYOND
        w = -float(sp.ndtri(beyond / n)) if enough else (bound - self.estimate) / (self._deviation() or math.inf)
        z0 = self._bias()
        rest = 1 + self.acceleration * (w - z0)
        z = (w - z0) / rest - z0 if rest > 0 else math.copysign(math.inf, w)
        return float(sp.stdtr(self.df, -z / self._widening()))


def _less(value: float) -> float:
    """Just below a value: what rounding alone takes apart counts as equal."""
    return value - 1e-12 * max(1.0, abs(value))


def _more(value: float) -> float:
    return value + 1e-12 * max(1.0, abs(value))


def _inside(share: float, n: int) -> float:
    """A share of n draws, kept off 0 and 1, where quantiles are infinite."""
    return min(1 - 0.5 / n, max(0.5 / n, share))


def acceleration(terms: Column) -> float:
    """Efron's a from the linear terms of an estimate, one for each unit."""
    most = float(numpy().abs(terms).max()) if len(terms) else 0.0
    if not most:
        return 0.0
    scaled = terms / most
    squares = scaled * scaled
    return float((squares * scaled).sum()) / (6 * math.sqrt(float(squares.sum())) ** 3)
