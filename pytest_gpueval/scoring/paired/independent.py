"""Two measurements of one figure that have nothing in common but the figure, such as the speeds of two sessions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist, fmean, stdev

from pytest_gpueval.scoring.estimates import Z_95, Estimate, t_95
from pytest_gpueval.scoring.power import Z_POWER
from pytest_gpueval.scoring.terms import special

from .records import Asked, Difference, Level


def independent(asked: Asked, baseline: Estimate, now: Estimate, level: Level, *, student: bool) -> Difference:
    """How much worse a figure truly is, from two estimates with 95 % intervals; None where one of them has none.

    The interval of the difference is put together from those of both sides (method of variance estimates recovery: Zou and Donner 2008, *Construction of
    confidence limits about effect measures*, Statistics in Medicine 27, 1693-1702), whose limits need not be symmetric. With `student` they were made
    by Student's t with n - 1 degrees of freedom, else by the normal distribution; both sides' are joined after Welch and Satterthwaite.
    Raises MissingExtra with `student`.
    """
    method = "two intervals joined (MOVER), " + ("Student's t" if student else "normal")
    if baseline.value is None or now.value is None:
        return Difference(asked.metric, asked.label, baseline.value, now.value, *(None,) * 3, 1 - 2 * level.tail, None, None, now.n, 0, None, method)
    found, worse = now.value - baseline.value, 1.0 if asked.lower_is_better else -1.0
    known = (asked.metric, asked.label, baseline.value, now.value, found)
    here, there = _errors(now, student=student), _errors(baseline, student=student)
    if here is None or there is None:
        return Difference(*known, None, None, 1 - 2 * level.tail, None, None, now.n, 0, None, method)
    # Standard errors of a difference that may be smaller, and larger, than what was found.
    down, up = math.hypot(here[0], there[1]), math.hypot(here[1], there[0])
    df = _welch((max(here), now.n), (max(there), baseline.n)) if student else math.inf
    scale = 1 + worse * asked.relative  # allowed is this times the baseline, and the margin
    beyond = worse * (now.value - scale * baseline.value) - asked.margin
    error = math.hypot(here[0], scale * there[1]) if asked.lower_is_better else math.hypot(here[1], scale * there[0])
    p, p_improved = _p(beyond, error, df), _p(-worse * found, up if asked.lower_is_better else down, df)
    quantile = _quantile(level.tail, df)
    ends = found - quantile * down, found + quantile * up
    detectable = asked.margin + asked.relative * abs(baseline.value) + (quantile + Z_POWER) * error
    return Difference(*known, *ends, 1 - 2 * level.tail, level.p(p), level.p(p_improved), now.n, 0, detectable, method)


def beside_runs(asked: Asked, runs: Sequence[float], now: Estimate, level: Level) -> Difference:
    """The same from what several runs of the baseline differ by, at least two: whether one more run is of their kind.

    Student's t of a prediction, whose variance is that between runs, 1 + 1/k times for k runs (Hahn and Meeker 1991, *Statistical Intervals*, ch. 4.7).
    What differs from run to run is as a rule more than what one run sees of itself (Kalibera and Jones 2013, *Rigorous benchmarking in reasonable
    time*, ISMM). Raises MissingExtra.
    """
    k, mean, spread = len(runs), fmean(runs), stdev(runs)
    method = f"a run beside {k} runs, Student's t"
    if now.value is None:
        return Difference(asked.metric, asked.label, mean, None, *(None,) * 3, 1 - 2 * level.tail, None, None, now.n, 0, None, method)
    found, worse = now.value - mean, 1.0 if asked.lower_is_better else -1.0
    scale, error = 1 + worse * asked.relative, spread * math.sqrt(1 + 1 / k)
    allowed = spread * math.sqrt(1 + scale**2 / k)
    quantile = _quantile(level.tail, k - 1)
    p, p_improved = _p(worse * (now.value - scale * mean) - asked.margin, allowed, k - 1), _p(-worse * found, error, k - 1)
    detectable = asked.margin + asked.relative * abs(mean) + (quantile + Z_POWER) * allowed
    ends = found - quantile * error, found + quantile * error
    known = (asked.metric, asked.label, mean, now.value, found, *ends, 1 - 2 * level.tail)
    return Difference(*known, level.p(p), level.p(p_improved), now.n, 0, detectable, method)


def _errors(figure: Estimate, *, student: bool) -> tuple[float, float] | None:
    """Standard errors below and above a figure, from its 95 % limits."""
    if figure.value is None or figure.low is None or figure.high is None or (student and figure.n < 2):
        return None
    quantile = t_95(figure.n - 1) if student else Z_95
    return (figure.value - figure.low) / quantile, (figure.high - figure.value) / quantile


def _welch(*sides: tuple[float, int]) -> float:
    """Degrees of freedom of the sum of two variances, given as (standard error, units that told it)."""
    total = sum(error**2 for error, _ in sides)
    parts = sum(error**4 / (n - 1) for error, n in sides)
    return total**2 / parts if parts > 0 else math.inf


def _p(beyond: float, error: float, df: float) -> float:
    """One-sided, of "the truth is not beyond"."""
    if not error:
        return 0.0 if beyond > 0 else 1.0
    return NormalDist().cdf(-beyond / error) if math.isinf(df) else float(special().stdtr(df, -beyond / error))


def _quantile(tail: float, df: float) -> float:
    return -NormalDist().inv_cdf(tail) if math.isinf(df) else -float(special().stdtrit(df, tail))
