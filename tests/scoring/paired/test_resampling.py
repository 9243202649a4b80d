"""Sums over resamples: their distribution, their exactness, their sameness."""

import numpy as np
import pytest
from scipy import stats
from threadpoolctl import threadpool_limits

from pytest_gpueval.scoring.paired import resampling
from pytest_gpueval.scoring.paired.resampling import BUNDLES, TIMES, resampled

RNG = np.random.default_rng(20)


def test_weights_have_poissons_moments():
    weights, shares = np.arange(len(TIMES)), np.array(TIMES) / 256
    assert sum(TIMES) == 256
    assert weights @ shares == 1
    assert weights**2 @ shares == 2
    assert weights**3 @ shares == pytest.approx(5, abs=0.02)


@pytest.mark.parametrize("units", [1, 7, 200, 300, 1003, 5000, BUNDLES + 777])
def test_sums_have_the_bootstraps_mean_and_variance(units):
    columns = np.stack([RNG.integers(0, 50, units), RNG.normal(size=units), np.ones(units), RNG.integers(0, 9, units) / 2], axis=1)
    ratio = columns[:, 0] / 1.0
    sums = resampled(columns, 4000, 1)
    mean, sd = ratio.mean(), ratio.std() / np.sqrt(units)
    drawn = sums[:, 0] / np.maximum(sums[:, 2], 1)
    assert drawn.mean() == pytest.approx(mean, abs=4 * sd / np.sqrt(4000) + 1e-9)
    assert drawn.std() == pytest.approx(sd, rel=0.05, abs=1e-9)
    assert sums[:, 1].mean() == pytest.approx(columns[:, 1].sum(), abs=5 * np.sqrt((columns[:, 1] ** 2).sum() / 4000))


def test_few_units_are_drawn_as_the_bootstrap_draws_them():
    """As many as there are, in every resample; how often one is drawn is binomial."""
    sums = resampled(np.eye(5), 20_000, 3)
    assert (sums.sum(axis=1) == 5).all()
    seen = np.bincount(sums[:, 0].astype(int), minlength=6)
    assert stats.chisquare(seen[:4], stats.binom.pmf(range(4), 5, 0.2) * seen[:4].sum() / stats.binom.cdf(3, 5, 0.2)).pvalue > 0.001


def test_units_that_are_alike_are_drawn_together(monkeypatch):
    """Ten thousand units of three kinds never need a weight each."""
    monkeypatch.setattr(resampling, "_by_weight", None)
    columns = np.repeat([[1.0, 0.0], [1.0, 1.0], [0.0, 0.0]], [9000, 900, 100], axis=0)
    sums = resampled(columns, 3000, 1)
    assert sums[:, 1].std() == pytest.approx(np.sqrt(10_000 * 0.09 * 0.91), rel=0.05)


@pytest.mark.parametrize("units", [100, 3000, 6000])
def test_sums_are_the_same_whatever_the_threads(units):
    columns = np.concatenate([RNG.integers(0, 9, (units, 3)), RNG.normal(size=(units, 3)), RNG.integers(0, 10**7, (units, 2))], axis=1)
    with threadpool_limits(1):
        one = resampled(columns, 700, 9)
    with threadpool_limits(2):
        two = resampled(columns, 700, 9)
    assert (one == two).all()
    assert (one != resampled(columns, 700, 10)).any()


def test_a_column_does_not_change_what_another_one_sums_to():
    """Narrow and wide columns take other paths through the very same weights."""
    columns = np.concatenate([RNG.integers(1, 9, (5000, 1)), RNG.integers(1, 9, (5000, 1)) * 10**6, RNG.normal(size=(5000, 1))], axis=1)
    columns = np.concatenate([columns, columns[:, :1] * 10**6, columns[:, :1] / 2], axis=1)
    sums = resampled(columns, 300, 2)
    assert (sums[:, 3] == sums[:, 0] * 10**6).all()
    assert (sums[:, 4] == sums[:, 0] / 2).all()


def test_neighbouring_resamples_are_next_to_independent():
    sums = resampled(RNG.normal(size=(6000, 4)), 4000, 4)
    for column in sums.T:
        for lag in range(1, 5):
            assert abs(np.corrcoef(column[lag:], column[:-lag])[0, 1]) < 5 / np.sqrt(4000)


def test_nothing_to_draw():
    assert resampled(np.zeros((0, 3)), 10, 0).shape == (10, 3)
    assert resampled(np.zeros((4, 0)), 10, 0).shape == (10, 0)
    assert (resampled(np.zeros((4000, 2)), 10, 0) == 0).all()
