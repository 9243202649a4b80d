"""The comparison as a whole: what never changes, what is undefined, which method speaks."""

import dataclasses
import json
import math

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pytest_gpueval.scoring.paired import Asked, differences

from .made import PLAIN, SPANS, TASKS, metrics_of, runs

METRICS = {
    "spans": [("strict.f1", None), ("char.recall", "NAME"), ("document.recall", None), ("strict.f1_macro", None), ("document.false_positive_rate", None)],
    "plain": [("accuracy", None), ("f1", "a"), ("recall", "b"), ("log_loss", None), ("f1_macro", None)],
    "many": [("f1_micro", None), ("hamming_loss", None), ("subset_accuracy", None), ("precision", "c"), ("auroc_macro", None)],
    "normalized": [("accuracy", None), ("f1", None), ("pass@2", None)],
    "numeric": [("accuracy", None), ("unparsable", None)],
}
names = st.sampled_from(sorted(TASKS))
seeds = st.lists(st.integers(0, 10**6), max_size=14, unique=True)


def asked_of(name, **more):
    return [Asked(metric, label, **more) for metric, label in METRICS[name]]


def finite(one):
    return all(not isinstance(value, float) or math.isfinite(value) for value in dataclasses.astuple(one))


@given(names, seeds, st.sampled_from(["one", "two"]), st.floats(0, 0.3), st.booleans())
@settings(max_examples=60, deadline=None)
def test_figures_are_the_counts_and_nothing_is_nan(name, found_seeds, sides, margin, relative):
    task, baseline, current = runs(name, found_seeds, same=0.4)
    asked = asked_of(name, **{"relative" if relative else "margin": margin})
    was, now = metrics_of(task, baseline), metrics_of(task, current)
    for key, one in differences(task, baseline, current, asked, sides=sides, resamples=200).items():
        for value, expected in ((one.baseline, was.get(key)), (one.value, now.get(key))):
            assert value == (None if expected is None else pytest.approx(expected, abs=1e-9))
        assert finite(one)
        assert json.loads(json.dumps(dataclasses.asdict(one), allow_nan=False))["n"] <= len(found_seeds)
        if one.baseline is None or one.value is None:
            assert (one.difference, one.low, one.high, one.p, one.p_improved, one.detectable) == (None,) * 6
        elif one.low is not None:
            assert one.low <= one.difference <= one.high
            assert 0 <= one.p <= 1 and 0 <= one.p_improved <= 1
            assert one.detectable is None or one.detectable >= margin * (one.baseline if relative else 1) - 1e-9


@given(names, seeds)
@settings(max_examples=40, deadline=None)
def test_swapped_runs_flip_the_sign(name, found_seeds):
    task, baseline, current = runs(name, found_seeds, same=0.4)
    forth = differences(task, baseline, current, asked_of(name), resamples=300)
    back = differences(task, current, baseline, asked_of(name), resamples=300)
    for key, one in forth.items():
        other = back[key]
        assert (other.baseline, other.value, other.n, other.changed, other.method) == (one.value, one.baseline, one.n, one.changed, one.method)
        if one.low is not None:
            assert (other.difference, other.low, other.high) == pytest.approx((-one.difference, -one.high, -one.low), abs=1e-9)
            assert (other.p, other.p_improved) == pytest.approx((one.p_improved, one.p), abs=1e-9)


@given(names, seeds, st.randoms(use_true_random=False))
@settings(max_examples=40, deadline=None)
def test_the_order_of_samples_is_irrelevant(name, found_seeds, rng):
    task, baseline, current = runs(name, found_seeds)
    order = rng.sample(range(len(found_seeds)), len(found_seeds))
    asked = asked_of(name)
    shuffled = differences(task, [baseline[at] for at in order], [current[at] for at in order], asked, resamples=200)
    for key, one in differences(task, baseline, current, asked, resamples=200).items():
        other = dataclasses.astuple(shuffled[key])
        if "bootstrap" in one.method:  # other draws: intervals and p are the same up to the seed
            other = dataclasses.astuple(dataclasses.replace(shuffled[key], low=one.low, high=one.high, p=one.p, p_improved=one.p_improved))
        assert other == pytest.approx(dataclasses.astuple(one), abs=1e-9)


def test_the_order_of_many_samples_is_irrelevant_up_to_the_seed():
    task, baseline, current = runs("spans", range(400), same=0.5)
    one, other = (differences(task, *sides, [Asked("strict.f1")])["strict.f1", None] for sides in ((baseline, current), (baseline[::-1], current[::-1])))
    assert (other.low, other.high, other.p) == pytest.approx((one.low, one.high, one.p), abs=0.02)


