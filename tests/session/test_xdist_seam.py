"""What is taken from pytest-xdist: its names are there, and workers start side by side, late, or not at all."""

from __future__ import annotations

import queue
import textwrap
import threading
from types import SimpleNamespace

import pytest
from execnet import multi
from xdist import dsession, workermanage

from pytest_gpueval.session import xdist_seam
from tests.waiting import SESSION_S

NAMES = [(dsession.DSession, "_clone_node"), (workermanage.WorkerController, "ensure_teardown"), (multi.Group, "makegateway")]


def test_this_version_has_all_names():
    xdist_seam.check()


@pytest.mark.parametrize(("owner", "name"), NAMES, ids=lambda value: value if isinstance(value, str) else value.__name__)
def test_a_version_without_a_name_is_refused(monkeypatch, owner, name):
    monkeypatch.delattr(owner, name)
    with pytest.raises(RuntimeError, match=rf"has no {owner.__name__}\.{name}; pytest-gpueval needs pytest-xdist 3\.8"):
        xdist_seam.check()


def spec_hook(toy, body: str) -> None:
    """A conftest.py that changes how workers are started."""
    body = textwrap.indent(textwrap.dedent(body), "    ")
    toy.pytester.makeconftest(f"import os, sys, random\ndef pytest_xdist_setupnodes(specs):\n{body}\n")


def test_workers_start_side_by_side(toy):
    """None of four has started before all have begun to: one after another they would."""
    toy.datasets({f"d{number}": "meet(4)" for number in range(4)})
    slow = toy.root / "slow"
    slow.write_text(f'#!/bin/sh\ntouch {toy.root}/begun-$$\nuntil [ $(ls {toy.root} | grep -c ^begun-) -ge 4 ]; do sleep 0.05; done\nexec "$@"\n')
    slow.chmod(0o755)
    spec_hook(toy, f"for spec in specs: spec.python = '{slow} ' + spec.python")
    output = toy.finish(toy.on_gpus(4), "--gpus", "0-3")
    assert "4 passed" in output
    assert len(list(toy.root.glob("begun-*"))) == 4


def test_a_worker_that_cannot_be_started_is_said_and_the_others_go_on(toy):
    tries, heard = toy.root / "tries", toy.root / "heard"
    # Else all is run, and nobody waits for it any more, before it is known that the last try has failed.
    toy.datasets({"d0": f"wait_for(lambda: os.path.exists({str(heard)!r}), 'the last try')", "d1": "pass"})
    spec_hook(
        toy,
        f"""
        from pytest_gpueval.session.xdist_seam import Launcher
        said = Launcher._not_started
        Launcher._not_started = lambda self, **more: (said(self, **more), open({str(heard)!r}, "w").close())
        specs[1].python = 'sh -c "echo >> {tries}; exit 7"'
        """,
    )
    output = toy.finish(toy.on_gpus(2), "--gpus", "0-1", expect=10)
    assert "2 passed" in output
    assert "ERROR: worker gpu1 could not be started: " in output
    assert len(tries.read_text().splitlines()) == 3
    assert {line["worker"] for line in toy.events("begin")} == {"gpu0"}


def test_no_worker_can_be_started(toy):
    toy.datasets({"d0": "pass"})
    spec_hook(toy, "for spec in specs: spec.python = 'false'")
    output = toy.finish(toy.on_gpus(2), "--gpus", "0-1", expect=2)
    assert "no worker could be started" in output
    assert output.count("worker gpu0 could not be started") >= 1


def test_workers_that_collect_other_items(toy):
    """One of two takes no part, and the session fails; where none is left that could, it says so and ends."""
    toy.datasets({"d0": "wait_for(lambda: os.path.exists('both') or 'crash' in os.environ)", "d1": "pass"})
    toy.pytester.makeconftest(
        """
        def pytest_xdist_node_collection_finished(node):
            with open("collected", "a") as file:
                file.write("1")
            if open("collected").read() == "11":
                open("both", "w").close()
        """
    )
    toy.pytester.makepyfile(
        test_own="""
        import os, pytest
        @pytest.mark.parametrize("value", [os.environ["PYTEST_XDIST_WORKER"]])
        def test_own(value):
            if "crash" in os.environ: os.kill(os.getpid(), 9)
        """
    )
    environment = toy.on_gpus(2)
    output = toy.finish(environment, "--gpus", "0-1", "test_own.py", expect=1)
    assert "3 passed" in output
    assert "Different tests were collected between the first worker and gpu" in output
    alone = toy.finish({**environment, "crash": "1"}, "--gpus", "0", "test_own.py", "--gpueval-session", "alone", expect=2)
    assert "no worker is left" in alone
    assert "Different tests were collected between the first worker and gpu0" in alone


class LateGateway:
    """A worker whose process takes its time to start."""

    def __init__(self, at_last: threading.Event) -> None:
        assert at_last.wait(SESSION_S)
        self.ended = False

    def _rinfo(self) -> None:
        """It answers."""

    def exit(self) -> None:
        self.ended = True


def test_a_worker_that_starts_as_the_session_ends_is_ended_with_it(pytestconfig, monkeypatch):
    """Whoever it is that xdist no longer ends, nobody else would: it is ended, and that before the session goes on."""
    at_last, made = threading.Event(), []
    group = SimpleNamespace(makegateway=lambda _: made.append(LateGateway(at_last)) or made[-1])
    session = SimpleNamespace(nodemanager=SimpleNamespace(group=group, specs=[]), queue=queue.SimpleQueue(), _active_nodes=set())
    monkeypatch.setattr(pytestconfig.pluginmanager, "getplugin", lambda _: session)
    launcher = xdist_seam.Launcher(pytestconfig, failed=lambda lane, problem: pytest.fail(f"{lane}: {problem}"))
    launcher.pytest_xdist_setupnodes([SimpleNamespace(id="gpu0")])
    launcher.take_over(tick=lambda: None)
    assert len(session._active_nodes) == 1
    cancel = launcher.cancel
    monkeypatch.setattr(launcher, "cancel", lambda: (cancel(), at_last.set()))
    launcher.pytest_sessionfinish()
    assert [gateway.ended for gateway in made] == [True]
    assert session._active_nodes == set()
    assert {name for name, _ in iter_queue(session.queue)} <= {"gpueval_tick"}


def iter_queue(full: queue.SimpleQueue):
    while not full.empty():
        yield full.get()
