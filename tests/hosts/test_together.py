"""Several hosts at the same time: answers in their order, and what Ctrl-C gives back."""

import threading

import pytest

from pytest_gpueval.hosts.together import Grip, LetGo, together


def test_all_are_asked_at_once_and_answer_in_their_order():
    met = threading.Barrier(3, timeout=60)
    assert together(lambda thing, grip: (met.wait(), thing)[1], "abc") == ["a", "b", "c"]
    assert together(lambda thing, grip: thing, []) == []


def test_what_one_raises_is_raised_and_the_others_let_go():
    given_back, held = [], threading.Event()

    def work(thing, grip):
        if thing == "bad":
            held.wait(60)
            raise ValueError(thing)
        grip.hold(lambda: given_back.append("first"))
        grip.hold(lambda: given_back.append("last"))
        held.set()

    with pytest.raises(ValueError, match="bad"):
        together(work, ["bad", "good"])
    assert given_back == ["last", "first"]


def test_who_holds_something_when_all_have_let_go_gives_it_back_at_once():
    grip, given_back = Grip(), []
    grip.let_go()
    with pytest.raises(LetGo):
        grip.hold(lambda: given_back.append(1))
    assert given_back == [1]


def test_what_cannot_be_given_back_holds_nobody_up(monkeypatch):
    monkeypatch.setattr("pytest_gpueval.hosts.together._LET_GO_S", 0.1)
    for_ever, held = threading.Event(), threading.Event()

    def work(thing, grip):
        grip.hold(for_ever.wait)
        held.set()
        for_ever.wait()

    def stop(thing, grip):
        held.wait(60)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        together(lambda thing, grip: (stop if thing == "stop" else work)(thing, grip), ["stop", "stuck"])
    for_ever.set()
