"""Minimum detectable drops: against sample-size formulas, by simulated power, and where there is nothing to detect."""

import math
import random
from statistics import NormalDist

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from pytest_gpueval.scoring.estimates import UNSCORED, Estimate, MeanMoments, Moments, macro, proportion, wilson
from pytest_gpueval.scoring.power import (
    ALPHA,
    ONE_UNIT_A_ROW,
    POWER,
    Z_ALPHA,
    Z_POWER,
    Spread,
    against_baseline,
    against_bound,
    against_same_rows,
    churn_of,
    paired,
    spread_of,
    trials_of,
)

DESIGNS = (against_bound, against_baseline)
TRIALS = 4000
# Three standard errors of a simulated power of 0.8, and what the normal approximation may be off at these sizes.
MONTE_CARLO = 3 * math.sqrt(POWER * (1 - POWER) / TRIALS) + 0.012


def test_quantiles():
    assert pytest.approx((NormalDist().inv_cdf(1 - ALPHA), NormalDist().inv_cdf(POWER)), rel=1e-12) == (Z_ALPHA, Z_POWER)


@pytest.mark.parametrize(("p0", "p1", "n"), [(0.5, 0.4, 153), (0.9, 0.8, 69), (0.75, 0.70, 483)])
def test_against_a_bound_is_the_sample_size_formula_turned_round(p0, p1, n):
    """n = ((z_alpha sqrt(p0 q0) + z_beta sqrt(p1 q1)) / (p0 - p1))^2, rounded up."""
    exact = ((Z_ALPHA * math.sqrt(p0 * (1 - p0)) + Z_POWER * math.sqrt(p1 * (1 - p1))) / (p0 - p1)) ** 2
    assert math.ceil(exact) == n
    assert against_bound(ONE_UNIT_A_ROW, p0, exact) == pytest.approx(p0 - p1)


@pytest.mark.parametrize(("p0", "p1", "n"), [(0.9, 0.8, 155), (0.75, 0.70, 984)])
def test_against_a_baseline_is_the_sample_size_formula_turned_round(p0, p1, n):
    exact = (Z_ALPHA + Z_POWER) ** 2 * (p0 * (1 - p0) + p1 * (1 - p1)) / (p0 - p1) ** 2
    assert math.ceil(exact) == n
    assert against_baseline(ONE_UNIT_A_ROW, p0, exact) == pytest.approx(p0 - p1)


def test_a_mean_has_the_textbook_formula():
    """d = (z_alpha + z_beta) sd / sqrt(n), for one sample and, times sqrt(2), for two (Cohen 1988, ch. 2)."""
    assert against_bound(Spread(fixed=4.0), 10.0, 100) == pytest.approx(2.4864749 * 0.2)
    assert against_baseline(Spread(fixed=4.0), -3.0, 100) == pytest.approx(2.4864749 * 0.2 * math.sqrt(2))


shares = st.floats(0.02, 0.999)
spreads = st.builds(Spread, binomial=st.floats(0.01, 20)) | st.builds(Spread, fixed=st.floats(1e-6, 1e3))


@given(st.sampled_from(DESIGNS), spreads, shares, st.floats(1, 1e6), st.floats(1, 1e6))
def test_more_rows_detect_less(design, spread, figure, few, many):
    assume(few <= many)
    assert design(spread, figure, many) <= design(spread, figure, few) * (1 + 1e-9)


@given(st.sampled_from(DESIGNS), st.floats(0.01, 20), shares, st.floats(1, 1e6))
def test_a_drop_solves_its_equation_and_ends_above_0(design, binomial, p0, rows):
    spread = Spread(binomial=binomial)
    drop = design(spread, p0, rows)
    if math.isinf(drop):  # then even a figure of 0 would not show it
        base = math.sqrt(spread.at(p0) / rows)
        assert p0 <= (Z_ALPHA if design is against_bound else Z_ALPHA + Z_POWER) * base * (1 + 1e-6)
        return
    assert 0 < drop <= p0
    before, after = spread.at(p0) / rows, spread.at(p0 - drop) / rows
    if design is against_bound:
        assert drop == pytest.approx(Z_ALPHA * math.sqrt(before) + Z_POWER * math.sqrt(after), rel=1e-6)
    else:
        assert drop == pytest.approx((Z_ALPHA + Z_POWER) * math.sqrt(before + after), rel=1e-6)


@given(st.sampled_from(DESIGNS), st.floats(0.05, 0.99), st.integers(200, 5000))
def test_a_baseline_is_less_certain_than_a_bound(design, p0, rows):
    assert against_baseline(ONE_UNIT_A_ROW, p0, rows) > against_bound(ONE_UNIT_A_ROW, p0, rows)


