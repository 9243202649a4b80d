"""gpueval hosts: list, status, sync, bootstrap, as they are typed."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pytest_gpueval.hosts.detached.agent.processes import marks
from tests.bad_links import bad_link
from tests.clocks import off_by
from tests.code import CANARY, repository, shape
from tests.detached_runs import runs_in, what
from tests.sshd import running
from tests.waiting import DEADLINE_S, gone, wait_for

GPUEVAL = Path(sys.executable).parent / "gpueval"


@pytest.fixture(scope="module")
def sshd(tmp_path_factory):
    with running(tmp_path_factory.mktemp("sshd") / "a b") as server:
        yield server


@pytest.fixture
def root(tmp_path):
    (tmp_path / "repo").mkdir()
    return repository(tmp_path / "repo")


def toml(sshd, **hosts):
    """hosts.toml; each host is the server's account with bash, unless it says otherwise."""
    lines = []
    for name, more in hosts.items():
        given = {"address": f"ssh://{sshd.users['bash']}@127.0.0.1:{sshd.port}", "ssh_config": str(sshd.config), "python": sys.executable, **more}
        lines += [f"[hosts.{name}]", *(f"{key} = {json.dumps(value)}" for key, value in given.items() if value is not None)]
    return "\n".join(lines) + "\n"


def gpueval(root, *words, code=0, **environment):
    done = subprocess.run([GPUEVAL, "hosts", *words], cwd=root, capture_output=True, text=True, env={**os.environ, **environment}, timeout=DEADLINE_S)
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done


def test_list(root, sshd):
    assert "there is no host in" in gpueval(root, "list").stdout
    (root / "hosts.toml").write_text(toml(sshd, a={"gpus": "0-7"}, b={"address": "local", "ssh_config": None}))
    assert re.search(r"^a +ssh://.* 0-7 +True", gpueval(root, "list").stdout, re.MULTILINE)
    assert [host["name"] for host in json.loads(gpueval(root, "list", "--json").stdout)] == ["a", "b"]
    (root / "hosts.toml").write_text("[hosts.a]\naddress = 'local'\ninstal = false\n")
    assert "hosts.a.instal" in gpueval(root, "list", code=2).stderr


def test_sync_and_bootstrap_through_ssh(root, sshd, tmp_path):
    work = tmp_path / "work dir"
    work.mkdir()
    (root / "hosts.toml").write_text(toml(sshd, box={"workdir": str(work), "install": False}))
    dry = gpueval(root, "bootstrap", "box", "--dry-run", "--wandb-login", WANDB_API_KEY="w" * 40)
    assert "would: send" in dry.stdout and "would: install nothing" in dry.stdout and "would: write WANDB_API_KEY" in dry.stdout
    assert "left out: '.env': may hold secrets, which stay here" in dry.stdout and list(work.iterdir()) == []
    assert not (sshd.home("bash") / ".netrc").exists()
    sent = json.loads(gpueval(root, "sync", "box", "--json").stdout)
    assert (sent["again"], sent["left_out"][".venv/"], len(sent["sent"])) == (False, "a virtual environment", sent["files"] - 2)
    done = gpueval(root, "bootstrap", "box", "--wandb-login", WANDB_API_KEY="canary-wandb")
    assert "it was there already" in done.stdout and "box: ready" in done.stdout and "canary-wandb" not in done.stdout + done.stderr
    assert "password canary-wandb" in (sshd.home("bash") / ".netrc").read_text()
    assert subprocess.run(["grep", "-rqa", f"{CANARY}\\|canary-wandb", work]).returncode == 1
    (python,) = re.findall(r"^python: (.*)$", done.stdout, re.MULTILINE)
    assert subprocess.run(["sh", "-c", f"cd / && {python} -c 'import untracked; print(untracked.x)'"], capture_output=True, text=True).stdout == "1\n"
    assert set(shape(sent["directory"])) >= {"run.sh", "new\nline.py", "hosts.toml"}
    assert not (sshd.home("bash") / "gpueval-code").exists(), "below workdir alone"


