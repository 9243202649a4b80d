"""Span scoring by hand: each scheme, characters, documents, nested spans, Unicode."""

import pytest

from pytest_gpueval.scoring.estimates import UNSCORED
from pytest_gpueval.scoring.spans import SpanDetection

from .documents import TASK, counts_of, metrics_of, parts_of

# Per document: two found, one with shifted bounds, one with another label, one shifted and relabelled, one missed, one invented.
GOLD = [(0, 5, "NAME"), (6, 10, "DATE"), (11, 15, "NAME"), (16, 20, "PHONE"), (21, 25, "ID"), (30, 35, "DATE")]
PREDICTED = [(0, 5, "NAME"), (6, 10, "DATE"), (12, 17, "NAME"), (18, 20, "NAME"), (21, 25, "NAME"), (40, 44, "ID")]


def values(metrics, scheme):
    return tuple(metrics.overall[f"{scheme}.{figure}"].value for figure in ("precision", "recall", "f1"))


@pytest.mark.parametrize(
    ("scheme", "credit"),
    [
        ("strict", 2),  # 0:5 and 6:10
        ("exact", 3),  # and 21:25, whatever the label
        ("partial", 4),  # and half for 12:17 and for 18:20
        ("type", 3),  # the identical ones and 12:17
    ],
)
def test_each_scheme_by_hand(scheme, credit):
    assert values(metrics_of((GOLD, PREDICTED)), scheme) == pytest.approx((credit / 6, credit / 6, credit / 6))


def test_parts_by_hand():
    assert parts_of(GOLD, PREDICTED) == {
        "labels": {
            "NAME": [1, 1, 2, 4, 8, 8, 1],  # characters: 5 + 3 in both; 15:17, 18:20, 21:25 only predicted; 11 only gold
            "DATE": [1, 0, 2, 1, 4, 0, 5],
            "PHONE": [0, 0, 1, 0, 0, 0, 4],
            "ID": [0, 0, 1, 1, 0, 4, 4],
        },
        "cross": [1, 1],
    }


def test_precision_and_recall_have_different_divisors():
    metrics = metrics_of(([(0, 5, "NAME"), (6, 9, "NAME")], [(0, 5, "NAME")]))
    assert values(metrics, "strict") == pytest.approx((1, 0.5, 2 / 3))
    assert values(metrics, "char") == pytest.approx((1, 5 / 8, 10 / 13))


def test_figures_are_over_all_documents_not_means_of_documents():
    metrics = metrics_of(([(0, 5, "NAME")], []), ([(0, 5, "NAME"), (6, 9, "NAME"), (10, 12, "NAME")], [(0, 5, "NAME"), (6, 9, "NAME"), (10, 12, "NAME")]))
    assert metrics.overall["strict.recall"].value == 3 / 4
    assert metrics.overall["strict.recall"].n == 2
    assert metrics.overall["strict.precision"].n == 1


def test_figures_per_label_and_macro():
    metrics = metrics_of((GOLD, PREDICTED))
    assert {label: figures["strict.f1"].value for label, figures in metrics.labels.items()} == pytest.approx(
        {"NAME": 2 / 6, "DATE": 2 / 3, "PHONE": 0, "ID": 0}
    )
    assert metrics.overall["strict.f1_macro"].value == pytest.approx((2 / 6 + 2 / 3) / 4)
    assert counts_of([(GOLD, PREDICTED)]).support() == {"DATE": 2, "ID": 1, "NAME": 2, "PHONE": 1}


def test_document_level_by_hand():
    something = [(0, 5, "NAME")]
    elsewhere = [(20, 22, "DATE")]
    documents = [(something, elsewhere), (something, []), ([], something), ([], []), ([], []), ([], [])]
    overall = metrics_of(*documents).overall
    assert overall["document.precision"].value == 1 / 2
    assert overall["document.recall"].value == 1 / 2
    assert overall["document.f1"].value == 1 / 2
    assert overall["document.false_positive_rate"].value == 1 / 4
    assert overall["document.false_positive_rate"].n == 4


class TestNothingThere:
    def test_no_documents(self):
        metrics = metrics_of()
        assert set(metrics.overall.values()) == {UNSCORED}
        assert metrics.labels == {}

    def test_all_negative_and_silent_is_unscored_but_has_a_false_positive_rate(self):
        overall = dict(metrics_of(*[([], [])] * 10).overall)
        rate = overall.pop("document.false_positive_rate")
        assert rate.value == 0
        assert rate.n == 10
        assert set(overall.values()) == {UNSCORED}

    def test_all_negative_with_predictions_has_precision_but_no_recall(self):
        overall = metrics_of(([], [(0, 5, "NAME")]), ([], [])).overall
        assert overall["strict.precision"].value == 0
        assert overall["strict.recall"] == UNSCORED
        assert overall["document.false_positive_rate"].value == 1 / 2

    def test_all_positive_has_no_false_positive_rate(self):
        assert metrics_of(([(0, 5, "NAME")], [])).overall["document.false_positive_rate"] == UNSCORED

    def test_empty_documents_change_no_figure_of_spans(self):
        alone, among = metrics_of((GOLD, PREDICTED)), metrics_of(([], []), (GOLD, PREDICTED), ([], []))
        for name in alone.overall:
            if not name.startswith("document"):
                assert alone.overall[name] == among.overall[name]


