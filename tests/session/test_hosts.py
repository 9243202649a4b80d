"""Sessions on other hosts: real sshd, the lanes' workers there, files home."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from pytest_gpueval.processes.supervisor import look
from pytest_gpueval.runs import validate
from tests import fake_gpus
from tests import slurm as slurms
from tests.bad_links import bad_link
from tests.clocks import off_by
from tests.sshd import running
from tests.waiting import SESSION_S, wait_for

from .conftest import MARK, processes_of


@pytest.fixture(scope="module")
def slurm():
    with slurms.running() as server:
        yield server


@pytest.fixture(scope="module")
def sshd(tmp_path_factory):
    with running(tmp_path_factory.mktemp("sshd") / "a b") as server:
        yield server


class Hosts:
    """`hosts.toml` of a repository, and the hosts themselves: directories of their own, behind one sshd."""

    def __init__(self, toy, sshd, place: Path) -> None:
        self.toy, self.sshd, self.place = toy, sshd, place
        self.environments: dict[str, dict[str, str]] = {}
        self.here = toy.on_gpus(0)

    def add(self, name: str, gpus: int = 0, *, port: int = 0, **entry: object) -> Path:
        """A host whose stand-ins show so many GPUs."""
        root = self.place / name
        root.mkdir(parents=True)
        own = self.toy.on_gpus(gpus)
        self.environments[name] = {**own, MARK: self.here[MARK]}
        kept = {key: self.environments[name][key] for key in ("LD_LIBRARY_PATH", fake_gpus.STATE, "GPUEVAL_LEASE_DIR", "TOY_EVENTS", MARK)}
        table = {
            "address": f"ssh://{self.sshd.users['bash']}@127.0.0.1:{port or self.sshd.port}",
            "ssh_config": str(self.sshd.config),
            "python": sys.executable,
            "install": False,
            "workdir": str(root),
            "env": {**kept, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "", "TOY_HOST": name, **entry.pop("env_more", {})},
            **entry,
        }
        lines = "".join(f"{key} = {json.dumps(value)}\n" for key, value in table.items() if key != "env" and value is not None)
        lines += "env = { " + ", ".join(f"{json.dumps(key)} = {json.dumps(value)}" for key, value in table["env"].items()) + " }\n"
        with (self.toy.root / "hosts.toml").open("a") as file:
            file.write(f"[hosts.{name}]\n{lines}")
        return root

    def finish(self, names: str, *args: str, expect: int = 0) -> str:
        said = self.toy.finish(self.here, "--gpueval-hosts", names, *args, expect=expect)
        self.nothing_is_left()
        return said

    def nothing_is_left(self) -> None:
        wait_for(lambda: not processes_of(self.here))
        for name in self.environments:
            wait_for(lambda name=name: not list((self.place / name).glob("gpueval-code/*/sessions/*")))


@pytest.fixture
def hosts(toy, sshd, tmp_path):
    return Hosts(toy, sshd, tmp_path / "hosts")


def test_items_run_on_all_gpus_of_all_hosts_and_their_files_come_home(hosts):
    toy = hosts.toy
    toy.datasets({f"d{number}": ["meet(4)", "pass"] for number in range(4)})
    for name in ("a", "b"):
        hosts.add(name, gpus=2)
    said = hosts.finish("a,b", "--gpus", "0-1")
    assert "4 x NVIDIA" in said and " on a, b" in said and "4 passed" in said
    begun = toy.events("begin")
    assert len({line["pid"] for line in begun}) == 4
    record = toy.record()
    assert sorted((lane["name"], lane["host"]) for lane in record["lanes"]) == [(f"gpu{number}@{host}", host) for number in (0, 1) for host in ("a", "b")]
    assert validate.problems(toy.session("it")) == []
    for number in range(4):
        run = f"toy-d{number}-fast"
        assert toy.summary(run, "it")["ok"] and len(toy.lines(run, "it")) == 2
        place = toy.session("it") / run
        assert "predicting" in (place / "stdout.log").read_text()
        metadata = json.loads((place / "run_metadata.json").read_text())
        assert metadata["gpus"][0].startswith("GPU-") and "@" in metadata["worker"]
        assert str(toy.root) in (place / "command.sh").read_text() and str(hosts.place) not in (place / "command.sh").read_text()
    junit = (toy.session("it") / "junit.xml").read_text()
    assert junit.count("<testcase") == 4 and str(hosts.place) not in junit and f"{toy.session('it')}/toy-d0-fast" in junit
    assert (toy.session("it") / "report.html").stat().st_size > 10_000
    again = subprocess.run(["sh", toy.session("it") / "toy-d0-fast/command.sh"], cwd="/", env=hosts.here, capture_output=True, text=True)
    assert again.returncode == 0 and "1 passed" in again.stdout, again.stdout


def test_the_results_are_those_of_a_session_at_home(hosts):
    hosts.add("a")
    toy = hosts.toy
    hosts.finish("a", "--gpus", "none", "-n", "2")
    toy.finish(hosts.here, "--gpus", "none", "-n", "0", "--gpueval-session", "home")
    for run in ("toy-one-fast", "toy-two-fast"):
        there, here = toy.lines(run, "it"), toy.lines(run, "home")
        assert [{key: value for key, value in line.items() if key != "latency_ms"} for line in there] == [
            {key: value for key, value in line.items() if key != "latency_ms"} for line in here
        ]
        for key in ("ok", "status", "metrics", "labels", "gates", "rows"):
            assert toy.summary(run, "it")[key] == toy.summary(run, "home")[key], key


def test_a_session_goes_on_where_it_ended(hosts):
    toy = hosts.toy
    toy.datasets({"d0": "pass", "d1": ["pass", "pass", "if not os.path.exists(EVENTS + '.go'): os.kill(os.getpid(), 9)", "pass"]})
    hosts.add("a")
    hosts.add("b")
    first = hosts.finish("a", "--gpus", "none", "-n", "1", "--gpueval-retries", "0", "--gpueval-workers", "1", expect=10)
    assert "died of SIGKILL" in first and "1 passed" in first
    assert toy.summary("toy-d1-fast", "it")["status"] == "crashed"
    (toy.root / "events.jsonl.go").touch()
    second = hosts.finish("b", "--gpus", "none", "-n", "1", "-k", "d1", "--gpueval-force")
    assert "passed" in second and toy.summary("toy-d1-fast", "it")["ok"]
    before = len(toy.events("begin"))
    third = hosts.finish("b", "--gpus", "none", "-n", "1")
    assert "reused" in third and len(toy.events("begin")) == before


def test_a_host_that_vanishes_costs_its_running_items_and_the_others_run_them(hosts):
    toy = hosts.toy
    hang = "recorded('begin')[-1]; os.environ['TOY_HOST'] == 'a' and wait_for(lambda: False, 'the link', 600)"
    toy.datasets(dict.fromkeys(["d0", "d1", "d2", "d3"], hang))  # whichever the host gets first
    with bad_link(hosts.sshd.port) as link:
        hosts.sshd.know(hosts.sshd.port, link.port)
        hosts.add("a", port=link.port)
        hosts.add("b")
        process = toy.start(hosts.here, "--gpueval-hosts", "a,b", "--gpus", "none", "-n", "1")
        wait_for(lambda: any(line["worker"].endswith("@a") for line in toy.events("begin")))
        link.close()
        said, _ = process.communicate(timeout=240)
    assert process.returncode == 0, said
    assert "the host of cpu0@a vanished" in said and "4 passed" in said, said
    assert all(toy.summary(f"toy-d{number}-fast", "it")["ok"] for number in range(4))
    hosts.nothing_is_left()


def test_clocks_that_are_an_hour_off_change_nothing(hosts):
    toy = hosts.toy
    toy.datasets({f"d{number}": ["meet(2)", "pass"] for number in range(2)})
    hosts.add("early", env_more=off_by("-1h"))
    hosts.add("late", env_more=off_by("+1h"))
    said = hosts.finish("early,late", "--gpus", "none", "-n", "1")
    assert "2 passed" in said
    assert {line["worker"] for line in toy.events("begin")} == {"cpu0@early", "cpu0@late"}
    record = toy.record()
    assert all(0 <= run["begin_s"] < 120 and 0 <= run["seconds"] < 120 for run in record["runs"])
    begun = [json.loads((toy.session("it") / f"toy-d{number}-fast/run_metadata.json").read_text())["started_at"] for number in range(2)]
    apart = datetime.fromisoformat(max(begun)) - datetime.fromisoformat(min(begun))
    assert timedelta(hours=1.9) < apart < timedelta(hours=2.1)  # they are off indeed
    before = len(toy.events("begin"))
    again = hosts.finish("late,early", "--gpus", "none", "-n", "1")
    assert again.count("reused") >= 2 and len(toy.events("begin")) == before


def test_what_failed_last_is_known_there(hosts):
    toy = hosts.toy
    toy.datasets({"d0": "pass", "d1": "assert os.path.exists(EVENTS + '.go')"})
    hosts.add("a")
    options = ("--gpueval-hosts", "a", "--gpus", "none", "-n", "1", "-p", "cacheprovider")
    first = toy.finish(hosts.here, *options, expect=1)
    assert "1 failed, 1 passed" in first
    (toy.root / "events.jsonl.go").touch()
    second = toy.finish(hosts.here, *options, "--lf", "--gpueval-force")
    assert "1 passed" in second and "d0-fast" not in second


def test_shards_on_several_hosts_are_joined(hosts):
    toy = hosts.toy
    toy.suite("toy", toy.root.joinpath("suites/toy/suite.toml").read_text().replace('split = "fast"', 'split = "fast"\nshards = 3', 1))
    for name in ("a", "b"):
        hosts.add(name)
    said = hosts.finish("a,b", "--gpus", "none", "-n", "1")
    toy.finish(hosts.here, "--gpus", "none", "-n", "0", "--gpueval-session", "home")
    assert "8 passed" in said, said
    assert validate.problems(toy.session("it")) == []
    for name in ("one", "two"):
        run = f"toy-{name}-fast"
        assert [line["id"] for line in toy.lines(run, "it")] == [f"{name}-{i}" for i in range(50)]
        assert toy.summary(run, "it")["metrics"] == toy.summary(run, "home")["metrics"]
    again = hosts.finish("b", "--gpus", "none", "-n", "1", "-k", "one-fast-2of3 or (one-fast and not of)", "--gpueval-force")
    assert "4 passed" in again and toy.summary("toy-one-fast", "it")["ok"], again


def test_a_baseline_is_compared_with_there(hosts):
    """By two workers of one host, who ask for it at the same time."""
    toy = hosts.toy
    toy.edit("[policies.closed]", '[[gates]]\nmetric = "strict.f1"\nmax_drop = 0.5\n[policies.closed]')
    toy.finish(hosts.here, "--gpus", "none", "-n", "0", "--gpueval-session", "home", "--gpueval-update-baseline")
    hosts.add("a")
    said = hosts.finish("a", "--gpus", "none", "-n", "2", "--gpueval-baseline", "baselines")
    assert "vs baseline" in said and "3 passed" in said, said  # the last one is the correction over the suite
    assert [toy.summary(f"toy-{name}-fast", "it")["gates"][0]["outcome"] for name in ("one", "two")] == ["pass", "pass"]


def test_an_item_whose_worker_dies_is_tried_again_with_what_it_had(hosts):
    toy = hosts.toy
    die = "len(recorded('begin')) < 4 and os.environ['TOY_HOST'] == 'a' and (time.sleep(2), os.kill(os.getpid(), 9))"
    toy.datasets({"d0": ["pass", "pass", die, "pass"]})
    hosts.add("a")
    said = hosts.finish("a", "--gpus", "none", "-n", "1", "--gpueval-retries", "1", "--gpueval-workers", "1")
    assert "1 passed" in said and "rerun" in said.lower(), said
    summary = toy.summary("toy-d0-fast", "it")
    assert summary["attempts"] == 2 and summary["ends"][0]["outcome"] == "crashed" and len(toy.lines("toy-d0-fast", "it")) == 4


def test_rows_of_a_sweep_and_files_that_are_too_large_to_come_home(hosts):
    toy = hosts.toy
    folder = toy.root / "suites/train"
    folder.mkdir()
    (folder / "suite.toml").write_text('kind = "sweep"\ncommand = ["{python}", "train.py", "{parameters}"]\n')
    (folder / "sweep.csv").write_text("run_id,mib\nsmall,1\nlarge,257\n")
    program = """
