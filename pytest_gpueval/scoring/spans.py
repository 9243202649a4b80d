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
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import cache, cached_property
from itertools import chain, repeat
from operator import add, and_, index
from typing import TYPE_CHECKING, Any

from .alignment import Span, compare
from .estimates import Estimate, Moments, macro, proportion
from .task import BadPrediction, BadRow, Metrics, Parts, Sample, canonical
from .terms import Key, Ratio, numpy, total
from .terms import figures as ratios

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from .terms import Column

# Credit of (identical, same bounds, overlap with same label, overlap) pairs in each scheme.
SCHEMES: Mapping[str, tuple[float, float, float, float]] = {
    "strict": (1, 0, 0, 0),
    "exact": (1, 1, 0, 0),
    "partial": (1, 1, 0.5, 0.5),
    "type": (1, 0, 1, 0),
}
LEVELS = (*SCHEMES, "char")


class _Tally:
    """How many documents had which counts: an entry of `alignment.Entries`, for all labels together followed by `alignment.Cross`.

    Documents wait in a batch, and what they share in a histogram, both folded when they are full: memory is flat however many there are.
    """

    __slots__ = ("_moments", "_spans", "batch")

    FULL = 4096

    def __init__(self) -> None:
        self.batch: list[tuple[int, ...]] = []
        self._spans: dict[tuple[int, ...], int] = {}  # without characters, which vary more: gold, predicted, then pairs
        self._moments = {scheme: Moments() for scheme in (*LEVELS, "document")}

    def merge(self, other: _Tally) -> None:
        """Add another shard's tally."""
        for scheme, moments in other.moments().items():
            self._moments[scheme].merge(moments)

    def moments(self) -> Mapping[str, Moments]:
        """Moments of every scheme over everything added so far."""
        self.fold()
        self._fold_spans()
        return self._moments

    def fold(self) -> None:
        """Empty the batch."""
        if not self.batch:
            return
        documents = Counter(self.batch)
        self.batch.clear()
        times = list(documents.values())
        k1, k3, gold, predicted, both, only_predicted, only_gold, *cross = zip(*documents, strict=True)
        self._moments["char"].extend(both, list(map(add, both, only_gold)), list(map(add, both, only_predicted)), times)
        spans = self._spans
        for key, n in zip(zip(gold, predicted, k1, k3, *cross, strict=True), times, strict=True):
            spans[key] = spans.get(key, 0) + n
        if len(spans) >= self.FULL:
            self._fold_spans()

    def _fold_spans(self) -> None:
        if not self._spans:
            return
        times = list(self._spans.values())
        gold, predicted, k1, k3, *cross = zip(*self._spans, strict=True)
        self._spans.clear()
        k2, k4 = cross or (repeat(0), repeat(0))
        kinds = list(zip(k1, k2, k3, k4, strict=False))
        for scheme, (a, b, c, d) in SCHEMES.items():
            hits = [a * identical + b * same_bounds + c * same_label + d * overlap for identical, same_bounds, same_label, overlap in kinds]
            self._moments[scheme].extend(hits, gold, predicted, times)
        any_gold, any_predicted = list(map(bool, gold)), list(map(bool, predicted))
        self._moments["document"].extend(list(map(and_, any_gold, any_predicted)), any_gold, any_predicted, times)


class SpanCounts:
    """Moments of per-document counts: exact, mergeable, and small however many documents there are."""

    def __init__(self) -> None:
        self._documents = 0
        self._all = _Tally()
        self._labels: dict[str, _Tally] = {}

    def add(self, parts: Parts) -> None:
        """Add one document's score parts (see `SpanDetection.score`)."""
        self._documents += 1
        tallies = self._labels
        k1 = k3 = gold = predicted = both = only_predicted = only_gold = 0
        for label, entry in parts["labels"].items():
            if label not in tallies:
                tallies[label] = _Tally()
            tallies[label].batch.append(tuple(entry))
            a, b, c, d, e, f, g = entry
            k1 += a
            k3 += b
            gold += c
            predicted += d
            both += e
            only_predicted += f
            only_gold += g
        if gold or predicted:
            batch = self._all.batch
            batch.append((k1, k3, gold, predicted, both, only_predicted, only_gold, *parts["cross"]))
            if len(batch) >= _Tally.FULL:
                for tally in (self._all, *tallies.values()):
                    tally.fold()

    def merge(self, other: SpanCounts) -> None:
        """Add another shard's counts."""
        self._documents += other._documents
        self._all.merge(other._all)
        for label, tally in other._labels.items():
            self._labels.setdefault(label, _Tally()).merge(tally)

    def metrics(self) -> Metrics:
        """Every scheme over all documents and per label, macro F1 over the labels seen, and document-level detection."""
        labels = {label: _figures(tally.moments(), LEVELS) for label, tally in sorted(self._labels.items())}
        moments = self._all.moments()
        overall = _figures(moments, (*LEVELS, "document"))
        for scheme in LEVELS:
            overall[f"{scheme}.f1_macro"] = macro([figures[f"{scheme}.f1"] for figures in labels.values()])
        documents = moments["document"]
        false_positives = documents.actual - round(documents.hits)
        overall["document.false_positive_rate"] = proportion(false_positives, self._documents - documents.possible)
        return Metrics(overall, labels)

    def support(self) -> dict[str, int]:
        """Gold spans per label."""
        return {label: tally.moments()["strict"].possible for label, tally in sorted(self._labels.items())}


