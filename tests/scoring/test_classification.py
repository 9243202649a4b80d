"""Classification against scikit-learn on random labels and probabilities, and its edges."""

import json
import math
import random

import numpy as np
import pytest
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    brier_score_loss,
    confusion_matrix,
    log_loss,
    precision_recall_fscore_support,
    roc_auc_score,
)

from pytest_gpueval.scoring.classification import Classification, classification
from pytest_gpueval.scoring.estimates import UNSCORED
from pytest_gpueval.scoring.task import BadPrediction, BadRow

LABELS = ("ham", "mail", "spam")
TASK = Classification(LABELS, label_map={"HAM": "ham"})


def counts_of(pairs, task=TASK):
    counts = task.counts()
    for gold, answer in pairs:
        sample = task.sample({"id": "a", "text": "", "label": gold})
        counts.add(json.loads(json.dumps(task.score(sample, task.prediction(answer, sample)))))
    return counts


def exactly(value):
    """Equal but for the order of additions."""
    return pytest.approx(value, rel=1e-12, abs=1e-15)


@pytest.mark.parametrize("labels", [LABELS, LABELS[1:]], ids=["three", "two"])
@pytest.mark.parametrize("seed", range(10))
def test_counts_equal_scikit_learns(seed, labels):
    rng = random.Random(seed)
    gold = rng.choices(labels, (8, 3, 1)[: len(labels)], k=(6, 300)[seed % 2])
    predicted = [label if rng.random() < 0.7 else rng.choice(labels) for label in gold]
    metrics = counts_of(zip(gold, predicted, strict=True), Classification(labels)).metrics()
    assert metrics.overall["accuracy"].value == accuracy_score(gold, predicted)
    for average in ("macro", "micro"):
        expected = precision_recall_fscore_support(gold, predicted, average=average, zero_division=math.nan)
        for name, value in zip(("precision", "recall", "f1"), expected, strict=False):
            assert metrics.overall[f"{name}_{average}"].value == exactly(value)
    figures = precision_recall_fscore_support(gold, predicted, labels=labels, zero_division=math.nan)
    for label, *expected, support in zip(labels, *figures, strict=True):
        found = [metrics.labels[label][name].value if label in metrics.labels else None for name in ("precision", "recall", "f1")]
        assert found == [None if math.isnan(value) else exactly(value) for value in expected]
        assert sum(metrics.tables["confusion"].get(label, {}).values()) == support
    matrix = [[metrics.tables["confusion"].get(row, {}).get(column, 0) for column in labels] for row in labels]
    assert matrix == confusion_matrix(gold, predicted, labels=labels).tolist()


def distributions(seed, labels, size):
    """Gold labels and probabilities that lean towards them, rounded so that some tie."""
    rng = np.random.default_rng(seed)
    gold = rng.integers(len(labels), size=size)
    logits = np.round(rng.normal(size=(size, len(labels))) + 1.5 * np.eye(len(labels))[gold], 1)
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return [labels[index] for index in gold], probabilities


def answers(labels, probabilities):
    return [dict(zip(labels, row, strict=True)) for row in probabilities]


@pytest.mark.parametrize("labels", [LABELS, LABELS[1:]], ids=["three", "two"])
@pytest.mark.parametrize("seed", range(5))
def test_figures_of_probabilities_equal_scikit_learns(seed, labels):
    gold, probabilities = distributions(seed, labels, 200)
    metrics = counts_of(zip(gold, answers(labels, probabilities), strict=True), Classification(labels)).metrics()
    overall, one_hot = metrics.overall, np.array([[name == label for label in labels] for name in gold])
    assert overall["accuracy"].value == accuracy_score(gold, np.array(labels)[probabilities.argmax(axis=1)])
    if len(labels) == 2:
        assert overall["auroc"].value == exactly(roc_auc_score(one_hot[:, 1], probabilities[:, 1]))
        assert overall["auroc"] == metrics.labels[labels[1]]["auroc"]
        assert "auroc_macro" not in overall
    else:
        assert overall["auroc_macro"].value == exactly(roc_auc_score(gold, probabilities, multi_class="ovr", labels=labels))
    assert overall["auprc_macro"].value == exactly(average_precision_score(one_hot, probabilities))
    for column, label in enumerate(labels):
        assert metrics.labels[label]["auroc"].value == exactly(roc_auc_score(one_hot[:, column], probabilities[:, column]))
        assert metrics.labels[label]["auprc"].value == exactly(average_precision_score(one_hot[:, column], probabilities[:, column]))
    assert overall["log_loss"].value == exactly(log_loss(gold, probabilities, labels=labels))
    assert overall["brier_score"].value == exactly(brier_score_loss(gold, probabilities, labels=labels))
    for estimate in overall.values():
        assert estimate.low is None or estimate.low <= estimate.value <= estimate.high


def test_shards_merge_to_the_same_metrics():
    rng = random.Random(3)
    gold, probabilities = distributions(3, LABELS, 90)
    mixed = [rng.choice([answer, (rng.choice(LABELS), rng.random()), rng.choice(LABELS)]) for answer in answers(LABELS, probabilities)]
    pairs = list(zip(gold, mixed, strict=True))
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


