"""Sessions on other hosts: real sshd, the lanes' workers there, files home."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest

from pytest_gpueval.runs import validate
from tests import fake_gpus
from tests.bad_links import bad_link
from tests.sshd import running
from tests.waiting import wait_for

from .conftest import MARK, processes_of


@pytest.fixture(scope="module")
def sshd(tmp_path_factory):
    with running(tmp_path_factory.mktemp("sshd") / "a b") as server:
        yield server


class Hosts:
    """`hosts.toml` of a repository, and the hosts themselves: copies of the repository in directories of their own, behind one sshd."""

    def __init__(self, toy, sshd, place: Path) -> None:
        self.toy, self.sshd, self.place = toy, sshd, place
        self.environments: dict[str, dict[str, str]] = {}
        self.here = toy.on_gpus(0)

    def add(self, name: str, gpus: int = 0, *, port: int = 0, **entry: object) -> Path:
        """A host whose stand-ins show so many GPUs."""
        root = self.place / name
        shutil.copytree(self.toy.root, root, ignore=shutil.ignore_patterns("reports", "hosts.toml"))
        own = self.toy.on_gpus(gpus)
        self.environments[name] = {**own, MARK: self.here[MARK]}
        kept = {key: self.environments[name][key] for key in ("LD_LIBRARY_PATH", fake_gpus.STATE, "GPUEVAL_LEASE_DIR", "TOY_EVENTS", MARK)}
        table = {
            "address": f"ssh://{self.sshd.users['bash']}@127.0.0.1:{port or self.sshd.port}",
            "ssh_config": str(self.sshd.config),
            "python": sys.executable,
            "workdir": str(root),
            "env": {**kept, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "", "TOY_HOST": name},
            **entry,
        }
        lines = "".join(f"{key} = {json.dumps(value)}\n" for key, value in table.items() if not isinstance(value, dict))
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
            folder = self.place / name / ".gpueval/sessions"
            wait_for(lambda folder=folder: not folder.exists() or not list(folder.iterdir()))


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
    toy.datasets({"d0": hang, "d1": hang, "d2": "pass", "d3": "pass"})
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
