"""GPUs of runs, in status and stop. nvidia-smi is a stand-in."""

import json
import os
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pytest_gpueval.cli.main import app
from pytest_gpueval.hosts.bootstrap import prepare
from pytest_gpueval.hosts.detached import bundle
from tests.detached_runs import runs_in
from tests.fake_smi import FakeSmi
from tests.sshd import running
from tests.waiting import wait_for

HOLDS = ("sh", "-c", 'sleep 600 & echo $! > "$GPUEVAL_RUN_DIR/pid.new"; mv "$GPUEVAL_RUN_DIR/pid.new" "$GPUEVAL_RUN_DIR/pid"; wait')


@pytest.fixture(autouse=True)
def agent(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("OPS_REMOTE_OUTPUTS_DIR", str(tmp_path / "runs"))
    monkeypatch.delenv("OPS_DEFAULT_HOST", raising=False)
    with runs_in(tmp_path / "runs") as agent:
        yield agent


@pytest.fixture
def smi(tmp_path, monkeypatch):
    fake = FakeSmi(tmp_path / "bin")
    monkeypatch.setenv("PATH", f"{fake.path}{os.pathsep}{os.environ['PATH']}")
    return fake


@pytest.fixture
def hasty(monkeypatch, request):
    """What waits for memory gives up soon, and what waits for an nvidia-smi that hangs."""
    source = bundle.source()
    assert source.count("ASKED_S = 5.0\n") == source.count("FREE_S = 10.0 ") == 1
    asked_s = 1.0 if "hangs" in request.node.name else 60.0
    text = source.replace("ASKED_S = 5.0\n", f"ASKED_S = {asked_s}\n").replace("FREE_S = 10.0 ", "FREE_S = 0.5 ")
    monkeypatch.setattr(bundle, "source", lambda: text)


def gpueval(*words):
    return CliRunner().invoke(app, ["runs", *words])


def told(*words):
    """The document of a command that went well."""
    done = gpueval(*words, "--json")
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def submitted(root, run_id="one"):
    """The pid of what a run has started, which is to hold the memory."""
    done = gpueval("submit", "--run-id", run_id, "--", *HOLDS)
    assert done.exit_code == 0, done.output
    pid = root / "runs" / run_id / "pid"
    wait_for(pid.exists)
    return int(pid.read_text())


def test_status_shows_what_each_run_holds(smi, tmp_path):
    one, two = submitted(tmp_path), submitted(tmp_path, "two")
    gpueval("submit", "--run-id", "over", "--", "true")
    wait_for(lambda: gpueval("status", "--run-id", "over").stdout.startswith("over: passed"))
    smi.set(held=[(one, 0, 40000), (one, 1, 20000), (two, 1, 500), (os.getpid(), 0, 7000)])
    before = len(smi.asked)
    table = gpueval("status").stdout.splitlines()
    assert sorted(smi.asked[before:]) == ["--query-compute-apps", "--query-gpu"], "once for all runs"
    assert table[0].split() == ["run", "state", "time", "GPUs", "why", "command"]
    assert " 0,1: 58.6 GiB, 90% " in table[1] and table[1].startswith("one ")
    assert " GiB" not in table[2] and table[2].startswith("over ")
    assert " 1: 500 MiB, 90% " in table[3]
    (found,) = told("status", "--run-id", "one")
    about = {"name": "NVIDIA H100", "total_mib": 81559, "utilization_percent": 90}
    assert found["gpus"] == [
        {"index": 0, "uuid": "GPU-0", **about, "memory_mib": 40000, "used_mib": 47010},
        {"index": 1, "uuid": "GPU-1", **about, "memory_mib": 20000, "used_mib": 20510},
    ]
    detail = gpueval("status", "--run-id", "one").stdout
    assert "\nGPU 0 (NVIDIA H100): 40,000 MiB of 81,559 held, 90% busy\nGPU 1 (NVIDIA H100): 20,000 MiB of 81,559 held, 90% busy\n" in detail
    assert "GPU 1 (NVIDIA H100): 500 MiB" in gpueval("stop", "--run-id", "two", "--dry-run").stdout


def test_a_run_without_gpu_memory(smi, tmp_path):
    submitted(tmp_path)
    assert told("status")[0]["gpus"] == []
    assert "GPUs" not in gpueval("status").stdout and "GPU 0" not in gpueval("status", "--run-id", "one").stdout


def test_nobody_is_asked_where_no_run_lives(smi):
    gpueval("submit", "--run-id", "one", "--", "true")
    wait_for(lambda: gpueval("status", "--run-id", "one").stdout.startswith("one: passed"))
    before = len(smi.asked)
    assert told("status")[0]["gpus"] is None
    assert len(smi.asked) == before


def test_without_nvidia_smi_nothing_is_said(tmp_path):
    submitted(tmp_path)
    (found,) = told("status")
    assert (found["gpus"], found["gpus_unknown"]) == (None, None)
    assert "GPUs" not in gpueval("status").stdout + gpueval("status", "--run-id", "one").stdout
    stopped = gpueval("stop", "--run-id", "one", "--json")
    assert (json.loads(stopped.stdout)["gpu_memory"], json.loads(stopped.stdout)["notes"], stopped.stderr) == (None, [], "")


@pytest.mark.parametrize(
    ("state", "why"), [({"hangs": True}, "nvidia-smi: no answer within 1 s"), ({"fails": "no driver"}, "nvidia-smi: no driver")], ids=["hangs", "fails"]
)
def test_one_that_hangs_or_fails_makes_it_unknown(smi, hasty, tmp_path, state, why):
    submitted(tmp_path)
    smi.set(**state)
    (found,) = told("status")
    assert (found["state"], found["gpus"], found["gpus_unknown"]) == ("running", None, why)
    assert f"GPUs: unknown ({why})\n" in gpueval("status", "--run-id", "one").stdout
    assert " unknown " in gpueval("status").stdout
    stopped = gpueval("stop", "--run-id", "one")
    assert stopped.exit_code == 0 and ", none left)" in stopped.stdout
    assert stopped.stderr == f"gpueval: warning: whether GPU memory was given back is not known: {why}\n"


def test_memory_of_nobody_here_makes_it_unknown(smi, tmp_path):
    """In a container the driver may list nobody, or pids of the machine around it."""
    submitted(tmp_path)
    smi.set(held=[(2**22 + 1, 0, 5000)], kept_for=10**6, lists_dead=True)
    why = "nvidia-smi shows 5,010 MiB of GPU 0 in use, and not by which of the processes here, as in a container"
    assert told("status")[0]["gpus_unknown"] == why
    smi.set(lists_dead=False)
    assert told("status")[0]["gpus_unknown"] == why


def test_a_stop_says_what_was_given_back(smi, tmp_path):
    pid = submitted(tmp_path)
    smi.set(held=[(pid, 0, 5000), (os.getpid(), 0, 200), (os.getpid(), 1, 3000)])
    stopped = gpueval("stop", "--run-id", "one")
    assert stopped.stdout.endswith(", none left, GPU 0: 5,000 MiB given back)\n") and stopped.stderr == "", stopped.output
    again = told("stop", "--run-id", "one")
    assert (again["ended_before"], again["gpu_memory"], again["notes"]) == (True, None, [])


@pytest.mark.parametrize("lists_dead", [True, False])
def test_memory_that_takes_its_time_is_waited_for(smi, tmp_path, lists_dead):
    pid = submitted(tmp_path)
    smi.set(held=[(pid, 1, 5000)], kept_for=len(smi.asked) + 8, lists_dead=lists_dead)
    stopped = told("stop", "--run-id", "one")
    assert stopped["gpu_memory"] == {"1": {"held_mib": 5000, "before_mib": 5010, "after_mib": 10, "back": True}}
    assert stopped["notes"] == []


@pytest.mark.parametrize(
    ("lists_dead", "note"),
    [
        (True, "GPU 0: nvidia-smi still lists its pid {pid} there, which has ended"),
        (False, "GPU 0 has 5,010 MiB in use, 5,010 before: its memory was not given back, or others took it"),
    ],
)
def test_memory_that_stays_held_is_a_warning(smi, hasty, tmp_path, lists_dead, note):
    pid = submitted(tmp_path)
    smi.set(held=[(pid, 0, 5000)], kept_for=10**6, lists_dead=lists_dead)
    stopped = gpueval("stop", "--run-id", "one", "--json")
    document = json.loads(stopped.stdout)
    assert stopped.exit_code == 0 and document["state"] == "cancelled"
    assert document["notes"] == [note.format(pid=pid)] and document["gpu_memory"]["0"]["back"] is False
    assert stopped.stderr == f"gpueval: warning: {document['notes'][0]}\n"


def test_a_host_that_is_reached_by_ssh(smi, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with running(tmp_path / "sshd") as sshd:
        path = f"{smi.path}:/usr/bin:/bin"
        (tmp_path / "hosts.toml").write_text(
            f'[hosts.gpu-a]\naddress = "ssh://{sshd.users["bash"]}@127.0.0.1:{sshd.port}"\nssh_config = "{sshd.config}"\nenv = {{ PATH = "{path}" }}\n'
        )
        monkeypatch.setenv("OPS_DEFAULT_HOST", "gpu-a")
        done = gpueval("submit", "--run-id", "one", "--remote-repo", "/tmp", "--", *HOLDS)
        assert done.exit_code == 0, done.output
        wait_for((tmp_path / "runs/one/pid").exists)
        smi.set(held=[(int((tmp_path / "runs/one/pid").read_text()), 0, 5000)])
        assert told("status")[0]["gpus"][0]["memory_mib"] == 5000
        monkeypatch.setattr(prepare, "DEFAULT_ROOT", str(tmp_path / "runs"))
        (here,) = json.loads(CliRunner().invoke(app, ["hosts", "status", "gpu-a", "--json"]).stdout)
        assert [gpu["used_mib"] for gpu in here["gpus"]] == [5010, 10]
        assert here["runs"][0]["gpus"][0]["memory_mib"] == 5000
        assert "\n  run one: running, GPU 0: 4.9 GiB, 90%\n" in CliRunner().invoke(app, ["hosts", "status", "gpu-a"]).stdout
        assert "GPU 0: 5,000 MiB given back" in gpueval("stop", "--run-id", "one").stdout
