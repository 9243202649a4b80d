"""What comes from the agent, and what does not: secrets, logs, answers; and where it can run."""

import ast
import hashlib
import os
import sys
from pathlib import Path

import pytest

from pytest_gpueval.errors import GpuevalError, StorageError, Unreachable, UsageProblem
from pytest_gpueval.gpus.leases import holder
from pytest_gpueval.hosts.detached import bundle
from pytest_gpueval.hosts.detached.agent.requests import ends_at_logout
from pytest_gpueval.hosts.detached.client import Agent
from pytest_gpueval.hosts.detached.states import State
from pytest_gpueval.hosts.host import Done
from pytest_gpueval.hosts.local import LocalHost
from tests.detached_runs import ROOT, carriers, ended, nonce_of, runs_in, what
from tests.fake_smi import FakeSmi
from tests.waiting import DEADLINE_S, wait_for

HOW = pytest.mark.parametrize("tmux", [True, False], ids=["tmux", "setsid"])


# Secrets


CANARY = "canary-7f3a91/+ß"
SPEAKER = """
import hashlib, os, sys, time, urllib.parse
value = os.environ["MY_TOKEN"]
print(hashlib.sha256(value.encode()).hexdigest())
print(value, urllib.parse.quote(value), repr(dict(os.environ)))
for character in value:
    sys.stdout.write(character)
    sys.stdout.flush()
    time.sleep(0.005)
print()
print("said")
sys.stdout.flush()
while not os.path.exists(sys.argv[1]):
    time.sleep(0.01)
"""


@HOW
def test_a_secret_is_nowhere_but_in_the_environment(agent, root, tmp_path, tmux):
    own = {**os.environ, "MY_TOKEN": CANARY}
    agent.submit(what([sys.executable, "-c", SPEAKER, str(tmp_path / "go")], secrets=["MY_TOKEN"], own=own), own, tmux=tmux)
    wait_for(lambda: b"said" in agent.logs("one").data)
    lines = []
    for pid in carriers(nonce_of(agent)):
        try:
            lines.append(Path(f"/proc/{pid}/cmdline").read_bytes())
        except OSError:
            continue
    assert len(lines) >= 2
    (tmp_path / "go").touch()
    run = ended(agent)
    assert run.state is State.PASSED
    assert run.tail.startswith(hashlib.sha256(CANARY.encode()).hexdigest() + "\n<redacted> <redacted> "), "the program had it, and its log has not"
    assert run.tail.endswith("\n<redacted>\nsaid\n")
    files = [path.read_bytes() for path in root.rglob("*") if path.is_file()]
    assert len(files) > 6
    for data in (*lines, *files, repr(run).encode()):
        assert b"7f3a91" not in data


# The log


def test_a_log_is_followed_from_where_one_was(agent, tmp_path):
    agent.submit(what(f"for i in 1 2 3 4; do echo line $i; done; while [ ! -e {tmp_path}/go ]; do sleep 0.02; done; echo more"), {})
    wait_for(lambda: agent.logs("one").data.endswith(b"4\n"))
    piece = agent.logs("one", tail_lines=2)
    assert (piece.data, piece.ended) == (b"line 3\nline 4\n", False)
    nothing = agent.logs("one", after=piece)
    assert (nothing.data, nothing.offset) == (b"", piece.offset)
    (tmp_path / "go").touch()
    more = agent.logs("one", after=nothing, wait_s=DEADLINE_S)
    assert more.data == b"more\n"
    last = agent.logs("one", after=more, wait_s=DEADLINE_S)
    assert (last.data, last.ended) == (b"", True)


def test_an_unknown_run(agent):
    agent.submit(what("true", "nightly"), {})
    with pytest.raises(UsageProblem, match=r"there is no run 'nihgtly' in .*Did you mean 'nightly'"):
        agent.status(["nihgtly"])
    for ask in (agent.logs, agent.stop):
        with pytest.raises(UsageProblem, match="there is no run 'x'"):
            ask("x")


# The agent


def test_the_agent_is_one_file_of_the_standard_library_for_python_3_8():
    tree = ast.parse(bundle.source(), feature_version=(3, 8))
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.partition(".")[0] for name in imported} <= sys.stdlib_module_names
    defined = [node.name for node in tree.body if isinstance(node, (ast.FunctionDef, ast.ClassDef))]
    assert len(defined) == len(set(defined)), "one module's names hide another's"