class TestNested:
    def test_identical_nested_sides_are_perfect_at_every_level(self):
        nested = [(0, 10, "NAME"), (2, 5, "NAME"), (4, 12, "DATE")]
        assert parts_of(nested, nested) == {"labels": {"NAME": [2, 0, 2, 2, 10, 0, 0], "DATE": [1, 0, 1, 1, 8, 0, 0]}, "cross": [0, 0]}

    def test_identical_spans_pair_before_anything_else(self):
        parts = parts_of([(0, 10, "NAME"), (2, 5, "NAME")], [(2, 5, "NAME"), (1, 9, "NAME")])
        assert parts["labels"]["NAME"] == [1, 1, 2, 2, 8, 0, 2]

    def test_characters_count_once_however_many_spans_cover_them(self):
        parts = parts_of([(0, 6, "NAME"), (4, 10, "NAME")], [(0, 8, "NAME"), (2, 5, "NAME"), (30, 32, "NAME")])
        assert parts["labels"]["NAME"][4:] == [8, 2, 2]

    def test_two_predictions_inside_one_gold_span_pair_once(self):
        parts = parts_of([(0, 10, "NAME")], [(0, 4, "NAME"), (5, 9, "NAME")])
        assert parts["labels"]["NAME"] == [0, 1, 1, 2, 8, 0, 2]

    def test_one_prediction_over_two_gold_spans_pairs_once(self):
        parts = parts_of([(0, 4, "NAME"), (5, 9, "NAME")], [(0, 10, "NAME")])
        assert parts["labels"]["NAME"] == [0, 1, 2, 1, 8, 2, 0]

    def test_as_many_pairs_as_can_be(self):
        # The prediction that ends first has one choice; the wide one takes the other gold span.
        parts = parts_of([(0, 11, "NAME"), (14, 18, "NAME")], [(0, 20, "NAME"), (10, 12, "NAME")])
        assert parts["labels"]["NAME"][1] == 2

    def test_a_span_said_twice_counts_twice_and_is_right_once(self):
        assert parts_of([(0, 5, "NAME")], [(0, 5, "NAME")] * 2)["labels"]["NAME"] == [1, 0, 1, 2, 5, 0, 0]
        assert parts_of([(0, 5, "NAME")] * 2, [(0, 5, "NAME")])["labels"]["NAME"] == [1, 0, 2, 1, 5, 0, 0]
        assert parts_of([(0, 5, "NAME")] * 2, [(1, 4, "NAME")] * 2)["labels"]["NAME"] == [0, 2, 2, 2, 3, 0, 2]
        assert parts_of([(0, 5, "NAME")] * 2, [(1, 4, "DATE")] * 3)["cross"] == [0, 2]

    def test_same_bounds_with_two_labels(self):
        both = [(0, 5, "NAME"), (0, 5, "DATE")]
        assert parts_of(both, both)["cross"] == [0, 0]
        assert parts_of(both, [(0, 5, "ID"), (0, 5, "PHONE")])["cross"] == [2, 0]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Zoe\u0308 ist da", "Zoe\u0308"),  # a combining mark is a character of its own
        ("von \U0001f469\u200d\U0001f52c\u200d an", "\U0001f469\u200d\U0001f52c"),  # joined emoji are several
        ("\U0001d49c\U0001d4b7 x", "\U0001d4b7"),  # beyond 16 bits, yet one
        ("a\r\nb\u0000c", "b\u0000c"),
        ("\u0418\u0432\u0430\u043d", "\u0418\u0432\u0430\u043d"),
    ],
)
def test_offsets_are_python_indices(text, found):
    start = text.index(found)
    end = start + len(found)
    sample = TASK.sample({"id": "a", "text": text, "spans": [{"start": start, "end": end, "label": "NAME"}]})
    assert text[slice(*sample.gold[0][:2])] == found
    prediction = TASK.prediction([(start, end, "NAME")], sample)
    assert TASK.score(sample, prediction)["labels"]["NAME"] == [1, 0, 1, 1, len(found), 0, 0]


def test_a_policy_moves_thresholds_and_switches_labels_off():
    task = SpanDetection(("NAME", "DATE"), thresholds={"NAME": 0.5}, ignored=("DATE",))
    row = {"id": "a", "text": "x" * 20, "spans": [{"start": 0, "end": 5, "label": "NAME"}, {"start": 6, "end": 8, "label": "DATE"}]}
    sample = task.sample(row)
    assert sample.gold == [(0, 5, "NAME")]
    answer = [(0, 5, "NAME", 0.5), (7, 9, "NAME", 0.49), (6, 8, "DATE", 1.0)]
    assert task.prediction(answer, sample) == [(0, 5, "NAME", 0.5)]


def test_labels_of_the_data_map_to_labels_of_the_suite():
    task = SpanDetection(("NAME", "DATE"), label_map={"person": "NAME", "DATE": "NAME"})
    spans = [{"start": 0, "end": 5, "label": "person"}, {"start": 6, "end": 8, "label": "DATE"}]
    sample = task.sample({"id": "a", "text": "x" * 20, "spans": spans})
    assert sample.gold == [(0, 5, "NAME"), (6, 8, "NAME")]
    assert task.prediction([(6, 8, "DATE")], sample) == [(6, 8, "DATE", 1.0)]  # a model speaks in the suite's labels
