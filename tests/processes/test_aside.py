"""Functions called in a process of their own."""

import os
import sys

import pytest

from pytest_gpueval.errors import DataError
from pytest_gpueval.processes import aside
from pytest_gpueval.processes.aside import Aside, Lost


def add(a, b=1):
    sys.stdout.write("printed words are no answer")
    return os.getpid(), a + b


def refuse():
    raise DataError("damaged")


def leave():
    os._exit(3)


def wait():
    sys.stdin.buffer.raw.read()  # its end is reached at once, since the request was all
    os.read(os.pipe()[0], 1)


def alive(process):
    return process.poll() is None


def test_it_answers_from_another_process():
    with Aside(add, "x" * 300_000, b="y") as other:
        pid, answer = other.result()
    assert pid == other._process.pid != os.getpid() and answer == "x" * 300_000 + "y"
    assert not alive(other._process)


def test_what_it_raises_is_raised_here():
    with Aside(refuse) as other, pytest.raises(DataError, match=r"^damaged$"):
        other.result()


def test_a_process_that_dies_is_lost():
    with Aside(leave) as other, pytest.raises(Lost):
        other.result()


@pytest.mark.parametrize("unsendable", [lambda: 1, (lambda: (yield))])
def test_what_cannot_be_sent_is_lost(unsendable):
    with pytest.raises(Lost):
        Aside(unsendable)


def test_no_interpreter_is_lost(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    with pytest.raises(Lost):
        Aside(add, 1)


def test_nothing_of_it_is_left_when_it_is_no_longer_wanted():
    with Aside(wait) as other:
        assert alive(other._process)
    assert not alive(other._process)


def test_there_is_a_core():
    assert aside.cores() >= 1