def test_no_drop_is_large_enough():
    assert against_bound(ONE_UNIT_A_ROW, 0.0, 1000) == math.inf
    assert against_bound(ONE_UNIT_A_ROW, 0.01, 100) == math.inf
    assert against_baseline(ONE_UNIT_A_ROW, 0.01, 100) == math.inf
    assert against_bound(ONE_UNIT_A_ROW, 0.01, 1000) < 0.01


def test_a_metric_without_variance_shows_any_drop():
    assert against_bound(Spread(), 0.7, 100) == 0
    assert against_baseline(Spread(), 0.7, 100) == 0


class TestSpread:
    @given(st.floats(0, 1), st.floats(1, 1e6))
    def test_trials_are_those_of_the_interval(self, p, n):
        low, high = wilson(p, n)
        assert trials_of(p, high - low) == pytest.approx(n, rel=1e-4)

    def test_degenerate_widths(self):
        assert trials_of(0.5, 0.0) == math.inf
        assert trials_of(0.5, 1.0) == 0.0

    @pytest.mark.parametrize("hits", [0, 1, 500, 812, 1000])
    def test_independent_rows_are_one_unit_each(self, hits):
        spread = spread_of(proportion(hits, 1000), 1000)
        assert spread is not None and spread.fixed == 0
        assert spread.binomial == pytest.approx(1.0, rel=0.005)  # the quantile of t

    def test_rows_that_have_no_say_cost(self):
        """600 of 800 rows have gold: a row carries three quarters of a document."""
        spread = spread_of(proportion(500, 600), 800)
        assert spread is not None and spread.binomial == pytest.approx(800 / 600, rel=0.01)

    def test_spans_that_err_alone_and_together(self):
        alone, together = Moments(), Moments()
        draw = random.Random(3)
        for _ in range(4000):
            alone.add(sum(draw.random() < 0.8 for _ in range(10)), 10, 10)
            together.add(10 * (draw.random() < 0.8), 10, 10)
        assert [spread_of(moments.f1(), 4000).binomial for moments in (alone, together)] == pytest.approx([0.1, 1.0], rel=0.08)

    def test_a_mean_of_any_range(self):
        moments, draw = MeanMoments(), random.Random(4)
        for _ in range(2000):
            moments.add(draw.gauss(5.0, 3.0))
        spread = spread_of(moments.estimate(), 2000)
        assert spread is not None and spread.binomial == 0
        assert spread.fixed == pytest.approx(9.0, rel=0.1)

    def test_a_macro_mean(self):
        """Of two independent halves of the rows: as much as all rows."""
        spread = spread_of(macro([proportion(400, 500), proportion(400, 500)]), 1000)
        assert spread is not None and spread.binomial == pytest.approx(1.0, rel=0.02)

    @pytest.mark.parametrize("estimate", [UNSCORED, Estimate(0.5, None, None, 1), Estimate(0.5, 0.0, 1.0, 1)])
    def test_nothing_is_known(self, estimate):
        assert spread_of(estimate, 10) is None
        assert spread_of(Estimate(0.5, 0.4, 0.6, 10), 0) is None

    def test_figures_that_are_all_the_same(self):
        assert spread_of(Estimate(3.0, 3.0, 3.0, 10), 10) == Spread()
        assert spread_of(Estimate(0.5, 0.5, 0.5, 10), 10) == Spread()


class Documents:
    """Documents with a Poisson-like number of spans whose errors cluster: each has its own share of hits, around p."""

    def __init__(self, seed):
        self.draw = random.Random(seed)

    def f1(self, p, rows):
        """Micro F1 of so many documents, and its moments."""
        moments, draw = Moments(), self.draw
        for _ in range(rows):
            spans, own = draw.randint(1, 8), draw.betavariate(6 * p, 6 * (1 - p))
            moments.add(sum(draw.random() < own for _ in range(spans)), spans, spans)
        return moments.f1()


@pytest.mark.parametrize(("p0", "rows"), [(0.5, 400), (0.75, 800), (0.9, 1000)])
def test_power_against_a_bound_by_simulation(p0, rows):
    """Independent rows: the test that the formula speaks of finds the drop in 80 of 100 runs, and no drop in 5 of 100."""
    drop = against_bound(ONE_UNIT_A_ROW, p0, rows)
    below = p0 - Z_ALPHA * math.sqrt(p0 * (1 - p0) / rows)
    draw = random.Random(rows)
    found, alarmed = ([share < below for share in measured(draw, rows, p)] for p in (p0 - drop, p0))
    assert sum(found) / TRIALS == pytest.approx(POWER, abs=MONTE_CARLO + step(p0 - drop, rows))
    assert sum(alarmed) / TRIALS == pytest.approx(ALPHA, abs=MONTE_CARLO)


