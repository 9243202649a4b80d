"""Multi-label classification against scikit-learn, and its edges."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    hamming_loss,
    multilabel_confusion_matrix,
    precision_recall_fscore_support,
    roc_auc_score,
)

from pytest_gpueval.scoring.estimates import UNSCORED
from pytest_gpueval.scoring.multilabel import MultiLabel
from pytest_gpueval.scoring.task import BadPrediction, BadRow

LABELS = ("art", "news", "sport", "tech")
TASK = MultiLabel(LABELS, label_map={"Art": "art"})
FIGURES = ("precision", "recall", "f1")
chosen = st.lists(st.sampled_from(LABELS), unique=True)
documents = st.lists(st.tuples(chosen, chosen | st.dictionaries(st.sampled_from(LABELS), st.floats(0, 1))), min_size=1, max_size=20)


def counts_of(pairs, task=TASK):
    counts = task.counts()
    for gold, answer in pairs:
        sample = task.sample({"id": "a", "text": "", "label": gold})
        counts.add(json.loads(json.dumps(task.score(sample, task.prediction(answer, sample)))))
    return counts


def matrix(sides):
    return np.array([[label in side for label in LABELS] for side in sides], dtype=int)


def exactly(value):
    return None if math.isnan(value) else pytest.approx(value, rel=1e-12, abs=1e-15)


@settings(deadline=None)  # scikit-learn takes its time
@given(st.lists(st.tuples(chosen, chosen), min_size=1, max_size=20))
def test_counts_equal_scikit_learns(pairs):
    metrics = counts_of(pairs).metrics()
    gold, predicted = (matrix(side) for side in zip(*pairs, strict=True))
    for average in ("micro", "macro"):
        expected = precision_recall_fscore_support(gold, predicted, average=average, zero_division=math.nan)
        assert [metrics.overall[f"{name}_{average}"].value for name in FIGURES] == [exactly(value) for value in expected[:3]]
    assert metrics.overall["subset_accuracy"].value == exactly(accuracy_score(gold, predicted))
    assert metrics.overall["hamming_loss"].value == exactly(hamming_loss(gold, predicted))
    figures = precision_recall_fscore_support(gold, predicted, zero_division=math.nan)
    tables = multilabel_confusion_matrix(gold, predicted)
    for label, *expected, _, ((tn, fp), (fn, tp)) in zip(LABELS, *figures, tables, strict=True):
        assert [metrics.labels.get(label, {}).get(name, UNSCORED).value for name in FIGURES] == [exactly(value) for value in expected]
        if label in metrics.tables.get("confusion", {}):
            assert metrics.tables["confusion"][label] == {"tp": tp, "fp": fp, "fn": fn, "tn": tn}
        else:
            assert tp == fp == fn == 0


@pytest.mark.parametrize("seed", range(5))
def test_scores_give_scikit_learns_areas(seed):
    rng = np.random.default_rng(seed)
    gold = (rng.random((150, 4)) < 0.4).astype(int)
    scores = np.round(np.clip(rng.normal(0.4, 0.2, (150, 4)) + 0.2 * gold, 0, 1), 2)
    pairs = [
        ([label for label, there in zip(LABELS, row, strict=True) if there], dict(zip(LABELS, values, strict=True)))
        for row, values in zip(gold, scores, strict=True)
    ]
    metrics = counts_of(pairs).metrics()
    assert metrics.overall["auroc_macro"].value == exactly(roc_auc_score(gold, scores, average="macro"))
    assert metrics.overall["auprc_macro"].value == exactly(average_precision_score(gold, scores, average="macro"))
    assert metrics.overall["f1_micro"].value == exactly(precision_recall_fscore_support(gold, scores >= 0.5, average="micro")[2])
    for column, label in enumerate(LABELS):
        assert metrics.labels[label]["auroc"].value == exactly(roc_auc_score(gold[:, column], scores[:, column]))


@given(documents, st.lists(st.integers(0, 2), min_size=20, max_size=20), st.permutations(range(3)))
def test_shards_merge_to_the_same_metrics(pairs, owners, order):
    shards = [counts_of(pair for pair, owner in zip(pairs, owners, strict=False) if owner == shard) for shard in range(3)]
    total = TASK.counts()
    for shard in order:
        total.merge(shards[shard])
    assert total.metrics() == counts_of(pairs).metrics()


@given(documents)
def test_bounds(pairs):
    metrics = counts_of(pairs).metrics()
    for figures in (metrics.overall, *metrics.labels.values()):
        for name, estimate in figures.items():
            assert estimate == UNSCORED or 0 <= estimate.low <= estimate.value <= estimate.high <= 1, name


def test_thresholds_and_ignored_labels():
    task = MultiLabel(LABELS, thresholds={"art": 0.9, "news": 0.0, "sport": 0.2}, ignored={"tech"})
    sample = task.sample({"id": "a", "text": "", "label": ["tech", "news", "art"]})
    assert sample.gold == ["art", "news"]
    answer = {"art": 0.89, "news": 0.49, "sport": 0.2, "tech": 1.0}
    assert task.score(sample, task.prediction(answer, sample)) == {
        "gold": ["art", "news"],
        "predicted": ["sport"],
        "scores": {"art": 0.89, "news": 0.49, "sport": 0.2},
    }
    assert task.prediction(["tech", "art", "art"], sample) == ["art"]


def test_nothing_is_unscored_and_named():
    overall = TASK.counts().metrics().overall
    assert set(overall.values()) == {UNSCORED}
    assert TASK.headline in overall and "auroc_macro" in overall
    found = counts_of([([], [])]).metrics().overall
    assert found["subset_accuracy"].value == 1 and found["hamming_loss"].value == 0 and found["f1_micro"] == UNSCORED
    assert "auroc_macro" not in found


def test_rows():
    with pytest.raises(BadRow, match="'text' is int, not a string"):
        TASK.sample({"id": "a", "text": 3, "label": []})
    assert TASK.sample({"id": "a", "text": "", "label": ["tech", "Art", "art"]}).gold == ["art", "tech"]
    assert TASK.sample({"id": "a", "text": "", "label": None}).gold == []
    for label, says in [("art", "not a list of labels, which task_options.multilabel asks for"), (["eggs"], "unknown label 'eggs'"), ([None], "unknown label")]:
        with pytest.raises(BadRow, match=says):
            TASK.sample({"id": "a", "text": "", "label": label})


@pytest.mark.parametrize(
    "answer", [[], (), np.array(["art"]), {"art", "news"}, {}, {"art": np.float32(0.5)}, iter(["art"])], ids=lambda answer: type(answer).__name__
)
def test_good_answers(answer):
    found = TASK.prediction(answer, TASK.sample({"id": "a", "text": "", "label": []}))
    assert json.loads(json.dumps(found)) == found


@pytest.mark.parametrize("answer", ["art", b"art", None, 3, ["eggs"], [["art"]], [None], {"eggs": 0.5}, {"art": 2}, {"art": math.nan}, {"art": None}], ids=repr)
def test_bad_answers(answer):
    with pytest.raises(BadPrediction, match="label"):
        TASK.prediction(answer, TASK.sample({"id": "a", "text": "", "label": []}))
