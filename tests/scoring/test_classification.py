"""Classification against scikit-learn on random labels, and its edges."""

import json
import random

import pytest
from sklearn.metrics import accuracy_score, f1_score, precision_recall_fscore_support

from pytest_gpueval.scoring.classification import Classification
from pytest_gpueval.scoring.estimates import UNSCORED
from pytest_gpueval.scoring.task import BadPrediction, BadRow

LABELS = ("ham", "mail", "spam")
TASK = Classification(LABELS, label_map={"HAM": "ham"})


def counts_of(pairs):
    counts = TASK.counts()
    for gold, predicted in pairs:
        sample = TASK.sample({"id": "a", "text": "", "label": gold})
        counts.add(json.loads(json.dumps(TASK.score(sample, TASK.prediction(predicted, sample)))))
    return counts


@pytest.mark.parametrize("seed", range(10))
def test_equals_scikit_learn(seed):
    rng = random.Random(seed)
    gold = rng.choices(LABELS, (8, 3, 1), k=300)
    predicted = [label if rng.random() < 0.7 else rng.choice(LABELS) for label in gold]
    metrics = counts_of(zip(gold, predicted, strict=True)).metrics()
    assert metrics.overall["accuracy"].value == pytest.approx(accuracy_score(gold, predicted))
    assert metrics.overall["f1_macro"].value == pytest.approx(f1_score(gold, predicted, average="macro"))
    figures = precision_recall_fscore_support(gold, predicted, labels=LABELS)
    for label, *expected, _ in zip(LABELS, *figures, strict=True):
        assert [metrics.labels[label][name].value for name in ("precision", "recall", "f1")] == pytest.approx(expected)


def test_shards_merge_to_the_same_metrics():
    rng = random.Random(3)
    pairs = [(rng.choice(LABELS), rng.choice(LABELS)) for _ in range(90)]
    shards = [counts_of(pairs[at::3]) for at in range(3)]
    total = TASK.counts()
    for shard in reversed(shards):
        total.merge(shard)
    assert total.metrics() == counts_of(pairs).metrics()


def test_nothing_is_unscored():
    assert set(TASK.counts().metrics().overall.values()) == {UNSCORED}


def test_a_label_never_predicted_has_recall_but_no_precision():
    labels = counts_of([("ham", "spam"), ("spam", "spam")]).metrics().labels
    assert labels["ham"]["precision"] == UNSCORED
    assert labels["ham"]["recall"].value == 0


def test_labels_map_and_unknown_ones_are_bad_rows():
    assert TASK.sample({"id": "a", "text": "", "label": "HAM"}).gold == "ham"
    for label in ("eggs", None, ["ham"], 3):
        with pytest.raises(BadRow, match="unknown label"):
            TASK.sample({"id": "a", "text": "", "label": label})


@pytest.mark.parametrize("answer", ["ham", ("ham", 0.9), ["ham", 1], ("ham", True)])
def test_good_answers(answer):
    assert TASK.prediction(answer, TASK.sample({"id": "a", "text": "", "label": "ham"})) == "ham"


@pytest.mark.parametrize(
    "answer", ["eggs", "", None, 3, ("ham",), ("ham", float("nan")), ("ham", float("inf")), ("ham", "high"), ("ham", None), (["ham"], 0.5), {}]
)
def test_bad_answers(answer):
    with pytest.raises(BadPrediction, match=r"label|score"):
        TASK.prediction(answer, TASK.sample({"id": "a", "text": "", "label": "ham"}))
