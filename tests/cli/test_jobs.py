"""gpueval runs on a host whose runs are Jobs."""

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from pytest_gpueval.cli.main import app
from pytest_gpueval.processes.supervisor import pids
from tests.kube.fixtures import cluster  # noqa: F401
from tests.waiting import DEADLINE_S, wait_for

COMMAND = ("--", "sh", "-c", 'echo "shard {shard_index}/{shard_count} ${#HF_TOKEN} $HF_TOKEN"; printf \'{"a": "%s"}\\n\' "$HF_TOKEN"; echo RESULT_X loss=0.5')


@pytest.fixture
def project(tmp_path, monkeypatch, cluster):  # noqa: F811
    (tmp_path / "hosts.toml").write_text('[hosts.cluster]\naddress = "k8s://evals?context=test"\nimage = "eval:1"\nshards = 2\nvolume_claim = "disk"\n')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPS_DEFAULT_HOST", "cluster")
    monkeypatch.setenv("HF_TOKEN", "canary-7f3a91")
    for name in ("OPS_REMOTE_REPO", "OPS_REMOTE_OUTPUTS_DIR"):
        monkeypatch.delenv(name, raising=False)
    return cluster


def gpueval(*words):
    return CliRunner().invoke(app, ["runs", *words])


def clients(cluster):  # noqa: F811
    """Pids of every kubectl that talks to this cluster."""
    found = []
    for pid in pids():
        with suppress(OSError):
            mine = os.fsencode(f"KUBECONFIG={cluster.kubeconfig}") in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
            if mine and Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"kubectl\0"):
                found.append(pid)
    return found


def status(run_id="one"):
    return json.loads(gpueval("status", "--run-id", run_id, "--json").stdout)[0]


def test_a_run_from_submit_to_its_end(project):
    done = gpueval("submit", "--run-id", "one", "--secret", "HF_TOKEN", *COMMAND)
    assert done.exit_code == 0, done.output
    assert "directory: /mnt/gpueval-runs/one\nread it: gpueval runs logs -f --host cluster --run-id one" in done.stdout
    told = wait_for(lambda: (found := status())["state"] == "passed" and found)
    assert told["results"] == {"x.loss": 0.5} and told["exit_code"] == 0
    assert [told["progress"][name] for name in ("done", "total", "failed", "unit")] == [2, 2, 0, "shards"] and told["gpus"] is None
    assert " 2/2 " in gpueval("status").stdout
    assert gpueval("logs", "--run-id", "one", "--index", "1").stdout == 'shard 1/2 13 <redacted>\n{"a": "<redacted>"}\nRESULT_X loss=0.5\n'
    assert "7f3a91" not in gpueval("status", "--run-id", "one", "--pretty").output
    assert json.loads(gpueval("submit", "--run-id", "one", "--secret", "HF_TOKEN", "--json", *COMMAND).stdout)["again"] is True
    assert "one" in gpueval("list", "--host", "cluster").stdout
    conflict = gpueval("submit", "--run-id", "one", "--", "true", "{shard_index}")
    assert conflict.exit_code == 5 and "was submitted before, for something else" in conflict.stderr
    assert "7f3a91" not in done.output + "".join(request.path for request in project.requests)


def test_a_dry_run_prints_the_manifest_and_creates_nothing(project):
    plain = gpueval("submit", "--run-id", "one", "--secret", "HF_TOKEN", "--dry-run", *COMMAND)
    told = gpueval("submit", "--run-id", "one", "--secret", "HF_TOKEN", "--dry-run", "--json", *COMMAND)
    document = yaml.safe_load(plain.stdout)
    assert document == json.loads(told.stdout)["request"] and document["spec"]["completions"] == 2
    assert "# secret: HF_TOKEN (through stdin" in plain.stdout and "7f3a91" not in plain.output + told.output
    assert not project.jobs and not project.requests


def test_a_run_is_stopped(project):
    gpueval("submit", "--run-id", "one", "--", "sh", "-c", "echo {shard_index}; exec sleep 1000")
    wait_for(lambda: status()["reason"] == "2 of 2 run")
    assert "one: running (2 of 2 run), 2 pods (dry run, nothing stopped)" in gpueval("stop", "--run-id", "one", "--dry-run").stdout
    stopped = gpueval("stop", "--run-id", "one")
    assert stopped.exit_code == 0 and "one: cancelled (2 pods asked to end, 0 killed, none left)" in stopped.stdout
    assert not project.living()
    gone = gpueval("status", "--run-id", "one")
    assert gone.exit_code == 1 and "one: cancelled (a stop was asked for; its Job is deleted)" in gone.stdout
    assert gpueval("status", "--run-id", "two").exit_code == 2


