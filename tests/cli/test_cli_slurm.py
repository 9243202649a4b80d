"""gpueval runs on a real Slurm whose login node is reached through SSH, as hosts.toml names it."""

import json
import shutil
import sys

import pytest
from typer.testing import CliRunner

from pytest_gpueval.cli.main import app
from tests import slurm as slurms
from tests.sshd import running
from tests.waiting import wait_for


@pytest.fixture(scope="module")
def slurm():
    with slurms.running() as server:
        yield server


@pytest.fixture
def cluster(slurm, tmp_path, monkeypatch):
    """Hosts `cluster` and `here`, by SSH and on this machine."""
    for name in ("OPS_DEFAULT_HOST", "OPS_REMOTE_REPO", "OPS_REMOTE_OUTPUTS_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    more = f'workdir = "/usr"\nenv = {{ SLURM_CONF = "{slurm.conf}" }}\ntime_limit = "01:00:00"\n'
    with running(tmp_path / "sshd") as sshd:
        login = f"ssh://{sshd.users['bash']}@127.0.0.1:{sshd.port}"
        (tmp_path / "hosts.toml").write_text(
            f'[hosts.cluster]\naddress = "slurm://gpu?login={login}"\nssh_config = "{sshd.config}"\n{more}[hosts.here]\naddress = "slurm://gpu"\n{more}'
        )
        yield slurm
        for name in slurm.jobs():
            slurm("scancel", f"--name={name}")
        wait_for(lambda: not slurm.jobs())


def gpueval(*words):
    return CliRunner().invoke(app, ["runs", *words])


@pytest.mark.parametrize("host", ["cluster", "here"])
def test_a_run_from_submit_to_fetch(cluster, tmp_path, monkeypatch, host):
    monkeypatch.setenv("MY_TOKEN", "canary-7f3a91")
    place = ("--host", host, "--remote-outputs-dir", str(tmp_path / f"runs {host}"))
    one = (*place, "--run-id", "one")
    words = ("submit", *one, "--secret", "MY_TOKEN", "--gpus-per-job", "2", "--", "sh", "-c", "echo $MY_TOKEN $CUDA_VISIBLE_DEVICES; pwd; exec sleep 600")
    done = gpueval(*words)
    assert done.exit_code == 0 and done.stdout.startswith("one: queued (just submitted; job "), done.output
    assert "canary" not in done.output and "attach there" not in done.output
    again = gpueval(*words)
    assert again.exit_code == 0 and "it was submitted before" in again.stdout, again.output
    log = wait_for(lambda: (text := gpueval("logs", *one).stdout) and text.endswith("/usr\n") and text)
    assert log.startswith("<redacted> ") and len(log.split()[1].split(",")) == 2
    (job,) = cluster.named("gpueval-")[-1:]
    assert f"one: running (job {job})" in gpueval("status", *one).stdout
    (told,) = json.loads(gpueval("status", *one, "--json").stdout)
    assert (told["state"], told["job"], told["node"], told["attempt"], told["tmux"]) == ("running", job, cluster.node, 1, None)
    assert "TimeLimit=01:00:00" in cluster("scontrol", "show", "job", job)
    assert "one" in gpueval("list", *place).stdout
    assert f"one: running (job {job})" in gpueval("stop", *one, "--dry-run").stdout
    stopped = gpueval("stop", *one)
    assert stopped.exit_code == 0 and stopped.stdout.startswith("one: cancelled (") and f"Slurm says that job {job} is over)" in stopped.stdout
    assert gpueval("status", *one).exit_code == 1
    assert gpueval("fetch", *one).exit_code == 0
    assert (tmp_path / f"reports/fetched/{host}/one/stdout.log").read_text() == log
    assert not list(tmp_path.rglob("secrets.json"))


def test_a_dry_run_submits_nothing(cluster, tmp_path):
    place = ("submit", "--host", "cluster", "--run-id", "one", "--remote-outputs-dir", str(tmp_path / "runs"), "--dry-run")
    plain = gpueval(*place, "--gpus-per-job", "0", "--time-limit", "30:00", "--no-requeue", "--", "true")
    assert "started by: sbatch --no-requeue --nodes=1 --ntasks=1 --partition=gpu --time=30:00\ndry run, nothing started" in plain.stdout, plain.output
    told = json.loads(gpueval(*place, "--json", "--", "true").stdout)["request"]["request"]["slurm"]
    assert told == {"options": ["--nodes=1", "--ntasks=1", "--partition=gpu", "--gres=gpu:1", "--time=01:00:00"], "python": "python3", "requeue": True}
    assert not (tmp_path / "runs").exists() and cluster.jobs() == []


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--host", "here", "--time-limit", "8h"), 2, "'8h' is no time limit"),
        (
            ("--host", "here", "--gpus-per-job", "99"),
            2,
            "here: sbatch: sbatch: error: Batch job submission failed: Requested node",
        ),
        (("--host", "slurm://nope", "--remote-repo", "/tmp"), 2, "invalid partition specified: nope"),
        (("--gpus-per-job", "1"), 2, "--gpus-per-job, --time-limit and --no-requeue are for hosts of slurm://, and local is none"),
    ],
)
def test_what_the_user_got_wrong(cluster, tmp_path, monkeypatch, words, code, said):
    monkeypatch.setenv("SLURM_CONF", str(cluster.conf))
    done = gpueval("submit", "--run-id", "one", "--remote-outputs-dir", str(tmp_path / "runs"), *words, "--", "true")
    assert (done.exit_code, said in done.stderr) == (code, True), done.output
    assert "Traceback" not in done.output and cluster.jobs() == []


def test_without_slurm_on_the_login_node(cluster, tmp_path, monkeypatch):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/python3").symlink_to(sys.executable)
    (tmp_path / "bin/true").symlink_to(shutil.which("true"))
    with monkeypatch.context() as patch:
        patch.setenv("PATH", str(tmp_path / "bin"))
        done = gpueval("submit", "--host", "here", "--run-id", "one", "--remote-outputs-dir", str(tmp_path / "runs"), "--", "true")
    assert done.exit_code == 2 and "Slurm's client programs are needed on the login node" in done.stderr, done.output
