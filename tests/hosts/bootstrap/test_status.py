"""Hosts are asked at once, and none holds up another."""

import threading
from pathlib import Path

from pytest_gpueval.errors import AccessDenied, Unreachable
from pytest_gpueval.hosts.bootstrap.status import Status, statuses
from pytest_gpueval.hosts.declared import Declared, HostEntry

HOSTS = [Declared(name, None, HostEntry(address="local")) for name in ("silent", "quick", "broken", "closed")]


def test_who_does_not_answer_holds_nobody_up():
    asleep = threading.Event()
    begun = threading.Barrier(len(HOSTS), timeout=60)

    def ask(declared, root, timeout_s):
        begun.wait()  # all are asked before anybody answers
        if declared.name == "silent":
            asleep.wait()
        if declared.name == "broken":
            raise ZeroDivisionError("x")
        if declared.name == "closed":
            raise AccessDenied("no")
        return Status(declared)

    try:
        found = list(statuses(HOSTS, Path(), 3, ask=ask))
    finally:
        asleep.set()
    assert {each.declared.name for each in found[:3]} == {"quick", "broken", "closed"}
    errors = {each.declared.name: each.error for each in found}
    assert errors["quick"] is None and isinstance(errors["closed"], AccessDenied) and "ZeroDivisionError: x" in str(errors["broken"])
    assert isinstance(found[3].error, Unreachable) and "no answer within 3 s (--timeout)" in str(found[3].error)