@given(names, seeds, st.floats(0, 0.5))
@example("many", [0, 1], 5e-324)
@settings(max_examples=40, deadline=None)
def test_identical_predictions_have_p_1_and_no_width(name, found_seeds, margin):
    task, baseline, _ = runs(name, found_seeds)
    for one in differences(task, baseline, list(baseline), asked_of(name), sides="two").values():
        if one.value is not None:
            assert (one.difference, one.low, one.high, one.p, one.p_improved, one.changed) == (0, 0, 0, 1, 1, 0)
    for one in differences(task, baseline, list(baseline), asked_of(name, margin=margin)).values():
        assert one.p is None or (0.5 <= one.p <= 1 and one.low == one.high == 0)


def spans_of(*documents):
    """Parts of documents of one label, each as (hits, gold, predicted)."""
    return [{"labels": {"NAME": [h, 0, g, p, h, p - h, g - h]} if g or p else {}, "cross": [0, 0]} for h, g, p in documents]


def test_zero_positives_are_unscored():
    baseline, current = spans_of(*[(0, 0, 0)] * 30), spans_of(*[(0, 0, 0)] * 29, (0, 0, 1))
    found = differences(
        SPANS, baseline, current, [Asked("strict.recall"), Asked("strict.f1"), Asked("strict.f1", "DATE"), Asked("document.false_positive_rate")]
    )
    *undefined, rate = found.values()
    assert [(one.value, one.p, one.n) for one in undefined[:1]] == [(None, None, 0)]
    assert (undefined[1].baseline, undefined[1].value, undefined[1].p, undefined[1].method) == (None, 0.0, None, "unscored")
    assert (undefined[2].baseline, undefined[2].value) == (None, None)
    assert (rate.baseline, rate.value, rate.p) == (0.0, pytest.approx(1 / 30), 1.0)


def test_one_sample_that_changed_says_little():
    asked = [Asked("strict.f1"), Asked("document.recall"), Asked("strict.f1_macro")]
    found = differences(SPANS, spans_of((2, 2, 2)), spans_of((0, 2, 0)), asked)
    assert [one.difference for one in found.values()] == [-1.0, -1.0, -1.0]
    assert all(finite(one) and (one.p is None or one.p > 0.05) for one in found.values())


def test_lower_is_better_turns_the_question_round():
    gold = ["a"] * 40
    baseline = [{"gold": label, "predicted": "a", "probabilities": {"a": 0.9, "b": 0.1}, "confidence": 0.9} for label in gold]
    current = [{**one, "probabilities": {"a": 0.5 + at / 200, "b": 0.5 - at / 200}} for at, one in enumerate(baseline)]
    plain, turned = (differences(PLAIN, baseline, current, [Asked("log_loss", lower_is_better=flag)])["log_loss", None] for flag in (False, True))
    assert turned.difference == plain.difference > 0
    assert (turned.low, turned.high) == pytest.approx((plain.low, plain.high), rel=1e-3)
    assert (turned.p, turned.p_improved) == pytest.approx((plain.p_improved, plain.p), abs=1e-6)
    assert turned.p < 1e-6
    rates = (spans_of(*[(0, 0, 0)] * 30), spans_of(*[(0, 0, 1)] * 8, *[(0, 0, 0)] * 22))
    rate = differences(SPANS, *rates, [Asked("document.false_positive_rate", lower_is_better=True)])["document.false_positive_rate", None]
    assert rate.difference > 0 and rate.low > 0 and rate.p == pytest.approx(0.5**8)


def test_a_relative_margin_is_a_share_of_the_baseline():
    """0.9 of 0.8 are lost at just 10 %: what is tested moves with the baseline, so that p is a little off a fixed margin's."""
    baseline = spans_of(*[(4, 5, 5)] * 100, *[(3, 5, 5)] * 20, *[(5, 5, 5)] * 20)
    current = spans_of(*[(3, 5, 5)] * 60, *[(4, 5, 5)] * 40, *[(3, 5, 5)] * 20, *[(5, 5, 5)] * 20)
    found = {relative: differences(SPANS, baseline, current, [Asked("strict.f1", relative=relative)])["strict.f1", None] for relative in (0.05, 0.107, 0.2)}
    assert found[0.05].p < 0.001 < found[0.107].p < 0.999 < found[0.2].p
    fixed = differences(SPANS, baseline, current, [Asked("strict.f1", margin=0.107 * 0.8)])["strict.f1", None]
    assert (fixed.low, fixed.high) == (found[0.107].low, found[0.107].high)
    assert fixed.p == pytest.approx(found[0.107].p, abs=0.05)
    shares = [{"gold": "a", "predicted": "a"}] * 50, [{"gold": "a", "predicted": "b"}] * 10 + [{"gold": "a", "predicted": "a"}] * 40
    assert differences(PLAIN, *shares, [Asked("accuracy", relative=0.2)])["accuracy", None].p > 0.3


