"""What classification with one label each and with many have in common."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from .estimates import Estimate, macro
from .ranking import ScoreCounts, auroc, average_precision
from .task import BadPrediction

FIGURES = ("precision", "recall", "f1")
# Sums of single-precision numbers may leave [0, 1] by so much.
_ROUNDING = 1e-6


def checked(answer: Mapping[Any, Any], known: Collection[str]) -> dict[str, float]:
    """An answer label -> probability as Python's own. Raises BadPrediction for an unknown label or a value outside [0, 1]."""
    found: dict[str, float] = {}
    for label, given in answer.items():
        if label not in known:
            raise BadPrediction(unknown(label, known))
        try:
            value = float(given)
        except (TypeError, ValueError):
            value = math.nan
        if not -_ROUNDING <= value <= 1 + _ROUNDING:
            raise BadPrediction(f"the probability of label {label!r} is {given!r:.80}, not a number from 0 to 1")
        found[str(label)] = min(1.0, max(0.0, value))
    return found


def unknown(label: Any, known: Collection[str]) -> str:
    """What to say about an answer's label that the suite does not have."""
    return f"unknown label {label!r:.200}; the suite's labels: {', '.join(sorted(known))}"


def averages(labels: Mapping[str, Mapping[str, Estimate]]) -> dict[str, Estimate]:
    """Macro precision, recall and F1: the means over the labels for which they are defined."""
    return {f"{figure}_macro": macro([figures[figure] for figures in labels.values()]) for figure in FIGURES}


class Ranking:
    """The scores of every label, one label against the rest, once a sample has any."""

    def __init__(self, labels: Sequence[str]) -> None:
        self._labels = labels
        self._scores: dict[str, ScoreCounts] = {}

    def __bool__(self) -> bool:
        return bool(self._scores)

    def add(self, gold: Collection[str], scores: Mapping[str, float]) -> None:
        """Add one sample; a label without a score has 0."""
        if not self._scores:
            self._scores = {label: ScoreCounts(len(self._labels)) for label in self._labels}
        for label, counts in self._scores.items():
            counts.add(scores.get(label, 0.0), label in gold)

    def merge(self, other: Ranking) -> None:
        """Add another shard's scores."""
        for label, counts in other._scores.items():
            self._scores.setdefault(label, ScoreCounts(len(self._labels))).merge(counts)

    def figures(self) -> dict[str, dict[str, Estimate]]:
        """`auroc` and `auprc` (average precision) of each label against the rest."""
        return {label: {"auroc": auroc(counts), "auprc": average_precision(counts)} for label, counts in self._scores.items()}


def macro_ranking(figures: Mapping[str, Mapping[str, Estimate]]) -> dict[str, Estimate]:
    """The means of `Ranking.figures` over the labels that have them."""
    return {f"{name}_macro": macro([of_label[name] for of_label in figures.values()]) for name in ("auroc", "auprc")}
