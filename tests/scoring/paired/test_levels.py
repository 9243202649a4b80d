"""The bootstrap keeps its level and has the power it states: simulated documents whose spans are found or missed together."""

import math

import numpy as np
import pytest

from pytest_gpueval.scoring.paired import Asked, Level
from pytest_gpueval.scoring.paired.bootstrap import Bootstrap, Pair
from pytest_gpueval.scoring.terms import Ratio

ASKED = Asked("f1")
RUNS = 400


def made(rng, n, churn, worse, gold_mean=3):
    """F1 of two runs over n documents, each with a difficulty of its own; a share `churn` is answered anew, a share `worse` of the spans found is then lost."""
    gold = rng.poisson(gold_mean, n)
    ease = rng.beta(8, 1.5, n)

    def answer():
        return rng.binomial(gold, ease), rng.binomial(2, 0.1, n)

    (hits, invented), (again, other) = answer(), answer()
    anew = rng.random(n) < churn
    hits_now, invented_now = np.where(anew, again, hits), np.where(anew, other, invented)
    hits_now = hits_now - rng.binomial(hits_now, worse)
    sides = [(found.astype(float), gold.astype(float), (found + extra).astype(float)) for found, extra in ((hits, invented), (hits_now, invented_now))]
    return Pair(*(Ratio((h, h), (g, p)) for h, g, p in sides))


def compared(pair, margin=0.0, resamples=600):
    asked = Asked("f1", margin=margin)
    return Bootstrap({asked: pair}, resamples, 0, "samples").compared(asked, Level())


def share_error(share, times=RUNS):
    """Three standard errors of a simulated share."""
    return 3 * math.sqrt(share * (1 - share) / times)


@pytest.mark.parametrize(("n", "churn", "least"), [(15, 0.5, 0.0), (60, 0.1, 0.0), (100, 0.5, 0.03), (300, 0.3, 0.03)])
def test_false_alarms_are_as_rare_as_the_level(n, churn, least):
    """Both ways, and the interval covers 0. Where few documents change, alarms are rarer still."""
    rng = np.random.default_rng(n)
    found = [compared(pair) for pair in (made(rng, n, churn, 0.0) for _ in range(RUNS)) if pair.differ().any()]
    for alarms in (np.mean([one.p <= 0.05 for one in found]), np.mean([one.p_improved <= 0.05 for one in found])):
        assert max(0.0, least - share_error(0.05)) <= alarms <= 0.055 + share_error(0.05)
    assert np.mean([one.low <= 0 <= one.high for one in found]) >= 0.89 - share_error(0.1)


@pytest.mark.parametrize(("n", "churn", "worse", "margin"), [(300, 0.3, 0.034, 0.0), (600, 0.05, 0.0112, 0.0), (400, 0.2, 0.0465, 0.01)])
def test_power_is_as_printed(n, churn, worse, margin):
    """At a true drop that the comparison calls detectable on average, it is found in about 80 of 100 runs."""
    rng = np.random.default_rng(n)
    pairs = [made(rng, n, churn, worse) for _ in range(RUNS)]
    drop = -np.mean([np.subtract(*pair.values()[::-1]) for pair in pairs])
    found = [compared(pair, margin) for pair in pairs]
    stated = np.mean([one.detectable for one in found])
    power = np.mean([one.p <= 0.05 for one in found])
    assert stated == pytest.approx(drop, rel=0.08)
    assert power == pytest.approx(0.8, abs=0.05 + share_error(0.8))


def test_false_alarms_at_the_margin():
    rng = np.random.default_rng(6)
    pairs = [made(rng, 300, 0.3, 0.02) for _ in range(RUNS)]
    drop = -np.mean([np.subtract(*pair.values()[::-1]) for pair in [*pairs, *(made(rng, 300, 0.3, 0.02) for _ in range(4000))]])
    assert np.mean([compared(pair, drop).p <= 0.05 for pair in pairs]) == pytest.approx(0.05, abs=0.01 + share_error(0.05))
