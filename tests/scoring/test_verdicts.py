"""A judge's verdicts: what it is shown, how it is read, and what follows, from the texts alone."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_gpueval.scoring.generation import Generation
from pytest_gpueval.scoring.matching import LONGEST
from pytest_gpueval.scoring.task import BadPrediction, BadRow
from pytest_gpueval.scoring.verdicts import Verdicts, question
from pytest_gpueval.suites.schema import JUDGE_PATTERN, JUDGE_RIGHT, JUDGE_TEMPLATE
from pytest_gpueval.suites.template import names

DEFAULT = Verdicts(JUDGE_PATTERN, [JUDGE_RIGHT])


def task(**options):
    return Generation((), None, None, (), DEFAULT, match="judge", **options)


def sample(**row):
    return task().sample({"id": "a", "prompt": "Capital of France?", "answer": ["Paris", "Paris, France"], **row})


def parts(value, **options):
    judging = task(**options)
    return json.loads(json.dumps(judging.score(sample(), judging.prediction(value, sample()))))


# What the judge is shown.


def test_the_question_holds_the_gold_and_the_inputs_do_not():
    assert question(sample(), "It is Paris.") == {"id": "a", "prompt": "Capital of France?", "answer": "Paris\nParis, France", "prediction": "It is Paris."}
    assert "Paris" not in str(sample().inputs)


def test_a_conversation_is_one_text():
    turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Capital of France?"}]
    assert question(sample(prompt=None, messages=turns), "x")["prompt"] == "system: Be brief.\nuser: Capital of France?"
    assert question(sample(prompt=None, messages=turns[1:]), "x")["prompt"] == "Capital of France?"


def test_with_choices_the_right_ones_words_are_the_gold():
    assert question(sample(choices=["Rome", "Paris"], answer="B"), "x")["answer"] == "Paris"


def test_the_default_template_shows_all_and_asks_for_what_the_default_pattern_finds():
    assert sorted(names(JUDGE_TEMPLATE)) == ["answer", "prediction", "prompt"]
    assert {DEFAULT.of(f"So.\nVerdict: {word}") for word in ("right", "wrong")} == {True, False}


# How a verdict is read.


@pytest.mark.parametrize(
    ("said", "verdict"),
    [
        ("Verdict: right", True),
        ("Verdict: wrong", False),
        ("**Verdict:** Right.", True),
        ("VERDICT\n\n*wrong*", False),
        ('The answer says "Verdict: right", which is no verdict of mine.\nVerdict: wrong', False),
        ("Verdict: wrong? No, on reflection\nVerdict: right", True),
        ("", None),
        ("It is right.", None),
        ("Verdict: rightish", None),
        ("Verdict: unclear", None),
        ("Verdict: right" + " " * LONGEST, None),
        ("Verdict: wrong" + "x" * LONGEST + "Verdict: right", True),
    ],
)
def test_the_last_verdict_counts(said, verdict):
    assert DEFAULT.of(said) is verdict


@pytest.mark.parametrize(
    ("pattern", "right", "said", "verdict"),
    [
        (r"(?i)\b(correct|incorrect)\b", ["correct"], "INCORRECT", False),
        (r"(?i)\b(correct|incorrect)\b", ["Correct "], "correct", True),
        (r"[ABC]", ["A"], "B, no, A", True),
        (r"[ABC]", ["A"], "C", False),
        (r"Score: ([1-5])", ["4", "5"], "Score: 4", True),
        (r"Score: ([1-5])", ["4", "5"], "Score: 3", False),
        (r"yes|(no)", ["yes"], "yes", None),
        (r"yes|(no)", ["yes"], "no, yes", False),
    ],
)
def test_words_of_the_suites_own(pattern, right, said, verdict):
    assert Verdicts(pattern, right).of(said) is verdict


@given(st.text(), st.booleans())
def test_whatever_precedes_it_a_verdict_at_the_end_is_found(before, right):
    assert DEFAULT.of(f"{before}\nVerdict: {'right' if right else 'wrong'}") is right


# What follows.


def test_one_text():
    assert parts({"text": "Paris", "judge": "Verdict: right"}) == {"n": 1, "right": 1, "unparsable": 0}
    assert parts({"text": "Paris", "judge": "Verdict: wrong"}) == {"n": 1, "right": 0, "unparsable": 0}, "the judge has the word, not the texts"
    assert parts({"text": "Paris", "judge": "no idea"}) == {"n": 1, "right": 0, "unparsable": 1}


def test_several_texts_and_their_metrics():
    judging = task(k=[1, 2])
    counts = judging.counts()
    for said in (["right", "wrong", "right"], ["wrong", "wrong", "?"], ["right", "right", "right"]):
        value = {"text": ["x", "y", "z"], "judge": [f"Verdict: {word}" for word in said]}
        counts.add(judging.score(sample(), judging.prediction(value, sample())))
    found = counts.metrics().overall
    assert set(found) == {"accuracy", "pass@1", "pass@2", "unparsable"}
    assert found["accuracy"].value == found["pass@1"].value == pytest.approx(5 / 9)
    assert found["pass@2"].value == pytest.approx(2 / 3)
    assert found["unparsable"].value == pytest.approx(1 / 9)


def test_a_score_is_found_again_in_the_prediction_as_it_was_written():
    judging = task()
    prediction = judging.prediction({"text": ["x", "y"], "judge": ["Verdict: right", "hm"]}, sample())
    again = json.loads(json.dumps(prediction))
    assert judging.score(sample(), again) == judging.score(sample(), prediction) == {"n": 2, "right": 1, "unparsable": 1}


@pytest.mark.parametrize(
    "value",
    [
        None,
        "Paris",
        ["Paris"],
        {"text": "Paris"},
        {"text": "Paris", "judge": None},
        {"text": "Paris", "judge": ["x"]},
        {"text": ["a", "b"], "judge": ["x"]},
        {"text": [], "judge": []},
        {"text": ["a"], "judge": [1]},
        {"text": "a", "judge": "b", "more": 1},
    ],
    ids=repr,
)
def test_what_was_not_judged_is_a_bad_answer(value):
    with pytest.raises(BadPrediction, match=r"^expected a text that can be judged, or a list of them, got "):
        task().prediction(value, sample())


def test_log_probabilities_cannot_be_judged_and_what_to_do_is_said():
    with pytest.raises(BadPrediction, match=r'with request\.choices = "text"$'):
        task().prediction([-1.0, -2.0], sample(choices=["Rome", "Paris"], answer="B"))


def test_rows_have_the_same_rules_as_elsewhere():
    with pytest.raises(BadRow, match="'answer' is None"):
        sample(answer=None)


def test_without_a_judge_there_is_no_such_match():
    with pytest.raises(ValueError, match=r"needs a judge, the table \[judge\] of the suite"):
        Generation(match="judge")
