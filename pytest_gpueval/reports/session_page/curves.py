"""Curves over a threshold, exact over all samples, thinned to what a drawing can show."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from .records import Curve

# Points of a drawn line.
_POINTS = 120
# A threshold that leaves fewer predictions says nothing of them.
_FEWEST = 10
Point = tuple[float, float]
Span = tuple[int, int, str]
Scored = tuple[int, int, str, float]
# A score, and the hits and predictions that have it or more.
Step = tuple[float, int, int]


class Scores:
    """How many predictions have which score, to four decimals, and how many of them are hits."""

    def __init__(self) -> None:
        self._total: Counter[float] = Counter()
        self._hits: Counter[float] = Counter()

    def add(self, scored: Iterable[tuple[float, bool]]) -> None:
        """Count predictions: their scores, and whether they are hits."""
        pairs = [(round(score, 4), hit) for score, hit in scored]
        self._total.update([key for key, _ in pairs])
        self._hits.update([key for key, hit in pairs if hit])

    def merge(self, other: Scores) -> None:
        """Count those of another stretch too."""
        self._total.update(other._total)
        self._hits.update(other._hits)

    def steps(self) -> list[Step]:
        """For each score, from the lowest on: hits and predictions that have it or more, where they are not too few."""
        steps, hits, total = [], 0, 0
        for score in sorted(self._total, reverse=True):
            hits += self._hits[score]
            total += self._total[score]
            steps.append((score, hits, total))
        return [step for step in reversed(steps) if step[2] >= _FEWEST]


class Detections(Scores):
    """Predictions with scores, each a hit or not, and the gold there is: precision and recall if only those from a threshold on counted."""

    def __init__(self) -> None:
        super().__init__()
        self.gold = 0

    def merge(self, other: Scores) -> None:
        """Count those of another stretch too, and its gold."""
        super().merge(other)
        self.gold += other.gold if isinstance(other, Detections) else 0

    def add_labels(self, gold: Sequence[str], scores: Mapping[str, float]) -> None:
        """A sample's labels and the scores of all or some of them."""
        self.gold += len(gold)
        self.add((score, label in gold) for label, score in scores.items())

    def curve(self, title: str, note: str) -> Curve | None:
        """None where there is one score, or nothing to find."""
        steps = self.steps()
        if len(steps) < 2 or not self.gold:
            return None
        lines: dict[str, list[Point]] = {"precision": [], "recall": [], "F1": []}
        for threshold, hits, count in thinned(steps):
            lines["precision"].append((threshold, hits / count))
            lines["recall"].append((threshold, hits / self.gold))
            lines["F1"].append((threshold, 2 * hits / (count + self.gold)))
        return Curve(title, note, lines)


class Confidences(Scores):
    """Answers with a confidence each, right or not: accuracy and coverage if only those from a threshold on were given."""

    def curve(self, title: str, note: str) -> Curve | None:
        """None where all are equally confident."""
        steps = self.steps()
        if len(steps) < 2:
            return None
        lines: dict[str, list[Point]] = {"accuracy": [], "coverage": []}
        answers = sum(self._total.values())
        for threshold, hits, count in thinned(steps):
            lines["accuracy"].append((threshold, hits / count))
            lines["coverage"].append((threshold, count / answers))
        return Curve(title, note, lines)


def thinned(steps: Sequence[Step]) -> list[Step]:
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


def matched(gold: Sequence[Span], predicted: Sequence[Scored]) -> tuple[list[bool], list[Span]]:
    """Whether each prediction is identical to a gold span that none of a higher score has taken; and the gold spans that none is identical to."""
    there = set(gold)
    keys = [(start, end, label) for start, end, label, _ in predicted]
    found = set(keys)
    missed = [span for span in gold if span not in found]
    if len(found) == len(keys):
        return [key in there for key in keys], missed
    left, flags = Counter(gold), [False] * len(keys)
    for place in sorted(range(len(keys)), key=lambda place: -predicted[place][3]):
        flags[place] = left[keys[place]] > 0
        left[keys[place]] -= flags[place]
    return flags, missed