def test_metrics_of_probabilities_are_named_before_there_is_one_and_left_out_without_any():
    names = set(TASK.counts().metrics().overall)
    assert {"auroc_macro", "auprc_macro", "log_loss", "brier_score", "expected_calibration_error"} < names
    assert "auroc" in Classification(LABELS[:2]).counts().metrics().overall
    found = counts_of([("ham", "ham")]).metrics()
    assert set(found.overall) == {"accuracy", *(f"{name}_{average}" for name in ("precision", "recall", "f1") for average in ("macro", "micro"))}
    assert set(found.labels["ham"]) == {"precision", "recall", "f1"}
    with_score = counts_of([("ham", ("ham", 0.75))]).metrics()
    assert set(with_score.overall) - set(found.overall) == {"expected_calibration_error"}
    assert with_score.overall["expected_calibration_error"].value == 0.25
    assert set(counts_of([("ham", {"ham": 1.0})]).metrics().overall) == names


def test_a_score_that_is_no_probability_leaves_calibration_unscored():
    pairs = [("ham", ("ham", 0.75)), ("ham", ("spam", -3.5))]
    one, other = counts_of(pairs[:1]), counts_of(pairs[1:])
    one.merge(other)
    assert one.metrics() == counts_of(pairs).metrics()
    assert "expected_calibration_error" not in one.metrics().overall


def part(answer, gold="ham", task=TASK):
    sample = task.sample({"id": "a", "text": "", "label": gold})
    return task.score(sample, task.prediction(answer, sample))


@pytest.mark.parametrize(
    ("answer", "prediction"),
    [
        ("ham", "ham"),
        (np.str_("ham"), "ham"),
        (("ham", 0.9), ("ham", 0.9)),
        (["ham", 1], ("ham", 1.0)),
        (("ham", True), ("ham", 1.0)),
        (("ham", np.float32(0.5)), ("ham", 0.5)),
        ({"spam": 0.25, "ham": 0.5, "mail": 0.25}, {"ham": 0.5, "mail": 0.25, "spam": 0.25}),
        ({"ham": np.float64(0.5), "mail": 0.25}, {"ham": 0.5, "mail": 0.25, "spam": 0.25}),
        ({"ham": 0.75}, {"ham": 0.75}),
        ({"ham": 1.0000001, "mail": -1e-9, "spam": 0}, {"ham": 1.0, "mail": 0.0, "spam": 0.0}),
    ],
)
def test_good_answers(answer, prediction):
    sample = TASK.sample({"id": "a", "text": "", "label": "ham"})
    found = TASK.prediction(answer, sample)
    assert found == prediction and type(found) is type(prediction)
    assert TASK.score(sample, found)["predicted"] == "ham"
    assert json.loads(json.dumps(found)) == json.loads(json.dumps(prediction))


def test_ties_go_to_the_earlier_label_and_the_missing_one_can_win():
    assert part({"spam": 0.4, "mail": 0.4, "ham": 0.2})["predicted"] == "mail"
    two = Classification(("no", "yes"))
    assert part({"yes": 0.25}, "no", two) == {"gold": "no", "predicted": "no", "confidence": 0.75, "probabilities": {"no": 0.75, "yes": 0.25}}


@pytest.mark.parametrize(
    "answer",
    [
        *("eggs", "", None, 3, ("ham",), ("ham", float("nan")), ("ham", float("inf")), ("ham", "high"), ("ham", None), (["ham"], 0.5), ("eggs", 0.5)),
        *({}, {"eggs": 1.0}, {"ham": float("nan")}, {"ham": 1.5}, {"ham": -0.1}, {"ham": "high"}, {"ham": None}, {"ham": 0.9, "spam": 0.9}, {3: 1.0}),
        {"ham": 0.1, "mail": 0.1, "spam": 0.1},
    ],
    ids=repr,
)
def test_bad_answers(answer):
    with pytest.raises(BadPrediction, match=r"label|score"):
        TASK.prediction(answer, TASK.sample({"id": "a", "text": "", "label": "ham"}))


def test_a_text_that_is_none():
    with pytest.raises(BadRow, match="'text' is int, not a string"):
        TASK.sample({"id": "a", "text": 3, "label": "ham"})


def test_what_to_do_where_several_labels_are_right():
    with pytest.raises(BadRow, match=r"unknown label \['ham'\]; known: .*; for several labels a row, task_options\.multilabel = true"):
        TASK.sample({"id": "a", "text": "", "label": ["ham"]})
    with pytest.raises(BadPrediction, match=r"add up to 1\.8, not 1.*task_options\.multilabel = true"):
        part({"ham": 0.9, "spam": 0.9})


@pytest.mark.parametrize("policy", [{"thresholds": {"ham": 0.5}}, {"ignored": ["ham"]}])
def test_a_policy_has_a_meaning_for_many_labels_only(policy):
    with pytest.raises(ValueError, match="no meaning"):
        classification(LABELS, **policy)
    classification(LABELS, **policy, multilabel=True)
