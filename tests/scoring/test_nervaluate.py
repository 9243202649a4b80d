"""The four schemes against nervaluate, wherever both define the same thing, and each difference shown where they do not.

nervaluate's ends are inclusive; it walks the predictions in the order they came in, and anew for each scheme.
"""

import itertools
import random

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from nervaluate import Evaluator

from .documents import LABELS, disjoint, metrics_of, noisy, one_to_one, parts_of

SCHEMES = {"strict": "strict", "exact": "exact", "partial": "partial", "ent_type": "type"}


def evaluate(documents):
    def side(number):
        return [[{"start": start, "end": end - 1, "label": label} for start, end, label in document[number]] for document in documents]

    return Evaluator(side(0), side(1), tags=list(LABELS), loader="dict").evaluate()


def assert_same(documents):
    metrics = metrics_of(*documents)
    theirs = evaluate(documents)
    pairs = [(metrics.overall, theirs["overall"])] + [(metrics.labels[label], theirs["entities"][label]) for label in theirs["entities"]]
    assert set(metrics.labels) == set(theirs["entities"])
    for ours, their_figures in pairs:
        for their_name, name in SCHEMES.items():
            result = their_figures[their_name]
            for figure, divisor in (("precision", result.actual), ("recall", result.possible), ("f1", result.actual + result.possible)):
                value = ours[f"{name}.{figure}"].value
                if divisor:
                    assert value == pytest.approx(getattr(result, figure), abs=1e-12), (name, figure)
                else:
                    assert value is None  # theirs is 0: nothing to find is not a failure


def counts(parts):
    """Correct, incorrect, partial, missed, spurious of each scheme, from our score parts."""
    entries = parts["labels"].values()
    k1, k3, gold, predicted = (sum(entry[at] for entry in entries) for at in range(4))
    k2, k4 = parts["cross"]
    paired = k1 + k2 + k3 + k4
    missed, spurious = gold - paired, predicted - paired
    return {
        "strict": (k1, k2 + k3 + k4, 0, missed, spurious),
        "exact": (k1 + k2, k3 + k4, 0, missed, spurious),
        "partial": (k1 + k2, 0, k3 + k4, missed, spurious),
        "ent_type": (k1 + k3, k2 + k4, 0, missed, spurious),
    }


def their_counts(gold, predicted):
    overall = evaluate([(gold, predicted)])["overall"]
    return {name: (r.correct, r.incorrect, r.partial, r.missed, r.spurious) for name, r in overall.items()}


@pytest.mark.parametrize("seed", range(20))
def test_metrics_equal_nervaluate_on_random_corpora(seed):
    rng = random.Random(seed)
    documents = []
    while len(documents) < 100:
        gold = disjoint(rng)
        predicted = noisy(rng, gold) if rng.random() < 0.8 else disjoint(rng, 2)
        if one_to_one(gold, predicted):
            documents.append((gold, predicted))
    assert_same(documents)


@pytest.mark.parametrize("seed", range(10))
def test_counts_of_each_document_equal_nervaluate(seed):
    rng = random.Random(1000 + seed)
    for _ in range(200):
        gold = disjoint(rng)
        predicted = noisy(rng, gold)
        assert one_to_one(gold, predicted)
        assert counts(parts_of(gold, predicted)) == their_counts(gold, predicted)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.randoms(use_true_random=False), min_size=1, max_size=4))
def test_metrics_equal_nervaluate_whatever_the_documents(sources):
    documents = [(gold, noisy(rng, gold)) for rng in sources for gold in [disjoint(rng)]]
    assume(all(one_to_one(*document) for document in documents))
    assert_same(documents)


def test_strict_and_exact_need_no_unambiguous_pairs():
    """Identical bounds cannot be ambiguous where each side is disjoint, so correct ones are the same for any overlaps."""
    rng = random.Random(7)
    for _ in range(300):
        gold, predicted = disjoint(rng), disjoint(rng) if rng.random() < 0.5 else []
        predicted = predicted or [span for span in gold if rng.random() < 0.7]
        ours, theirs = counts(parts_of(gold, predicted)), their_counts(gold, predicted)
        assert ours["strict"][0] == theirs["strict"][0]