def test_files_are_fetched_and_archived(project, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    disk = tmp_path / "disk"
    disk.mkdir()
    file = Path("hosts.toml")
    file.write_text(file.read_text() + f'volume = "{disk}"\n')
    gpueval("submit", "--run-id", "one", "--", "sh", "-c", 'mkdir -p "$1" && echo {shard_index} >"$1/out"', "sh", "{run_dir}")
    wait_for(lambda: status()["state"] == "passed")
    before = len(project.requests)
    shown = gpueval("fetch", "--run-id", "one", "--dry-run")
    document = yaml.safe_load(shown.stdout)
    assert document["spec"]["activeDeadlineSeconds"] == 7200 and "# dry run, nothing created" in shown.stdout and len(project.requests) == before
    assert json.loads(gpueval("archive", "--run-id", "one", "--dry-run", "--json", "/x").stdout)["request"]["kind"] == "Job" and len(project.requests) == before
    fetched = gpueval("fetch", "--run-id", "one", "--to", "here")
    assert fetched.exit_code == 0 and "here/one: 2 file(s), 4 bytes (fetched), 0 unchanged" in fetched.stdout, fetched.output
    assert [Path(f"here/one/{index}/out").read_text() for index in range(2)] == ["0\n", "1\n"]
    (disk / "eval_1").write_text("x")
    archived = gpueval("archive", "--run-id", "one", f"{disk}/eval_*")
    assert archived.exit_code == 0 and (disk / "gpueval-runs/one/archived/eval_1").read_text() == "x", archived.output
    wait_for(lambda: len(project.jobs) == 1)
    file.write_text(file.read_text().replace('volume_claim = "disk"\n', "").replace(f'volume = "{disk}"\n', ""))
    refused = gpueval("fetch", "--run-id", "one")
    assert refused.exit_code == 2 and f"nothing that its Jobs write to {disk}/gpueval-runs/one outlives their pods" in refused.stderr


def test_logs_are_followed_to_the_end(project, tmp_path):
    gpueval("submit", "--run-id", "one", "--", "sh", "-c", f"echo first {{shard_index}}; while [ ! -e {tmp_path}/go ]; do sleep 0.02; done; echo last; exit 3")
    code = "from pytest_gpueval.cli.main import run; run()"
    words = ["runs", "logs", "--run-id", "one", "--index", "1", "-f"]
    with subprocess.Popen([sys.executable, "-c", code, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as reader:
        assert reader.stdout.readline() == "first 1\n"
        (tmp_path / "go").touch()
        out, said = reader.communicate(timeout=DEADLINE_S)
    assert (out, reader.returncode) == ("last\n", 0)
    assert said == "gpueval: one: failed (by index: 0 (exit code 3), 1 (exit code 3))\n"
    assert gpueval("status", "--run-id", "one").exit_code == 1


def test_what_would_be_asked(project):
    assert gpueval("status", "--dry-run").stdout == "host: cluster\nruns: all in k8s://evals?context=test\ndry run, nothing asked\n"
    assert not project.requests


def test_a_reader_that_is_interrupted_leaves_no_kubectl(project, tmp_path):
    gpueval("submit", "--run-id", "one", "--", "sh", "-c", "echo {shard_index}; exec sleep 1000")
    code = "from pytest_gpueval.cli.main import run; run()"
    words = ["runs", "logs", "--run-id", "one", "-f"]
    with subprocess.Popen([sys.executable, "-c", code, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as reader:
        assert reader.stdout.readline() == "0\n"
        reader.send_signal(signal.SIGINT)
        _, said = reader.communicate(timeout=DEADLINE_S)
    assert reader.returncode in (1, 130, -signal.SIGINT) and "Traceback" not in said
    wait_for(lambda: not clients(project))


def test_an_index_is_for_jobs_alone(project):
    done = gpueval("logs", "--host", "local", "--run-id", "one", "--index", "1")
    assert done.exit_code == 2 and "local has no Jobs" in done.stderr