@pytest.mark.parametrize(("p0", "rows"), [(0.75, 800), (0.9, 600)])
def test_power_against_a_baseline_by_simulation(p0, rows):
    drop = against_baseline(ONE_UNIT_A_ROW, p0, rows)
    draw = random.Random(rows)

    def found(now):
        pairs = zip(measured(draw, rows, p0), measured(draw, rows, now), strict=True)
        return sum(b - a < -Z_ALPHA * math.sqrt((a * (1 - a) + b * (1 - b)) / rows) for a, b in pairs) / TRIALS

    assert found(p0 - drop) == pytest.approx(POWER, abs=MONTE_CARLO + step(p0 - drop, rows))
    assert found(p0) == pytest.approx(ALPHA, abs=MONTE_CARLO)


def test_power_with_errors_that_cluster_by_simulation():
    """The whole way: an earlier run's interval -> spread -> drop -> power of the test on new documents."""
    documents, p0, rows, trials = Documents(11), 0.8, 150, 600
    spread = spread_of(documents.f1(p0, 4000), 4000)
    assert spread is not None and 0.2 < spread.binomial < 0.8  # neither one unit a document nor one a span
    drop = against_bound(spread, p0, rows)
    below = p0 - Z_ALPHA * math.sqrt(spread.at(p0) / rows)
    found = sum(documents.f1(p0 - drop, rows).value < below for _ in range(trials)) / trials
    assert found == pytest.approx(POWER, abs=3 * math.sqrt(POWER * (1 - POWER) / trials) + 0.02)


def measured(draw, rows, p):
    """The shares that so many runs of independent rows measure, drawn by the weights of the binomial distribution."""
    logs = (math.lgamma(rows + 1) - math.lgamma(k + 1) - math.lgamma(rows - k + 1) + k * math.log(p) + (rows - k) * math.log(1 - p) for k in range(rows + 1))
    return [hits / rows for hits in draw.choices(range(rows + 1), [math.exp(log) for log in logs], k=TRIALS)]


def step(p, rows):
    """Half the weight of one hit more or less, which no test on whole hits can avoid."""
    return 0.5 / math.sqrt(2 * math.pi * rows * p * (1 - p))


@given(spreads, shares, st.floats(1, 1e6), st.floats(0, 0.2))
def test_on_the_same_rows_a_drop_solves_its_equation(spread, value, rows, margin):
    churn = churn_of(spread, value)
    drop = against_same_rows(churn, spread.binomial, rows, margin)
    assert drop - margin == pytest.approx((Z_ALPHA + Z_POWER) * math.sqrt((churn + spread.binomial * drop) / rows), rel=1e-6)


@pytest.mark.parametrize(("gain", "drop"), [(0.05, 0.05), (0.10, 0.10)])
def test_of_shares_it_is_the_sample_size_formula_for_matched_pairs(gain, drop):
    """n = (z_alpha + z_beta)^2 (p10 + p01) / (p10 - p01)^2, Miettinen's (1968) to first order."""
    exact = (Z_ALPHA + Z_POWER) ** 2 * (2 * gain + drop) / drop**2
    assert against_same_rows(2 * gain, 1.0, exact) == pytest.approx(drop)


@given(st.floats(0.05, 20), shares, st.floats(100, 1e6))
def test_the_same_rows_detect_less_than_others_where_runs_are_alike(binomial, value, rows):
    spread = Spread(binomial=binomial)
    assert paired(spread, value, rows, churn=0.0) <= paired(spread, value, rows) <= paired(spread, value, rows, churn=spread.at(value))
    if value - against_baseline(spread, value, rows) > 0.5:  # below that a drop makes rows vary less
        assert paired(spread, value, rows) <= against_baseline(spread, value, rows) * (1 + 1e-9)


def test_at_another_level_the_quantile_is_that_levels():
    ratio = against_same_rows(1.0, 0.0, 100, alpha=0.01) / against_same_rows(1.0, 0.0, 100)
    assert ratio == pytest.approx((NormalDist().inv_cdf(0.99) + Z_POWER) / (Z_ALPHA + Z_POWER))
    assert math.isinf(paired(Spread(binomial=1.0), 0.1, 20))
