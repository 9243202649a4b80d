"""The jackknife through counts alone, against scipy where a metric is a mean, and of tasks that say no terms."""

import numpy as np
import pytest
from scipy import stats

from pytest_gpueval.scoring.estimates import UNSCORED, MeanMoments
from pytest_gpueval.scoring.paired import Asked, differences
from pytest_gpueval.scoring.task import Metrics

from .made import metrics_of, runs


class MeanCounts:
    """The mean of `x`, and the mean of `y` over those that have it."""

    def __init__(self):
        self.sums = {"x": MeanMoments(), "y": MeanMoments()}

    def add(self, parts):
        for name, value in parts.items():
            self.sums[name].add(value)

    def merge(self, other):
        for name, moments in other.sums.items():
            self.sums[name].merge(moments)

    def metrics(self):
        return Metrics({name: moments.estimate() if moments.n else UNSCORED for name, moments in self.sums.items()})


class Mean:
    """A task of the user's own: no terms."""

    counts = MeanCounts


def test_the_mean_of_up_to_100_samples_has_the_paired_t_test():
    rng = np.random.default_rng(2)
    before = rng.normal(5, 2, 60)
    after = before + rng.normal(-0.1, 1, 60)
    found = differences(Mean(), [{"x": x} for x in before], [{"x": x} for x in after], [Asked("x"), Asked("y")])
    expected = stats.ttest_rel(after, before, alternative="less")
    one = found["x", None]
    assert one.p == pytest.approx(expected.pvalue)
    assert one.p_improved == pytest.approx(1 - expected.pvalue)
    interval = stats.ttest_rel(after, before).confidence_interval(0.9)
    assert (one.low, one.high) == pytest.approx((interval.low, interval.high))
    assert one.detectable == pytest.approx((1.644854 + 0.841621) * stats.sem(after - before))
    assert (found["y", None].value, found["y", None].p, found["y", None].method) == (None, None, "unscored")


def test_false_alarms_and_power_over_groups():
    """300 samples in 100 groups, skew differences."""
    rng = np.random.default_rng(8)
    alarms, hits = [], []
    for _ in range(150):
        before = rng.normal(size=300)
        skew = rng.exponential(size=300) - 1
        for shift, seen in ((0.0, alarms), (2.4865 / np.sqrt(300), hits)):
            one = differences(Mean(), [{"x": x} for x in before], [{"x": x} for x in before + skew - shift], [Asked("x")])["x", None]
            seen.append(one.p <= 0.05)
    assert np.mean(alarms) == pytest.approx(0.05, abs=0.055)
    assert np.mean(hits) == pytest.approx(0.8, abs=0.1)


def test_a_metric_that_hangs_on_one_sample_has_no_interval():
    """Without that sample's group the metric is undefined: neither variance nor p."""
    before = [{"x": 1.0, "y": 1.0}, *[{"x": 1.0}] * 30]
    after = [{"x": 1.0, "y": 0.5}, *[{"x": 0.5}] * 30]
    one = differences(Mean(), before, after, [Asked("y")])["y", None]
    assert (one.baseline, one.value, one.difference) == (1.0, 0.5, -0.5)
    assert (one.low, one.high, one.p, one.p_improved, one.detectable) == (None, None, None, None, None)


@pytest.mark.parametrize(("name", "metric", "label"), [("spans", "strict.f1_macro", None), ("plain", "auroc", "a"), ("many", "f1_macro", None)])
def test_it_says_much_the_same_as_many_resamples(name, metric, label):
    """The standard error of figures that are no ratios of sums, against a plain bootstrap through the counts."""
    task, baseline, current = runs(name, range(120), same=0.3)
    one = differences(task, baseline, current, [Asked(metric, label)])[metric, label]
    rng = np.random.default_rng(0)
    drawn = []
    for _ in range(200):
        picked = rng.integers(0, 120, 120)
        drawn.append(np.subtract(*(metrics_of(task, [parts[at] for at in picked])[metric, label] for parts in (current, baseline))))
    assert one.difference == pytest.approx(metrics_of(task, current)[metric, label] - metrics_of(task, baseline)[metric, label])
    half = (one.high - one.low) / 2 / stats.t.ppf(0.95, 80)
    assert half == pytest.approx(np.std(drawn), rel=0.25)