def _figures(moments: Mapping[str, Moments], schemes: Iterable[str]) -> dict[str, Estimate]:
    figures: dict[str, Estimate] = {}
    for scheme in schemes:
        figures[f"{scheme}.precision"] = moments[scheme].precision()
        figures[f"{scheme}.recall"] = moments[scheme].recall()
        figures[f"{scheme}.f1"] = moments[scheme].f1()
    return figures


class _Columns:
    """Score parts of many documents as columns, of one label or of all together; each is made when it is asked for."""

    def __init__(self, parts: Sequence[Parts]) -> None:
        np = numpy()
        self._parts = parts
        self._of_documents = [one["labels"] for one in parts]
        values = chain.from_iterable(chain.from_iterable(map(dict.values, self._of_documents)))
        self._entries = np.fromiter(values, dtype=np.int64).reshape(-1, 7)
        self._rows = np.repeat(np.arange(len(parts)), np.fromiter(map(len, self._of_documents), dtype=np.int64))

    @cached_property
    def _labels(self) -> tuple[dict[str, int], npt.NDArray[np.int16]]:
        """Each label's number, and the label of each entry."""
        np = numpy()
        known = {label: number for number, label in enumerate(sorted(set(chain.from_iterable(self._of_documents))))}
        kind = np.int16 if len(known) < 2**15 else np.int64
        return known, np.fromiter(map(known.__getitem__, chain.from_iterable(self._of_documents)), dtype=kind)

    @cached_property
    def _cross(self) -> Column:
        """The two kinds of pairs across labels, those of a document side by side."""
        found: Column = numpy().fromiter(chain.from_iterable([one["cross"] for one in self._parts]), dtype=float)
        return found

    def of(self, label: str | None) -> Callable[[int], Column]:
        """Columns by number: identical, overlapping with the same label, gold, predicted, tp, fp, fn characters; then the two kinds of pairs across labels."""
        np, n = numpy(), len(self._parts)
        here = slice(None)
        if label is not None:
            known, labels = self._labels
            here = np.flatnonzero(labels == known[label]) if label in known else slice(0)
        rows, entries = self._rows[here], self._entries[here]

        @cache
        def column(number: int) -> Column:
            if number < 7:
                found: Column = np.bincount(rows, weights=entries[:, number], minlength=n).astype(np.float64, copy=False)  # of no rows it counts in integers
                return found
            return self._cross[number - 7 :: 2].copy() if label is None else np.zeros(n)

        return column


