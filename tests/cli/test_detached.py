"""gpueval runs submit, status, logs, stop, fetch, archive and list --host."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pytest_gpueval.cli.main import app
from tests.detached_runs import ROOT, cut_agent, ended, runs_in
from tests.sshd import running
from tests.waiting import DEADLINE_S, wait_for


@pytest.fixture
def agent(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("OPS_REMOTE_OUTPUTS_DIR", str(tmp_path / "runs"))
    for name in ("OPS_DEFAULT_HOST", "OPS_REMOTE_REPO"):
        monkeypatch.delenv(name, raising=False)
    with runs_in(tmp_path / "runs") as agent:
        yield agent


def gpueval(*words):
    return CliRunner().invoke(app, ["runs", *words])


def test_a_run_from_submit_to_stop(agent, tmp_path):
    command = ("sh", "-c", "printf '\\033[31mred\\n'; echo RESULT_X loss=0.5; exec sleep 600")
    done = gpueval("submit", "--run-id", "one", "--remote-repo", str(tmp_path), "--", *command)
    assert done.exit_code == 0, done.output
    assert f"one: running\ndirectory: {tmp_path}/runs/one\nattach there: tmux -L gpueval-one-" in done.stdout
    again = json.loads(gpueval("submit", "--run-id", "one", "--remote-repo", str(tmp_path), "--json", "--", *command).stdout)
    assert (again["again"], again["state"], again["command"]) == (True, "running", list(command))
    conflict = gpueval("submit", "--run-id", "one", "--", "true")
    assert conflict.exit_code == 5 and "one still runs something else" in conflict.stderr
    wait_for(lambda: "RESULT_X" in gpueval("logs", "--run-id", "one").stdout)
    assert gpueval("logs", "--run-id", "one").stdout == "\\x1b[31mred\nRESULT_X loss=0.5\n"
    assert json.loads(gpueval("logs", "--run-id", "one", "--tail-lines", "1", "--json").stdout)["text"] == "RESULT_X loss=0.5\n"
    told = gpueval("status", "--run-id", "one")
    assert told.exit_code == 0 and "one: running" in told.stdout and "x.loss: 0.500" in told.stdout and "  \\x1b[31mred" in told.stdout
    (listed,) = json.loads(gpueval("list", "--host", "local", "--json").stdout)
    assert (listed["run_id"], listed["state"]) == ("one", "running")
    assert json.loads(gpueval("stop", "--run-id", "one", "--dry-run", "--json").stdout)["outcome"] == "dry run, nothing stopped"
    assert "one: running, 1 processes carry its mark (dry run, nothing stopped)" in gpueval("stop", "--run-id", "one", "--dry-run").stdout
    assert gpueval("status", "--run-id", "one", "--dry-run").stdout == f"host: local\nruns: one in {tmp_path}/runs\ndry run, nothing asked\n"
    stopped = gpueval("stop", "--run-id", "one")
    assert stopped.exit_code == 0 and stopped.stdout.startswith("one: cancelled (") and "none left" in stopped.stdout
    assert gpueval("status", "--run-id", "one").exit_code == 1, "a run that is named and did not pass"
    everything = gpueval("status")
    assert everything.exit_code == 0 and "cancelled" in everything.stdout


def test_logs_are_followed_to_the_end(agent, tmp_path):
    gpueval("submit", "--run-id", "one", "--", "sh", "-c", f"echo first; while [ ! -e {tmp_path}/go ]; do sleep 0.02; done; printf 'last\\r\\nhalf'; exit 3")
    code = "from pytest_gpueval.cli.main import run; run()"
    with subprocess.Popen(
        [sys.executable, "-c", code, "runs", "logs", "--run-id", "one", "-f"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as reader:
        assert reader.stdout.readline() == "first\n"
        (tmp_path / "go").touch()
        out, said = reader.communicate(timeout=DEADLINE_S)
    assert (out, said, reader.returncode) == ("last\nhalf", "gpueval: one: failed (exit code 3)\n", 0)


def test_a_client_that_is_killed_in_between(agent, tmp_path):
    """The command itself; the steps are tried in the tests of the hosts."""
    command = ("sh", "-c", f"echo x >> '{tmp_path}/starts'")
    patched = f"from pytest_gpueval.hosts.detached import bundle; bundle.source = lambda: {cut_agent('spawned', both=True)!r}\n"
    argv = ["runs", "submit", "--run-id", "one", "--", *command]
    done = subprocess.run(
        [sys.executable, "-c", patched + "from pytest_gpueval.cli.main import run; run()", *argv], cwd=ROOT, capture_output=True, timeout=DEADLINE_S
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert gpueval(*argv[1:]).exit_code == 0
    assert ended(agent).exit_code == 0
    assert (tmp_path / "starts").read_text() == "x\n"


def test_a_dry_run_starts_nothing_and_shows_no_secret(agent, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "canary-7f3a91")
    words = ("submit", "--run-id", "one", "--secret", "HF_TOKEN", "--env", "A=b", "--dry-run")
    plain, told = gpueval(*words, "--", "pytest", "-x"), gpueval(*words, "--json", "--", "pytest", "-x")
    assert "command: pytest -x\nenvironment: A=b\nsecret: HF_TOKEN (through stdin)\nstarted by: tmux" in plain.stdout
    asked = json.loads(told.stdout)["request"]
    assert asked["request"] == {
        "run_id": "one",
        "command": ["pytest", "-x"],
        "directory": str(Path.cwd()),
        "environment": {"A": "b"},
        "secrets": ["HF_TOKEN"],
        "label": "local",
    }
    assert "7f3a91" not in plain.output + told.output
    assert not (tmp_path / "runs").exists()


def test_secrets_reach_the_command_alone(agent, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "canary-7f3a91")
    done = gpueval("submit", "--run-id", "one", "--secret", "HF_TOKEN", "--", "sh", "-c", 'echo "${#HF_TOKEN} $HF_TOKEN"')
    ended(agent)
    assert gpueval("logs", "--run-id", "one").stdout == "13 <redacted>\n"
    assert "7f3a91" not in done.output + gpueval("status", "--run-id", "one", "--pretty").output
    refused = gpueval("submit", "--", "train", "--api-key=canary-7f3a91")
    assert refused.exit_code == 2 and "word 2 of the command looks like a secret" in refused.stderr and "7f3a91" not in refused.output


def test_a_run_is_fetched(agent, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    gpueval("submit", "--run-id", "one", "--", "sh", "-c", 'echo x > "$GPUEVAL_RUN_DIR/out"; ln -s /etc/passwd "$GPUEVAL_RUN_DIR/link"')
    ended(agent)
    would = json.loads(gpueval("fetch", "--run-id", "one", "--dry-run", "--json").stdout)
    assert (would["outcome"], set(would["files"])) == ("dry run, nothing fetched", {"command.sh", "log.md", "out", "stdout.log"})
    assert not (tmp_path / "reports").exists()
    done = gpueval("fetch", "--run-id", "one")
    assert done.exit_code == 0, done.output
    assert "left there: 'link': no regular file, or not readable\nreports/fetched/local/one: 4 file(s), " in done.stdout
    assert (tmp_path / "reports/fetched/local/one/out").read_text() == "x\n"
    assert ", 4 unchanged" in gpueval("fetch", "--run-id", "one").stdout
    assert gpueval("fetch", "--run-id", "one", "--max-files", "2").exit_code == 2


def test_what_lies_elsewhere_is_archived(agent, tmp_path):
    gpueval("submit", "--run-id", "one", "--", "sh", "-c", f"mkdir {tmp_path}/eval_a; echo x > {tmp_path}/eval_a/x; echo y > {tmp_path}/eval_b")
    ended(agent)
    words = ("archive", "--run-id", "one", f"{tmp_path}/eval_*")
    would = gpueval(*words, "--dry-run").stdout
    assert f"{tmp_path}/eval_a -> {tmp_path}/runs/one/archived/eval_a\n" in would and "2 file(s) or directories (dry run, nothing moved)" in would
    assert len(json.loads(gpueval(*words, "--json").stdout)["moved"]) == 2
    assert (tmp_path / "runs/one/archived/eval_a/x").read_text() == "x\n" and not (tmp_path / "eval_b").exists()
    assert "one: 0 file(s)" in gpueval(*words).stdout, "asked again"


def test_the_commands_of_the_readme_are_understood(agent, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "canary-7f3a91")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "hosts.toml").write_text(f'[hosts.gpu-a]\naddress = "local"\nworkdir = "{tmp_path}/there"\npython = "{sys.executable}"\ninstall = false\n')
    block = re.search(r"## Runs that go on alone\n.*?```sh\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    commands = [shlex.split(line, comments=True)[2:] for line in block[1].splitlines()]
    assert {words[0] for words in commands} == {"submit", "status", "logs", "stop", "archive", "fetch"}
    for words in commands:
        done = gpueval(*(["submit", "--dry-run", *words[1:]] if words[0] == "submit" else words))
        assert done.exit_code == 0 or "there is no run 'nightly' in " in done.stderr, done.output


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("submit", "--host", "gpu-9", "--", "true"), "there is no host 'gpu-9' in"),
        (("submit", "--run-id", "a/b", "--", "true"), "--run-id 'a/b': use letters"),
        (("status", "--run-id", "x"), "there is no run 'x'"),
        (("logs", "--run-id", "x"), "there is no run 'x'"),
        (("stop", "--run-id", "x"), "there is no run 'x'"),
        (("fetch", "--run-id", "x"), "there is no run 'x'"),
    ],
)
def test_what_the_user_got_wrong(agent, words, said):
    done = gpueval(*words)
    assert done.exit_code == 2 and said in done.stderr
    assert "Traceback" not in done.output


def test_the_default_host_is_that_of_the_environment(agent, monkeypatch):
    monkeypatch.setenv("OPS_DEFAULT_HOST", "gpu-9")
    assert "there is no host 'gpu-9' in" in gpueval("status").stderr
    assert gpueval("status", "--host", "local").exit_code == 0


def test_a_host_that_is_reached_by_ssh(agent, tmp_path, monkeypatch):
    """What hosts.toml names; the login shell prints things."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OPS_REMOTE_OUTPUTS_DIR")
    monkeypatch.setenv("MY_TOKEN", "canary-7f3a91")
    with running(tmp_path / "sshd") as sshd:
        address = f"ssh://{sshd.users['bash']}@127.0.0.1:{sshd.port}"
        (tmp_path / "hosts.toml").write_text(f'[hosts.gpu-a]\naddress = "{address}"\nworkdir = "/tmp"\nssh_config = "{sshd.config}"\n')
        place = ("--host", "gpu-a", "--run-id", "one", "--remote-outputs-dir", str(tmp_path / "runs"))
        done = gpueval("submit", *place, "--secret", "MY_TOKEN", "--", "sh", "-c", "echo $MY_TOKEN; pwd; exec sleep 600")
        assert done.exit_code == 0, done.output
        wait_for(lambda: gpueval("logs", *place).stdout == "<redacted>\n/tmp\n")
        assert gpueval("status", *place).stdout.startswith("one: running")
        assert gpueval("stop", *place).stdout.startswith("one: cancelled")
        assert gpueval("fetch", *place).exit_code == 0
    assert (tmp_path / "reports/fetched/gpu-a/one/stdout.log").read_text() == "<redacted>\n/tmp\n"
    assert gpueval("status", *place).exit_code == 3, "it answers no more"
