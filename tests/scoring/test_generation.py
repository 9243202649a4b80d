"""Generation: rows, answers, what is right, and figures against their definitions."""

import itertools
import json
import math
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_gpueval.scoring.estimates import UNSCORED, wilson
from pytest_gpueval.scoring.generation import MATCHES, Generation, pass_at_k
from pytest_gpueval.scoring.task import BadPrediction, BadRow
from pytest_gpueval.scoring.verdicts import Verdicts

CITIES = ["Paris", "London", "Rome"]


def row(gold, **changes):
    return {"id": "a", "prompt": "?", "answer": gold, **changes}


def parts(task, gold, answer, **changes):
    sample = task.sample(row(gold, **changes))
    return json.loads(json.dumps(task.score(sample, task.prediction(answer, sample))))


def metrics(task, pairs):
    counts = task.counts()
    for gold, answer in pairs:
        counts.add(parts(task, gold, answer))
    return counts.metrics().overall


def choice(gold, answer, **options):
    return parts(Generation(match="choice", **options), gold, answer, choices=CITIES)


# Rows.


def test_inputs_never_hold_the_gold():
    task = Generation(match="choice")
    assert task.sample(row("B", choices=CITIES)).inputs == {"id": "a", "prompt": "?", "choices": CITIES}
    turns = [{"role": "system", "content": "x", "name": None}, {"role": "user", "content": "?"}]
    sample = Generation().sample({"id": "a", "messages": turns, "prompt": None, "answer": "gold", "choices": None})
    assert sample.inputs == {"id": "a", "messages": [{"role": "system", "content": "x"}, {"role": "user", "content": "?"}]}
    assert "gold" not in repr(sample.inputs)


@pytest.mark.parametrize("gold", [1, "B", "b", "London", ["London"], [1]])
def test_the_right_choice_by_index_letter_or_text(gold):
    sample = Generation(match="choice").sample(row(gold, choices=CITIES))
    assert sample.gold.choice == 1


@pytest.mark.parametrize("match", ["exact", "normalized"])
def test_with_choices_a_text_is_compared_with_the_right_one(match):
    assert parts(Generation(match=match), "B", "London ", choices=CITIES)["right"] == 1
    assert parts(Generation(match=match), 1, "B", choices=CITIES)["right"] == 0


@pytest.mark.parametrize(
    ("options", "bad", "says"),
    [
        ({}, {"prompt": None}, "neither of 'prompt' and 'messages'"),
        ({}, {"messages": [{"role": "user", "content": "x"}]}, "both of 'prompt' and 'messages'"),
        ({}, {"prompt": 3}, "'prompt' is int, not a string"),
        ({}, {"prompt": None, "messages": []}, "'messages' is"),
        ({}, {"prompt": None, "messages": [{"role": "user"}]}, "not a list of {role, content} of strings"),
        ({}, {"prompt": None, "messages": "hi"}, "'messages' is 'hi'"),
        ({}, {"answer": None}, "'answer' is None, not a string or a list of accepted ones"),
        ({}, {"answer": []}, "'answer' is []"),
        ({}, {"answer": 3}, "'answer' is 3"),
        ({}, {"answer": ["x", None]}, "'answer' is ['x', None]"),
        ({"match": "numeric"}, {"answer": "many"}, "'answer' 'many' holds no number"),
        ({"match": "numeric"}, {"answer": True}, "'answer' is True"),
        ({"match": "choice"}, {}, "no 'choices', which match = \"choice\" asks for"),
        ({"match": "choice"}, {"choices": ["x"]}, "not a list of 2 to 26 strings"),
        ({"match": "choice"}, {"choices": ["x", None]}, "not a list of 2 to 26 strings"),
        ({"match": "choice"}, {"choices": CITIES, "answer": 3}, "names none of 3 choices: give an index from 0, a letter from A to C, or the text"),
        ({"match": "choice"}, {"choices": CITIES, "answer": "D"}, "names none of 3 choices"),
        ({"match": "choice"}, {"choices": CITIES, "answer": True}, "names none of 3 choices"),
        ({"match": "choice"}, {"choices": CITIES, "answer": None}, "names none of 3 choices"),
    ],
)
def test_bad_rows_say_what_is_wrong(options, bad, says):
    with pytest.raises(BadRow) as caught:
        Generation(**options).sample(row("x", **bad))
    assert says in str(caught.value)