def test_samples_of_a_cluster_are_drawn_together():
    """Each document four times over is no more evidence than once."""
    task, baseline, current = runs("spans", range(60), same=0.6)
    once = differences(task, baseline, current, [Asked("strict.f1"), Asked("document.recall"), Asked("strict.f1_macro")], clusters=range(60))
    asked = [Asked("strict.f1"), Asked("document.recall"), Asked("strict.f1_macro")]
    often = differences(task, baseline * 4, current * 4, asked, clusters=[f"document {at % 60}" for at in range(240)])
    naive = differences(task, baseline * 4, current * 4, asked)
    for key, one in often.items():
        assert (one.difference, one.n) == (pytest.approx(once[key].difference), once[key].n)
        assert one.changed == 4 * once[key].changed
        assert one.high - one.low == pytest.approx(once[key].high - once[key].low, rel=0.1)
        if one.high > one.low:
            assert naive[key].high - naive[key].low < 0.7 * (one.high - one.low)
    assert often["strict.f1", None].method == "paired bootstrap over clusters"


def test_the_same_seed_gives_the_same_and_another_nearly():
    task, baseline, current = runs("spans", range(300), same=0.5)
    one, again, other = (differences(task, baseline, current, [Asked("strict.f1")], seed=seed)["strict.f1", None] for seed in (1, 1, 2))
    assert one == again != other
    assert (other.low, other.high, other.p) == pytest.approx((one.low, one.high, one.p), abs=0.02)


def test_two_sides_double_p_and_widen_the_interval():
    task, baseline, current = runs("plain", range(200), same=0.7)
    for key in (("accuracy", None), ("f1", "a"), ("f1_macro", None)):
        one, two = (differences(task, baseline, current, [Asked(*key)], sides=sides)[key] for sides in ("one", "two"))
        assert (one.confidence, two.confidence) == pytest.approx((0.9, 0.95))
        assert two.p == min(1, 2 * one.p) and two.p_improved == min(1, 2 * one.p_improved)
        assert two.low < one.low < one.high < two.high


def test_a_users_own_metric_is_compared_too_and_nan_never_leaves():
    baseline = [{"gold": "a", "predicted": "a", "extra": {"size": float(at), "bad": math.nan, "huge": 1e308, "large": 1e200}} for at in range(30)]
    current = [
        {**one, "extra": {**one["extra"], "size": one["extra"]["size"] - 1 - at % 2, "huge": 1.7e308, "large": at * 1e200}} for at, one in enumerate(baseline)
    ]
    found = differences(PLAIN, baseline, current, [Asked("size"), Asked("bad"), Asked("huge"), Asked("large")])
    assert found["size", None].difference == -1.5 and found["size", None].p < 1e-6
    assert (found["bad", None].value, found["bad", None].p) == (None, None)
    assert all(map(finite, found.values()))


def test_without_samples_nothing_is_scored():
    for name in TASKS:
        assert all(one.method == "unscored" and one.n == 0 for one in differences(TASKS[name], [], [], asked_of(name)).values())


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"level": 0.0}, "level 0.0"),
        ({"level": 0.5}, "level 0.5"),
        ({"sides": "three"}, "sides 'three'"),
        ({"clusters": [1]}, "not one for one"),
        ({"asked": [Asked("accuracy"), Asked("accuracy", margin=0.1)]}, "asked for twice"),
        ({"current": []}, "not one for one"),
    ],
)
def test_what_makes_no_sense_is_refused(more, says):
    _, baseline, current = runs("plain", range(3))
    given_ = {"baseline": baseline, "current": current, "asked": [Asked("accuracy")], **more}
    with pytest.raises(ValueError, match=says):
        differences(PLAIN, given_.pop("baseline"), given_.pop("current"), given_.pop("asked"), **given_)


@pytest.mark.parametrize("bad", [{"margin": -0.1}, {"margin": math.nan}, {"relative": math.inf}])
def test_a_margin_is_a_number_of_at_least_0(bad):
    with pytest.raises(ValueError, match="at least 0"):
        Asked("accuracy", **bad)