def test_status_of_all_at_once(root, sshd, tmp_path):
    silent = sshd.place / "silent"
    with bad_link(sshd.port) as link:
        kind, key, *_ = sshd.host_key.with_suffix(".pub").read_text().split()
        silent.write_text(f"[127.0.0.1]:{link.port} {kind} {key}\n")
        config = sshd.place / "silent_config"
        config.write_text(sshd.config.read_text().replace(str(sshd.known_hosts), str(silent)))
        link.stall()
        (root / "hosts.toml").write_text(toml(sshd, silent={"address": f"ssh://{sshd.users['bash']}@127.0.0.1:{link.port}", "ssh_config": str(config)}))
        (alone,) = json.loads(gpueval(root, "status", "--timeout", "1", "--json", code=3).stdout)
        assert "no answer within 1 s (--timeout)" in alone["error"] and not alone["reachable"]
        hosts = {
            "box": {"volume": "/proc"},
            "refused": {"address": "ssh://x@127.0.0.1:1"},
            "stranger": {"host_key": "SHA256:" + "A" * 43},
            "here": {"address": "local", "ssh_config": None, "volume": "/no/such", "gpus": "0"},
        }
        (root / "hosts.toml").write_text(toml(sshd, **hosts))
        done = gpueval(root, "status", "--timeout", "90", "--json", code=4)
        found = {each["name"]: each for each in json.loads(done.stdout)}
        assert list(found) == list(hosts)
        box = found["box"]
        assert box["reachable"] and box["volume"]["mounted"] and box["problems"] == [] and abs(box["clock_s"]) <= box["seconds"] / 2 + 2
        assert box["python"]["version"] == list(sys.version_info[:3]) and box["disk"]["free"] > 0
        assert (found["refused"]["exit_code"], found["stranger"]["exit_code"]) == (3, 4)
        assert [text.split(" ")[0] for text in found["here"]["problems"]] == ["volume", "gpus"]
        lines = gpueval(root, "status", "box", "refused", "here", "--timeout", "90", code=3).stdout
    assert re.search(r"^box: ok: Python .* GB free · /proc mounted · ", lines, re.MULTILINE)
    assert re.search(r"^refused: unreachable: .*Connection refused", lines, re.MULTILINE)
    assert "here: unfit: " in lines and "  volume = '/no/such' is not mounted there" in lines
    gpueval(root, "status", "here", "--timeout", "90", code=1)


def test_a_clock_that_is_off_is_said(root, sshd):
    (root / "hosts.toml").write_text(toml(sshd, early={f"env.{name}": value for name, value in off_by("-1h").items()}, right={}))
    said = gpueval(root, "status", "--timeout", "90").stdout
    assert re.search(r"^  its clock is (1:00:0\d|59:5\d) behind: ", said, re.MULTILINE) and said.count("its clock is") == 1


@pytest.mark.parametrize(("name", "more"), [("gpueval-runs", {}), ("elsewhere", {"OPS_REMOTE_OUTPUTS_DIR": "~/elsewhere"})])
def test_status_shows_runs_that_go_on(root, tmp_path, name, more):
    home = tmp_path / "home"
    (home / name).mkdir(parents=True)
    with runs_in(home / name) as agent:
        agent.submit(what("exec sleep 600", "nightly"), {}, tmux=False)
        (found,) = json.loads(gpueval(root, "status", "local", "--timeout", "90", "--json", HOME=str(home), **more).stdout)
        assert [(run["run_id"], run["state"]) for run in found["runs"]] == [("nightly", "running")]
        assert "  run nightly: running" in gpueval(root, "status", "local", "--timeout", "90", HOME=str(home), **more).stdout
    assert marks()


def test_a_read_only_home_and_a_missing_key_are_said(root, sshd, tmp_path):
    (tmp_path / "file").write_text("")
    (root / "hosts.toml").write_text(toml(sshd, box={"address": "local", "ssh_config": None, "workdir": "/proc/self", "install": False}))
    assert re.search(r"gpueval: box: .*(cannot be written there|No such file|cannot be copied)", gpueval(root, "bootstrap", "box", code=1).stderr)
    assert "WANDB_API_KEY is not set here" in gpueval(root, "bootstrap", "box", "--wandb-login", code=2, WANDB_API_KEY="").stderr


@pytest.mark.parametrize("kind", ["ssh", "local"])
def test_an_interrupt_ends_what_was_begun_there_and_the_next_bootstrap_is_not_locked_out(root, sshd, tmp_path, kind):
    work = tmp_path / "work"
    slow = tmp_path / "slow uv"
    slow.write_text(f'#!/bin/sh\necho "$$" > {tmp_path}/pid.part && mv {tmp_path}/pid.part {tmp_path}/pid\nexec sleep 600\n')
    slow.chmod(0o755)
    here = {"address": "local", "ssh_config": None} if kind == "local" else {}
    (root / "hosts.toml").write_text(toml(sshd, box={**here, "workdir": str(work), "uv": str(slow), "install": ["x"]}))
    words = [GPUEVAL, "hosts", "bootstrap", "box"]
    with subprocess.Popen(words, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
        pid = int(wait_for((tmp_path / "pid").exists) and (tmp_path / "pid").read_text())
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 130 and "Traceback" not in err, (out, err)
    wait_for(lambda: gone([pid]))
    (root / "hosts.toml").write_text(toml(sshd, box={**here, "workdir": str(work), "install": False}))
    assert "box: ready" in gpueval(root, "bootstrap", "box").stdout
