"""Samples of a case -> columns and chunks for the browser, and what is drawn of all of them.

The browser gets columns that it filters and sorts by (id, outcome, labels, score, latency) in one block, and what it shows of a sample in chunks of
1,000, which it unpacks when one of their rows is looked at: the first paint waits for neither.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal, NamedTuple

from . import drawing
from .curves import DETECTION, ByLabel, matched
from .packing import Redact, clean_value, cleaned, packed
from .parts import Chunk, Part, chosen, wanted
from .records import Bin, Curve, Samples

Texts = Literal["yes", "no", "errors"]
RIGHT, WRONG, ERROR, SKIPPED = range(4)
CHUNK: Final = 1000
# Bytes of packed samples, all cases together: a page beyond opens slowly and is refused by many a mail server and CI.
MOST_BYTES: Final = 20_000_000
# Samples of one case, and right ones among them: what went wrong has room behind those too.
MOST_SAMPLES: Final = 200_000
MOST_RIGHT: Final = 100_000
# None of so many is left out, whatever they are.
MOST_ALIKE: Final = min(MOST_SAMPLES, MOST_RIGHT) // CHUNK * CHUNK
# Labels of a case that have curves of their own, the points of each, and the bytes of all that a page has.
MOST_LABELS: Final = 100
_LABEL_POINTS: Final = 60
MOST_CURVES: Final = 1_000_000
# Of a text, in characters.
_LONGEST: Final = 20_000
_HISTOGRAM: Final = 28
_TOO_LARGE = "The page would be too large with all texts: some are left out."
_CUT = "A secret was cut out of this text: its spans are not shown."


@dataclass
class Budget:
    """What the cases of a page may still take, in bytes: samples, and curves of labels."""

    left: int = MOST_BYTES
    curves: int = MOST_CURVES


@dataclass(frozen=True, slots=True)
class Given:
    """What the split says of a sample: the text, or messages as (role, content); gold spans (start, end, label) or accepted answers; choices."""

    text: Any
    gold: Any = None
    choices: Sequence[str] | None = None


@dataclass(slots=True)
class _Judged:
    """`labels`: index x 2, + 1 where the sample is wrong in this label. `score` in [0, 1]."""

    state: int
    score: float | None = None
    labels: list[int] = field(default_factory=list)
    gold: Any = None
    prediction: Any = None


class _Kept(NamedTuple):
    number: int
    record: Mapping[str, Any]
    judged: _Judged
    given: Given | None


class _Names(dict[str, int]):
    """Labels and their numbers; a new one gets the next."""

    def __missing__(self, label: str) -> int:
        self[label] = number = len(self)
        return number


class Collector:
    """Takes the samples of one case, in order. `task`: span_detection, classification, multilabel, generation, or any other name."""

    def __init__(self, task: str, labels: Sequence[str], *, texts: Texts, redact: Redact, budget: Budget, threshold: str = "", start: int = 0) -> None:
        """`start`: the samples before the first, where another collector has them, and `join`s what this one's `part` gives."""
        self._task = task
        self._texts = texts
        self._redact = redact
        self._budget = budget
        self._threshold = threshold
        self._names = _Names((label, number) for number, label in enumerate(labels))
        self._given_labels = len(self._names)
        self._support: Counter[str] = Counter()
        self._scores = ByLabel()
        self._bins: Counter[int] = Counter()
        # Full chunks are packed at once, beside the next one's making: memory does not grow with the texts.
        self._waiting: list[_Kept] = []
        self._packer = ThreadPoolExecutor(1, "packer")
        self._packing: tuple[list[_Kept], int, Future[str]] | None = None
        self._blocks: list[str] = []
        self._before = start // CHUNK
        self._chunks: list[Chunk] = []
        self._sizes: list[int] = []
        self._columns: dict[str, list[Any]] = {name: [] for name in ("number", "id", "state", "score", "ms", "of")}
        self._counts = [0, 0, 0, 0]
        self._kept = self._kept_right = 0
        self._held = 0
        self._seen = start
        self._of_part = start > 0
        self._note: str | None = None

    def add(self, record: Mapping[str, Any], given: Given | None) -> None:
        """A line of results.jsonl, and what the split says of it, where that can be read."""
        self._seen += 1
        judged = self._judged(record, given)
        latency, state = record.get("latency_ms"), judged.state
        if latency is not None:
            self._bins[math.floor(math.log(max(latency, _LEAST_MS)) / _WIDTH)] += 1
        self._counts[state] += 1
        if self._seen % CHUNK == 0:  # of samples that are left out too
            self._scores.settle()
        right = state == RIGHT
        if self._kept >= MOST_SAMPLES or (right and self._kept_right >= MOST_RIGHT):
            return
        self._kept += 1
        self._kept_right += right
        self._waiting.append(_Kept(self._seen, record, judged, given if self._shown(state) else None))
        if len(self._waiting) == CHUNK:
            self._flush()

    def done(self, note: str | None = None) -> Samples:
        """All of them, packed. `note`: why there are no texts, where that is so."""
        if self._waiting:
            self._flush()
        self._settle()
        self._scores.settle()
        self._packer.shutdown()
        columns = dict(self._columns)
        if self._kept == self._seen:  # numbers are the places
            columns["number"] = []
        facts = {"task": self._task, "labels": cleaned(list(self._names), self._redact), "chunk": CHUNK}
        columns["id"] = cleaned(columns["id"], self._redact)
        first = packed({**facts, **columns, "state": "".join(map(str, columns["state"]))})
        self._budget.left -= len(first)
        curves, of_labels = self._curves()
        return Samples(
            blocks=[first, *self._blocks],
            seen=self._seen,
            kept=self._kept,
            texts=self._held,
            wrong=self._counts[WRONG],
            support=dict(self._support),
            latencies=self._latencies(),
            curves=curves,
            label_curves=of_labels,
            note=self._note or note,
        )

    def part(self) -> Part:
        """What there is of a stretch of the samples, to be joined to those before it."""
        if self._waiting:
            self._flush()
        self._scores.settle()
        self._packer.shutdown()
        return Part(self._chunks, self._columns, self._counts, self._bins, self._support, len(self._names), self._scores)

    def join(self, part: Part) -> bool:
        """Take the stretch that follows. False, and nothing is taken, where it does not fit what is here: then its samples are to be added one by one."""
        self._settle()
        found = chosen(part.chunks, self._budget.left, full=not self._note)
        if found is None or self._waiting or not part.labels == len(self._names) == self._given_labels:
            return False
        blocks, full = found
        self._note = None if full else _TOO_LARGE
        self._blocks += [block for block, _ in blocks]
        self._held += sum(held for _, held in blocks)
        self._budget.left -= sum(len(block) for block, _ in blocks)
        for name, values in part.columns.items():
            self._columns[name] += values
        samples = len(part.columns["id"])
        self._seen += samples
        self._kept += samples
        self._kept_right += part.counts[RIGHT]
        self._counts = [mine + theirs for mine, theirs in zip(self._counts, part.counts, strict=True)]
        self._bins.update(part.bins)
        self._support.update(part.support)
        self._scores.merge(part.scores)
        return True

    def _shown(self, state: int) -> bool:
        return self._texts == "yes" or (self._texts == "errors" and state != RIGHT)

    # One sample.

    def _judged(self, record: Mapping[str, Any], given: Given | None) -> _Judged:
        if "score" not in record:
            return _Judged(ERROR if "error" in record else SKIPPED)
        parts, prediction = record["score"], record.get("prediction")
        if self._task == "span_detection":
            return self._spans(parts, prediction, given)
        if self._task == "classification":
            return self._classified(parts, prediction)
        if self._task == "multilabel":
            return self._labelled(parts, prediction)
        if self._task == "generation":
            right, n = parts["right"], parts["n"]
            return _Judged(RIGHT if right else WRONG, right / n if n else None, gold=given.gold if given else None, prediction=prediction)
        return _Judged(RIGHT, gold=given.gold if given else None, prediction=prediction)

    def _spans(self, parts: Mapping[str, Any], prediction: Any, given: Given | None) -> _Judged:
        """`gold`: spans that were missed; `prediction`: start, length, label, score, and whether it is right, where that is known."""
        names, labels, hits, count, wrong = self._names, [], 0, 0, False
        for label, (identical, _, gold, predicted, *_) in parts["labels"].items():
            missed = identical != gold or identical != predicted
            labels.append(2 * names[label] + missed)
            hits += identical
            count += gold + predicted
            wrong |= missed
            if gold:
                self._support[label] += gold
                if given is not None:
                    self._scores.expect(label, gold)
        state, score = WRONG if wrong else RIGHT, 2 * hits / count if count else None
        if given is None:
            return _Judged(state, score, labels, None, [(start, end - start, names[label], score) for start, end, label, score in prediction])
        flags, missed = matched(given.gold, prediction)
        self._scores.add_spans(prediction, flags)
        found = [(start, end - start, names[label], score, int(hit)) for (start, end, label, score), hit in zip(prediction, flags, strict=True)]
        return _Judged(state, score, labels, [(start, end - start, names[label]) for start, end, label in missed], found)

    def _classified(self, parts: Mapping[str, Any], prediction: Any) -> _Judged:
        gold, predicted, confidence = parts["gold"], parts["predicted"], parts.get("confidence")
        right = gold == predicted
        self._support[gold] += 1
        if confidence is not None:
            self._scores.expect(gold)
            self._scores.add(predicted, confidence, hit=right)
        pair = [2 * self._names[gold] + (not right), 2 * self._names[predicted] + (not right)]  # the browser's confusion matrix asks for both
        return _Judged(RIGHT if right else WRONG, confidence, pair, gold, prediction if isinstance(prediction, Mapping) else predicted)

    def _labelled(self, parts: Mapping[str, Any], prediction: Any) -> _Judged:
        gold, predicted = set(parts["gold"]), set(parts["predicted"])
        self._support.update(gold)
        if "scores" in parts:
            for label in parts["gold"]:
                self._scores.expect(label)
            for label, score in parts["scores"].items():
                self._scores.add(label, score, hit=label in gold)
        labels = [2 * self._names[label] + (label not in gold or label not in predicted) for label in sorted(gold | predicted)]
        score = len(gold & predicted) / len(gold | predicted) if gold | predicted else None
        shown = {"labels": parts["predicted"], "scores": prediction if isinstance(prediction, Mapping) else None}
        return _Judged(RIGHT if gold == predicted else WRONG, score, labels, parts["gold"], shown)

    # What the browser gets.

    def _flush(self) -> None:
        """Have the rows that wait packed; without texts where earlier ones did not fit any more."""
        self._settle()
        rows, self._waiting = self._waiting, []
        self._list(rows)
        if self._of_part:
            self._chunks.append(self._chunk(rows))
            return
        held = 0 if self._note else sum(row.given is not None for row in rows)
        self._packing = rows, held, self._packer.submit(packed, self._details(rows, texts=not self._note))

    def _chunk(self, rows: Sequence[_Kept]) -> Chunk:
        """Rows packed for whoever knows the room that is left."""
        with_texts, without = wanted(self._budget.left, sum(self._sizes), len(self._sizes), self._before)
        full = packed(self._details(rows, texts=True)) if with_texts else None
        bare = packed(self._details(rows, texts=False)) if without else None
        self._sizes.append(len(full or bare or ""))
        return Chunk(full, bare, sum(row.given is not None for row in rows))

    def _settle(self) -> None:
        """Take what was packed; without texts where they do not fit."""
        if self._packing is None:
            return
        rows, held, packing = self._packing
        self._packing, block = None, packing.result()
        if len(block) > self._budget.left and held:
            block, held = packed(self._details(rows, texts=False)), 0
            self._note = _TOO_LARGE
        self._budget.left -= len(block)
        self._held += held
        self._blocks.append(block)

    def _list(self, rows: Sequence[_Kept]) -> None:
        """What the browser filters and sorts by, a column at a time."""
        columns = self._columns
        columns["number"] += [row.number for row in rows]
        columns["id"] += [row.record["id"] for row in rows]
        columns["state"] += [row.judged.state for row in rows]
        columns["score"] += [None if row.judged.score is None else round(row.judged.score, 3) for row in rows]
        columns["ms"] += [_short(row.record.get("latency_ms")) for row in rows]
        columns["of"] += [row.judged.labels for row in rows]

    def _details(self, rows: Sequence[_Kept], *, texts: bool) -> dict[str, Any]:
        """What is shown of each row. All that is text is redacted here; offsets and labels' numbers need not be."""
        given = [row.given if texts else None for row in rows]
        text = [_cut(found.text) if found else None for found in given]
        gold = [row.judged.gold for row in rows]
        predicted = [row.judged.prediction for row in rows]
        told = {place: message for place, row in enumerate(rows) if (message := row.record.get("error") or row.record.get("skipped"))}
        messages = {place: self._redact(str(message)) for place, message in told.items()}
        clean = [clean_value(item, self._redact) for item in text]
        if self._task == "span_detection":
            for place in range(len(rows)):
                if clean[place] != text[place]:  # offsets count into the text as it was
                    gold[place], predicted[place], messages[place] = None, [], _CUT
        else:
            hidden = self._task not in ("classification", "multilabel")  # answers are texts too
            for place, row in enumerate(rows):
                shown = not hidden or (texts and self._shown(row.judged.state))
                gold[place] = clean_value(gold[place], self._redact) if shown else None
                predicted[place] = clean_value(predicted[place], self._redact) if shown else None
        choices = {place: clean_value(list(found.choices), self._redact) for place, found in enumerate(given) if found and found.choices}
        tokens = {place: row.record["tokens"] for place, row in enumerate(rows) if row.record.get("tokens")}
        return {"text": clean, "gold": gold, "predicted": predicted, "message": messages, "choices": choices, "tokens": tokens}

    # What is drawn.

    def _curves(self) -> tuple[list[Curve], str]:
        """Those of all labels together, and packed, for whoever chooses one, those of each label."""
        whole = self._scores.pooled()
        if self._task == "classification":
            note = "Of the answers with this confidence or more: how many are right, and how many there are."
            found = whole.confidence("Accuracy and coverage over the confidence", note)
            title, words = "Precision and recall over the confidence", "If only answers of this label with this confidence or more counted."
        else:
            below = f"\nWhat the policy drops is not known: {self._threshold}." if self._threshold else ""
            title, words = "Precision and recall over the threshold", f"If only predictions of this label with this score or more counted.{below}"
            found = whole.detection(title, f"If only predictions with this score or more counted, all labels together.{below}")
        if found is None:
            return [], ""
        of_labels = self._label_curves(title, words)
        if len(of_labels) > self._budget.curves:
            return [replace(found, note=f"{found.note}\nThose of each label are left out: the page has enough of them.")], ""
        self._budget.curves -= len(of_labels)
        return [found], of_labels

    def _label_curves(self, title: str, note: str) -> str:
        """The texts below the axis and the points of the lines of each label that has a curve."""
        largest = self._scores.largest(self._names, MOST_LABELS)
        found = {label: curve for label, scores in largest if (curve := scores.detection(title, note, _LABEL_POINTS)) is not None}
        if not found:
            return ""
        if len(self._names) > MOST_LABELS:
            note = f"{note}\nOf {len(self._names):,} labels, the {MOST_LABELS} that are most frequent can be chosen."
        axes = [drawing.curve(curve) for curve in found.values()]
        drawn = [{"ticks": [text for _, text in one.x], "lines": [points for _, points in one.lines]} for one in axes]
        return packed({"title": title, "note": self._redact(note), "names": DETECTION, "labels": cleaned(list(found), self._redact), "drawn": drawn})

    def _latencies(self) -> list[Bin]:
        """At most some thirty bins, equally wide on a logarithmic scale."""
        if not self._bins:
            return []
        first, last = min(self._bins), max(self._bins)
        step = -(-(last - first + 1) // _HISTOGRAM)
        joined: Counter[int] = Counter()
        for key, count in self._bins.items():
            joined[(key - first) // step] += count
        edges = [math.exp((first + step * place) * _WIDTH) for place in range(max(joined) + 2)]
        return [Bin(edges[place], edges[place + 1], joined[place]) for place in range(max(joined) + 1)]


_WIDTH: Final = math.log(1.02)
_LEAST_MS: Final = 1e-3


def _short(value: float | None) -> float | None:
    return None if value is None else round(value, 3) if value < 10 else round(value, 1)


def _cut(text: Any) -> Any:
    return f"{text[:_LONGEST]} ..." if isinstance(text, str) and len(text) > _LONGEST else text
