"""Calls in threads: in order, so many at a time; Ctrl-C waits for none of them."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest

from pytest_gpueval.datasets.side_by_side import side_by_side
from tests.waiting import SESSION_S


def test_answers_are_in_order_and_told_as_they_end():
    second = threading.Event()
    told = []

    def call(name):
        if name == "first":
            assert second.wait(SESSION_S)
        if name == "third":
            raise ValueError(name)
        return name.upper()

    def tell(name, future):
        told.append(name)
        assert future.done()
        if name == "second":
            second.set()

    first, other, third = side_by_side(call, ["first", "second", "third"], 2, tell)
    assert (first.result(), other.result()) == ("FIRST", "SECOND")
    assert isinstance(third.exception(), ValueError)
    assert sorted(told) == ["first", "second", "third"] and told.index("second") < told.index("first")


@pytest.mark.parametrize(("count", "most"), [(0, 4), (1, 4), (9, 1), (9, 3)])
def test_never_more_than_so_many(count, most):
    now, peak, lock = [0], [0], threading.Lock()
    others = threading.Barrier(min(most, count)) if count else None

    def call(number):
        with lock:
            now[0] += 1
            peak[0] = max(peak[0], now[0])
        others.wait(SESSION_S)  # so many do run at the same time
        with lock:
            now[0] -= 1
        return number

    assert [future.result() for future in side_by_side(call, range(count), most)] == list(range(count))
    assert peak[0] == min(most, count)


def test_who_gives_up_waits_for_what_has_begun_and_begins_no_more():
    failed, begun, ended = threading.Event(), [], []

    def call(number):
        begun.append(number)
        if number:
            assert failed.wait(SESSION_S)
            ended.append(number)

    def tell(number, _future):
        failed.set()
        raise KeyError(number)

    with pytest.raises(KeyError):
        side_by_side(call, range(100), 2, tell)
    assert sorted(ended) == sorted(begun)[1:] and len(begun) < 100


def test_ctrl_c_waits_for_nobody():
    """Four calls that never end, and others that wait for them: the process ends all the same."""
    source = """
import os, signal, threading
from pytest_gpueval.datasets.side_by_side import side_by_side
signal.signal(signal.SIGINT, signal.default_int_handler)
begun = threading.Barrier(4, action=lambda: os.kill(os.getpid(), signal.SIGINT))
def call(number):
    begun.wait()
    threading.Event().wait()
try:
    side_by_side(call, range(40), 4)
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, timeout=SESSION_S, check=False)
    assert (done.stdout, done.returncode, done.stderr) == ("interrupted\n", 0, "")
