"""What is said of a gate that failed: the samples that fell most, found in columns and one by one, and the labels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from pytest_gpueval.runs import baselines
from pytest_gpueval.runs.baselines import Measured
from pytest_gpueval.runs.baselines.reading import dumps
from pytest_gpueval.runs.baselines.samples import Samples
from pytest_gpueval.session import drops
from tests.scoring.paired.made import metrics_of, runs

METRICS = {"spans": "strict.f1", "plain": "accuracy", "many": "f1_micro", "normalized": "accuracy"}


def sides(name, *, metric=None, without=()):
    """Two runs of 200 samples as a gate sees them; those at the places `without` have no score in the baseline."""
    task, *both = runs(name, range(200), same=0.5)
    tables = [[None if number in without and parts is both[0] else dumps(one).decode() for number, one in enumerate(parts)] for parts in both]
    ids = [f"s-{number}" for number in range(200)]
    samples = [Samples(pa.table({"id": ids, "text_hash": pa.nulls(200, pa.uint64()), "parts": pa.array(texts).dictionary_encode()}), name) for texts in tables]
    wanted = {(metric, None)} if metric else set()
    scores = [baselines.Scores(lambda one=one: one, np.arange(200), baselines.of_samples(one, task, wanted)) for one in samples]
    return task, both, baselines.scored(*scores)


@pytest.mark.parametrize("rises", [False, True])
@pytest.mark.parametrize("name", METRICS)
def test_the_samples_that_fell_most_are_the_same_in_columns_and_one_by_one(name, rises):
    metric = METRICS[name]
    task, (baseline, current), quick = sides(name, metric=metric, without=(3, 50))
    slow = [replace(side, known=Measured(side.known.keys, side.known.has_score, {})) for side in quick]
    found = drops.samples_that_fell(task, *quick, metric, rises=rises)
    assert found == drops.samples_that_fell(task, *slow, metric, rises=rises)
    places = [number for number in range(200) if number not in (3, 50)]
    alone = [[metrics_of(task, [parts[place]])[metric, None] or 0.0 for place in places] for parts in (baseline, current)]
    losses = [(after - before if rises else before - after) for before, after in zip(*alone, strict=True)]
    expected = sorted((number for number in range(198) if losses[number] > 0), key=lambda number: (-losses[number], number))[: drops.SAMPLES]
    assert [number for number, _, _ in found] == expected and (len(expected) == drops.SAMPLES if name == "spans" else expected)


def test_labels_that_fell_are_those_of_all_samples():
    task, (baseline, current), found = sides("spans")
    before, after = metrics_of(task, baseline), metrics_of(task, current)
    fell = drops.labels_that_fell(task, *found, "strict.f1", rises=False)
    labels = {label for name, label in before if label and name == "strict.f1"}
    expected = sorted((after["strict.f1", label] - before["strict.f1", label], label) for label in labels)
    assert [(one.label, one.before) for one in fell] == [(label, before["strict.f1", label]) for change, label in expected if change < 0][: drops.LABELS]
