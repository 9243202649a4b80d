"""gpueval runs submit --sync: the code as it was at submit time."""

import json
import os
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pytest_gpueval.cli.main import app
from tests.detached_runs import runs_in
from tests.sshd import running
from tests.waiting import wait_for

HOLDS = """
import pathlib, time, own
print(own.WORD, flush=True)
while not pathlib.Path({go!r}).exists():
    time.sleep(0.02)
print(pathlib.Path("own.py").read_text())
"""


@pytest.fixture(scope="module")
def sshd(tmp_path_factory):
    with running(tmp_path_factory.mktemp("sshd")) as server:
        yield server


@pytest.fixture(params=["local", "ssh"])
def place(request, tmp_path, monkeypatch):
    """A repository with a host `box`, which has a Python that needs nothing."""
    root = tmp_path / "repository"
    root.mkdir()
    monkeypatch.chdir(root)
    monkeypatch.setenv("OPS_REMOTE_OUTPUTS_DIR", str(tmp_path / "runs"))
    for name in ("OPS_DEFAULT_HOST", "OPS_REMOTE_REPO"):
        monkeypatch.delenv(name, raising=False)
    address = 'address = "local"\n'
    if request.param == "ssh":
        server = request.getfixturevalue("sshd")
        address = f'address = "ssh://{server.users["bash"]}@127.0.0.1:{server.port}"\nssh_config = "{server.config}"\n'
    (root / "hosts.toml").write_text(f'[hosts.box]\n{address}workdir = "{tmp_path}/there"\npython = "{sys.executable}"\ninstall = false\n')
    (root / "own.py").write_text("WORD = 'before'\n")
    with runs_in(tmp_path / "runs"):
        yield root


def submit(*words):
    return CliRunner().invoke(app, ["runs", "submit", "--host", "box", *words])


def test_a_run_sees_the_code_as_it_was_when_it_was_submitted(place, tmp_path):
    command = ("--run-id", "one", "--sync", "--", "python", "-c", HOLDS.format(go=str(tmp_path / "go")))
    assert (done := submit(*command)).exit_code == 0, done.output
    assert "files sent" in done.stderr
    log = tmp_path / "runs/one/stdout.log"
    wait_for(lambda: log.exists() and log.read_text() == "before\n")
    again = submit("--json", *command)
    assert json.loads(again.stdout)["again"], again.output
    (place / "own.py").write_text("WORD = 'after'\n")
    other = submit(*command)
    assert other.exit_code == 5 and "one still runs something else" in other.stderr
    (tmp_path / "go").touch()
    wait_for(lambda: json.loads(CliRunner().invoke(app, ["runs", "status", "--host", "box", "--run-id", "one", "--json"]).stdout)[0]["state"] == "passed")
    assert log.read_text() == "before\nWORD = 'before'\n\n"
    assert list((tmp_path / "there").iterdir()) == [tmp_path / "there/gpueval-code"]


def test_a_dry_run_sends_nothing(place, tmp_path):
    done = submit("--sync", "--dry-run", "--run-id", "one", "--", "pytest", "-q")
    assert done.exit_code == 0 and "would be sent" in done.stderr and "command: " in done.stdout and "dry run, nothing started" in done.stdout
    assert not list(Path(tmp_path).glob("there/gpueval-code/*/snapshots/*")) and not (tmp_path / "runs/one").exists()


def test_what_does_not_go_together(place, monkeypatch):
    assert "leave out --remote-repo" in submit("--sync", "--remote-repo", "/x", "--", "true").stderr
    monkeypatch.setenv("OPS_REMOTE_REPO", os.fspath(place))
    assert (found := submit("--sync", "--", "true")).exit_code == 2 and "OPS_REMOTE_REPO" in found.stderr
