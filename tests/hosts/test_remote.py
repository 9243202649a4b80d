"""What all hosts with a link have in common, without a link."""

import threading

import pytest

from pytest_gpueval.errors import Unreachable
from pytest_gpueval.hosts import remote
from pytest_gpueval.hosts.remote import Ended, RemoteHost
from tests.waiting import DEADLINE_S


class Endless:
    """A program that runs until it is closed."""

    def __init__(self):
        self.closed = threading.Event()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def read(self):
        assert self.closed.wait(DEADLINE_S), "nobody has ended it"
        return b""

    def write(self, data):
        return True

    def finish_stdin(self):
        """It reads nothing."""

    def end(self):
        return Ended(0, "")

    def close(self):
        self.closed.set()


class Slow(RemoteHost):
    """Its link takes its time."""

    def __init__(self):
        super().__init__("slow", directory=None, environment={}, python="python3")
        self.asked, self.at_last, self.program = threading.Event(), threading.Event(), Endless()

    def _begun(self, argv, **_):
        self.asked.set()
        assert self.at_last.wait(DEADLINE_S)
        return self.program

    def _table(self):
        return {}

    def close(self):
        """It has no link."""


def test_what_begins_after_we_were_interrupted_is_ended(monkeypatch):
    monkeypatch.setattr(remote, "_BEGINS_S", 0.0)
    host, found = Slow(), []

    def ask():
        with pytest.raises(Unreachable, match="slow: interrupted"):
            host.run(["true"])
        found.append(host.program.closed.is_set())

    thread = threading.Thread(target=ask)
    thread.start()
    assert host.asked.wait(DEADLINE_S)
    host.interrupt()
    host.at_last.set()
    thread.join()
    assert found == [True]
