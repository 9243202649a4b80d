"""Multi-label classification: any number of labels for each sample.

Precision, recall and F1 per label, macro (over the labels for which they are defined) and micro (over all decisions, with documents as the units of the
interval); the share of samples whose labels are all right, and of decisions that are wrong (Hamming loss); where answers hold scores, AUROC and average
precision of each label. The names and definitions are scikit-learn's, with `zero_division=nan`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from .estimates import Estimate, Moments, proportion, ratio
from .labels import FIGURES, Ranking, averages, checked, macro_ranking, unknown
from .task import BadPrediction, BadRow, Metrics, Parts, Sample, canonical
from .terms import Key, Ratio, figures, numpy

# The least score of a label that counts as predicted, where the policy does not say.
THRESHOLD = 0.5


class MultiLabelCounts:
    """How many documents had which counts, and per label the 2 x 2 table: exact, mergeable, and small however many documents there are."""

    def __init__(self, labels: Sequence[str]) -> None:
        self._labels = labels
        self._documents: dict[tuple[int, int, int], int] = {}  # (hits, gold, predicted) -> documents
        self._tables: dict[str, list[int]] = {}  # label -> true positives, false positives, false negatives
        self._ranking = Ranking(labels)

    def add(self, parts: Parts) -> None:
        """Add one document's parts (see `MultiLabel.score`)."""
        gold, predicted, tables = parts["gold"], parts["predicted"], self._tables
        hits = 0
        for label in predicted:
            hit = label in gold
            hits += hit
            tables.setdefault(label, [0, 0, 0])[0 if hit else 1] += 1
        for label in gold:
            if label not in predicted:
                tables.setdefault(label, [0, 0, 0])[2] += 1
        key = (hits, len(gold), len(predicted))
        self._documents[key] = self._documents.get(key, 0) + 1
        if "scores" in parts:
            self._ranking.add(gold, parts["scores"])

    def merge(self, other: MultiLabelCounts) -> None:
        """Add another shard's counts."""
        for key, times in other._documents.items():
            self._documents[key] = self._documents.get(key, 0) + times
        for label, table in other._tables.items():
            mine = self._tables.setdefault(label, [0, 0, 0])
            mine[:] = [here + there for here, there in zip(mine, table, strict=True)]
        self._ranking.merge(other._ranking)

    def metrics(self) -> Metrics:
        """All figures over all documents and per label seen. Those of scores are left out where no answer held any."""
        total = sum(self._documents.values())
        micro, right, wrong, wrong_squared = Moments(), 0, 0, 0
        for (hits, gold, predicted), times in self._documents.items():
            micro.add(hits, gold, predicted, times)
            misses = gold + predicted - 2 * hits
            right += times if not misses else 0
            wrong += times * misses
            wrong_squared += times * misses * misses
        k, figures = len(self._labels), self._ranking.figures()
        labels: dict[str, dict[str, Estimate]] = {}
        tables: dict[str, dict[str, int]] = {}
        for label, (both, only_predicted, only_gold) in sorted(self._tables.items()):
            moments = Moments()
            moments.extend((1, 0, 0), (1, 0, 1), (1, 1, 0), (both, only_predicted, only_gold))
            labels[label] = {**_figures(moments), **figures.get(label, {})}
            tables[label] = {"tp": both, "fp": only_predicted, "fn": only_gold, "tn": total - both - only_predicted - only_gold}
        overall = {
            **{f"{name}_micro": estimate for name, estimate in _figures(micro).items()},
            **averages(labels),
            "subset_accuracy": proportion(right, total),
            # Wrong decisions over all decisions, of which every document has as many as there are labels.
            "hamming_loss": ratio(total, wrong, k * total, wrong_squared, k * wrong, k * k * total),
            **(macro_ranking(figures) if figures or not total else {}),
        }
        return Metrics(overall, labels, {"confusion": tables} if tables else {})


def _figures(moments: Moments) -> dict[str, Estimate]:
    return dict(zip(FIGURES, (moments.precision(), moments.recall(), moments.f1()), strict=True))


