"""Runs in a pod: the same agent, by kubectl; and the commands of gpueval for them."""

import json

import pytest
from typer.testing import CliRunner

from pytest_gpueval.cli.main import app
from pytest_gpueval.errors import Conflict, Unreachable
from pytest_gpueval.hosts.detached import bundle
from pytest_gpueval.hosts.detached.states import State
from tests.detached_runs import ended, runs_in, what
from tests.fake_smi import FakeSmi
from tests.kube.fixtures import host_of
from tests.waiting import gone, wait_for

ADDRESS = "k8s://evals/box?context=test&container=main"


@pytest.fixture
def agent(cluster, root):
    cluster.pod("box", containers=["main"])
    with runs_in(root, host_of(container="main")) as agent:
        yield agent


def gpueval(root, *words):
    return CliRunner().invoke(app, ["runs", words[0], "--host", ADDRESS, "--remote-outputs-dir", str(root), *words[1:]])


@pytest.mark.parametrize("tmux", [True, False], ids=["tmux", "setsid"])
def test_a_run_goes_on_when_kubectl_has_gone(agent, cluster, tmp_path, tmux):
    command = f"echo x >> {tmp_path}/starts; while [ ! -e {tmp_path}/go ]; do sleep 0.02; done; exit 3"
    assert not agent.submit(what(command), {}, tmux=tmux).again
    cluster.cut()
    assert agent.submit(what(command), {}, tmux=tmux).again
    with pytest.raises(Conflict):
        agent.submit(what("true"), {}, tmux=tmux)
    assert [run.state for run in agent.status()] == [State.RUNNING]
    (tmp_path / "go").touch()
    run = ended(agent)
    assert (run.state, run.exit_code) == (State.FAILED, 3)
    assert (tmp_path / "starts").read_text() == "x\n"


def test_a_stopped_run_leaves_nothing_in_the_pod(agent, cluster, tmp_path):
    agent.submit(what(f"setsid sleep 1000 & echo $! > {tmp_path}/pid; exec sleep 1000"), {})
    pid = int(wait_for(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text().strip()))
    assert agent.stop("one").run.state is State.CANCELLED
    assert gone([pid])
    wait_for(lambda: not cluster.living())


def test_from_submit_to_fetch_by_the_commands(agent, root, tmp_path, monkeypatch, cluster):
    monkeypatch.setenv("HF_TOKEN", "canary-7f3a91")
    monkeypatch.chdir(tmp_path)
    script = 'echo "${#HF_TOKEN} $HF_TOKEN"; echo RESULT_X loss=0.5; echo x > "$GPUEVAL_RUN_DIR/out"'
    done = gpueval(root, "submit", "--run-id", "one", "--remote-repo", "/tmp", "--secret", "HF_TOKEN", "--", "sh", "-c", script)
    assert done.exit_code == 0, done.output
    ended(agent)
    told = json.loads(gpueval(root, "status", "--run-id", "one", "--json").stdout)[0]
    assert (told["state"], told["results"]) == ("passed", {"x.loss": 0.5})
    assert gpueval(root, "logs", "--run-id", "one").stdout == "13 <redacted>\nRESULT_X loss=0.5\n"
    assert gpueval(root, "fetch", "--run-id", "one", "--to", "here").exit_code == 0
    assert (tmp_path / "here/one/out").read_text() == "x\n"
    assert "7f3a91" not in "".join(request.path for request in cluster.requests) + done.output


def test_its_progress_and_gpus(agent, root, tmp_path, monkeypatch):
    smi = FakeSmi(tmp_path / "bin")
    script = f'echo \'{{"done": 3, "total": 4}}\' > $GPUEVAL_RUN_DIR/progress.json; echo $$ > {tmp_path}/pid; exec sleep 600'
    agent.submit(what(script), {})
    smi.set(held=[(int(wait_for(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text().strip())), 0, 5000)])
    source = bundle.source()
    monkeypatch.setattr(bundle, "source", lambda: source.replace("SMI_PLACES = (", f"SMI_PLACES = ('{smi.path}/nvidia-smi', "))
    (told,) = json.loads(gpueval(root, "status", "--json").stdout)
    assert (told["progress"]["percent"], told["gpus"][0]["memory_mib"]) == (75, 5000)
    assert "GPU 0: 5,000 MiB given back" in gpueval(root, "stop", "--run-id", "one").stdout


def test_a_pod_that_is_gone(agent, root, cluster):
    cluster.delete_pod("box")
    done = gpueval(root, "status")
    assert done.exit_code == 2 and "there is no pod 'box' in evals" in done.stderr and "Traceback" not in done.output


def test_a_lost_answer_is_not_an_answer(agent, cluster, tmp_path):
    """The connection breaks before the pod hears of it: nothing was started, and the next submit starts it once."""
    cluster.fail("/exec", 503)
    with pytest.raises(Unreachable):
        agent.submit(what(f"echo x >> {tmp_path}/starts"), {})
    cluster.heal()
    assert not agent.submit(what(f"echo x >> {tmp_path}/starts"), {}).again
    assert ended(agent).state is State.PASSED
    assert (tmp_path / "starts").read_text() == "x\n"
