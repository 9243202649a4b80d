"""gpueval vllm start, status and stop, with llama.cpp's server, which is real, and a small one where only the life of a server matters."""

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import urllib.request
from contextlib import contextmanager, suppress
from pathlib import Path
from unittest.mock import Mock

import pytest
from typer.testing import CliRunner

from pytest_gpueval.cli.main import app
from pytest_gpueval.gpus import leases
from pytest_gpueval.gpus.devices import Device
from pytest_gpueval.hosts.detached import bundle
from pytest_gpueval.hosts.detached.client import Agent
from pytest_gpueval.hosts.detached.states import State
from tests import llama
from tests.detached_runs import ROOT, runs_in
from tests.fake_smi import FakeSmi
from tests.ports import kept
from tests.sshd import running
from tests.waiting import DEADLINE_S, wait_for

LLAMA = shlex.join(llama.ARGV)
# Lists its model, to whoever knows the key; begins once a file is there, where one is named; what hears TERM is what it started.
SMALL = Path(__file__).with_name("small_server.py")
COMMAND = f"{sys.executable} {SMALL} {{model}} {{host}} {{port}}"


@pytest.fixture(autouse=True)
def agent(tmp_path, monkeypatch):
    monkeypatch.setenv("OPS_REMOTE_OUTPUTS_DIR", str(tmp_path / "runs"))
    monkeypatch.setenv("GPUEVAL_LEASE_DIR", str(tmp_path / "leases"))
    for name in ("OPS_DEFAULT_HOST", "VLLM_BASE_URL", "OPENAI_API_BASE", "OPENAI_API_KEY", "VLLM_API_KEY", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)
    with runs_in(tmp_path / "runs") as agent:
        yield agent


def gpueval(*words):
    return CliRunner().invoke(app, ["vllm", *map(str, words)])


def start(port, *words, model="m", command=COMMAND):
    return gpueval("start", "--model", model, "--port", port, "--command", command, "--timeout", DEADLINE_S, *words)


