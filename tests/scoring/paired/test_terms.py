"""What tasks say of their metrics sample by sample gives what their counts give."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_gpueval.scoring.terms import HasTerms, own_terms

from .made import TASKS, metrics_of, runs

# What is no ratio of sums over samples, and is compared by the jackknife.
OTHERS = {"auroc", "auprc", "auroc_macro", "auprc_macro", "expected_calibration_error"}


def value_of(ratio):
    numerator, denominator = (math.fsum(float(column.sum()) for column in side) for side in ratio)
    return numerator / denominator if denominator else None


@pytest.mark.parametrize("name", TASKS)
@given(seeds=st.lists(st.integers(0, 10**6), max_size=12))
@settings(max_examples=20, deadline=None)
def test_terms_give_the_metrics_of_counts(name, seeds):
    task, parts, _ = runs(name, seeds)
    assert isinstance(task, HasTerms)
    expected = metrics_of(task, parts)
    found = {key: value_of(ratio) for key, ratio in task.terms(parts, set(expected)).items()}
    assert {key[0] for key in expected.keys() - found.keys()} == {key[0] for key in expected if "_macro" in key[0] or key[0] in OTHERS}
    for key, value in found.items():
        assert value == (None if expected[key] is None else pytest.approx(expected[key], abs=1e-12)), key


@pytest.mark.parametrize("name", TASKS)
def test_terms_are_of_those_wanted_alone_and_of_labels_that_nobody_has(name):
    task, parts, _ = runs(name, range(5))
    assert task.terms(parts, {("no.such", None), ("no.such", "b")}) == {}
    for label in ("never seen", None):
        for key, ratio in task.terms(parts, {("f1", label), ("strict.f1", label), ("precision", label)}).items():
            assert key[1] == label
            assert label is None or value_of(ratio) is None


def test_own_metrics_are_means_of_those_that_have_them():
    parts = [{"extra": {"size": 3.5, "odd": None}}, {"extra": {"size": None, "odd": None}}, {}, {"extra": {"size": 0.5}}]
    found = own_terms(parts, {("size", None), ("odd", None), ("absent", None), ("size", "label")})
    assert {key: value_of(ratio) for key, ratio in found.items()} == {("size", None): 2.0, ("odd", None): None}