# Answers.


@pytest.mark.parametrize("answer", ["x", "", ["x"], ("x", "y"), np.array(["x", "y"]), np.str_("x"), iter("xy")], ids=lambda answer: type(answer).__name__)
def test_texts(answer):
    found = Generation().prediction(answer, Generation().sample(row("x")))
    assert type(found) in (str, list) and json.loads(json.dumps(found)) == found


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (None, "expected a text, a list of texts, or a log-probability for each choice, got None"),
        (3, "expected a text"),
        (b"x", "expected a text"),
        ({}, "expected a text"),
        ({"text": "x"}, "expected a text"),
        ([], "expected a text"),
        ([None], "log-probabilities need a row with 'choices'"),
        ([-1.0, -2.0], "log-probabilities need a row with 'choices'"),
    ],
)
def test_bad_answers(answer, says):
    with pytest.raises(BadPrediction) as caught:
        Generation().prediction(answer, Generation().sample(row("x")))
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ([-1.0, -2.0], "a log-probability for each of 3 choices, got 2"),
        ([-1.0, "x", -2.0], "expected only texts, or only log-probabilities"),
        ([-1.0, math.nan, -2.0], "the log-probability of choice B is nan"),
        ([-1.0, math.inf, -2.0], "the log-probability of choice B is inf"),
    ],
)
def test_bad_log_probabilities(answer, says):
    with pytest.raises(BadPrediction) as caught:
        choice("B", answer)
    assert says in str(caught.value)


@pytest.mark.parametrize("answer", [[-3, -1.0, -2], np.array([-3.0, -1, -2], dtype=np.float32), (-math.inf, -1.0, -1.0)], ids=str)
def test_the_likeliest_choice_wins_and_the_first_of_equal_ones(answer):
    assert choice("B", answer) == {"n": 1, "right": 1, "chosen": [1]}
    assert choice(0, answer)["right"] == 0
    sample = Generation(match="choice").sample(row("B", choices=CITIES))
    assert min(Generation(match="choice").prediction(answer, sample)) >= -sys.float_info.max


def test_texts_that_name_a_choice():
    assert choice("B", ["B", "London", "(a)", "?"]) == {"n": 4, "right": 2, "unparsable": 1, "chosen": [1, 1, 0, None]}
    assert choice("B", "I think: [B]", pattern=r"\[(\w)\]")["chosen"] == [1]


# What is right.


@pytest.mark.parametrize(
    ("options", "gold", "right", "wrong"),
    [
        ({}, "Paris", ["Paris", " Paris\n"], ["paris", "Paris.", ""]),
        ({}, ["Paris", "Lutetia"], ["Paris", "Lutetia"], ["Paris Lutetia"]),
        ({"match": "normalized"}, "The Paris", ["paris", "PARIS!", "a paris"], ["paris city", ""]),
        ({"match": "normalized"}, ["Лев Толстой"], ["лев толстой.", "«Лев Толстой»"], ["Толстой"]),
        ({"match": "normalized", "pattern": "A: (.*)"}, "Paris", ["no\nA: paris.\nA: Rome"], ["paris"]),
        ({"match": "regex", "pattern": r"#### (.*)"}, "42", ["so #### 42", "#### 42 "], ["42", "#### 43"]),
        ({"match": "numeric"}, "1,234", ["it is 1234", "$1,234.00", "1 234"], ["1235", "none"]),
        ({"match": "numeric"}, ["1/2", "2"], ["0.5", "50%", "2.0"], ["5"]),
        ({"match": "numeric"}, 18, ["18 eggs"], ["17"]),
        ({"match": "numeric"}, 0.1, ["0.1"], ["0.2"]),
        ({"match": "numeric", "tolerance": 0.1}, "100", ["109"], ["111"]),
        ({"match": "numeric", "pattern": r"boxed\{(.*?)\}"}, "7", [r"\boxed{7} and 8"], ["7"]),
    ],
)
def test_right_and_wrong(options, gold, right, wrong):
    task = Generation(**options)
    assert parts(task, gold, right)["right"] == len(right)
    assert parts(task, gold, wrong)["right"] == 0


