"""Runs are told of by threads of workers while the main thread goes through them."""

from __future__ import annotations

import threading

import pytest

from pytest_gpueval.runs.records import SessionRun
from pytest_gpueval.session.register import Register


def run(run_id: str, **known: object) -> SessionRun:
    return SessionRun(
        **{"run_id": run_id, "nodeid": f"suite::{run_id}", "suite": "suite", "case": run_id, "worker": "cpu0", "runtime": None, "gpu": None, "begin_s": 0.0}
        | {"status": None, "ok": None}
        | known
    )


@pytest.mark.parametrize("view", [Register.values, Register.items, Register.keys, iter])
def test_a_run_that_begins_while_others_are_looked_at(view):
    register = Register()
    register.add(run("one"))
    register.add(run("two"))
    seen = 0
    for number, _ in enumerate(view(register)):
        register.add(run(f"new{number}"))
        seen += 1
    assert (seen, list(register)) == (2, ["one", "two", "new0", "new1"])


def test_a_run_that_begins_again_keeps_its_place():
    register = Register()
    register.add(run("one", status="crashed"))
    register.add(run("two"))
    register.add(run("one"))
    assert [(found.run_id, found.status) for found in register.values()] == [("one", None), ("two", None)]


def test_what_becomes_known_of_a_run():
    register = Register()
    register.add(run("one"))
    assert register.change("one", {"status": "passed", "ok": True}) is register["one"]
    assert (register["one"].status, register["one"].ok, register["one"].case) == ("passed", True, "one")
    assert "two" not in register
    with pytest.raises(KeyError, match="two"):
        register.change("two", {"ok": False})


def test_two_threads_know_different_things_of_one_run():
    """Each change is made to what the run is by then: none is lost."""
    register = Register()
    register.add(run("one"))
    start = threading.Barrier(2)
    stale = []

    def tell(name: str, count: int) -> None:
        start.wait()
        for number in range(count):
            if getattr(register.change("one", {name: float(number)}), name) != number:
                stale.append(number)
            if getattr(register["one"], name) != number:
                stale.append(number)

    threads = [threading.Thread(target=tell, args=(name, 3000)) for name in ("seconds", "startup_s")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert stale == []
    assert (register["one"].seconds, register["one"].startup_s) == (2999.0, 2999.0)
