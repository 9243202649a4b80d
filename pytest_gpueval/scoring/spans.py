"""Span detection: SemEval-2013 task 9.1 schemes, character level, document level.

One alignment of a document serves all schemes. Gold and predicted spans are paired one to one in four passes, each left to right:
identical, same bounds with another label, overlapping with the same label, overlapping with another label. Of the pairs,

    strict   counts identical ones;
    exact    those with the same bounds, whatever the label;
    type     those with the same label that overlap;
    partial  those with the same bounds in full, other overlaps by half

(Segura-Bedmar, Martinez and Herrero-Zazo 2013, SemEval-2013 task 9). Precision divides by the predictions, recall by the gold spans. Per label, pairs
with another label give no credit. Character level compares the sets of (label, character) of both sides. Document level asks only whether there is
anything to find.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from .estimates import Estimate, Moments, macro, proportion
from .task import BadPrediction, BadRow, Metrics, Parts, Sample

Span = tuple[int, int, str]

# Credit of (identical, same bounds, overlap with same label, overlap) pairs in each scheme.
SCHEMES: Mapping[str, tuple[float, float, float, float]] = {
    "strict": (1, 0, 0, 0),
    "exact": (1, 1, 0, 0),
    "partial": (1, 1, 0.5, 0.5),
    "type": (1, 0, 1, 0),
}


def compare(gold: Sequence[Span], predicted: Sequence[Span]) -> tuple[dict[str, list[int]], list[int]]:
    """Pair the spans of one document and count its characters.

    Both sides are sorted by (start, end, label). Returns per label
    `[identical, overlapping with the same label, gold, predicted, characters in both, only predicted, only gold]`, and
    `[pairs with the same bounds but another label, overlapping pairs with another label]`.
    """
    counts: dict[str, list[int]] = {}
    nested = False
    reach = 0
    for start, end, label in gold:
        nested = nested or start < reach
        reach = end
        if label in counts:
            entry = counts[label]
            entry[2] += 1
            entry[6] += end - start
        else:
            counts[label] = [0, 0, 1, 0, 0, 0, end - start]
    if gold == predicted:
        for entry in counts.values():
            entry[0] = entry[3] = entry[2]
            entry[4], entry[6] = entry[6], 0
        if nested:
            _count_characters(gold, predicted, counts)
        return counts, [0, 0]
    reach = 0
    for start, end, label in predicted:
        nested = nested or start < reach
        reach = end
        if label in counts:
            entry = counts[label]
            entry[3] += 1
            entry[5] += end - start
        else:
            counts[label] = [0, 0, 0, 1, 0, end - start, 0]
    left, right = _drop_identical(gold, predicted, counts)
    cross = _pair_overlapping(left, right, counts) if left and right else [0, 0]
    if nested:
        _count_characters(gold, predicted, counts)
    return counts, cross


def _move(entry: list[int], characters: int) -> None:
    """Book characters that both sides have as true positives."""
    entry[4] += characters
    entry[5] -= characters
    entry[6] -= characters


def _drop_identical(gold: Sequence[Span], predicted: Sequence[Span], counts: dict[str, list[int]]) -> tuple[list[Span], list[Span]]:
    """Count identical spans of two sorted lists into `counts`; return what is left of each."""
    left: list[Span] = []
    right: list[Span] = []
    i = j = 0
    while i < len(gold) and j < len(predicted):
        g, p = gold[i], predicted[j]
        if g == p:
            entry = counts[g[2]]
            entry[0] += 1
            _move(entry, g[1] - g[0])
            i += 1
            j += 1
        elif g < p:
            left.append(g)
            i += 1
        else:
            right.append(p)
            j += 1
    left.extend(gold[i:])
    right.extend(predicted[j:])
    return left, right


def _pair_overlapping(left: list[Span], right: list[Span], counts: dict[str, list[int]]) -> list[int]:
    """Pair what is not identical; returns `cross` of `compare`."""
    touching = [(g, p) for g in left for p in right if g[0] < p[1] and p[0] < g[1]]
    for g, p in touching:
        if g[2] == p[2]:
            _move(counts[g[2]], min(g[1], p[1]) - max(g[0], p[0]))
    if len({g for g, _ in touching}) < len(touching) or len({p for _, p in touching}) < len(touching):
        touching = _one_to_one(left, right)
    cross = [0, 0]
    for g, p in touching:
        if g[2] == p[2]:
            counts[g[2]][1] += 1
        else:
            cross[g[:2] != p[:2]] += 1
    return cross


def _one_to_one(left: list[Span], right: list[Span]) -> list[tuple[Span, Span]]:
    """Resolve several candidates for one span in passes: same bounds, same label, then any overlap."""
    return [
        *_take(left, right, lambda g, p: g[:2] == p[:2]),
        *_take(left, right, lambda g, p: g[2] == p[2]),
        *_take(left, right, lambda _g, _p: True),
    ]


def _take(left: list[Span], right: list[Span], fits: Callable[[Span, Span], bool]) -> list[tuple[Span, Span]]:
    """Take fitting, overlapping pairs out of both lists: each prediction, left to right, takes the fitting gold span that ends first."""
    pairs: list[tuple[Span, Span]] = []
    rest: list[Span] = []
    for p in right:
        fitting = [g for g in left if g[0] < p[1] and p[0] < g[1] and fits(g, p)]
        if fitting:
            g = min(fitting, key=_end)
            left.remove(g)
            pairs.append((g, p))
        else:
            rest.append(p)
    right[:] = rest
    return pairs


def _end(span: Span) -> int:
    return span[1]


def _count_characters(gold: Sequence[Span], predicted: Sequence[Span], counts: dict[str, list[int]]) -> None:
    """Count characters where spans of one side overlap: each character of a label counts once."""
    for label, entry in counts.items():
        of_gold = [s for s in gold if s[2] == label]
        of_predicted = [s for s in predicted if s[2] == label]
        g, p = _covered(of_gold), _covered(of_predicted)
        both = g + p - _covered(sorted(of_gold + of_predicted))
        entry[4:] = both, p - both, g - both


def _covered(spans: Sequence[Span]) -> int:
    """The number of characters that spans, sorted by start, cover together."""
    total = reach = 0
    for start, end, _ in spans:
        total += max(0, end - max(start, reach))
        reach = max(reach, end)
    return total


class SpanCounts:
    """Histograms of per-document counts: exact, mergeable, and small however many documents there are."""

    def __init__(self) -> None:
        self._documents: dict[tuple[int, ...], int] = {}  # identical, same bounds, same label, overlap, gold, predicted
        self._labels: dict[str, dict[tuple[int, ...], int]] = {}  # identical, same label, gold, predicted
        self._characters = Moments()
        self._label_characters: dict[str, Moments] = {}

    def add(self, parts: Parts) -> None:
        """Add one document's score parts (see `SpanDetection.score`)."""
        identical = same_label = possible = actual = tp = fp = fn = 0
        for label, (k1, k3, g, p, both, only_predicted, only_gold) in parts["labels"].items():
            identical += k1
            same_label += k3
            possible += g
            actual += p
            tp += both
            fp += only_predicted
            fn += only_gold
            histogram = self._labels.get(label)
            if histogram is None:
                histogram = self._labels[label] = {}
                self._label_characters[label] = Moments()
            key = (k1, k3, g, p)
            histogram[key] = histogram.get(key, 0) + 1
            self._label_characters[label].add(both, only_predicted, only_gold)
        relabelled, crossed = parts["cross"]
        document = (identical, relabelled, same_label, crossed, possible, actual)
        self._documents[document] = self._documents.get(document, 0) + 1
        self._characters.add(tp, fp, fn)

    def merge(self, other: SpanCounts) -> None:
        """Add another shard's counts."""
        for document, times in other._documents.items():
            self._documents[document] = self._documents.get(document, 0) + times
        for label, histogram in other._labels.items():
            mine = self._labels.setdefault(label, {})
            for key, times in histogram.items():
                mine[key] = mine.get(key, 0) + times
        self._characters.merge(other._characters)
        for label, moments in other._label_characters.items():
            self._label_characters.setdefault(label, Moments()).merge(moments)

    def metrics(self) -> Metrics:
        """Every scheme over all documents and per label, macro F1 over the labels seen, and document-level detection."""
        overall: dict[str, Estimate] = {}
        labels: dict[str, dict[str, Estimate]] = {}
        for scheme, (a, b, c, d) in SCHEMES.items():
            credited = ((a * k1 + b * k2 + c * k3 + d * k4, g, p, n) for (k1, k2, k3, k4, g, p), n in self._documents.items())
            overall.update(_figures(scheme, _moments(credited)))
        overall.update(_figures("char", self._characters))
        for label, histogram in sorted(self._labels.items()):
            figures = labels[label] = {}
            for scheme, (a, _, c, _) in SCHEMES.items():
                credited = ((a * k1 + c * k3, g, p, n) for (k1, k3, g, p), n in histogram.items())
                figures.update(_figures(scheme, _moments(credited)))
            figures.update(_figures("char", self._label_characters[label]))
        for scheme in (*SCHEMES, "char"):
            overall[f"{scheme}.f1_macro"] = macro([figures[f"{scheme}.f1"] for figures in labels.values()])
        overall.update(self._document_level())
        return Metrics(overall, labels)

    def support(self) -> dict[str, int]:
        """Gold spans per label."""
        return {label: sum(key[2] * n for key, n in histogram.items()) for label, histogram in sorted(self._labels.items())}

    def _document_level(self) -> dict[str, Estimate]:
        moments = Moments()
        negatives = false_positives = 0
        for (*_, possible, actual), times in self._documents.items():
            gold, found = possible > 0, actual > 0
            moments.add(gold and found, found and not gold, gold and not found, times)
            if not gold:
                negatives += times
                false_positives += times * found
        return {**_figures("document", moments), "document.false_positive_rate": proportion(false_positives, negatives)}