def test_what_cannot_be_parsed_is_wrong_and_counted():
    assert metrics(Generation(match="numeric"), [("1", "none"), ("1", "1"), ("1", ["2", "?"])])["unparsable"].value == pytest.approx(1.5 / 3)
    assert "unparsable" not in metrics(Generation(), [("1", "none")])


def test_f1_is_the_best_over_the_accepted_answers_and_the_mean_over_completions():
    task = Generation(match="normalized")
    assert parts(task, ["new york city", "york"], "York")["f1"] == 1
    assert parts(task, "new york city", ["york city", "rome"])["f1"] == pytest.approx(0.4)
    figure = metrics(task, [("x y", "x"), ("x", "x")])["f1"]
    assert figure.value == pytest.approx(5 / 6)
    assert 0 < figure.low < figure.value < figure.high <= 1


# Figures.


def test_accuracy_of_one_completion_each_has_wilsons_interval():
    found = metrics(Generation(), [("x", "x" if number % 10 else "y") for number in range(1000)])["accuracy"]
    assert found.value == 0.9 and found.n == 1000
    assert (found.low, found.high) == pytest.approx(wilson(0.9, 1000), abs=2e-4)


@given(st.integers(1, 8).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n), st.integers(1, n))))
def test_pass_at_k_counts_the_subsets_with_a_right_one(drawn):
    n, right, k = drawn
    subsets = list(itertools.combinations(range(n), k))
    assert pass_at_k(n, right, k) == pytest.approx(sum(min(subset) < right for subset in subsets) / len(subsets))


def test_pass_at_k_of_samples_with_enough_completions():
    task = Generation(k=[1, 2, 5])
    found = metrics(task, [("x", ["x", "y", "y"]), ("x", ["y"] * 3), ("x", "x")])
    assert found["pass@1"] == found["accuracy"]
    assert found["accuracy"].value == pytest.approx(4 / 9)
    assert (found["pass@2"].value, found["pass@2"].n) == (pytest.approx(1 / 3), 2)
    assert found["pass@5"] == UNSCORED


@pytest.mark.parametrize("match", MATCHES)
def test_metrics_are_named_before_there_is_a_sample(match):
    verdicts = Verdicts("right", ["right"]) if match == "judge" else None
    found = Generation(verdicts=verdicts, match=match, pattern="x" if match == "regex" else None, k=[1]).counts().metrics().overall
    expected = {"accuracy", "pass@1"} | ({"f1"} if match == "normalized" else {"unparsable"} if match != "exact" else set())
    assert set(found) == expected
    assert set(found.values()) == {UNSCORED}


@given(
    st.lists(st.lists(st.sampled_from(["x y", "x", "z", "y x w"]), min_size=1, max_size=4), min_size=1, max_size=12),
    st.lists(st.integers(0, 2), min_size=12, max_size=12),
    st.permutations(range(3)),
)
def test_shards_merge_to_the_same_in_any_order(answers, owners, order):
    task = Generation(match="normalized", k=[1, 2])
    shards = [task.counts() for _ in range(3)]
    whole, total = task.counts(), task.counts()
    for answer, owner in zip(answers, owners, strict=False):
        shards[owner].add(parts(task, "x y", answer))
        whole.add(parts(task, "x y", answer))
    for shard in order:
        total.merge(shards[shard])
    assert total.metrics() == whole.metrics()


@pytest.mark.parametrize("given_", [{"labels": ["a"]}, {"thresholds": {"a": 0.5}}, {"ignored": {"a"}}, {"label_map": {"a": "b"}}])
def test_labels_have_no_meaning(given_):
    with pytest.raises(ValueError, match="no meaning for generation"):
        Generation(**given_)