import os, pathlib, sys
mib = int(sys.argv[1].partition("=")[2])
place = pathlib.Path(os.environ["GPUEVAL_RUN_DIR"], "checkpoints")
place.mkdir()
with (place / "model.bin").open("wb") as file:
    file.truncate(mib << 20)
print("RESULT_TRAIN loss=0.5", os.environ["TOY_HOST"])
"""
    (folder / "train.py").write_text(program)
    root = hosts.add("a")
    said = toy.finish(hosts.here, "--gpueval-suite", "train", "--gpueval-hosts", "a", "--gpus", "none", "-n", "1")
    assert "2 passed" in said and "model.bin (257 MiB) stays on the host: " in said, said
    small, large = (toy.session("it") / f"train-{name}" for name in ("small", "large"))
    assert (small / "checkpoints/model.bin").stat().st_size == 1 << 20 and not (large / "checkpoints").exists()
    assert json.loads((large / "summary.json").read_text())["metrics"]["train.loss"]["value"] == 0.5 and "RESULT_TRAIN" in (large / "stdout.log").read_text()
    (kept,) = root.glob("gpueval-code/*/sessions/*")
    assert (kept / "train-large/checkpoints/model.bin").stat().st_size == 257 << 20


def test_what_cannot_be_done_is_said_before_anything_runs(hosts, tmp_path):
    toy = hosts.toy
    hosts.add("a")
    hosts.add("bare", python=shutil.which("python3", path="/usr/bin:/bin") or "/usr/bin/env")
    hosts.add("gpuless", gpus=0)
    shutil.copytree(toy.root / "suites/toy/data", toy.root / "elsewhere")
    for names, arguments, words in (
        ("nowhere", "", "there is no host 'nowhere'"),
        ("a,a", "", "a host is named twice"),
        ("a", "-n 0", "--gpueval-hosts needs pytest-xdist's workers"),
        ("bare", "--gpus none", "cannot import pytest"),
        ("gpuless", "--gpus 0", "gpuless: --gpus 0: this machine shows no NVIDIA GPU"),
        ("a", "--gpus none --gpueval-data elsewhere", "a: --gpueval-data elsewhere is a directory of this machine"),
        ("a", f"--gpus none {tmp_path}", "it is not part of"),
        ("a", "--gpus none -n auto", "-n auto beside --gpus"),
        ("a", "--gpus none --dist worksteal", "leave out --dist worksteal"),
    ):
        said = toy.finish(hosts.here, "--gpueval-hosts", names, *arguments.split(), expect=4)
        assert words in said and "Traceback" not in said, f"{names} {arguments}: {said}"
    assert not toy.output.exists()


def test_a_host_that_does_not_answer_is_left_out_unless_it_is_the_only_one(hosts):
    with bad_link(hosts.sshd.port) as link:
        hosts.sshd.know(hosts.sshd.port, link.port)
        hosts.add("dead", port=link.port)
    hosts.add("b")
    said = hosts.finish("dead,b", "--gpus", "none", "-n", "1")
    assert "host left out: dead" in said and "2 passed" in said, said
    alone = hosts.toy.finish(hosts.here, "--gpueval-hosts", "dead", "--gpus", "none", "-n", "1", "--gpueval-session", "other", expect=10)
    assert "dead" in alone and not (hosts.toy.output / "other").exists()


def test_a_controller_that_is_killed_leaves_nothing_there(hosts):
    toy = hosts.toy
    toy.datasets({"d0": "wait_for(lambda: False, 'the end', 600)"})
    hosts.add("a", gpus=1)
    process = toy.start(hosts.here, "--gpueval-hosts", "a", "--gpus", "0")
    wait_for(lambda: toy.events("begin"))
    process.kill()
    process.communicate()
    hosts.nothing_is_left()


def test_a_test_of_ones_own_asks_a_host(hosts, sshd):
    toy = hosts.toy
    root = hosts.add("a")
    text = """
