"""Curves over a threshold, exact over all samples, thinned to what a drawing can show."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from .records import Curve

# Points of a drawn line.
_POINTS = 120
Point = tuple[float, float]


class Detections:
    """Predictions with scores, each a hit or not, and the gold there is: precision and recall if only those from a threshold on counted."""

    def __init__(self) -> None:
        self.found: list[tuple[float, bool]] = []
        self.gold = 0

    def add_spans(self, gold: Sequence[Sequence[object]], predicted: Sequence[Sequence[object]]) -> None:
        """A document's spans (start, end, label[, score]). A hit is identical to a gold span that no prediction of a higher score has taken."""
        self.gold += len(gold)
        left = Counter((span[0], span[1], span[2]) for span in gold)
        for start, end, label, score in sorted(predicted, key=lambda span: -float(span[3])):  # type: ignore[arg-type]
            key = (start, end, label)
            hit = left[key] > 0
            left[key] -= hit
            self.found.append((float(score), hit))  # type: ignore[arg-type]

    def add_labels(self, gold: Sequence[str], scores: Mapping[str, float]) -> None:
        """A sample's labels and the scores of all or some of them."""
        self.gold += len(gold)
        self.found += [(score, label in gold) for label, score in scores.items()]

    def curve(self, title: str, note: str) -> Curve | None:
        """None where there is one score, or nothing to find."""
        steps = _cumulated(self.found)
        if len(steps) < 2 or not self.gold:
            return None
        lines: dict[str, list[Point]] = {"precision": [], "recall": [], "F1": []}
        for threshold, hits, count in thinned(steps):
            lines["precision"].append((threshold, hits / count))
            lines["recall"].append((threshold, hits / self.gold))
            lines["F1"].append((threshold, 2 * hits / (count + self.gold)))
        return Curve(title, note, lines)


class Confidences:
    """Answers with a confidence each, right or not: accuracy and coverage if only those from a threshold on were given."""

    def __init__(self) -> None:
        self.found: list[tuple[float, bool]] = []

    def curve(self, title: str, note: str) -> Curve | None:
        """None where all are equally confident."""
        steps = _cumulated(self.found)
        if len(steps) < 2:
            return None
        lines: dict[str, list[Point]] = {"accuracy": [], "coverage": []}
        for threshold, hits, count in thinned(steps):
            lines["accuracy"].append((threshold, hits / count))
            lines["coverage"].append((threshold, count / len(self.found)))
        return Curve(title, note, lines)


def _cumulated(found: Iterable[tuple[float, bool]]) -> list[tuple[float, int, int]]:
    """For each score, from the lowest on: hits and predictions that have it or more."""
    counts: dict[float, list[int]] = {}
    for score, hit in found:
        entry = counts.setdefault(score, [0, 0])
        entry[0] += hit
        entry[1] += 1
    steps, hits, total = [], 0, 0
    for score in sorted(counts, reverse=True):
        hits += counts[score][0]
        total += counts[score][1]
        steps.append((score, hits, total))
    return steps[::-1]


def thinned(steps: Sequence[tuple[float, int, int]]) -> list[tuple[float, int, int]]:
    """At most some hundred of them, evenly along the scores, the ends included."""
    if len(steps) <= _POINTS:
        return list(steps)
    low, high = steps[0][0], steps[-1][0]
    kept, place = [steps[0]], 0
    for step in steps[1:-1]:
        now = int((step[0] - low) / (high - low) * (_POINTS - 2))
        if now > place:
            kept.append(step)
            place = now
    return [*kept, steps[-1]]