class TestDifferences:
    """Where nervaluate and this package differ, and why this package does what it does."""

    def test_nervaluate_depends_on_the_order_of_predictions(self):
        # The wide prediction comes first and takes the gold span that the right one needs.
        gold = [(10, 20, "NAME")]
        predicted = [(5, 30, "DATE"), (10, 20, "NAME")]
        assert their_counts(gold, predicted)["strict"] == (0, 1, 0, 0, 1)
        assert their_counts(gold, predicted[::-1])["strict"] == (1, 0, 0, 0, 1)
        assert counts(parts_of(gold, predicted)) == counts(parts_of(gold, predicted[::-1]))
        assert counts(parts_of(gold, predicted))["strict"] == (1, 0, 0, 0, 1)

    def test_a_prediction_over_two_gold_spans_leaves_the_other_one_free(self):
        # nervaluate pairs the wide prediction with the first gold span in one scheme and with the one of its label in another, so the same
        # document has a spurious span in `partial` and none in `ent_type`. One alignment serves all of ours.
        gold = [(0, 5, "DATE"), (6, 12, "NAME")]
        predicted = [(0, 12, "NAME"), (2, 4, "DATE")]
        assert their_counts(gold, predicted)["partial"] == (0, 0, 1, 1, 1)
        assert their_counts(gold, predicted)["ent_type"] == (2, 0, 0, 0, 0)
        assert counts(parts_of(gold, predicted))["partial"] == (0, 0, 2, 0, 0)
        assert counts(parts_of(gold, predicted))["ent_type"] == (2, 0, 0, 0, 0)

    def test_a_prediction_over_two_gold_spans_alone_is_the_same(self):
        gold = [(0, 5, "DATE"), (6, 12, "NAME")]
        predicted = [(0, 12, "NAME")]
        assert counts(parts_of(gold, predicted)) == their_counts(gold, predicted)

    def test_a_greedy_first_choice_costs_nervaluate_a_pair(self):
        # The first prediction could take either gold span, the second only the first: two pairs exist, a greedy walk finds one.
        gold = [(0, 20, "NAME"), (22, 30, "NAME")]
        predicted = [(5, 25, "NAME"), (6, 10, "NAME")]
        assert their_counts(gold, predicted)["partial"] == (0, 0, 1, 1, 1)
        assert counts(parts_of(gold, predicted))["partial"] == (0, 0, 2, 0, 0)

    def test_one_alignment_of_nested_gold_serves_all_schemes(self):
        # The prediction has the bounds of one gold span and the label of the other. Same bounds come first, so `type` sees a wrong label.
        gold = [(0, 10, "NAME"), (4, 6, "DATE")]
        predicted = [(0, 10, "DATE")]
        assert counts(parts_of(gold, predicted))["exact"] == (1, 0, 0, 1, 0)
        assert counts(parts_of(gold, predicted))["ent_type"] == (0, 1, 0, 1, 0)
        assert their_counts(gold, predicted)["ent_type"] == (1, 0, 0, 1, 0)  # paired with the inner span, in this scheme only

    def test_an_overlap_below_one_percent_is_an_overlap(self):
        # nervaluate wants 1 % of the gold span by default.
        from pytest_gpueval.scoring.alignment import compare

        gold, predicted = [(0, 400, "NAME")], [(398, 410, "NAME")]
        assert their_counts(gold, predicted)["partial"] == (0, 0, 0, 1, 1)
        entries, cross = compare(gold, predicted)
        assert entries["NAME"][:4] == [0, 1, 1, 1]
        assert cross == [0, 0]

    def test_per_label_a_span_with_another_label_earns_nothing_in_both(self):
        ours = metrics_of(([(0, 5, "NAME")], [(0, 5, "DATE")]))
        theirs = evaluate([([(0, 5, "NAME")], [(0, 5, "DATE")])])
        assert ours.overall["exact.f1"].value == theirs["overall"]["exact"].f1 == 1
        assert ours.labels["NAME"]["exact.recall"].value == theirs["entities"]["NAME"]["exact"].recall == 0

    def test_nothing_to_find_and_nothing_found_is_unscored(self):
        assert evaluate([([], [])])["overall"]["strict"].f1 == 0
        assert metrics_of(([], [])).overall["strict.f1"].value is None

    @pytest.mark.parametrize("seed", range(5))
    def test_ours_is_the_same_for_every_order(self, seed):
        rng = random.Random(seed)
        gold = [(s, s + rng.randint(1, 15), rng.choice(LABELS)) for s in (rng.randint(0, 40) for _ in range(4))]
        predicted = [(s, s + rng.randint(1, 15), rng.choice(LABELS)) for s in (rng.randint(0, 40) for _ in range(4))]
        expected = parts_of(gold, predicted)
        for order in itertools.permutations(predicted):
            assert parts_of(gold[::-1], order) == expected
