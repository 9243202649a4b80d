"""What rows and answers may look like: each form works, or says what is wrong with it."""

import json

import numpy as np
import pytest

from pytest_gpueval.scoring.task import BadPrediction, BadRow

from .documents import TASK, TEXT

SAMPLE = TASK.sample({"id": "a", "text": TEXT, "spans": []})
SPAN = (1, 4, "NAME", 0.5)


@pytest.mark.parametrize(
    "answer",
    [
        [SPAN],
        (SPAN,),
        [list(SPAN)],
        [{"start": 1, "end": 4, "label": "NAME", "score": 0.5}],
        [(np.int64(1), np.int32(4), "NAME", np.float32(0.5))],
        [(np.int64(1), np.int64(4), np.str_("NAME"), np.float64(0.5))],
        [(True, 4, "NAME", 0.5)],
        (span for span in [SPAN]),
        iter([SPAN]),
        {SPAN: None}.keys(),
        np.array([SPAN], dtype=object),
    ],
)
def test_every_form_of_a_span_comes_out_the_same(answer):
    found = TASK.prediction(answer, SAMPLE)
    assert found == [SPAN]
    assert [type(field) for field in found[0]] == [int, int, str, float]
    assert json.loads(json.dumps(found)) == [list(SPAN)]


@pytest.mark.parametrize("answer", [[(1, 4, "NAME")], [[1, 4, "NAME"]], [{"start": 1, "end": 4, "label": "NAME"}]])
def test_without_a_score_a_span_is_certain(answer):
    assert TASK.prediction(answer, SAMPLE) == [(1, 4, "NAME", 1.0)]


@pytest.mark.parametrize("empty", [[], (), iter(()), np.array([])])
def test_no_spans_is_an_answer(empty):
    assert TASK.prediction(empty, SAMPLE) == []


def test_spans_come_out_sorted_and_scores_below_zero_count():
    assert TASK.prediction([(5, 6, "NAME", -3.0), SPAN], SAMPLE) == [SPAN, (5, 6, "NAME", -3.0)]


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (None, "expected a list"),
        ("", "expected a list"),
        ("NAME", "expected a list"),
        (b"", "expected a list"),
        ({}, "expected a list"),
        ({"start": 1, "end": 4, "label": "NAME"}, "expected a list"),
        (3, "expected a list"),
        (SPAN, "expected a list"),
        (["NAME"], "expected a list"),
        ([None], "expected a list"),
        ([()], "expected a list"),
        ([(1, 4)], "expected a list"),
        ([(1, 4, "NAME", 0.5, 9)], "expected a list"),
        ([{"start": 1, "label": "NAME"}], "KeyError"),
        ([(1.0, 4, "NAME")], "float"),
        ([(np.float64(1), 4, "NAME")], "float"),
        ([("1", 4, "NAME")], "str"),
        ([(None, 4, "NAME")], "NoneType"),
        ([(1, 4, "NAME", None)], "NoneType"),
        ([(1, 4, "NAME", "high")], "high"),
        ([(1, 4, "NAME", 1j)], "complex"),
        ([(1, 4, ["NAME"])], "unhashable"),
        ([(1, 4, "EGGS")], "unknown label 'EGGS'; the suite's labels: DATE, ID, NAME, PHONE"),
        ([(1, 4, None)], "unknown label None"),
        ([(1, 4, "NAME", float("nan"))], "the score of NAME 1:4 is nan"),
        ([(1, 4, "NAME", np.float32("inf"))], "the score of NAME 1:4 is inf"),
        ([(4, 4, "NAME")], "span NAME 4:4 is empty"),
        ([(4, 1, "NAME")], "span NAME 4:1 is reversed"),
        ([(-1, 4, "NAME")], "outside the text of 60 characters"),
        ([(50, 61, "NAME")], "span NAME 50:61 lies outside the text of 60 characters"),
        ([SPAN, (50, 10**30, "NAME")], "outside the text"),
    ],
)
def test_bad_answers_say_what_is_wrong(answer, says):
    with pytest.raises(BadPrediction) as caught:
        TASK.prediction(answer, SAMPLE)
    assert says in str(caught.value)


def test_a_message_does_not_repeat_a_huge_answer():
    with pytest.raises(BadPrediction) as caught:
        TASK.prediction([("x" * 10_000,)], SAMPLE)
    assert len(str(caught.value)) < 500


def row(**changes):
    return {"id": "a", "text": TEXT, "spans": [{"start": 1, "end": 4, "label": "NAME"} | changes]}


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (row(end=61), "span NAME 1:61 lies outside the text of 60 characters"),
        (row(start=-1), "outside the text"),
        (row(start=5), "is reversed"),
        (row(end=1), "is empty"),
        (row(start=None), "NoneType"),
        (row(end=None), "NoneType"),
        (row(start=1.0), "float"),
        (row(end="4"), "str"),
        (row(label="EGGS"), "unknown label 'EGGS'; known: DATE, ID, NAME, PHONE"),
        (row(label=None), "unknown label None"),
        (row(label=["NAME"]), "unhashable"),
        ({"id": "a", "text": TEXT, "spans": [{"start": 1, "end": 4}]}, "KeyError('label')"),
        ({"id": "a", "text": TEXT, "spans": "none"}, "expected a list of spans"),
        ({"id": "a", "text": TEXT, "spans": [(1, 4, "NAME")]}, "expected a list of spans"),
        ({"id": "a", "text": TEXT, "spans": 7}, "expected a list of spans"),
        ({"id": "a", "text": None, "spans": []}, "'text' is NoneType, not a string"),
        ({"id": "a", "text": b"x", "spans": []}, "'text' is bytes, not a string"),
    ],
)
def test_bad_rows_say_what_is_wrong(bad, says):
    with pytest.raises(BadRow) as caught:
        TASK.sample(bad)
    assert says in str(caught.value)


def test_a_good_row():
    sample = TASK.sample(row(end=60))
    assert sample.gold == [(1, 60, "NAME")]
    assert sample.inputs == {"id": "a", "text": TEXT}
    assert TASK.sample({"id": "a", "text": "", "spans": None}).gold == []
    assert TASK.sample(row(start=np.int64(1))).gold == [(1, 4, "NAME")]
