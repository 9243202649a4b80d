"""Curves over a threshold, exact over all samples, thinned to what a drawing can show."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, repeat

from .records import Curve

# Points of a drawn line.
_POINTS = 120
# A threshold that leaves fewer predictions says nothing of them.
_FEWEST = 10
DETECTION = ("precision", "recall", "F1")
Point = tuple[float, float]
Span = tuple[int, int, str]
Scored = tuple[int, int, str, float]
# A score, and the hits and predictions that have it or more.
Step = tuple[float, int, int]
_Waiting = defaultdict[str, list[float]]


class Scores:
    """Predictions with scores, to four decimals: how many have which, how many of them are hits, and the gold there is."""

    def __init__(self) -> None:
        self._total: Counter[float] = Counter()
        self._hits: Counter[float] = Counter()
        self.gold = 0

    def add(self, scores: Iterable[float], *, hits: bool) -> None:
        """Count predictions with these scores, which are hits, or are not."""
        rounded = [round(score, 4) for score in scores]
        self._total.update(rounded)
        if hits:
            self._hits.update(rounded)

    def merge(self, other: Scores) -> None:
        """Count those of another stretch or label too, and its gold."""
        self._total.update(other._total)
        self._hits.update(other._hits)
        self.gold += other.gold

    def steps(self) -> list[Step]:
        """For each score, from the lowest on: hits and predictions that have it or more, where they are not too few."""
        scores = sorted(self._total, reverse=True)
        hits, totals = (accumulate(map(counts.get, scores, repeat(0))) for counts in (self._hits, self._total))
        steps = list(zip(scores, hits, totals, strict=True))
        return [step for step in reversed(steps) if step[2] >= _FEWEST]

    def detection(self, title: str, note: str, most: int = _POINTS) -> Curve | None:
        """Precision, recall and F1 if only predictions from a threshold on counted; None where there is one score, or nothing to find."""
        steps = self.steps()
        if len(steps) < 2 or not self.gold:
            return None
        lines: dict[str, list[Point]] = {name: [] for name in DETECTION}
        for threshold, hits, count in thinned(steps, most):
            for name, share in zip(DETECTION, (hits / count, hits / self.gold, 2 * hits / (count + self.gold)), strict=True):
                lines[name].append((threshold, share))
        return Curve(title, note, lines)

    def confidence(self, title: str, note: str) -> Curve | None:
        """Accuracy and coverage if only answers from a confidence on were given; None where all are equally confident."""
        steps = self.steps()
        if len(steps) < 2:
            return None
        lines: dict[str, list[Point]] = {"accuracy": [], "coverage": []}
        answers = self._total.total()
        for threshold, hits, count in thinned(steps):
            lines["accuracy"].append((threshold, hits / count))
            lines["coverage"].append((threshold, count / answers))
        return Curve(title, note, lines)


class ByLabel:
    """The scores of predictions, label by label."""

    def __init__(self) -> None:
        self._of: defaultdict[str, Scores] = defaultdict(Scores)
        # Scores of what is no hit, and of hits: many are counted at once, which is quicker.
        self._waiting: tuple[_Waiting, _Waiting] = (defaultdict(list), defaultdict(list))

    def expect(self, label: str, count: int = 1) -> None:
        """So much gold is there of a label."""
        self._of[label].gold += count

    def add(self, label: str, score: float, *, hit: bool) -> None:
        """A prediction; `settle` counts it."""
        self._waiting[hit][label].append(score)

    def add_spans(self, spans: Iterable[Scored], hits: Iterable[bool]) -> None:
        """Spans that were predicted, and whether they are hits; `settle` counts them."""
        waiting = self._waiting
        for (_, _, label, score), hit in zip(spans, hits, strict=True):
            waiting[hit][label].append(score)

    def settle(self) -> None:
        """Count what was added."""
        for hits, waiting in enumerate(self._waiting):
            for label, scores in waiting.items():
                self._of[label].add(scores, hits=bool(hits))
            waiting.clear()

    def merge(self, other: ByLabel) -> None:
        """Count those of another stretch too."""
        for label, scores in other._of.items():
            self._of[label].merge(scores)

    def pooled(self) -> Scores:
        """All labels together."""
        whole = Scores()
        for scores in self._of.values():
            whole.merge(scores)
        return whole

    def largest(self, labels: Iterable[str], most: int) -> Iterator[tuple[str, Scores]]:
        """Of these labels, in their order, those with the most gold: at most so many."""
        there = [label for label in labels if label in self._of]
        kept = set(sorted(there, key=lambda label: -self._of[label].gold)[:most])
        return ((label, self._of[label]) for label in there if label in kept)


def thinned(steps: Sequence[Step], most: int = _POINTS) -> list[Step]:
    """At most so many of them, evenly along the scores, the ends included."""
    if len(steps) <= most:
        return list(steps)
    low, high = steps[0][0], steps[-1][0]
    kept, place = [steps[0]], 0
    for step in steps[1:-1]:
        now = int((step[0] - low) / (high - low) * (most - 2))
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
