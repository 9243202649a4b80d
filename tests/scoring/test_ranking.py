"""AUROC and average precision: scikit-learn's exactly while scores are few, within the documented bound however many they are."""

import random
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from pytest_gpueval.scoring import ranking
from pytest_gpueval.scoring.estimates import UNSCORED
from pytest_gpueval.scoring.ranking import ScoreCounts, auroc, average_precision

score = st.one_of(st.floats(0, 1), st.sampled_from([0.0, 0.25, 0.5, 1.0]), st.floats(0, 1e-6), st.floats(0, 1e-6).map(lambda x: 1 - x))
samples = st.lists(st.tuples(score, st.booleans()), min_size=2, max_size=60).filter(lambda drawn: len({positive for _, positive in drawn}) == 2)


def counted(pairs, labels=1):
    counts = ScoreCounts(labels)
    for value, positive in pairs:
        counts.add(value, positive)
    return counts


def rounded(pairs, labels=1):
    """On the grid, however few they are."""
    counts = counted(pairs, labels)
    counts._round()
    return counts


def bounds(columns):
    """The documented bounds on the error of AUROC and average precision."""
    negatives, positives = (sum(side) for side in zip(*columns, strict=True))
    pairs = sum(n * p for n, p in columns) / (2 * negatives * positives)
    above, precision = 0, 0.0
    for n, p in reversed(columns):
        above += n + p
        precision += p / positives * (n + p) / above
    return pairs, precision


def expected(pairs):
    scores, positive = zip(*pairs, strict=True)
    return roc_auc_score(positive, scores), average_precision_score(positive, scores)


@settings(deadline=None)  # scikit-learn takes its time
@given(samples)
def test_few_scores_give_scikit_learns_figures(pairs):
    area, precision = expected(pairs)
    counts = counted(pairs)
    assert auroc(counts).value == pytest.approx(area, abs=1e-12)
    assert average_precision(counts).value == pytest.approx(precision, abs=1e-12)


@settings(deadline=None)  # a grid has 60,000 bins
@given(samples, st.sampled_from([1, 16, 40, 5000]))
def test_on_the_grid_they_are_within_the_bound(pairs, labels):
    counts = rounded(pairs, labels)
    area, precision = expected(pairs)
    of_pairs, of_precision = bounds(counts.columns())
    assert abs(auroc(counts).value - area) <= of_pairs + 1e-12
    assert abs(average_precision(counts).value - precision) <= of_precision + 1e-12


@settings(deadline=None)
@given(st.lists(score, min_size=1, max_size=40), st.sampled_from([1, 40, 5000]))
def test_the_grid_keeps_the_order(scores, labels):
    counts = ScoreCounts(labels)
    places = [counts._bin(value) for value in sorted(scores)]
    assert places == sorted(places)
    assert places[0] >= 0 and places[-1] < len(rounded([(0.5, True)], labels)._grid[0])


@settings(max_examples=50, deadline=None)
@given(samples, st.lists(st.integers(0, 2), min_size=60, max_size=60), st.permutations(range(3)))
def test_shards_merge_to_the_same_in_any_order(pairs, owners, order):
    most = ranking.EXACT
    try:
        ranking.EXACT = 64  # few enough that some shards are on the grid and others are not
        pairs = [*pairs, *((number / 97, number % 3 == 0) for number in range(80))] if owners[0] else pairs
        shards = [counted(pair for number, pair in enumerate(pairs) if owners[number % 60] == shard) for shard in range(3)]
        total = ScoreCounts(1)
        for shard in order:
            total.merge(shards[shard])
        whole = counted(pairs)
        assert total.columns() == whole.columns()
        assert (auroc(total), average_precision(total)) == (auroc(whole), average_precision(whole))
    finally:
        ranking.EXACT = most


@pytest.mark.parametrize(("spread", "within"), [("even", (1e-4, 3e-4)), ("sure", (1e-3, 1e-3))])
def test_many_scores_are_close_and_take_no_more_memory(spread, within):
    rng = np.random.default_rng(7)
    positive = rng.random(60_000) < 0.3
    logits = rng.normal(size=60_000) + positive if spread == "even" else 8 * (rng.normal(size=60_000) + 2 * positive - 1)
    scores = 1 / (1 + np.exp(-logits))
    counts = counted(zip(scores.tolist(), positive.tolist(), strict=True))
    area, precision = roc_auc_score(positive, scores), average_precision_score(positive, scores)
    assert abs(auroc(counts).value - area) <= within[0]
    assert abs(average_precision(counts).value - precision) <= within[1]
    assert counts._exact == {}
    assert sum(map(sys.getsizeof, counts._grid)) < 1 << 21


def test_the_bound_for_scores_spread_evenly():
    rng = np.random.default_rng(3)
    counts = counted(zip(rng.random(400_000).tolist(), (rng.random(400_000) < 0.3).tolist(), strict=True))
    of_pairs, of_precision = bounds(counts.columns())
    assert of_pairs <= 1e-4
    assert of_precision <= 5e-4


def test_labels_share_the_memory():
    for labels in (1, 16, 100, 1000):
        assert labels * sum(map(sys.getsizeof, rounded([(0.5, True)], labels)._grid)) <= 36 << 20, labels


def test_unscored_without_one_of_each():
    assert auroc(ScoreCounts(2)) == average_precision(ScoreCounts(2)) == UNSCORED
    assert auroc(counted([(0.5, True)])) == UNSCORED
    assert average_precision(counted([(0.5, False)])) == UNSCORED
    assert average_precision(counted([(0.5, True)])).value == 1.0


def test_a_perfect_order_leaves_doubt_by_the_smaller_class():
    found = auroc(counted([(0.9, True)] * 3 + [(0.1, False)] * 50))
    assert (found.value, found.high, found.n) == (1.0, 1.0, 53)
    assert 0.3 < found.low < 0.5


def test_delongs_variance_is_that_of_all_pairs():
    """The interval from the columns is the one that the definition gives, pair by pair."""
    rng = random.Random(5)
    ones, zeros = [round(rng.betavariate(4, 2), 2) for _ in range(40)], [round(rng.betavariate(2, 4), 2) for _ in range(60)]
    above = np.array([[(x > y) + 0.5 * (x == y) for y in zeros] for x in ones])
    variance = above.mean(axis=1).var(ddof=1) / 40 + above.mean(axis=0).var(ddof=1) / 60
    found = auroc(counted([(x, True) for x in ones] + [(y, False) for y in zeros]))
    assert found.value == pytest.approx(above.mean())
    # Wilson's interval is about as wide as the normal one with the same variance.
    assert (found.high - found.low) / 2 == pytest.approx(1.96 * variance**0.5, rel=0.1)


def test_the_intervals_cover_the_truth():
    """Normal scores one deviation apart: the area under the ROC curve is Phi(1 / sqrt(2)); the other one is that of very many samples."""
    rng = np.random.default_rng(11)

    def drawn(size):
        positive = rng.random(size) < 0.4
        return 1 / (1 + np.exp(-(rng.normal(size=size) + positive))), positive

    scores, positive = drawn(400_000)
    truth, held = (0.7602499389, average_precision_score(positive, scores)), [0, 0]
    for _ in range(400):
        scores, positive = drawn(60)
        counts = counted(zip(scores.tolist(), positive.tolist(), strict=True))
        for at, found in enumerate((auroc(counts), average_precision(counts))):
            held[at] += found.low <= truth[at] <= found.high
    assert all(0.92 <= times / 400 <= 0.99 for times in held)
