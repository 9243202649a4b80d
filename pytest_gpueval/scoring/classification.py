"""Classification: one label for each sample; accuracy, and precision, recall and F1 per label."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any

from .estimates import Estimate, Moments, macro, proportion
from .task import BadPrediction, BadRow, Metrics, Parts, Sample


class ClassificationCounts:
    """A confusion matrix as a dictionary: exact and mergeable."""

    def __init__(self) -> None:
        self.confusion: dict[tuple[str, str], int] = {}

    def add(self, parts: Parts) -> None:
        """Add one sample's parts: its gold and its predicted label."""
        key = (parts["gold"], parts["predicted"])
        self.confusion[key] = self.confusion.get(key, 0) + 1

    def merge(self, other: ClassificationCounts) -> None:
        """Add another shard's counts."""
        for key, times in other.confusion.items():
            self.confusion[key] = self.confusion.get(key, 0) + times

    def metrics(self) -> Metrics:
        """Accuracy, macro F1 over the labels seen, and figures per label."""
        total = sum(self.confusion.values())
        hits = sum(times for (gold, predicted), times in self.confusion.items() if gold == predicted)
        labels: dict[str, dict[str, Estimate]] = {}
        for label in sorted({name for key in self.confusion for name in key}):
            moments = Moments()
            for (gold, predicted), times in self.confusion.items():
                moments.add(gold == predicted == label, gold == label, predicted == label, times)
            labels[label] = {"precision": moments.precision(), "recall": moments.recall(), "f1": moments.f1()}
        overall = {"accuracy": proportion(hits, total), "f1_macro": macro([figures["f1"] for figures in labels.values()])}
        return Metrics(overall, labels)


class Classification:
    """Give one label to each sample.

    A split has `id`, `text` and `label`. A model answers with a label, or (label, score).
    """

    columns = ("id", "text", "label")
    headline = "accuracy"

    def __init__(
        self,
        labels: Collection[str],
        label_map: Mapping[str, str] | None = None,
        thresholds: Mapping[str, float] | None = None,
        ignored: Collection[str] = (),
    ) -> None:
        if thresholds or ignored:
            raise ValueError("a policy with thresholds or switches has no meaning for classification")
        self._labels = frozenset(labels)
        self._canonical = {**{label: label for label in labels}, **(label_map or {})}

    def sample(self, row: Mapping[str, Any]) -> Sample:
        """Read a row. Raises BadRow for an unknown label."""
        text, given = row["text"], row["label"]
        if not isinstance(text, str):
            raise BadRow(f"'text' is {type(text).__name__}, not a string")
        label = self._canonical.get(given) if isinstance(given, str) else None
        if label is None:
            raise BadRow(f"unknown label {given!r:.200}; known: {', '.join(sorted(self._canonical))}")
        return Sample(row["id"], {"id": row["id"], "text": text}, label)

    def prediction(self, answer: Any, sample: Sample) -> str:  # noqa: ARG002 - part of the seam
        """Check a label. Raises BadPrediction for an unknown one, or a score that is not finite."""
        try:
            label, score = (answer, 1.0) if isinstance(answer, str) else answer
            finite = math.isfinite(score)
        except (TypeError, ValueError):
            raise BadPrediction(f"expected a label or (label, score), got {answer!r:.200}") from None
        if not finite:
            raise BadPrediction(f"the score of {label!r} is {score}")
        if not isinstance(label, str) or label not in self._labels:
            raise BadPrediction(f"unknown label {label!r:.200}; the suite's labels: {', '.join(sorted(self._labels))}")
        return str(label)

    def score(self, sample: Sample, prediction: str) -> Parts:
        """Gold and predicted label."""
        return {"gold": sample.gold, "predicted": prediction}

    def counts(self) -> ClassificationCounts:
        """Empty counts."""
        return ClassificationCounts()
