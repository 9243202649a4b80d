"""Strict scoring equals seqeval's strict mode on token sequences in IOB2."""

import random

import pytest
from seqeval.metrics import classification_report
from seqeval.scheme import IOB2

from pytest_gpueval.scoring.alignment import compare
from pytest_gpueval.scoring.spans import SpanCounts

LABELS = ("LOC", "ORG", "PER")


def spans_of(tags):
    """Spans of valid IOB2 tags, in tokens."""
    spans = []
    for place, tag in enumerate(tags):
        if tag.startswith("B-"):
            spans.append((place, place + 1, tag[2:]))
        elif tag.startswith("I-"):
            start, _, label = spans[-1]
            spans[-1] = (start, place + 1, label)
    return spans


def random_tags(rng, length):
    tags = []
    while len(tags) < length:
        if rng.random() < 0.4:
            label = rng.choice(LABELS)
            tags += [f"B-{label}"] + [f"I-{label}"] * rng.randint(0, 3)
        else:
            tags.append("O")
    return tags[:length]


def spoiled(rng, tags):
    """The same tags with some entities dropped, relabelled, shortened or invented."""
    tags = list(tags)
    for start, end, label in spans_of(tags):
        luck = rng.random()
        if luck < 0.1:
            tags[start:end] = ["O"] * (end - start)
        elif luck < 0.2:
            other = rng.choice(LABELS)
            tags[start:end] = [f"B-{other}"] + [f"I-{other}"] * (end - start - 1)
        elif luck < 0.3 and end - start > 1:
            tags[end - 1] = rng.choice(("O", f"B-{label}"))
    return tags


@pytest.mark.parametrize("seed", range(15))
def test_strict_equals_seqeval(seed):
    rng = random.Random(seed)
    gold = [random_tags(rng, rng.randint(1, 25)) for _ in range(60)]
    predicted = [spoiled(rng, tags) if rng.random() < 0.8 else random_tags(rng, len(tags)) for tags in gold]
    counts = SpanCounts()
    for one, other in zip(gold, predicted, strict=True):
        entries, cross = compare(spans_of(one), spans_of(other))
        counts.add({"labels": entries, "cross": cross})
    metrics = counts.metrics()
    report = classification_report(gold, predicted, mode="strict", scheme=IOB2, output_dict=True, zero_division=0)
    for figure in ("precision", "recall", "f1"):
        theirs = "f1-score" if figure == "f1" else figure
        assert metrics.overall[f"strict.{figure}"].value == pytest.approx(report["micro avg"][theirs], abs=1e-12)
        for label in LABELS:
            assert metrics.labels[label][f"strict.{figure}"].value == pytest.approx(report[label][theirs], abs=1e-12)
    assert metrics.overall["strict.f1_macro"].value == pytest.approx(report["macro avg"]["f1-score"], abs=1e-12)
    assert counts.support() == {label: report[label]["support"] for label in LABELS}