def _terms(column: Callable[[int], Column], schemes: Collection[str]) -> dict[str, Ratio]:
    """What `_Tally` makes of documents, as columns."""
    found: dict[str, Ratio] = {}
    for scheme in schemes:
        gold, predicted = column(2), column(3)
        if scheme == "char":
            both, only_predicted, only_gold = (column(number) for number in (4, 5, 6))
            of = ratios(both, both + only_gold, both + only_predicted)
        elif scheme == "document":
            positive, flagged = ((column > 0).astype(column.dtype) for column in (gold, predicted))
            of = ratios(positive * flagged, positive, flagged)
            of["false_positive_rate"] = Ratio(((1 - positive) * flagged,), (1 - positive,))
        else:
            kinds = zip(SCHEMES[scheme], (0, 7, 1, 8), strict=True)  # the columns of the four kinds of pairs
            of = ratios(total([credit * column(number) for credit, number in kinds if credit]), gold, predicted)
        found |= {f"{scheme}.{name}": ratio for name, ratio in of.items()}
    return found


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
        self._canonical = canonical(labels, label_map)
        self._ignored = frozenset(ignored)
        # Each label with the least score it needs; one that is switched off wants more than any score.
        least = dict.fromkeys(labels, -math.inf) | dict(thresholds or {}) | dict.fromkeys(ignored, math.inf)
        self._known = {label: (label, least[label]) for label in labels}

    def sample(self, row: Mapping[str, Any]) -> Sample:
        """Read a row. Raises BadRow for a span outside the text, reversed, empty, or with an unknown label."""
        text = row["text"]
        if not isinstance(text, str):
            raise BadRow(f"'text' is {type(text).__name__}, not a string")
        size, canonical, ignored = len(text), self._canonical, self._ignored
        gold: list[Span] = []
        try:
            for span in row["spans"] or ():
                start, end, given = index(span["start"]), index(span["end"]), span["label"]
                if not 0 <= start < end <= size:
                    raise BadRow(_span_problem(start, end, given, size))
                label = canonical.get(given)
                if label is None:
                    raise BadRow(f"unknown label {given!r}; known: {', '.join(sorted(canonical))}")
                if label not in ignored:
                    gold.append((start, end, label))
        except (TypeError, KeyError) as problem:
            raise BadRow(f"expected a list of spans with whole 'start' and 'end' and a 'label', got {row['spans']!r:.200}: {problem!r}") from None
        gold.sort()
        return Sample(row["id"], {"id": row["id"], "text": text}, gold)

    def prediction(self, answer: Any, sample: Sample) -> list[tuple[int, int, str, float]]:
        """Check a list of predicted spans, drop those below their threshold, sort. Raises BadPrediction."""
        size, known = len(sample.inputs["text"]), self._known
        kept: list[tuple[int, int, str, float]] = []
        try:
            for span in _listed(answer):
                start, end, given, score = span if isinstance(span, tuple) and len(span) == 4 else _fields(span)
                start, end, score = index(start), index(end), float(score)
                if given not in known:
                    raise BadPrediction(f"unknown label {given!r}; the suite's labels: {', '.join(sorted(known))}")
                if not 0 <= start < end <= size:
                    raise BadPrediction(_span_problem(start, end, given, size))
                if not math.isfinite(score):
                    raise BadPrediction(f"the score of {given} {start}:{end} is {score}")
                label, least = known[given]
                if score >= least:
                    kept.append((start, end, label, score))
        except BadPrediction:
            raise
        except (TypeError, ValueError, KeyError) as problem:
            raise BadPrediction(f"expected a list of (start, end, label, score), got {answer!r:.200}: {problem!r}") from None
        kept.sort()
        return kept

    def score(self, sample: Sample, prediction: Sequence[tuple[int, int, str, float]]) -> Parts:
        """`labels`: per label [identical, overlapping, gold, predicted, tp, fp, fn characters]; `cross`: pairs across labels."""
        labels, cross = compare(sample.gold, [(start, end, label) for start, end, label, _ in prediction])
        return {"labels": labels, "cross": cross}

    def counts(self) -> SpanCounts:
        """Empty counts."""
        return SpanCounts()

    def terms(self, parts: Sequence[Parts], wanted: Collection[Key]) -> dict[Key, Ratio]:
        """All metrics but macro means."""
        columns = _Columns(parts)
        found: dict[Key, Ratio] = {}
        for label in dict.fromkeys(label for _, label in wanted):
            names = [name for name, of in wanted if of == label]
            schemes = [scheme for scheme in (*LEVELS, *(() if label else ("document",))) if any(name.startswith(f"{scheme}.") for name in names)]
            terms = _terms(columns.of(label), schemes) if schemes else {}
            found |= {(name, label): terms[name] for name in names if name in terms}
        return found


def _listed(answer: Any) -> Iterable[Any]:
    """The spans of an answer. An empty text or mapping is a mistake, not an answer without spans."""
    if isinstance(answer, list | tuple):
        return answer
    if isinstance(answer, str | bytes | Mapping):
        raise TypeError(f"{type(answer).__name__} is not a list")
    return list(answer)


def _fields(span: Any) -> tuple[Any, Any, Any, Any]:
    """Start, end, label and score of a span in any of its forms; without a score it is certain."""
    if isinstance(span, Mapping):
        return span["start"], span["end"], span["label"], span.get("score", 1.0)
    start, end, label, *score = span
    if len(score) > 1:
        raise ValueError(f"{3 + len(score)} fields in a span")
    return start, end, label, score[0] if score else 1.0


def _span_problem(start: int, end: int, label: Any, size: int) -> str:
    """Say what is wrong with a span's bounds."""
    where = f"span {label} {start}:{end}"
    if start >= end:
        return f"{where} is {'empty' if start == end else 'reversed'}: start must be before end"
    return f"{where} lies outside the text of {size} characters"
