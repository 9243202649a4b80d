"""Classification: one label for each sample, or any number of them (`multilabel`).

With one label each: accuracy; precision, recall and F1 per label, macro and micro; where answers hold probabilities, AUROC and average precision one
label against the rest, calibration error, log loss and Brier score; the confusion matrix.

Macro figures are means over the labels for which the figure is defined (scikit-learn with `zero_division=nan`); micro figures count all decisions
alike, which with one label each makes them equal to accuracy.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from .calibration import Calibration, brier_score, log_loss
from .estimates import UNSCORED, Estimate, Moments, proportion
from .labels import FIGURES, Ranking, averages, checked, macro_ranking, unknown
from .multilabel import MultiLabel
from .task import BadPrediction, BadRow, Metrics, Parts, Sample, canonical
from .terms import Key, Ratio, figures, means, numpy, share

# Given probabilities may have been rounded: their sum may miss 1 by so much.
_SLACK = 0.05

# A label; a label and its score; or label -> probability, in the order of the suite's labels.
Prediction = str | tuple[str, float] | Mapping[str, float]


def classification(
    labels: Collection[str],
    label_map: Mapping[str, str] | None = None,
    thresholds: Mapping[str, float] | None = None,
    ignored: Collection[str] = (),
    *,
    multilabel: bool = False,
) -> Classification | MultiLabel:
    """The task `classification` under its options. Raises ValueError for a policy that has no meaning."""
    kind = MultiLabel if multilabel else Classification
    return kind(labels, label_map, thresholds, ignored)


class ClassificationCounts:
    """A confusion matrix as a dictionary, and what follows from probabilities: exact and mergeable."""

    def __init__(self, labels: Sequence[str]) -> None:
        self.confusion: dict[tuple[str, str], int] = {}
        self._labels = labels
        self._calibration = Calibration()
        self._ranking = Ranking(labels)

    def add(self, parts: Parts) -> None:
        """Add one sample's parts (see `Classification.score`)."""
        gold, predicted = key = (parts["gold"], parts["predicted"])
        self.confusion[key] = self.confusion.get(key, 0) + 1
        confidence = parts.get("confidence")
        if confidence is not None:
            self._calibration.add(confidence, gold == predicted)
            if "probabilities" in parts:
                self._ranking.add((gold,), parts["probabilities"])
                self._calibration.add_distribution(gold, parts["probabilities"], len(self._labels))

    def merge(self, other: ClassificationCounts) -> None:
        """Add another shard's counts."""
        for key, times in other.confusion.items():
            self.confusion[key] = self.confusion.get(key, 0) + times
        self._calibration.merge(other._calibration)
        self._ranking.merge(other._ranking)

    def metrics(self) -> Metrics:
        """All figures over all samples and per label seen. Those of probabilities are left out where no answer held any."""
        total = sum(self.confusion.values())
        hits = sum(times for (gold, predicted), times in self.confusion.items() if gold == predicted)
        labels: dict[str, dict[str, Estimate]] = {}
        table: dict[str, dict[str, int]] = {}
        for label in sorted({name for key in self.confusion for name in key}):
            moments = Moments()
            for (gold, predicted), times in self.confusion.items():
                moments.add(gold == predicted == label, gold == label, predicted == label, times)
            labels[label] = {"precision": moments.precision(), "recall": moments.recall(), "f1": moments.f1()}
            table[label] = {predicted: times for (gold, predicted), times in sorted(self.confusion.items()) if gold == label}
        accuracy = proportion(hits, total)
        overall = {"accuracy": accuracy, **averages(labels), **dict.fromkeys((f"{figure}_micro" for figure in FIGURES), accuracy)}
        return Metrics({**overall, **self._probabilistic(labels)}, labels, {"confusion": table} if table else {})

    def _probabilistic(self, labels: Mapping[str, dict[str, Estimate]]) -> dict[str, Estimate]:
        """The overall figures that need probabilities; adds those of each label seen. Without a sample, the names of all that there may be."""
        overall: dict[str, Estimate] = {}
        empty, figures = not self.confusion, self._ranking.figures()
        for label, of_label in labels.items():
            of_label.update(figures.get(label, {}))
        if figures or empty:
            ranking = macro_ranking(figures)
            if len(self._labels) == 2:  # each label's is the other's too, so that a mean of both would be twice the same
                ranking = {"auroc": figures[self._labels[1]]["auroc"] if figures else UNSCORED, "auprc_macro": ranking["auprc_macro"]}
            overall |= {**ranking, "log_loss": self._calibration.log_loss(), "brier_score": self._calibration.brier()}
        error = self._calibration.error()
        if error is not UNSCORED or empty:
            overall["expected_calibration_error"] = error
        return overall


