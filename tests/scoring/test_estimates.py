"""Intervals: against published values, in degenerate cases, and by simulated coverage on documents whose errors cluster."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_gpueval.scoring.estimates import UNSCORED, Estimate, MeanMoments, Moments, macro, proportion, ratio, t_95, wilson


@pytest.mark.parametrize(
    ("hits", "n", "low", "high"),
    [
        # Newcombe 1998, "Two-sided confidence intervals for the single proportion", table I, method 3 (score without continuity correction).
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
        # In closed form: z^2 / (n + z^2), and 1/2 +- z / (2 sqrt(n + z^2)).
        (0, 10, 0.0, 3.8414588 / 13.8414588),
        (10, 10, 10 / 13.8414588, 1.0),
        (5, 10, 0.5 - 1.9599640 / (2 * math.sqrt(13.8414588)), 0.5 + 1.9599640 / (2 * math.sqrt(13.8414588))),
    ],
)
def test_wilson_gives_published_values(hits, n, low, high):
    assert wilson(hits / n, n) == pytest.approx((low, high), abs=5e-5)
    found = proportion(hits, n)
    assert found.value == hits / n
    assert found.n == n


@pytest.mark.parametrize(("df", "published"), [(4, 2.776), (9, 2.262), (29, 2.045), (120, 1.980)])
def test_t_quantile(df, published):
    assert t_95(df) == pytest.approx(published, rel=0.01 if df < 5 else 1e-3)


def test_a_proportion_of_many_documents_is_wilsons():
    """Documents with one span each are independent trials."""
    assert (proportion(812, 1000).low, proportion(812, 1000).high) == pytest.approx(wilson(0.812, 1000), abs=2e-4)


class TestDegenerate:
    def test_nothing(self):
        assert Moments().precision() == Moments().recall() == Moments().f1() == UNSCORED
        assert proportion(0, 0) == UNSCORED
        assert ratio(0, 0, 0, 0, 0, 0) == UNSCORED
        assert macro([]) == macro([UNSCORED]) == UNSCORED
        assert MeanMoments().estimate() == UNSCORED

    def test_one_document_has_one_vote_however_many_spans(self):
        moments = Moments()
        moments.add(30, 40, 50)
        recall = moments.recall()
        assert (recall.low, recall.high) == wilson(0.75, 1)
        assert recall.n == 1

    @pytest.mark.parametrize("share", [0, 1])
    def test_all_right_and_all_wrong_leave_doubt_by_the_number_of_documents(self, share):
        moments = Moments()
        for spans in (1, 3, 9, 2, 5):
            moments.add(share * spans, spans, spans)
        for estimate in (moments.precision(), moments.recall(), moments.f1()):
            assert estimate.value == share
            assert (estimate.low, estimate.high) == wilson(share, 5)

    def test_one_sample_has_a_mean_and_no_interval(self):
        moments = MeanMoments()
        moments.add(3.5)
        assert moments.estimate() == Estimate(3.5, None, None, 1)

    def test_mean_of_two(self):
        one, other = MeanMoments(), MeanMoments()
        one.add(1)
        other.add(3)
        one.merge(other)
        estimate = one.estimate()
        assert estimate.value == 2
        assert estimate.high - 2 == pytest.approx(1.959964)  # s = sqrt(2), s / sqrt(2) = 1


documents = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5), st.integers(0, 5), st.integers(1, 3)), min_size=1, max_size=10)


@given(documents)
def test_columns_add_up_to_the_same_as_one_by_one(drawn):
    one_by_one, columns = Moments(), Moments()
    rows = [(hits, hits + missed, hits + extra, times) for hits, missed, extra, times in drawn]
    for row in rows:
        one_by_one.add(*row)
    columns.extend(*zip(*rows, strict=True))
    assert [getattr(columns, name) for name in Moments.__slots__] == [getattr(one_by_one, name) for name in Moments.__slots__]


def test_macro_is_the_unweighted_mean_of_scored_labels():
    found = macro([Estimate(0.8, 0.7, 0.9, 50), UNSCORED, Estimate(0.4, 0.2, 0.6, 10)])
    assert found.value == pytest.approx(0.6)
    assert found.high - 0.6 == pytest.approx(math.hypot(0.1, 0.2) / 2)
    assert found.n == 50


def clustered(rng, moments):
    """A document with its own difficulty: spans of a hard one are missed together, and drown in false alarms."""
    skill = rng.betavariate(4, 1)
    gold = rng.choice((0, 1, 1, 2, 3, 5, 8))
    hits = sum(rng.random() < skill for _ in range(gold))
    invented = sum(rng.random() < 0.8 * (1 - skill) for _ in range(max(gold, 1)))
    moments.add(hits, gold, hits + invented)


@pytest.mark.parametrize("size", [20, 60, 200])
def test_intervals_cover_the_truth_where_errors_cluster(size):
    """About 95 in 100 intervals hold the truth; counting spans as independent, as many tools do, falls short."""
    rng = random.Random(size)
    population = Moments()
    for _ in range(40_000):
        clustered(rng, population)
    truth = {"precision": population.precision().value, "recall": 0.8, "f1": population.f1().value}
    repetitions = 60_000 // size if size > 100 else 800
    held = dict.fromkeys((*truth, "naive"), 0)
    for _ in range(repetitions):
        moments = Moments()
        for _ in range(size):
            clustered(rng, moments)
        for figure, value in truth.items():
            estimate = getattr(moments, figure)()
            held[figure] += estimate.low <= value <= estimate.high
        low, high = wilson(moments.hits / moments.possible, moments.possible)
        held["naive"] += low <= truth["recall"] <= high
    for figure in truth:
        assert 0.92 <= held[figure] / repetitions <= 0.98, figure
    assert held["naive"] / repetitions < 0.91