class OldPython(LocalHost):
    """This machine with an old Python."""

    def __init__(self, python):
        super().__init__()
        self._python = str(python)

    def run(self, argv, **more):
        return super().run([self._python, *argv[1:]], **more)


def test_the_agent_runs_on_python_3_8(root, tmp_path, monkeypatch):
    there = sorted(Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser().glob("versions/3.8.*/bin/python3.8"))
    if not there:
        pytest.skip("there is no Python 3.8")
    monkeypatch.setenv("PATH", f"{FakeSmi(tmp_path / 'bin').path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("GPUEVAL_LEASE_DIR", str(tmp_path / "leases"))
    with runs_in(root, OldPython(there[-1])) as agent:
        agent.submit(what("echo RESULT_X a=1; exec sleep 600"), {}, lease=True)
        wait_for(lambda: agent.logs("one").data)
        assert {holder(uuid).session for uuid in ("GPU-0", "GPU-1")} == {"server one"}
        assert agent.stop("one").run.state is State.CANCELLED
        assert [run.results for run in agent.status(tail_lines=1)] == [{"x.a": 1.0}]


class Broken(LocalHost):
    """A host that answers as it is told."""

    def __init__(self, done):
        super().__init__("gpu-a")
        self.done = done

    def run(self, *_, **__):
        return self.done


@pytest.mark.parametrize(
    ("done", "error", "said"),
    [
        (
            Done(None, b"", "took longer than 60 s"),
            Unreachable,
            "gpu-a: took longer than 60 s\none: nobody knows whether it was started. Submit it again with --run-id one",
        ),
        (
            Done(127, b"", "sh: python3: not found"),
            UsageProblem,
            "gpu-a: python3 is needed there, version 3.8 or newer, and cannot be run: sh: python3: not found",
        ),
        (Done(1, b"Welcome!", "\x1b[1mTraceback"), GpuevalError, r"gpu-a: its agent ended with 1 and no answer: \\x1b\[1mTraceback"),
    ],
)
def test_hosts_that_do_not_answer(done, error, said):
    with pytest.raises(error, match=said):
        Agent(Broken(done), "~/x").submit(what("true"), {})


def test_many_runs_are_one_request(agent):
    for number in range(3):
        agent.submit(what(f"echo {number}", f"run-{number}"), {}, tmux=False)
    asked = []
    agent.host.run = lambda *words, **more: asked.append(words) or LocalHost().run(*words, **more)
    assert [run.run_id for run in agent.status(tail_lines=1)] == ["run-0", "run-1", "run-2"]
    assert len(asked) == 1


def test_what_is_no_run_or_damaged_hides_nobody(agent, root):
    agent.submit(what("true", "good"), {}, tmux=False)
    (root / "file").write_text("x")
    (root / "folder").mkdir()
    (root / "bad/.gpueval").mkdir(parents=True)
    (root / "bad/.gpueval/claim.json").write_text("{")
    found = agent.look()
    assert [run.run_id for run in found.runs] == ["good"]
    assert len(found.skipped) == 1 and "bad/.gpueval/claim.json is damaged" in found.skipped[0]
    with pytest.raises(StorageError, match=r"claim\.json is damaged"):
        agent.status(["bad"])
    (root / "bad/.gpueval/claim.json").unlink()


def test_a_run_that_a_run_submits_is_its_own(agent, root, tmp_path):
    inner = [sys.executable, "-c", "from pytest_gpueval.cli.main import run; run()", "runs", "submit", "--remote-outputs-dir", str(root), "--run-id", "inner"]
    agent.submit(what([*inner, "--", "sleep", "600"], "outer", directory=str(ROOT)), {}, tmux=False)
    assert ended(agent, "outer").state is State.PASSED
    (run,) = agent.status(["inner"])
    assert (run.state, run.processes) == (State.RUNNING, 1)


@pytest.mark.parametrize(
    ("cgroup", "lingers", "warned"),
    [
        ("0::/user.slice/user-1000.slice/session-3.scope\n", False, True),
        ("0::/user.slice/user-1000.slice/session-3.scope\n", True, False),
        ("0::/\n", False, False),
    ],
)
def test_who_is_told_about_lingering(tmp_path, monkeypatch, cgroup, lingers, warned):
    monkeypatch.setenv("USER", "ann")
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text(cgroup)
    (tmp_path / "var/lib/systemd/linger").mkdir(parents=True)
    if lingers:
        (tmp_path / "var/lib/systemd/linger/ann").touch()
    assert ends_at_logout(str(tmp_path)) == warned