def _moments(credited: Iterable[tuple[float, int, int, int]]) -> Moments:
    """Moments of (credit, gold, predicted, times)."""
    moments = Moments()
    for credit, possible, actual, times in credited:
        moments.add(credit, actual - credit, possible - credit, times)
    return moments


def _figures(prefix: str, moments: Moments) -> dict[str, Estimate]:
    return {f"{prefix}.precision": moments.precision(), f"{prefix}.recall": moments.recall(), f"{prefix}.f1": moments.f1()}


class SpanDetection:
    """Find labelled character spans in a text.

    A split has `id`, `text` and `spans` (a list of {start, end, label}; offsets are Python string indices, end exclusive). A model answers with a
    list of (start, end, label[, score]) tuples or mappings with those keys. `thresholds` gives the least score a prediction of a label needs;
    a label of `ignored` counts on neither side.
    """

    columns = ("id", "text", "spans")
    headline = "strict.f1"

    def __init__(
        self,
        labels: Collection[str],
        label_map: Mapping[str, str] | None = None,
        thresholds: Mapping[str, float] | None = None,
        ignored: Collection[str] = (),
    ) -> None:
        self._labels = frozenset(labels)
        self._ignored = frozenset(ignored)
        self._thresholds = dict(thresholds or {})
        self._canonical = {**{label: label for label in labels}, **(label_map or {})}

    def sample(self, row: Mapping[str, Any]) -> Sample:
        """Read a row. Raises BadRow for a span outside the text, reversed, empty, or with an unknown label."""
        text = row["text"]
        if not isinstance(text, str):
            raise BadRow(f"'text' is {type(text).__name__}, not a string")
        size = len(text)
        gold: list[Span] = []
        for span in row["spans"] or ():
            start, end, label = span["start"], span["end"], span["label"]
            if start is None or end is None or not 0 <= start < end <= size:
                raise BadRow(_span_problem(start, end, label, size))
            canonical = self._canonical.get(label)
            if canonical is None:
                raise BadRow(f"unknown label {label!r}; known: {', '.join(sorted(self._canonical))}")
            if canonical not in self._ignored:
                gold.append((start, end, canonical))
        gold.sort()
        return Sample(row["id"], {"id": row["id"], "text": text}, gold)

    def prediction(self, answer: Any, sample: Sample) -> list[tuple[int, int, str, float]]:
        """Check a list of predicted spans, drop those below their threshold, sort. Raises BadPrediction."""
        size = len(sample.inputs["text"])
        kept: list[tuple[int, int, str, float]] = []
        try:
            for span in answer:
                if isinstance(span, Mapping):
                    start, end, label, score = span["start"], span["end"], span["label"], span.get("score", 1.0)
                else:
                    start, end, label, *rest = span
                    score = rest[0] if rest else 1.0
                if label not in self._labels:
                    raise BadPrediction(f"unknown label {label!r}; the suite's labels: {', '.join(sorted(self._labels))}")
                if not 0 <= start < end <= size:
                    raise BadPrediction(_span_problem(start, end, label, size))
                if not math.isfinite(score):
                    raise BadPrediction(f"the score of {label} {start}:{end} is {score}")
                if label not in self._ignored and score >= self._thresholds.get(label, 0.0):
                    kept.append((int(start), int(end), label, float(score)))
        except BadPrediction:
            raise
        except (TypeError, ValueError, KeyError, IndexError) as problem:
            raise BadPrediction(f"expected a list of (start, end, label, score), got {answer!r:.200}: {problem!r}") from None
        kept.sort()
        return kept

    def score(self, sample: Sample, prediction: Sequence[tuple[int, int, str, float]]) -> Parts:
        """`labels`: per label [identical, overlapping, gold, predicted, tp, fp, fn characters]; `cross`: pairs across labels."""
        labels, cross = compare(sample.gold, [span[:3] for span in prediction])
        return {"labels": labels, "cross": cross}

    def counts(self) -> SpanCounts:
        """Empty counts."""
        return SpanCounts()


def _span_problem(start: Any, end: Any, label: Any, size: int) -> str:
    """Say what is wrong with a span's bounds."""
    where = f"span {label} {start}:{end}"
    if start is None or end is None:
        return f"{where} has no bounds"
    if start >= end:
        return f"{where} is {'empty' if start == end else 'reversed'}: start must be before end"
    return f"{where} lies outside the text of {size} characters"
