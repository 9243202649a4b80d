"""What calls of a model return and raise."""

import pytest

from pytest_gpueval.runtimes.calls import describe, lacks_memory, take_fewer, wrong_answers


class Mute(Exception):
    def __str__(self):
        raise RuntimeError("no text")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ValueError("a\n b"), "ValueError: a b"),
        (ValueError(), "ValueError"),
        (Mute(), "Mute: (its text raises RuntimeError)"),
        (ValueError("x" * 900), f"ValueError: {'x' * 488}"),
    ],
)
def test_an_error_is_one_line(error, said):
    assert describe(error) == said


@pytest.mark.parametrize(
    ("error", "lacking"),
    [
        (MemoryError(), True),
        (RuntimeError("CUDA error: Out Of Memory"), True),
        (type("OutOfMemoryError", (RuntimeError,), {})(), True),
        (ValueError("memory"), False),
        (Mute(), False),
    ],
)
def test_what_lacks_memory(error, lacking):
    assert lacks_memory(error) is lacking


def test_fewer_rows_and_at_least_one():
    assert [take_fewer(rows)[0] for rows in (32, 3, 1)] == [16, 1, 1]
    assert take_fewer(32)[1] == "out of memory with 32 rows; 16 at a time from here on"


@pytest.mark.parametrize(("values", "said"), [([1], "1 predictions"), ("ab", "a str"), ({1: 2, 3: 4}, "a dict"), ({1, 2}, "a set"), (None, "a NoneType")])
def test_answers_that_are_not_one_for_each_row(values, said):
    assert wrong_answers(values, 2, "r0", "m.py:M").startswith(f"model m.py:M returned {said} for a batch of 2 (first row: 'r0').\n")
    assert wrong_answers((1, 2), 2, "r0", "m.py:M") is None