@contextmanager
def taken():
    """A port that somebody else listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def port():
    with kept() as number:
        yield number


def test_a_real_server_from_start_to_stop(tmp_path, port):
    model = llama.tiny_model(tmp_path)
    done = start(port, model=model, command=LLAMA)
    assert done.exit_code == 0, done.output
    url = f"http://127.0.0.1:{port}/v1"
    assert re.search(rf"vllm: serving, ready after \d+:\d\d\nmodels: {model}\non local: {url}\nthen: export VLLM_BASE_URL={url}\n", done.stdout)
    again = json.loads(start(port, "--json", model=model, command=LLAMA).stdout)
    assert (again["again"], again["state"], again["models"], again["port"], again["starts"]) == (True, "serving", [str(model)], port, 1)
    table = gpueval("status")
    assert table.exit_code == 0 and re.search(rf"^vllm +serving +{model} +{port} ", table.stdout, re.MULTILINE) and "last lines of vllm:\n" in table.stdout
    assert gpueval("stop", "--dry-run").stdout == "vllm: serving, 1 processes carry its mark (dry run, nothing stopped)\n"
    stopped = gpueval("stop")
    assert stopped.exit_code == 0, stopped.output
    assert stopped.stdout == f"vllm: stopped (1 processes asked to end, 0 killed, none left, port {port} is free)\n"
    named = gpueval("status", "--name", "vllm", "--json")
    assert named.exit_code == 1 and json.loads(named.stdout)[0]["reason"] == "cancelled: a stop was asked for"
    assert gpueval("status").exit_code == 0, "nobody was named"
    assert gpueval("stop").stdout.startswith("vllm: stopped (it had ended before; ")


def test_a_server_that_dies_tells_why(tmp_path, port):
    done = start(port, model=tmp_path / "nope.gguf", command=LLAMA)
    assert done.exit_code == 1
    assert "the server 'vllm' did not start: failed: exit code 1.\nProbable cause: there is no such model. --model is a Hub repository" in done.stderr
    assert "Its last lines:\n" in done.stderr and f"ValueError: Model path does not exist: {tmp_path}/nope.gguf" in done.stderr


def test_other_options_conflict_until_they_are_to_replace(port):
    assert start(port).exit_code == 0
    other = start(port, "--env", "A=b", "--", "--n", "2")
    assert other.exit_code == 5 and "the server 'vllm' runs with other options: + --n, + 2, + A=b\nSay --replace" in other.stderr
    replaced = json.loads(start(port, "--env", "A=b", "--replace", "--json", "--", "--n", "2").stdout)
    assert (replaced["again"], replaced["starts"], replaced["command"][-2:]) == (False, 2, ["--n", "2"])
    assert json.loads(start(port, "--env", "A=b", "--replace", "--json", "--", "--n", "2").stdout)["again"], "the same is not replaced"


def test_a_port_that_is_taken_is_refused_in_words(port):
    with taken() as other:
        done = start(other)
        assert done.exit_code == 5
        assert f"local: port {other} is taken by pid {os.getpid()} (" in done.stderr and "of user " in done.stderr and "another --port" in done.stderr
    assert start(port, "--name", "one").exit_code == 0
    assert f"port {port} is taken by the server 'one', pid " in start(port, "--name", "two").stderr
    assert "gpueval vllm" not in gpueval("status").stdout and "two" not in gpueval("status").stdout


def test_a_run_that_is_no_server_is_left_alone(agent, port):
    assert CliRunner().invoke(app, ["runs", "submit", "--run-id", "vllm", "--", "true"]).exit_code == 0
    done = start(port)
    assert done.exit_code == 5 and "vllm was submitted before, for: command true" in done.stderr
    assert "there is no server 'vllm'" in gpueval("stop").stderr


def test_the_key_goes_unseen_and_is_asked_for(tmp_path, monkeypatch, port):
    monkeypatch.setenv("API_KEY", "canary-7f3a91")
    done = start(port, "--secret", "API_KEY")
    assert done.exit_code == 0, done.output
    monkeypatch.delenv("API_KEY")
    told = gpueval("status", "--name", "vllm", "--pretty")
    assert told.exit_code == 0, "the host knows the key"
    assert gpueval("status", "--api-base-url", f"http://127.0.0.1:{port}/v1").exit_code == 1, "asked without a key"
    monkeypatch.setenv("OPENAI_API_KEY", "canary-7f3a91")
    monkeypatch.setenv("VLLM_BASE_URL", f"http://127.0.0.1:{port}/v1")
    elsewhere = gpueval("status", "--json")
    assert elsewhere.exit_code == 0 and json.loads(elsewhere.stdout)[1]["models"] == ["m"]
    files = b"".join(path.read_bytes() for path in (tmp_path / "runs").rglob("*") if path.is_file())
    assert b"7f3a91" not in files and "7f3a91" not in done.output + told.output + elsewhere.output
    assert "key <redacted>" in (tmp_path / "runs/vllm/stdout.log").read_text()


def test_vllm_gets_its_key_gpus_and_options(tmp_path, monkeypatch):
    monkeypatch.setenv("VLLM_API_KEY", "canary-7f3a91")
    words = ("--host", "local", "--model-id", "o/m", "--gpus", "0-1,3", "--tensor-parallel-size", 2, "--max-model-len", 4096, "--dtype", "half", "--dry-run")
    told = gpueval("start", *words, "--vllm-bin", "/opt/vllm", "--trust-remote-code", "--json", "--", "--swap-space", "4")
    request = json.loads(told.stdout)["request"]["request"]
    assert shlex.join(request["command"]) == (
        "/opt/vllm serve o/m --host 127.0.0.1 --port 8000 --tensor-parallel-size 2 --max-model-len 4096 --dtype half --trust-remote-code --swap-space 4"
    )
    assert request["environment"]["CUDA_VISIBLE_DEVICES"] == "0,1,3" and request["environment"]["GPUEVAL_SERVER_URL"] == "http://127.0.0.1:8000/v1"
    assert request["secrets"] == ["VLLM_API_KEY"] and "7f3a91" not in told.output
    plain = gpueval("start", *words)
    assert "secret: VLLM_API_KEY (through stdin)" in plain.stdout and "dry run, nothing started" in plain.stdout
    assert not (tmp_path / "runs").exists()


def test_ctrl_c_leaves_it_running(tmp_path, port):
    code = "from pytest_gpueval.cli.main import run; run()"
    words = ["vllm", "start", "--model", "m", "--port", str(port), "--command", COMMAND, "--env", f"BEGIN={tmp_path / 'begin'}"]
    ours, theirs = os.openpty()
    with (
        subprocess.Popen([sys.executable, "-c", code, *words], cwd=ROOT, stderr=theirs, start_new_session=True) as client,
        os.fdopen(ours, "rb", 0) as terminal,
    ):
        os.close(theirs)
        said = b""
        while b"vllm: loading for 0:" not in said:  # it has its answer, and waits
            said += terminal.read(4096)
        os.killpg(client.pid, signal.SIGINT)  # as a terminal does
        client.wait(DEADLINE_S)
        with suppress(OSError):  # whose other end is closed
            while data := terminal.read(4096):
                said += data
    assert client.returncode == 130 and b"vllm goes on loading on local. Stop it: gpueval vllm stop --host local" in said, said
    assert b"Traceback" not in said
    loading = gpueval("status", "--name", "vllm")
    assert loading.exit_code == 1 and "loading (it does not listen yet)" in loading.stdout
    late = gpueval("start", *words[2:], "--timeout", 1)
    assert late.exit_code == 1 and "does not answer after 1 s: it does not listen yet.\nIt goes on, and the same command waits" in late.stderr
    (tmp_path / "begin").touch()
    assert "vllm: serving (it was started before)" in gpueval("start", *words[2:]).stdout


def test_ctrl_c_before_it_is_known_whether_it_was_started(monkeypatch, port):
    monkeypatch.setattr(Agent, "submit", Mock(side_effect=KeyboardInterrupt))
    done = start(port)
    assert done.exit_code == 130
    assert "nobody knows whether vllm was started on local. The same command starts it once; look: gpueval vllm status --host local" in done.stderr
    submit = CliRunner().invoke(app, ["runs", "submit", "--run-id", "one", "--", "true"])
    assert submit.exit_code == 130 and submit.stderr == "gpueval: one: nobody knows whether it was started. Submit it again with --run-id one: it starts once\n"


@pytest.fixture
def smi(tmp_path, monkeypatch):
    fake = FakeSmi(tmp_path / "bin")
    monkeypatch.setenv("PATH", f"{fake.path}{os.pathsep}{os.environ['PATH']}")
    return fake


def test_its_gpus_are_leased_as_long_as_it_lives(smi, tmp_path, port):
    assert start(port, "--gpus", "1", "--env", f"PIDFILE={tmp_path / 'pid'}").exit_code == 0
    assert leases.holder("GPU-0") is None
    owner = leases.holder("GPU-1")
    assert (owner.session, owner.host) == ("server vllm", socket.gethostname())
    assert "/agent.py" in Path(f"/proc/{owner.pid}/cmdline").read_text(), "who stands around it"
    with pytest.raises(leases.Leased, match=rf"GPU 1 \(GPU-1\) is in use: pid {owner.pid}, user .*, session server vllm, since 20"):
        leases.acquire([Device(1, "GPU-1", "H100")], session="s")
    assert start(port, "--gpus", "1", "--env", f"PIDFILE={tmp_path / 'pid'}").exit_code == 0, "the same server"
    assert start(port, "--gpus", "1", "--replace").exit_code == 0, "its own lease is in nobody's way"
    assert leases.holder("GPU-1").pid != owner.pid
    assert gpueval("stop").exit_code == 0
    leases.acquire([Device(1, "GPU-1", "H100")], session="s", cleanup_s=0).release()


def test_what_a_session_has_leased_is_refused_in_words(smi, tmp_path, port):
    with leases.acquire([Device(1, "GPU-1", "H100")], session="nightly"):
        refused = start(port, "--gpus", "GPU-1")
        assert refused.exit_code == 5, refused.output
        assert f"GPU 1 (GPU-1) is in use: pid {os.getpid()}, user " in refused.stderr and ", session nightly.\n" in refused.stderr
        assert "Wait until it is free, name others with --gpus, or use it all the same with --gpus-shared." in refused.stderr
        assert not (tmp_path / "runs/vllm/stdout.log").exists()
        assert start(port).exit_code == 5, "without --gpus it may use all there are"
        assert start(port, "--gpus", "1", "--gpus-shared").exit_code == 0
        assert leases.holder("GPU-1").session == "nightly"
        assert gpueval("stop").exit_code == 0
    assert start(port).exit_code == 0, "what was refused is no obstacle later"
    assert [leases.holder(uuid).session for uuid in ("GPU-0", "GPU-1")] == ["server vllm"] * 2


def test_a_session_that_is_faster_gets_the_gpu(smi, monkeypatch, port):
    source = bundle.source()
    assert source.count("owner = holder(card)\n") == 1
    monkeypatch.setattr(bundle, "source", lambda: source.replace("owner = holder(card)\n", "owner = None\n"))
    with leases.acquire([Device(0, "GPU-0", "H100")], session="nightly"):
        done = start(port, "--gpus", "0,1")
    assert done.exit_code == 1 and "the server 'vllm' did not start: failed: it could not be run: GPU 0 (GPU-0) is in use: pid " in done.stderr
    assert ", session nightly. Wait until it is free, name others with --gpus, or use it all the same with --gpus-shared.\n" in done.stderr
    assert leases.holder("GPU-1") is None, "all or none"


def test_a_lease_lives_as_long_as_anything_of_the_server(smi, tmp_path, agent, port):
    assert start(port, "--gpus", "0", "--env", f"PIDFILE={tmp_path / 'pid'}", "--env", "STUBBORN=1", "--no-tmux").exit_code == 0
    assert agent.status(["vllm"])[0].tmux is None, "as asked"
    os.kill(leases.holder("GPU-0").pid, signal.SIGKILL)
    wait_for(lambda: agent.status(["vllm"])[0].state is State.LOST)
    assert agent.status(["vllm"])[0].processes and leases.holder("GPU-0").session == "server vllm"
    assert gpueval("stop", "--grace", "0").exit_code == 0
    assert leases.holder("GPU-0") is None


def test_where_nvidia_smi_does_not_answer_nothing_is_leased_and_it_says_so(smi, port):
    smi.set(fails="no driver")
    done = start(port, "--gpus", "0")
    assert done.exit_code == 0, done.output
    assert "note: its GPUs are not leased, sessions know them by their memory alone: nvidia-smi: no driver\n" in done.stderr
    assert leases.holder("GPU-0") is None


def test_a_directory_of_leases_that_cannot_be_used_is_said(smi, tmp_path, port):
    (tmp_path / "leases").write_text("a file")
    done = start(port, "--gpus", "0")
    assert done.exit_code == 1
    assert f"it could not be run: {tmp_path}/leases: cannot be used for leases of GPUs: it is not a directory. Have it repaired" in done.stderr


def test_gpu_memory_is_shown_and_must_be_given_back(smi, tmp_path, port):
    assert start(port, "--gpus", "1", "--env", f"PIDFILE={tmp_path / 'pid'}").exit_code == 0
    smi.set(held=[(int((tmp_path / "pid").read_text()), 1, 5000)])
    (one,) = json.loads(gpueval("status", "--json").stdout)
    assert (one["gpus"], one["gpu_memory_mib"]) == ("1", {"1": 5000})
    assert " 1: 5,000 MiB" in gpueval("status").stdout
    assert f"port {port} is free, GPU 1: 5,010 -> 10 MiB)" in gpueval("stop").stdout


def test_a_tree_that_does_not_want_to_end_is_ended(port):
    assert start(port, "--env", "STUBBORN=1").exit_code == 0
    done = json.loads(gpueval("stop", "--grace", "0.2", "--json").stdout)
    assert done["killed"] == 2 and done["state"] == "cancelled"


def test_a_host_that_is_reached_by_ssh(tmp_path, monkeypatch, port):
    monkeypatch.chdir(tmp_path)
    with running(tmp_path / "sshd") as sshd:
        user = sshd.users["bash"]
        (tmp_path / "hosts.toml").write_text(
            f'[hosts.gpu-a]\naddress = "ssh://{user}@127.0.0.1:{sshd.port}"\nssh_config = "{sshd.config}"\npython = "{sys.executable}"\ngpus = "2"\n'
        )
        done = start(port, "--host", "gpu-a", command=COMMAND.replace(sys.executable, "{python}"))
        assert done.exit_code == 0, done.output
        assert f"reach it from here: ssh -N -L {port}:127.0.0.1:{port} -F {sshd.config} -p {sshd.port} {user}@127.0.0.1\n" in done.stdout
        (one,) = json.loads(gpueval("status", "--host", "gpu-a", "--json").stdout)
        assert (one["state"], one["gpus"]) == ("serving", "2")
        tunnel = re.search("reach it from here: (.*)", done.stdout)[1]
        with kept() as other:
            words = [word.replace(f"{port}:127.0.0.1", f"{other}:127.0.0.1") for word in shlex.split(tunnel)]
            with subprocess.Popen([*words[:1], "-o", "BatchMode=yes", *words[1:]]) as ssh:
                try:
                    wait_for(lambda: lists(other) == ["m"])
                finally:
                    ssh.terminate()
        assert f"port {port} is free" in gpueval("stop", "--host", "gpu-a").stdout
    assert gpueval("status", "--host", "gpu-a").exit_code == 3, "it answers no more"


def lists(port):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/models", timeout=5) as reply:
            return [entry["id"] for entry in json.load(reply)["data"]]
    except OSError:
        return None


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--gpus", "0,x"), "--gpus 0,x: 'x' names no GPU of a host"),
        (("--gpus", "0,0"), "a GPU is named twice"),
        (("--gpus", "0", "--tensor-parallel", "2"), "--tensor-parallel 2: that takes as many GPUs, and --gpus names 1"),
        (("--name", "a/b"), "--name 'a/b': use letters"),
        (("--host", "gpu-9"), "there is no host 'gpu-9'"),
        (("--", "--api-key", "x"), "--api-key would show the key"),
        (("--", "--max-model-len", "9"), "the words after --: --max-model-len is given by --max-model-len"),
        (("--command", "server"), "--command has no field {port}"),
        (("--command", "s {prt}"), "unknown field {prt}. Did you mean 'port'?"),
        (("--command", "s '"), "No closing quotation"),
        (("--command", "s {port}", "--dtype", "half"), "--dtype is an option of vLLM; with --command write the server's own"),
        (("--env", "HF_TOKEN=x"), "say --secret HF_TOKEN"),
        (("--vllm-bin", "/nope/vllm"), "Its path there: --vllm-bin PATH"),
    ],
)
def test_what_the_user_got_wrong(words, said, port):
    done = gpueval("start", "--model", "m", "--port", port, *words)
    assert done.exit_code == 2 and said in done.stderr, done.output
    assert "Traceback" not in done.output


def test_the_commands_of_the_readme_are_understood(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "canary-7f3a91")
    block = re.search(r"## Language model servers\n.*?```sh\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    commands = [shlex.split(line, comments=True)[2:] for line in block[1].splitlines()]
    assert {words[0] for words in commands} == {"start", "status", "stop"}
    for words in commands:
        here = ["local" if word == "gpu-a" else word for word in words]
        done = gpueval(*([*here[:1], "--dry-run", *here[1:]] if words[0] == "start" else here))
        assert done.exit_code == 0 or "there is no server 'vllm' in " in done.stderr, done.output
