"""Two shares of the same samples: published examples, scipy and statsmodels, and simulation."""

import math
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, stats
from statsmodels.stats import contingency_tables

from pytest_gpueval.scoring.paired.proportions import Pairs, compared, detectable, mcnemar, mcnemar_power, newcombe, tango
from pytest_gpueval.scoring.paired.records import Level

TAIL = 0.05
counts = st.integers(0, 60)
pairs = st.builds(Pairs, counts, counts, counts, counts).filter(lambda found: found.n > 0)

# Airway hyper-responsiveness of 21 children before and after a transplantation (Bentur et al. 2009), the example of Fagerland, Lydersen and Laake in
# *The McNemar test for binary matched-pairs data* (BMC Medical Research Methodology 13, 2013: exact p 0.070) and in *Recommended tests and confidence
# intervals for paired binomial proportions* (Statistics in Medicine 33, 2014: Newcombe's interval -0.507 to -0.026, Tango's -0.517 to -0.026).
CHILDREN = Pairs(both=1, lost=7, gained=1, neither=12)


def test_the_exact_test_on_a_published_example():
    assert 2 * mcnemar(CHILDREN.lost, CHILDREN.gained) == pytest.approx(0.0703, abs=5e-5)


def test_newcombes_interval_on_published_examples():
    assert newcombe(CHILDREN, 0.025) == pytest.approx((-0.507, -0.026), abs=5e-4)
    # Newcombe 1998, table III: 36, 12, 2, 0 give 0.0569 to 0.3404 by method 10.
    assert newcombe(Pairs(both=36, gained=12, lost=2, neither=0), 0.025) == pytest.approx((0.0569, 0.3404), abs=5e-5)


def test_tangos_test_inverts_to_his_interval_on_a_published_example():
    """The margins at which the one-sided test says 0.025 are the interval's ends."""
    assert tango(CHILDREN, 0.026) == pytest.approx(0.025, abs=6e-4)
    assert 1 - tango(CHILDREN, 0.517) == pytest.approx(0.025, abs=6e-4)


@given(counts, counts)
@settings(deadline=None)
def test_the_exact_test_is_scipys_and_statsmodels(lost, gained):
    expected = stats.binomtest(lost, lost + gained, 0.5, alternative="greater").pvalue if lost + gained else 1.0
    assert mcnemar(lost, gained) == pytest.approx(expected)
    two_sided = min(1.0, 2 * min(mcnemar(lost, gained), mcnemar(gained, lost)))
    assert two_sided == pytest.approx(contingency_tables.mcnemar([[1, lost], [gained, 1]], exact=True).pvalue)


@given(pairs, st.floats(0.001, 0.9))
@settings(max_examples=60, deadline=None)
def test_tangos_nuisance_parameter_is_the_likelihoods_maximum(found, margin):
    def loss(q):
        cells = [(found.lost, q + margin), (found.gained, q), (found.both + found.neither, 1 - 2 * q - margin)]
        return -math.fsum(times * math.log(share) for times, share in cells if times and share > 0) + (1e9 if any(t and s <= 0 for t, s in cells) else 0)

    q = optimize.minimize_scalar(loss, bounds=(0, (1 - margin) / 2), method="bounded", options={"xatol": 1e-10}).x
    z = (found.lost - found.gained - found.n * margin) / math.sqrt(found.n * (2 * q + margin * (1 - margin)))
    assert tango(found, margin) == pytest.approx(stats.norm.sf(z), abs=2e-4)


@given(pairs)
@settings(deadline=None)
def test_tangos_test_without_a_margin_would_be_mcnemars_score_test(found):
    if found.lost + found.gained:
        z = (found.lost - found.gained) / math.sqrt(found.lost + found.gained)
        assert tango(found, 1e-12) == pytest.approx(stats.norm.sf(z), abs=1e-6)


@given(pairs, st.sampled_from([0.0, 0.02, 0.3]), st.sampled_from(["one", "two"]))
@settings(max_examples=60, deadline=None)
def test_swapped_runs_swap_what_is_said(found, margin, sides):
    level = Level(0.05, sides)
    swapped = Pairs(found.both, found.gained, found.lost, found.neither)
    forth, back = compared(found, margin, level), compared(swapped, margin, level)
    difference = (found.gained - found.lost) / found.n
    assert (forth.low, forth.high) == pytest.approx((-back.high, -back.low))
    assert forth.low <= difference + 1e-12 and difference - 1e-12 <= forth.high
    assert all(0 <= p <= 1 for p in (forth.p, forth.p_improved, back.p))
    assert margin or forth.p == back.p_improved


