"""Calibration against its definition, and sums that are the same in any order."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_gpueval.scoring.calibration import Calibration
from pytest_gpueval.scoring.estimates import UNSCORED, MeanMoments

answers = st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=50)


def counted(pairs):
    counts = Calibration()
    for confidence, hit in pairs:
        counts.add(confidence, hit)
    return counts


def by_definition(pairs):
    """Guo et al. 2017, equation 3."""
    confidences, hits = (np.array(side, dtype=float) for side in zip(*pairs, strict=True))
    error = 0.0
    for low, high in pairwise(np.linspace(0, 1, 16)):
        inside = (confidences > low) & (confidences <= high) if low else confidences <= high
        if inside.any():
            error += inside.mean() * abs(hits[inside].mean() - confidences[inside].mean())
    return error


@pytest.mark.parametrize("seed", range(5))
def test_calibration_error_is_that_of_the_definition(seed):
    rng = np.random.default_rng(seed)
    pairs = [(confidence, bool(rng.random() < confidence**2)) for confidence in rng.random(300).tolist()]
    found = counted(pairs).error()
    assert found.value == pytest.approx(by_definition(pairs), abs=1e-12)
    assert (found.low, found.high, found.n) == (None, None, 300)


@given(answers, st.randoms())
def test_any_order_of_shards_is_exactly_the_same(pairs, rng):
    whole = counted(pairs)
    shards = [counted(pairs[at::3]) for at in range(3)]
    rng.shuffle(shards)
    total = Calibration()
    for shard in shards:
        total.merge(shard)
    assert total.error() == whole.error()
    assert 0 <= whole.error().value <= 1


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False, width=64), min_size=1, max_size=30), st.randoms())
def test_means_are_exact_whatever_the_range(values, rng):
    whole, shuffled = MeanMoments(), MeanMoments()
    for value in values:
        whole.add(value)
    rng.shuffle(values)
    for value in values:
        one = MeanMoments()
        one.add(value)
        shuffled.merge(one)
    if max(map(abs, values)) < 1e150:
        assert shuffled.estimate() == whole.estimate()
        assert whole.estimate().value == pytest.approx(math.fsum(values) / len(values), rel=1e-12, abs=1e-300)


def test_edges():
    assert Calibration().error() == Calibration().log_loss() == Calibration().brier() == UNSCORED
    assert counted([(0.0, False), (1.0, True)]).error().value == 0
    assert counted([(1.0, False)]).error().value == 1
    assert counted([(0.5, True), (1.5, True)]).error() == UNSCORED
    sure = Calibration()
    sure.add_distribution("a", {"b": 1.0}, 2)
    assert sure.log_loss().value == pytest.approx(-math.log(np.finfo(float).eps))
    assert sure.brier().value == 1.0
    sure.add_distribution("a", {"a": 1.0}, 2)
    assert sure.brier().value == 0.5
    assert sure.brier().low < 0.5 < sure.brier().high