class Classification:
    """Give one label to each sample.

    A split has `id`, `text` and `label`. A model answers with a label; with (label, score), whose score in [0, 1] is its confidence; or with a mapping
    label -> probability of all labels or of the most probable ones. One label that is missing has what the others leave of 1, several have 0.
    The most probable label is the answer, the earlier one of the suite's labels where they tie.
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
            raise ValueError("a policy with thresholds or switches has no meaning for classification with one label each")
        self._labels = tuple(labels)
        self._known = frozenset(labels)
        self._canonical = canonical(labels, label_map)

    def sample(self, row: Mapping[str, Any]) -> Sample:
        """Read a row. Raises BadRow for an unknown label."""
        text, given = row["text"], row["label"]
        if not isinstance(text, str):
            raise BadRow(f"'text' is {type(text).__name__}, not a string")
        label = self._canonical.get(given) if isinstance(given, str) else None
        if label is None:
            hint = "; for several labels a row, task_options.multilabel = true" if isinstance(given, list) else ""
            raise BadRow(f"unknown label {given!r:.200}; known: {', '.join(sorted(self._canonical))}{hint}")
        return Sample(row["id"], {"id": row["id"], "text": text}, label)

    def prediction(self, answer: Any, sample: Sample) -> Prediction:  # noqa: ARG002 - part of the seam
        """Check an answer: the label, (label, score), or label -> probability.

        Raises BadPrediction for an unknown label, a score that is not finite, or probabilities that do not add up.
        """
        if isinstance(answer, str):
            return self._label(answer)
        if isinstance(answer, Mapping):
            return self._distribution(answer)
        try:
            label, score = answer
            score = float(score)
        except (TypeError, ValueError):
            raise BadPrediction(f"expected a label, (label, score) or label -> probability, got {answer!r:.200}") from None
        if not math.isfinite(score):
            raise BadPrediction(f"the score of {label!r} is {score}")
        return (self._label(label), score)

    def _label(self, label: Any) -> str:
        if not isinstance(label, str) or label not in self._known:
            raise BadPrediction(unknown(label, self._known))
        return str(label)

    def _distribution(self, answer: Mapping[Any, Any]) -> dict[str, float]:
        """Label -> probability in the order of the suite's labels. Raises BadPrediction."""
        found = checked(answer, self._known)
        total = math.fsum(found.values())
        missing = [label for label in self._labels if label not in found]
        if not found or total > 1 + _SLACK or (not missing and total < 1 - _SLACK):
            raise BadPrediction(
                f"the probabilities of the labels add up to {total:.6g}, not 1: {answer!r:.200}; for labels that are independent of each other, "
                "task_options.multilabel = true"
            )
        if len(missing) == 1:
            found[missing[0]] = max(0.0, 1 - total)
        return {label: found[label] for label in self._labels if label in found}

    def score(self, sample: Sample, prediction: Prediction) -> Parts:
        """`gold` and `predicted` label; `confidence` in the latter and `probabilities` where the answer held them."""
        if isinstance(prediction, str):
            return {"gold": sample.gold, "predicted": prediction}
        if isinstance(prediction, Mapping):
            predicted = max(prediction, key=prediction.__getitem__)
            return {"gold": sample.gold, "predicted": predicted, "confidence": prediction[predicted], "probabilities": prediction}
        label, score = prediction
        return {"gold": sample.gold, "predicted": label, "confidence": score}

    def counts(self) -> ClassificationCounts:
        """Empty counts."""
        return ClassificationCounts(self._labels)

    def terms(self, parts: Sequence[Parts], wanted: Collection[Key]) -> dict[Key, Ratio]:
        """Accuracy and what equals it, precision, recall and F1 of labels, log loss, Brier score."""
        np = numpy()
        k = len(self._labels)
        found = means(
            parts,
            wanted,
            {
                "log_loss": lambda one: log_loss(one["gold"], one["probabilities"]) if "probabilities" in one else None,
                "brier_score": lambda one: brier_score(one["gold"], one["probabilities"], k) if "probabilities" in one else None,
            },
        )
        alike = {"accuracy", *(f"{figure}_micro" for figure in FIGURES)} & {name for name, label in wanted if label is None}
        if alike:
            found |= dict.fromkeys(((name, None) for name in sorted(alike)), share(one["gold"] == one["predicted"] for one in parts))
        for label in dict.fromkeys(label for _, label in wanted if label is not None):
            gold, predicted = (np.array([one[side] == label for one in parts], dtype=np.float64) for side in ("gold", "predicted"))
            terms = figures(gold * predicted, gold, predicted)
            found |= {(name, of): terms[name] for name, of in wanted if of == label and name in terms}
        return found
