"""What goes to a model in another process, and comes back, is what it was."""

import enum
import json
import math
from collections import OrderedDict
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_gpueval.runtimes import wire
from pytest_gpueval.runtimes.wire import NotSendable, decode, encode

texts = st.text(st.characters(codec=None), max_size=20)  # surrogates too
plain = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts | st.binary(max_size=5)
values = st.recursive(
    plain, lambda inner: st.lists(inner, max_size=4) | st.tuples(inner, inner) | st.dictionaries(texts | st.integers(), inner, max_size=4), max_leaves=20
)


@given(values)
def test_what_comes_back_is_what_went(value):
    assert repr(decode(encode(value))) == repr(value)


@given(values)
def test_the_same_where_there_is_no_orjson(value):
    fast = encode(value)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(wire, "orjson", None)
        assert repr(decode(encode(value))) == repr(decode(fast)) == repr(value)


@pytest.mark.parametrize("text", [b" [1] ", b"1 ", b"\n{}"])
def test_json_with_space_around_it(text):
    assert decode(text) == json.loads(text)


@pytest.mark.parametrize("text", [b"", b"[1", b"1 2", b"words", b"{} x", b"\xff"])
def test_what_is_no_json(text):
    with pytest.raises(ValueError, match=r"."):
        decode(text)


@pytest.mark.parametrize("value", [np.float32(0.1), np.float16(0.1), np.int64(-7), np.bool_(True), np.float64(2.5), np.str_("é")])
def test_scalars_of_numpy(value):
    found = decode(encode([value]))[0]
    assert type(found) is type(value) and found == value


@pytest.mark.parametrize("value", [np.arange(6.0).reshape(2, 3), np.zeros((0, 3)), np.array(3), np.array(["a", "bc"]), np.array([True])])
def test_arrays_of_numpy(value):
    found = decode(encode(value))
    assert found.dtype == value.dtype and found.shape == value.shape and (found == value).all()


def test_nan_and_a_pair_of_surrogates_that_is_no_character():
    assert math.isnan(decode(encode(float("nan"))))
    assert len(decode(encode("\ud83d\ude00"))) == 2


def test_what_looks_like_a_word_of_ours():
    for value in ({"\0tuple": [1]}, {"\0": 1}, {"\0tuple": 1, "b": 2}):
        assert decode(encode(value)) == value


def test_subclasses_come_back_plain():
    class Colour(enum.StrEnum):
        RED = "red"

    class Point(NamedTuple):
        x: int
        y: int

    assert repr(decode(encode([Colour.RED, Point(1, 2), OrderedDict(a=1)]))) == "['red', (1, 2), {'a': 1}]"


@pytest.mark.parametrize("value", [{1, 2}, object(), 1j, np.datetime64("2020"), np.longdouble(1), [lambda: 0]])
def test_what_cannot_be_sent_is_named(value):
    with pytest.raises(NotSendable, match=r"a value of type \w+\.\w+ cannot be sent"):
        encode(value)


def test_without_numpy_its_numbers_are_numbers(monkeypatch):
    scalar, array = encode(np.float32(0.5)), encode(np.arange(3))
    monkeypatch.setitem(__import__("sys").modules, "numpy", None)
    assert decode(scalar) == 0.5 and decode(array) == [0, 1, 2]