def test_there(remote_host, tmp_path):
    host = remote_host("a")
    assert remote_host("a") is host
    assert host.run(["pwd"]).output.decode().strip() == WORKDIR
    (tmp_path / "file").write_text("x")
    host.put(tmp_path / "file", "there")
def test_nowhere(remote_host):
    remote_host("nowhere")
"""
    (toy.root / "test_own.py").write_text(f"WORKDIR = {str(root)!r}\n{text}")
    found = toy.run("test_own.py")
    found.assert_outcomes(passed=1, failed=1)
    assert (root / "there").read_text() == "x" and "there is no host 'nowhere'" in found.stdout.str()


def test_workers_are_jobs_of_slurm(hosts, slurm):
    toy = hosts.toy
    toy.datasets({f"d{number}": ["meet(2)", "pass"] for number in range(3)})
    kept = slurm.environment
    hosts.add("cluster", 4, address="slurm://gpu", ssh_config=None, slurm=["--mem=600"], env_more=kept)
    said = hosts.finish("cluster", "--gpus", "0-1")
    assert "2 jobs of Slurm on cluster" in said and "3 passed" in said, said
    there = {line["gpus"] for line in toy.events("begin")}  # chosen by Slurm, named as workers name them
    assert len(there) == 2 and all(gpu.startswith("GPU-") for gpu in there) and validate.problems(toy.session("it")) == []
    record = toy.record()
    assert {gpu for lane in record["lanes"] for gpu in lane["gpus"]} == there and {run["gpu"] for run in record["runs"]} == {record["lanes"][0]["gpu_name"]}
    metadata = json.loads((toy.session("it") / "toy-d0-fast/run_metadata.json").read_text())
    assert set(metadata["gpus"]) < there and "NVIDIA" in metadata["gpu"]["name"]
    refused = toy.finish(hosts.here, "--gpueval-hosts", "cluster", "--gpus", "all", "--gpueval-session", "other", expect=4)
    assert "say how many workers there are" in refused


def test_workers_are_programs_in_pods(hosts, kube):
    toy = hosts.toy
    hosts.here |= kube.environment()
    hosts.add("pod", address="k8s://evals/box?container=main", ssh_config=None)
    said = hosts.finish("pod", "--gpus", "none", "-n", "2")
    assert "2 CPU lanes on pod" in said and "2 passed" in said, said
    assert validate.problems(toy.session("it")) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_session_ends_its_workers_there(hosts, number):
    toy = hosts.toy
    toy.datasets({"d0": ["pass", "wait_for(lambda: False, 'the end', 600)"]})
    hosts.add("a", gpus=1)
    process = toy.start(hosts.here, "--gpueval-hosts", "a", "--gpus", "0", "--gpueval-workers", "1")
    wait_for(lambda: len(toy.events("begin")) == 2)
    process.send_signal(number)
    said, _ = process.communicate(timeout=SESSION_S)
    assert process.returncode == 2, said
    hosts.nothing_is_left()
    assert toy.summary("toy-d0-fast", "it")["status"] == "interrupted" and "predicting" in (toy.session("it") / "toy-d0-fast/stdout.log").read_text()
    again = toy.start(hosts.here, "--gpueval-hosts", "a", "--gpus", "0", "--gpueval-session", "other")  # its GPU is free
    wait_for(lambda: len(toy.events("begin")) > 2)
    again.send_signal(signal.SIGKILL)
    again.communicate()
    hosts.nothing_is_left()


# Time limits of SSH that no test outlasts: who waits for one does not end.
PATIENT = "from pytest_gpueval.hosts.link import Patience\nPatience.__init__.__defaults__ = (600.0, 5.0, 600.0)\n"


@pytest.mark.parametrize("sent", [0, 15_000, 40_000])
def test_ctrl_c_while_hosts_are_made_ready_ends_it_whatever_the_link(hosts, sent):
    toy = hosts.toy
    (toy.root / "conftest.py").write_text(PATIENT)
    ready = hosts.add("a", gpus=1)
    with bad_link(hosts.sshd.port) as link:
        hosts.sshd.know(hosts.sshd.port, link.port)
        hosts.add("b", port=link.port)
        link.stall_after(sent)
        process = toy.start(hosts.here, "--gpueval-hosts", "a,b", "--gpus", "all", "-n", "1")
        wait_for(lambda: link.stalled and list(ready.glob("gpueval-code/*/sessions/*")))  # a has its GPU
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=SESSION_S)
        assert process.returncode == 2 and "interrupted while hosts were made ready" in said and "Traceback" not in said, said
        wait_for(lambda: not list(ready.glob("gpueval-code/*/sessions/*")))
    hosts.nothing_is_left()
    again = hosts.finish("a", "--gpus", "0")  # its GPU is free
    assert "2 passed" in again


@pytest.fixture
def hanging(hosts):
    """A Python that never answers."""
    program = hosts.place / "python"
    program.parent.mkdir(exist_ok=True)
    program.write_text("#!/bin/sh\nsleep 600\n")
    program.chmod(0o755)
    return str(program)


def test_ctrl_c_ends_what_a_host_does_to_get_ready(hosts, hanging):
    hosts.add("a", python=hanging)
    process = hosts.toy.start(hosts.here, "--gpueval-hosts", "a", "--gpus", "none", "-n", "1")
    wait_for(lambda: sleeping(hosts))
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=SESSION_S)
    assert process.returncode == 2 and "Traceback" not in said, said
    hosts.nothing_is_left()


@pytest.mark.parametrize("stalls", [False, True])
def test_ctrl_c_while_a_host_is_bootstrapped(hosts, hanging, stalls):
    with bad_link(hosts.sshd.port) as link:
        hosts.sshd.know(hosts.sshd.port, link.port)
        hosts.add("a", port=link.port, python=hanging)
        words = [sys.executable, "-c", f"{PATIENT}from pytest_gpueval.cli.main import run; run()", "hosts", "bootstrap", "a"]
        with subprocess.Popen(words, cwd=hosts.toy.root, env=hosts.here, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
            wait_for(lambda: sleeping(hosts))
            if stalls:
                link.stall()
            process.send_signal(signal.SIGINT)
            said, _ = process.communicate(timeout=SESSION_S)
        assert process.returncode == 130 and "Traceback" not in said, said
        if not stalls:
            hosts.nothing_is_left()
        for pid in sleeping(hosts):  # nobody could tell it
            os.kill(pid, signal.SIGKILL)
    hosts.nothing_is_left()


def sleeping(hosts):
    """The program of the Python that never answers."""
    return [pid for pid in processes_of(hosts.here) if (process := look(pid)) is not None and process.name == "sleep"]
