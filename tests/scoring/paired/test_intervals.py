"""BCa intervals and the p values that invert them, against scipy and in corners."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from pytest_gpueval.scoring.paired.intervals import Resampled, acceleration
from pytest_gpueval.scoring.paired.resampling import resampled


def of_mean(values, df, resamples=20_000):
    table = np.stack([values, np.ones(len(values))], axis=1)
    sums = resampled(table, resamples, 5)
    return Resampled(np.sort(sums[:, 0] / sums[:, 1]), float(values.mean()), acceleration(values - values.mean()), df)


def test_with_many_degrees_of_freedom_it_is_the_bca_of_rs_boot_on_a_published_example():
    """scipy: stats/tests/test_resampling.py, test_bootstrap_against_R, has what R's package boot says after a million resamples."""
    found = of_mean(np.array([10, 12, 12.5, 12.5, 13.9, 15, 21, 22, 23, 34, 50, 81, 89, 121, 134, 213]), 10**9, 200_000)
    assert (found.end(0.025), found.end(0.975)) == pytest.approx((32.31, 91.43), rel=0.01)


@pytest.mark.parametrize("n", [40, 600])
def test_with_many_degrees_of_freedom_it_is_scipys_bca(n):
    values = np.random.default_rng(1).exponential(size=n)
    found = of_mean(values, 10**9)
    expected = stats.bootstrap((values,), np.mean, n_resamples=20_000, confidence_level=0.9, method="BCa", rng=np.random.default_rng(2)).confidence_interval
    assert (found.end(0.05), found.end(0.95)) == pytest.approx((expected.low, expected.high), abs=0.05 * (expected.high - expected.low))


def test_of_few_normal_values_it_is_students():
    values = np.random.default_rng(4).normal(size=8)
    low, high = stats.t.interval(0.9, 7, values.mean(), stats.sem(values))
    found = of_mean(values, 7)
    assert (found.end(0.05), found.end(0.95)) == pytest.approx((low, high), abs=0.12 * (high - low))


@given(st.integers(3, 40), st.integers(0, 10**6), st.floats(-1.5, 1.5))
@settings(max_examples=50, deadline=None)
def test_p_says_where_the_interval_ends(n, seed, where):
    """p is below a level exactly where the interval of that level ends below the bound."""
    values = np.random.default_rng(seed).exponential(size=n)
    found = of_mean(values, n - 1, 500)
    bound = values.mean() + where * values.std() / math.sqrt(n)
    p = found.p_below(bound)
    if 0.03 < p < 0.97:  # within the draws
        assert found.end(1 - max(0.011, p - 0.02)) >= bound - 1e-9
        assert found.end(1 - min(0.989, p + 0.02)) <= bound + 1e-9


@pytest.mark.parametrize("changed", range(3, 12))
def test_of_few_changes_for_the_worse_alone_it_says_what_a_sign_test_says(changed):
    """Of 1,000 samples a few changed, all for the worse: as rare as so many coins that all fall alike."""
    values = np.zeros(1000)
    values[:changed] = -1
    exact = 0.5**changed
    p = of_mean(values, changed - 1).p_below(0.0)
    assert exact / 2 < p < 4 * exact
    assert (p <= 0.05) == (exact <= 0.05)


def test_without_spread_there_is_no_infinity():
    same = Resampled(np.zeros(100), 0.0, acceleration(np.zeros(5)), 1)
    assert (same.end(0.05), same.end(0.95)) == (0.0, 0.0)
    assert same.p_below(0.0) == pytest.approx(0.5)
    assert same.p_below(-1.0) > 0.5 or math.isfinite(same.p_below(-1.0))