@cache
def critical(changed):
    """The least losses among so many changed samples that scipy's exact test finds too many."""
    return int(stats.binom.isf(TAIL, changed, 0.5)) + 1 if changed else 1


@pytest.mark.parametrize(("n", "drop", "gain"), [(40, 0.2, 0.05), (300, 0.03, 0.01), (300, 0.0, 0.1), (25, 1.0, 0.0), (50, 0.0, 0.0)])
def test_power_is_the_sum_over_all_outcomes(n, drop, gain):
    share = 2 * gain + drop
    expected = sum(
        stats.binom.pmf(changed, n, share) * stats.binom.sf(critical(changed) - 1, changed, (gain + drop) / share if share else 0.0) for changed in range(n + 1)
    )
    assert mcnemar_power(n, drop, gain, TAIL) == pytest.approx(expected, abs=1e-6)
    assert drop or mcnemar_power(n, drop, gain, TAIL) <= TAIL


@pytest.mark.parametrize("found", [Pairs(900, 20, 10, 70), Pairs(100, 0, 0, 0), Pairs(30, 4, 6, 10), Pairs(9000, 300, 310, 390)])
def test_the_detectable_drop_is_found_with_80_percent_power(found):
    drop, gain = detectable(found, 0.0, TAIL), min(found.lost, found.gained) / found.n
    assert mcnemar_power(found.n, drop, gain, TAIL) == pytest.approx(0.8, abs=0.03)
    draws = np.random.default_rng(5).multinomial(found.n, [gain + drop, gain, 1 - 2 * gain - drop], size=4000)
    power = np.mean([lost >= critical(lost + gained) for lost, gained, _ in draws.tolist()])
    assert power == pytest.approx(0.8, abs=0.03 + 3 * math.sqrt(0.16 / 4000))


def test_few_samples_detect_nothing():
    """Four losses of four have p 0.0625."""
    assert detectable(Pairs(4, 0, 0, 0), 0.0, TAIL) is None
    assert compared(Pairs(1, 0, 0, 0), 0.0, Level()).p == 1.0


@pytest.mark.parametrize(("n", "margin", "gain"), [(100, 0.02, 0.03), (500, 0.01, 0.05), (500, 0.05, 0.01), (2000, 0.01, 0.002)])
def test_with_a_margin_false_alarms_and_power_are_as_promised(n, margin, gain):
    """At a true drop of just the margin; the score test is asymptotic, so that its level may be off by a fifth."""
    rng = np.random.default_rng(7)

    @cache
    def p(lost, gained):
        return tango(Pairs(n - lost - gained, lost, gained, 0), margin)

    def share_found(drop):
        draws = rng.multinomial(n, [gain + drop, gain, 1 - 2 * gain - drop], size=6000)
        return np.mean([p(lost, gained) <= TAIL for lost, gained, _ in draws.tolist()])

    assert share_found(margin) <= TAIL * 1.2 + 3 * math.sqrt(TAIL / 6000)
    gained = round(gain * n)
    least = compared(Pairs(n - 2 * gained - round(margin * n), gained + round(margin * n), gained, 0), margin, Level()).detectable
    assert share_found(least) == pytest.approx(0.8, abs=0.03 + 3 * math.sqrt(0.16 / 6000))


@pytest.mark.parametrize(("n", "p", "gain", "lose"), [(60, 0.8, 0.05, 0.05), (200, 0.9, 0.02, 0.06), (1000, 0.95, 0.01, 0.01)])
def test_newcombes_interval_covers(n, p, gain, lose):
    """Method 10 is conservative where few samples change: it covers what it says or more."""
    draws = np.random.default_rng(11).multinomial(n, [p - lose, lose, gain, 1 - p - gain], size=4000)
    covered = np.mean([low <= gain - lose <= high for low, high in (newcombe(Pairs(*map(int, draw)), TAIL) for draw in draws)])
    assert covered >= 0.9 - 3 * math.sqrt(0.09 / 4000)
