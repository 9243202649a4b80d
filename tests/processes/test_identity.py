"""Who a process is, and whose a file is."""

import os
import subprocess
import sys
from dataclasses import replace

import pytest

from pytest_gpueval.processes import identity
from pytest_gpueval.processes.identity import Identity, abandoned, myself, own_name


def test_an_identity_survives_text():
    me = myself()
    assert me.pid == os.getpid()
    assert Identity.parse(str(me)) == me


@pytest.mark.parametrize("text", ["", "1", "1:", "x:1:b", "1:x:b", "-1:2:b"])
def test_what_is_no_identity(text):
    assert Identity.parse(text) is None


def test_another_process_with_the_same_pid_is_another():
    me = myself()
    assert me.lives()
    assert not replace(me, started=me.started + 1).lives()
    assert not replace(me, boot="0" * 8).lives()


def test_a_name_is_abandoned_once_its_process_is_gone(tmp_path):
    source = f"from pytest_gpueval.processes.identity import own_name; open({str(tmp_path)!r} + '/' + own_name() + '.segment', 'w').close()"
    subprocess.run([sys.executable, "-c", source], check=True)
    (of_the_dead,) = tmp_path.iterdir()
    (tmp_path / f"{own_name()}.mine").touch()
    (tmp_path / "gpueval.not.a.name").touch()
    (tmp_path / of_the_dead.name.replace("gpueval.", "gpueval.1", 1)).touch()  # of another namespace: not ours to judge
    assert abandoned(tmp_path) == [of_the_dead]


def test_names_differ(monkeypatch):
    assert own_name() != own_name()
    monkeypatch.setattr(os, "stat", lambda _: (_ for _ in ()).throw(OSError()))
    assert identity._namespace() == 0
