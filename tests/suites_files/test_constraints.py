"""Constraints of a sweep: what they can say, what they cannot, and that none of them computes for long."""

import builtins

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_gpueval.errors import MissingExtra, SuiteError
from pytest_gpueval.suites.constraints import FUNCTIONS, judge, parsed

POINT = {"n_embd": 64, "n_head": 6, "lr": 0.001, "batch": 32, "model": "hc", "flag": True, "model.lr": 2.0, "sizes": [1, 2]}


def holds(text, point=POINT):
    return judge([parsed(text, point)], "[space]")(point) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("n_embd % n_head == 0", False),
        ("n_embd % 8 == 0", True),
        ("lr * batch <= 0.1 or model == 'hc'", True),
        ("lr * batch <= 0.01 and model == 'hc'", False),
        ("0 < lr < 1e-2", True),
        ("not flag", False),
        ("flag", True),
        ("model in ['hc', 'mhc']", True),
        ("model not in ('base',)", True),
        ("(1 if model == 'hc' else 2) == 1", True),
        ("abs(-n_head) + min(1, 2) + max(1, lr) == 8", True),
        ("round(lr, 2) == 0 and round(1.6) == 2 and len(sizes) == 2", True),
        ("n_embd // n_head ** 2 == 1 and n_embd / n_head > 10", True),
        ("model.lr > 1", True),
        (" n_embd > 1 ", True),
    ],
)
def test_what_a_constraint_can_say(text, expected):
    assert holds(text) is expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("n_embed > 1", "constraint 'n_embed > 1': unknown parameter 'n_embed'. Did you mean 'n_embd'? Valid parameters: batch, flag, lr,"),
        ("flag or n_embed > 1", "unknown parameter 'n_embed'"),
        ("lr.real > 0", "'lr.real' is not allowed"),
        ("model.lr.real > 0", "'model.lr.real' is not allowed"),
        ("().__class__", "'().__class__' is not allowed"),
        ("__import__('os')", "\"__import__('os')\" cannot be called here. "),
        ("model.upper() == 'A'", "cannot be called here. Valid functions: abs, len, max, min, round."),
        ("max(1, key=lr) > 0", "cannot be called here"),
        ("sizes[0] > 0", "'sizes[0]' is not allowed. Constraints have numbers, texts, parameters, + - * / // % **, comparisons, and, or, not, in, "),
        ("[x for x in sizes]", "is not allowed"),
        ("(lambda: 1)()", "cannot be called here"),
        ("f'{lr}' == ''", "is not allowed"),
        ("max(*sizes) > 1", "'*sizes' is not allowed"),
        ("(y := 1) == 1", "is not allowed"),
        ("lr << 3 > 1", "is not allowed"),
        ("lr is 1", "is not allowed"),
        ("lr == None", "None is neither a number, a text, True nor False"),
        ("model == b'x'", "b'x' is neither"),
        ("1j == lr", "1j is neither"),
        ("lr = 1", "constraint 'lr = 1' is not understood: "),
        ("", "is not understood"),
        ("lr >", "is not understood"),
        ("import os", "is not understood"),
        ("(" * 300 + "1" + ")" * 300, "constraint "),
        ("-" * 990 + "1", "nested too deeply, by more than 50"),
        ("-" * 60 + "1", "nested too deeply, by more than 50"),
        ("1" * 1001, "constraint of 1,001 characters, and 1,000 are the most"),
    ],
)
def test_what_a_constraint_cannot_say_is_refused_before_any_point(text, message):
    with pytest.raises(ValueError) as caught:
        parsed(text, POINT)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("n_embd % (n_head - 6) == 0", "cannot be computed for {'n_embd': 64"),
        ("model < 1", "cannot be computed for"),
        ("model % 1 == 1", "% is of numbers"),
        ("9 ** 9 ** 9 > 1", "a power of more than 4096 bits"),
        ("2 ** -9999 > 1", "a power of more than 4096 bits"),
        ("10.0 ** 999 > 1", "cannot be computed"),
        ("round(n_embd, -10 ** 9) > 1", "round to more than 30 digits"),
        ("len('a' * 10 ** 9) > 1", "cannot be computed"),
        ("len([1] * 10 ** 9) > 1", "cannot be computed"),
        ("(-1) ** 0.5 > 1", "cannot be computed"),
        ("n_embd % n_head", "constraint 'n_embd % n_head' is 4, neither true nor false. Compare it with something: ... == 0"),
    ],
)
def test_what_cannot_be_computed_is_one_message(text, message):
    with pytest.raises(SuiteError) as caught:
        holds(text)
    assert str(caught.value).startswith("[space]: constraint ")
    assert message in str(caught.value)


def test_the_first_constraint_that_is_broken_is_named():
    refused_by = judge([parsed(text, POINT) for text in ("flag", "lr > 1", "batch > 99")], "")
    assert refused_by(POINT).text == "lr > 1"
    assert refused_by({**POINT, "lr": 2}).text == "batch > 99"
    assert refused_by({**POINT, "lr": 2, "batch": 100}) is None


def test_without_simpleeval_the_extra_is_named_if_there_is_a_constraint(monkeypatch):
    real = builtins.__import__

    def without(name, *arguments, **options):
        if name == "simpleeval":
            raise ImportError(name)
        return real(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    assert judge([], "")(POINT) is None
    with pytest.raises(MissingExtra, match=r"pytest-gpueval\[sweeps\]"):
        judge([parsed("flag", POINT)], "")


operands = st.sampled_from(["a", "b", "1", "2.5", "-3", "len('xy')", "abs(a)"])
sums = st.recursive(operands, lambda part: st.builds("({} {} {})".format, part, st.sampled_from(["+", "-", "*", "//", "%"]), part), max_leaves=5)
comparisons = st.builds("{} {} {}".format, sums, st.sampled_from(["<", "<=", "==", "!=", ">=", ">"]), sums)
conditions = st.recursive(comparisons, lambda part: st.builds("({} {} {})".format, part, st.sampled_from(["and", "or"]), part), max_leaves=4)


@given(conditions, st.integers(-9, 9), st.integers(-9, 9))
def test_a_constraint_is_what_python_says(text, a, b):
    point = {"a": a, "b": b}
    try:
        expected = eval(text, {"__builtins__": {}}, {**FUNCTIONS, **point})
    except ZeroDivisionError:
        with pytest.raises(SuiteError, match="cannot be computed"):
            holds(text, point)
    else:
        assert holds(text, point) is expected
