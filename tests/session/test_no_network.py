"""Rows from a directory, on a machine without any network: in a network namespace whose loopback is down, with every try to connect written down.

That a session works there says nothing of what it tried; so each Python process, workers too, notes each address that it connects to, or asks for.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys

import pytest

from pytest_gpueval.datasets.mirror import FileEntry, Manifest, SplitEntry

# Imported by every Python that starts with its folder in PYTHONPATH. Sockets of the file system are no network.
WITNESS = """
import json, os, sys
def note(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr", "socket.sendto"):
        address = arguments[1] if event in ("socket.connect", "socket.sendto") else arguments[0]
        if not isinstance(address, (str, bytes)) or event.startswith("socket.get"):
            with open(os.environ["WITNESS_LOG"], "a") as file:
                file.write(json.dumps([event, repr(address), sys.argv]) + "\\n")
sys.addaudithook(note)
with open(os.environ["WITNESS_LOG"] + ".pids", "a") as file:
    file.write(f"{os.getpid()} {' '.join(sys.orig_argv)}\\n")
"""


def alone() -> list[str]:
    """The command that starts another one without a network."""
    unshare = shutil.which("unshare")
    for flags in (["-n"], ["-rn"]):
        if unshare and subprocess.run([unshare, *flags, "true"], capture_output=True, check=False).returncode == 0:
            return [unshare, *flags]
    pytest.skip("neither root nor a user namespace may make a network namespace here")


class Isolated:
    """A machine without a network, and a directory that came there from elsewhere."""

    def __init__(self, toy, tmp_path):
        self.toy, self.root, self.log = toy, toy.root, tmp_path / "witness.jsonl"
        (tmp_path / "sitecustomize.py").write_text(WITNESS)
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_XDIST", "COV", "HF_"))}
        self.environment = {**environment, "PYTHONPATH": str(tmp_path), "WITNESS_LOG": str(self.log), "XDG_CACHE_HOME": str(tmp_path / "cache")}
        self.environment["HF_HOME"] = str(tmp_path / "home")
        self.prefix = alone()
        data = self.root / "suites/toy/data"
        self.directory = tmp_path / "assets"
        shutil.copytree(data, self.directory)
        datasets = [self.entry(SplitEntry, f"{name}/fast.parquet", dataset=name, split="fast") for name in ("one", "two")]
        (self.directory / "models/acme--tiny").mkdir(parents=True)
        (self.directory / "models/acme--tiny/config.json").write_text("{}")
        models = [self.entry(FileEntry, "models/acme--tiny/config.json")]
        (self.directory / "manifest.json").write_text(Manifest(datasets=datasets, models=models).model_dump_json())
        shutil.rmtree(data)

    def entry(self, kind, file, **more):
        data = (self.directory / file).read_bytes()
        return kind(repo="acme/x", revision="a" * 40, file=file, bytes=len(data), sha256=hashlib.sha256(data).hexdigest(), **more)

    def run(self, *command, code=0):
        words = [*self.prefix, sys.executable, *map(str, command)]
        done = subprocess.run(words, cwd=self.root, env=self.environment, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    def tried(self):
        return [json.loads(line) for line in self.log.read_text().splitlines()] if self.log.exists() else []

    def seen(self):
        """The processes that were watched."""
        return self.log.with_name(self.log.name + ".pids").read_text().splitlines()


@pytest.fixture
def machine(toy, tmp_path):
    toy.append("\n[datasets.one.splits.full]\n[datasets.two.splits.full]\n")
    return Isolated(toy, tmp_path)


@pytest.mark.parametrize("address", ["127.0.0.1", "192.0.2.1", "huggingface.co"])
def test_there_is_no_network_and_the_witness_sees_who_tries(machine, address):
    machine.run("-c", f"import socket; socket.create_connection(({address!r}, 9), timeout=2)", code=1)
    assert any(address in where for _, where, _ in machine.tried())


@pytest.mark.parametrize("arguments", [("--gpus", "none", "-n", "2"), ("-n", "2"), ("-p", "no:xdist")])
def test_a_session_runs_from_a_directory_without_a_single_connection(machine, arguments):
    pytest_ = ("-m", "pytest", "-p", "no:cacheprovider", "--gpueval-suite", "toy", "--gpueval-session", "it")
    text = machine.run(*pytest_, f"--gpueval-data={machine.directory}", *arguments)
    assert "2 passed" in text
    for dataset in ("one", "two"):
        run = machine.root / f"reports/evaluations/it/toy-{dataset}-fast"
        assert json.loads((run / "run_metadata.json").read_text())["dataset"]["origin"] == f"mirror: {machine.directory}"
    assert len(machine.seen()) >= (1 if "no:xdist" in arguments else 3), machine.seen()
    assert machine.tried() == []


def test_a_directory_is_verified_without_a_single_connection(machine):
    verify = ("-c", "from pytest_gpueval.cli.main import run; run()", "assets", "verify", machine.directory)
    assert f"3 of 3 files are as {machine.directory / 'manifest.json'} says" in machine.run(*verify)
    (machine.directory / "one/fast.parquet").write_bytes(b"PAR1")
    assert "one/fast.parquet" in machine.run(*verify, code=1)
    assert machine.tried() == []


def test_the_hub_is_tried_where_it_is_asked_for(machine):
    """The same witness, and a session that does want the network: else the tests above could not fail."""
    for name in ("one", "two"):
        machine.toy.edit(f"[datasets.{name}]", f'[datasets.{name}]\nrepo = "acme/{name}"')
    text = machine.run("-m", "pytest", "-p", "no:cacheprovider", "--gpueval-suite", "toy", "--gpueval-data=hub", code=10)
    assert "acme/one: https://huggingface.co cannot be reached" in text
    assert any("huggingface.co" in where for _, where, _ in machine.tried())