class MultiLabel:
    """Give any number of labels to each sample.

    A split has `id`, `text` and `label`, a list of strings. A model answers with a list of labels, or with a mapping label -> score in [0, 1]; a label
    that is missing has 0. Those are predicted whose score reaches the policy's threshold, 0.5 where it says none. A label of `ignored` counts on
    neither side.
    """

    columns = ("id", "text", "label")
    headline = "f1_micro"

    def __init__(
        self,
        labels: Collection[str],
        label_map: Mapping[str, str] | None = None,
        thresholds: Mapping[str, float] | None = None,
        ignored: Collection[str] = (),
    ) -> None:
        self._canonical = canonical(labels, label_map)
        self._known = frozenset(labels)
        self._labels = tuple(label for label in labels if label not in ignored)
        self._least = {label: (thresholds or {}).get(label) or THRESHOLD for label in self._labels}

    def sample(self, row: Mapping[str, Any]) -> Sample:
        """Read a row; its gold are sorted labels. Raises BadRow for an unknown label, or one label that is not in a list."""
        text, given = row["text"], row["label"]
        if not isinstance(text, str):
            raise BadRow(f"'text' is {type(text).__name__}, not a string")
        if not isinstance(given, (list, tuple, type(None))):
            raise BadRow(f"'label' is {given!r:.200}, not a list of labels, which task_options.multilabel asks for")
        gold: set[str] = set()
        for name in given or ():
            label = self._canonical.get(name) if isinstance(name, str) else None
            if label is None:
                raise BadRow(f"unknown label {name!r:.200}; known: {', '.join(sorted(self._canonical))}")
            if label in self._least:
                gold.add(label)
        return Sample(row["id"], {"id": row["id"], "text": text}, sorted(gold))

    def prediction(self, answer: Any, sample: Sample) -> list[str] | dict[str, float]:  # noqa: ARG002 - part of the seam
        """Check an answer: the sorted labels, or label -> score. Raises BadPrediction for an unknown label or a score outside [0, 1]."""
        if isinstance(answer, Mapping):
            scores = checked(answer, self._known)
            return {label: scores[label] for label in self._labels if label in scores}
        try:
            given = None if isinstance(answer, str | bytes) else list(answer)
        except TypeError:
            given = None
        if given is None:
            raise BadPrediction(f"expected a list of labels or label -> score, got {answer!r:.200}")
        for label in given:
            if not isinstance(label, str) or label not in self._known:
                raise BadPrediction(unknown(label, self._known))
        return sorted({str(label) for label in given if label in self._least})

    def score(self, sample: Sample, prediction: Sequence[str] | Mapping[str, float]) -> Parts:
        """`gold` and `predicted` labels, sorted; `scores` where the answer held them."""
        if isinstance(prediction, Mapping):
            predicted = sorted(label for label, score in prediction.items() if score >= self._least[label])
            return {"gold": sample.gold, "predicted": predicted, "scores": prediction}
        return {"gold": sample.gold, "predicted": prediction}

    def counts(self) -> MultiLabelCounts:
        """Empty counts."""
        return MultiLabelCounts(self._labels)

    def terms(self, parts: Sequence[Parts], wanted: Collection[Key]) -> dict[Key, Ratio]:
        """Micro figures, subset accuracy, Hamming loss, and precision, recall and F1 of labels."""
        np = numpy()
        found: dict[Key, Ratio] = {}
        sides = [(set(one["gold"]), set(one["predicted"])) for one in parts]
        for label in dict.fromkeys(label for _, label in wanted):
            if label is None:
                hits, gold, predicted = np.array([(len(g & p), len(g), len(p)) for g, p in sides], dtype=np.float64).reshape(-1, 3).T.copy()
                misses, one_each = gold + predicted - 2 * hits, np.ones(len(parts))
                terms = {f"{name}_micro": ratio for name, ratio in figures(hits, gold, predicted).items()}
                terms["subset_accuracy"] = Ratio((1.0 * (misses == 0),), (one_each,))
                terms["hamming_loss"] = Ratio((misses,), (len(self._labels) * one_each,))
            else:
                gold, predicted = np.array([(label in g, label in p) for g, p in sides], dtype=np.float64).reshape(-1, 2).T.copy()
                terms = figures(gold * predicted, gold, predicted)
            found |= {(name, of): terms[name] for name, of in wanted if of == label and name in terms}
        return found
