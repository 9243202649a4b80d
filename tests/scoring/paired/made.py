"""Score parts for the tests of paired comparison."""

from __future__ import annotations

import random

from pytest_gpueval.scoring.classification import classification
from pytest_gpueval.scoring.generation import Generation
from pytest_gpueval.scoring.spans import SpanDetection
from tests.scoring.documents import LABELS, TASK, TEXT, disjoint, noisy, parts_of

ABC = ("a", "b", "c")
SPANS: SpanDetection = TASK
PLAIN = classification(ABC)
MANY = classification(ABC, multilabel=True)
NORMALIZED = Generation(match="normalized", k=(1, 2))
NUMERIC = Generation(match="numeric")
TASKS = {"spans": SPANS, "plain": PLAIN, "many": MANY, "normalized": NORMALIZED, "numeric": NUMERIC}


def _probabilities(rng, gold, sure):
    weights = {label: rng.random() + (sure if label == gold else 0) for label in ABC}
    total = sum(weights.values())
    return {label: weight / total for label, weight in weights.items()}


def _one(name: str, seed: int, run: int):
    """A sample's parts: the gold is the seed's, the answer the run's too."""
    gold_rng, rng = random.Random(f"{name} {seed}"), random.Random(f"{name} {seed} {run}")
    task = TASKS[name]
    if name == "spans":
        gold = disjoint(gold_rng)
        return parts_of(gold, noisy(rng, gold))
    if name == "plain":
        sample = task.sample({"id": "x", "text": TEXT, "label": gold_rng.choice(ABC)})
        answer = _probabilities(rng, sample.gold, 1.0) if gold_rng.random() < 0.8 else rng.choice(ABC)
    elif name == "many":
        sample = task.sample({"id": "x", "text": TEXT, "label": [label for label in ABC if gold_rng.random() < 0.4]})
        answer = {label: round(rng.random() * 0.7 + 0.3 * (label in sample.gold), 3) for label in ABC}
    else:
        sample = task.sample({"id": "x", "prompt": "?", "answer": str(gold_rng.randint(0, 3))})
        texts = [f"it is {number}" if name == "normalized" else f"so {number}" for number in rng.choices((0, 1, 2, 3, "none"), k=gold_rng.randint(1, 3))]
        answer = [text.removeprefix("it is ") if rng.random() < 0.5 else text for text in texts]
    return task.score(sample, task.prediction(answer, sample))


def runs(name: str, seeds, *, same: float = 0.0):
    """Score parts of two runs; a share `same` of the samples has the same answer in both."""
    baseline = [_one(name, seed, 1) for seed in seeds]
    rng = random.Random(f"same {len(baseline)}")
    current = [one if rng.random() < same else _one(name, seed, 2) for one, seed in zip(baseline, seeds, strict=True)]
    return TASKS[name], baseline, current


def metrics_of(task, parts):
    """Every metric by name and label, as the task's counts compute it."""
    counts = task.counts()
    for one in parts:
        counts.add(one)
    metrics = counts.metrics()
    return {(name, label): one.value for label, names in {None: metrics.overall, **metrics.labels}.items() for name, one in names.items()}


__all__ = ["LABELS", "MANY", "NORMALIZED", "NUMERIC", "PLAIN", "SPANS", "TASKS", "metrics_of", "runs"]
