"""Rates and percentiles of time: against scipy and numpy, and against simulation."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_gpueval.scoring import timing
from pytest_gpueval.scoring.estimates import Estimate
from pytest_gpueval.scoring.timing import Latencies, Pace, joined_rate, order_statistics


def latencies(values, rows=1):
    found = Latencies()
    for value in values:
        for _ in range(rows):
            found.add(float(value))
    return found


def pace(values, rows=1):
    """Calls one after the other, of so many rows each."""
    found, now = Pace(), 100.0
    found.begin(now)
    for value in values:
        now += value / 1000
        for _ in range(rows):
            found.add(float(value), now)
    return found


@settings(deadline=None)
@given(st.integers(1, 200_000))
def test_the_places_are_scipys(n):
    low, high = order_statistics(n)
    assert low == scipy.stats.binom.ppf(0.025, n, 0.95) and high == scipy.stats.binom.ppf(0.975, n, 0.95) + 1


@pytest.mark.parametrize("n", [72, 73, 100, 500, 1234])
def test_the_interval_is_scipys(n):
    """72 values are the fewest that have a 95 % interval of their 95th percentile."""
    found = scipy.stats.quantile_test(np.arange(n) + 1.0, p=0.95).confidence_interval(0.95)
    assert order_statistics(n) == (found.low, found.high)
    assert order_statistics(timing.LEAST_CALLS - 1)[1] == timing.LEAST_CALLS


@settings(deadline=None)
@given(st.lists(st.floats(1e-3, 1e6), min_size=1, max_size=300))
def test_percentiles_are_numpys(values):
    found = latencies(values).percentiles()
    for name, share in (("p50_ms", 0.5), ("p95_ms", 0.95), ("p99_ms", 0.99)):
        assert found[name] == pytest.approx(np.quantile(values, share, method="inverted_cdf"), rel=0.003, abs=0.002)


def test_blocks_of_calls_have_batch_means_with_students_t():
    """Of 640 calls 20 blocks of 32."""
    values = np.random.default_rng(1).gamma(4, 1, 640)
    found = pace(values).estimate()
    blocks = values.reshape(20, 32).sum(axis=1)
    low, high = scipy.stats.t.interval(0.95, 19, blocks.mean(), scipy.stats.sem(blocks))
    assert found.n == 20 and found.value == pytest.approx(640_000 / values.sum())
    assert (found.high - found.low) / found.value == pytest.approx((high - low) / blocks.mean(), rel=0.01)


def test_few_blocks_are_the_textbooks():
    """Twelve calls: a block each, and no block is joined to another."""
    values = np.random.default_rng(2).uniform(0.9, 1.1, 12)
    found = pace(values, rows=5).estimate()
    low, high = scipy.stats.t.interval(0.95, 11, values.mean(), scipy.stats.sem(values))
    assert found.n == 12 and found.value == pytest.approx(5000 / values.mean())
    assert (found.high - found.low) / 2 / found.value == pytest.approx((high - low) / 2 / values.mean(), rel=0.01)


def correlated(random, n):
    """An autoregressive machine: what was slow stays slow for some ten calls."""
    steps = random.normal(size=n) * np.sqrt(1 - 0.81)
    z = random.normal()
    found = []
    for step in steps:
        z = 0.9 * z + step
        found.append(z)
    return np.exp(0.3 * np.array(found))


INDEPENDENT = (lambda random, n: random.gamma(4, 1, n), scipy.stats.gamma(4).ppf(0.95), 4.0)
CORRELATED = (correlated, float(np.exp(0.3 * scipy.stats.norm.ppf(0.95))), float(np.exp(0.045)))


@pytest.mark.parametrize(
    ("machine", "rows", "calls", "least"),
    [
        pytest.param(INDEPENDENT, 1, 400, 0.92, id="row by row"),
        pytest.param(INDEPENDENT, 8, 250, 0.92, id="batches"),
        pytest.param(CORRELATED, 1, 2000, 0.88, id="moods of a machine"),
    ],
)
def test_intervals_hold_what_they_promise(machine, rows, calls, least):
    """95 %, within the error of 200 sessions; where calls are correlated, blocks of a finite length see most of it."""
    make, percentile, mean = machine
    random = np.random.default_rng(7)
    held, sessions = [0, 0], 200
    for _ in range(sessions):
        values = make(random, calls)
        p95, rate = latencies(values, rows).p95(), pace(values, rows).estimate()
        held[0] += p95.low * 0.9975 <= percentile <= p95.high * 1.0025  # bins are half a percent wide
        held[1] += rate.low <= 1000 * rows / mean <= rate.high
    assert all(least <= one / sessions for one in held), held


def test_rows_of_a_call_count_as_one():
    values = np.random.default_rng(3).gamma(4, 1, 100)
    one, many = latencies(values), latencies(values, 50)
    assert one.p95().n == many.p95().n <= 100
    assert pace(values, 50).rows == 5000


def test_nothing_and_little():
    assert Latencies().p95() == Pace().estimate() == Estimate(None, None, None, 0)
    assert Latencies().percentiles() is None
    few = latencies(range(1, 60)).p95()
    assert few.value is not None and few.low is None and few.high is None
    assert pace(range(1, 9)).estimate().low is None
    assert latencies([5.0] * 30, 10).p95().n == 1, "nobody can tell equal calls apart"


def test_memory_does_not_grow():
    found = Latencies()
    for number in range(20_000):
        found.add(1 + number % 997 / 500)
    assert len(found._blocks._blocks) <= timing.MOST_BLOCKS
    assert len({key for block in found._blocks._blocks for key in block.bins}) < 300


def test_asking_changes_nothing():
    values = np.random.default_rng(4).gamma(4, 1, 300)
    asked, other = pace(values[:0]), pace(values)
    now = 100.0
    for value in values:
        now += value / 1000
        asked.add(float(value), now)
        asked.estimate()
    assert asked.estimate() == other.estimate()


def test_shards_are_joined_as_their_seconds():
    """Of two shards with known standard errors: the delta method by hand."""
    found = joined_rate([(100, Estimate(50.0, 45.0, 55.0, 20)), (300, Estimate(100.0, 90.0, 110.0, 20)), (0, Estimate(None, None, None, 0))])
    assert found.value == pytest.approx(400 / (2 + 3)) and found.n == 40
    assert found.high - found.value == pytest.approx(80 * np.hypot(2 * 0.1, 3 * 0.1) / 5)
    assert joined_rate([(100, Estimate(50.0, None, None, 3)), (300, Estimate(100.0, 90.0, 110.0, 20))]).low is None
    assert joined_rate([]).value is None
