"""Two independent measurements: against scipy, and against simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
from statsmodels.stats.proportion import proportion_confint

from pytest_gpueval.scoring.estimates import Z_95, Estimate, t_95
from pytest_gpueval.scoring.paired import Asked, Level, beside_runs, independent

RISE = Asked("latency_p95_ms", lower_is_better=True)
DROP = Asked("samples_per_s")


def normal(value, error, n=100):
    return Estimate(value, value - Z_95 * error, value + Z_95 * error, n)


def student(value, error, n):
    return Estimate(value, value - t_95(n - 1) * error, value + t_95(n - 1) * error, n)


@pytest.mark.parametrize(("asked", "sign"), [(RISE, 1), (DROP, -1)])
def test_symmetric_intervals_give_the_test_of_two_normals(asked, sign):
    found = independent(asked, normal(10.0, 0.3), normal(11.0, 0.4), Level(0.05), student=False)
    assert found.difference == 1.0 and found.confidence == 0.9
    assert (found.low, found.high) == pytest.approx((1 - 1.6448536 * 0.5, 1 + 1.6448536 * 0.5))
    assert found.p == pytest.approx(scipy.stats.norm.sf(sign * 2.0)) and found.p_improved == pytest.approx(scipy.stats.norm.sf(-sign * 2.0))


@pytest.mark.parametrize(("asked", "side"), [(RISE, "greater"), (DROP, "less")])
def test_student_is_welchs_test(asked, side):
    one, other = (10.0, 0.3, 20), (11.0, 0.6, 31)
    found = independent(asked, student(*one), student(*other), Level(0.05), student=True)
    deviations = [error * math.sqrt(n) for _, error, n in (one, other)]
    expected = scipy.stats.ttest_ind_from_stats(11.0, deviations[1], 31, 10.0, deviations[0], 20, equal_var=False, alternative=side)
    assert found.p == pytest.approx(expected.pvalue)


def test_each_side_of_an_interval_counts_by_itself():
    """Newcombe's way: of a rise, what lies below this one and above that one."""
    found = independent(RISE, Estimate(10.0, 9.9, 13.0, 100), Estimate(15.0, 11.0, 15.1, 100), Level(0.05, "two"), student=False)
    assert found.low == pytest.approx(5 - math.hypot(4, 3)) and found.high == pytest.approx(5 + math.hypot(0.1, 0.1))


@pytest.mark.parametrize(
    ("now", "before", "ends"),
    [
        ((7, 34), (1, 34), (0.0189, 0.3404)),  # contingencytables, an R package, tests/testthat/test-ch4.R: Perondi et al. 2004
        ((5, 56), (0, 29), (-0.0381, 0.1926)),  # ratesci, an R package, tests/testthat/test3.R: Newcombe's example (d)
    ],
)
def test_shares_with_wilsons_limits_have_newcombes_interval_on_published_examples(now, before, ends):
    """Of two independent shares: his hybrid score interval, which is method 10 of his paper of 1998."""
    sides = [Estimate(count / n, *proportion_confint(count, n, method="wilson"), n) for count, n in (before, now)]
    found = independent(DROP, *sides, Level(0.05, "two"), student=False)
    assert (found.low, found.high) == pytest.approx(ends, abs=5.1e-5)


def test_two_sides_share_the_level():
    one, two = (independent(RISE, normal(10.0, 0.3), normal(11.0, 0.4), Level(0.05, sides), student=False) for sides in ("one", "two"))
    assert two.p == pytest.approx(2 * one.p) and two.confidence == 0.95 and two.low < one.low


def test_what_has_no_interval_is_not_known():
    for sides in ((normal(10.0, 0.3), Estimate(9.0, None, None, 3)), (Estimate(10.0, 9.0, None, 70), normal(9.0, 0.3))):
        found = independent(RISE, *sides, Level(0.05), student=False)
        assert found.difference == -1.0 and found.p is found.low is found.high is found.detectable is None
    assert independent(DROP, Estimate(None, None, None, 0), normal(9.0, 0.3), Level(0.05), student=True).difference is None


def test_equal_and_without_noise():
    found = independent(RISE, normal(10.0, 0.0), normal(10.0, 0.0), Level(0.05), student=False)
    assert (found.p, found.p_improved, found.low, found.high) == (1.0, 1.0, 0.0, 0.0)
    assert independent(RISE, normal(10.0, 0.0), normal(10.1, 0.0), Level(0.05), student=False).p == 0.0


@pytest.mark.parametrize("asked", [Asked("samples_per_s", relative=0.1), Asked("samples_per_s", margin=10.0), DROP], ids=["share", "margin", "none"])
def test_false_alarms_and_power_are_those_that_are_printed(asked):
    """Where the truth is just what is allowed, 5 % fail; where it is as much worse as can be found, 80 % do."""
    random = np.random.default_rng(5)
    times, error, n = 4000, 2.0, 30

    def measured(truth):
        spread = error * math.sqrt(random.chisquare(n - 1) / (n - 1))
        return student(random.normal(truth, error), spread, n)

    allowed = 100 - asked.relative * 100 - asked.margin
    printed = independent(asked, student(100.0, error, n), student(100.0, error, n), Level(0.05), student=True).detectable
    shares = [
        sum(independent(asked, measured(100), measured(truth), Level(0.05), student=True).p <= 0.05 for _ in range(times)) / times
        for truth in (allowed, 100 - printed)
    ]
    assert shares[0] == pytest.approx(0.05, abs=0.012) and shares[1] == pytest.approx(0.8, abs=0.025)


def test_one_run_beside_several_is_a_prediction():
    """Against scipy: a sample of one with the variance of the other."""
    runs, now = [10.0, 11.0, 10.5, 9.8], Estimate(12.0, None, None, 0)
    found = beside_runs(RISE, runs, now, Level(0.05))
    error = np.std(runs, ddof=1) * math.sqrt(1 + 1 / 4)
    assert found.p == pytest.approx(scipy.stats.t.sf((12 - np.mean(runs)) / error, 3)) and found.p_improved == pytest.approx(1 - found.p)
    low, high = scipy.stats.t.interval(0.9, 3, 12 - np.mean(runs), error)
    assert (found.low, found.high) == pytest.approx((low, high)) and found.baseline == np.mean(runs)
    assert beside_runs(RISE, runs, Estimate(None, None, None, 0), Level(0.05)).difference is None


@pytest.mark.parametrize("asked", [Asked("samples_per_s", relative=0.1), RISE], ids=["share", "none"])
def test_false_alarms_beside_runs(asked):
    """What one run sees of itself says nothing of what runs differ by: that is what these have."""
    random = np.random.default_rng(6)
    times, truth = 8000, 100 * (1 - asked.relative)
    sessions = [(random.normal(100, 3, 4), random.normal(truth, 3)) for _ in range(times)]
    failed = sum(beside_runs(asked, list(runs), normal(now, 0.1), Level(0.05)).p <= 0.05 for runs, now in sessions)
    assert failed / times == pytest.approx(0.05, abs=0.008)
