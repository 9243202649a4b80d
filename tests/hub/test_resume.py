"""A large file whose process is killed in the middle of it: the next one asks for the rest alone, and the whole is checked."""

from __future__ import annotations

import io
import random
import signal
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pytest_gpueval.datasets.download import half_of
from pytest_gpueval.datasets.remote import RemoteFile
from tests.hub import cards
from tests.hub.server import FakeHub
from tests.waiting import SESSION_S, wait_for

PIECE = 10 << 20  # what the client writes at a time
WEIGHTS, SPLIT = "weights/model.safetensors", "data/fast-00000-of-00001.parquet"
FETCH = """
from pathlib import Path
from pytest_gpueval.datasets.hub import Hub
hub = Hub()
hub.fetch(hub.split("acme/rows", None, "fast"))
"""
SUITE = """
task = "classification"
labels = ["a"]
split = "fast"
runtime = "big"
[runtimes.big]
kind = "openai"
vllm = { model = "acme/tiny" }
[datasets.rows]
repo = "acme/rows"
splits.fast = {}
"""


def parquet(seed):
    """A split of a little more than three pieces, which nothing makes smaller."""
    source, sink = random.Random(seed), io.BytesIO()
    pq.write_table(pa.table({"id": [str(number) for number in range(31)], "text": [source.randbytes(1 << 20) for _ in range(31)]}), sink, compression="none")
    return sink.getvalue()


def remote(repo, path):
    entry = repo.at().tree[path]
    return RemoteFile(path, entry.size, entry.sha256)


class Machine:
    """One that fetches, and is killed in between."""

    def __init__(self, root: Path, hub: FakeHub):
        self.root, self.hub = root, hub
        directory = root / "suites/rows"
        directory.mkdir(parents=True)
        (directory / "suite.toml").write_text(SUITE)
        self.to, self.home = root / "assets", root / "home"
        self.environment = {**hub.environment(home=self.home), "XDG_CACHE_HOME": str(root / "cache")}

    def start(self):
        where = {"cwd": self.root, "env": self.environment}
        return subprocess.Popen([sys.executable, *self.command], **where, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def finish(self):
        process = self.start()
        text, _ = process.communicate(timeout=SESSION_S)
        return process.returncode, text

    def kill_in_the_middle(self):
        """Kill a process once it has written two pieces; the hub keeps the rest of the third back."""
        self.hub.hold(f"/download/.*{self.path}", 2 * PIECE + 5000)
        process, half = self.start(), self.half()
        try:
            wait_for(lambda: half.exists() and half.stat().st_size >= 2 * PIECE, 60)
        finally:
            process.send_signal(signal.SIGKILL)
            process.communicate(timeout=SESSION_S)
        assert half.stat().st_size == 2 * PIECE
        self.hub.forget_requests()
        return half

    def half(self):
        entry = self.repo.at().tree[self.path]
        return half_of(self.folder, RemoteFile(self.path, entry.size, entry.sha256))

    def sent(self):
        """The range that was asked for, and the bytes that were sent, of each download of the file."""
        return [(one.range, one.bytes_sent) for one in self.hub.requests if one.origin == "storage" and self.path in one.path]

    def left_over(self):
        return [path for folder in (self.to, self.home) for path in folder.rglob("*.incomplete")]

    @property
    def now(self):
        return self.repo.files()[self.path]


class Assets(Machine):
    """`gpueval assets download`, and a model's weights."""

    def __init__(self, root, hub):
        super().__init__(root, hub)
        hub.repo("acme/rows", cards.files({"fast": 10}))
        self.repo, self.path = hub.repo("acme/tiny", {"config.json": b"{}", WEIGHTS: parquet(1)}, kind="model"), WEIGHTS
        self.command = ("-c", "from pytest_gpueval.cli.main import run; run()", "assets", "download", "rows", "--to", str(self.to))
        self.folder = self.to / ".fetching/models/acme--tiny/weights"

    def file(self):
        return self.to / "models/acme--tiny" / WEIGHTS


class Cache(Machine):
    """`--gpueval-data hub`, and a split: what is fetched lies in huggingface_hub's own cache."""

    def __init__(self, root, hub):
        super().__init__(root, hub)
        self.repo, self.path = hub.repo("acme/rows", {SPLIT: parquet(1)}), SPLIT
        self.command = ("-c", FETCH)
        self.folder = self.home / "hub/datasets--acme--rows/blobs"

    def file(self):
        return self.home / "hub/datasets--acme--rows/snapshots" / self.repo.head / SPLIT


@pytest.fixture(params=[Assets, Cache])
def machine(request, tmp_path):
    with FakeHub(tmp_path / "hub") as hub:
        yield request.param(tmp_path, hub)


def test_a_killed_download_goes_on_at_the_byte_where_it_stopped(machine):
    machine.kill_in_the_middle()
    assert machine.finish()[0] == 0
    assert machine.sent() == [(f"bytes={2 * PIECE}-", len(machine.now) - 2 * PIECE)]
    assert machine.file().read_bytes() == machine.now
    assert not machine.left_over()


def test_other_content_does_not_go_on_what_was_there(machine):
    half = machine.kill_in_the_middle()
    machine.repo.commit({machine.path: parquet(2)})
    assert machine.finish()[0] == 0
    assert machine.sent() == [(None, len(machine.now))]
    assert machine.file().read_bytes() == machine.now
    assert not half.exists()
    assert not machine.left_over()


@pytest.mark.parametrize("size", [2 * PIECE, 200 * PIECE])
def test_what_was_damaged_meanwhile_is_thrown_away(machine, size):
    half = machine.kill_in_the_middle()
    with half.open("r+b") as file:
        file.write(b"damaged")
        file.truncate(size)
    assert machine.finish()[0] == 0
    assert machine.sent()[-1] == (None, len(machine.now))
    assert machine.file().read_bytes() == machine.now
    assert not machine.left_over()


def test_what_never_arrives_right_is_refused_and_not_kept(machine):
    half = machine.kill_in_the_middle()
    half.write_bytes(b"damaged" + half.read_bytes()[7:])
    machine.hub.corrupt("/download/")
    code, text = machine.finish()
    assert code == 1
    assert [range_ for range_, _ in machine.sent()] == [f"bytes={2 * PIECE}-", None]
    assert f"{machine.path} is not the file that it should be" in text
    assert not machine.file().exists()
    assert not machine.left_over()


def test_two_downloads_into_one_directory(tmp_path):
    with FakeHub(tmp_path / "hub") as hub:
        machine = Assets(tmp_path, hub)
        machine.hub.hold(f"/download/.*{WEIGHTS}", 2 * PIECE)
        first, half = machine.start(), machine.half()
        try:
            wait_for(half.exists, 60)
            code, text = machine.finish()
        finally:
            first.kill()
            first.communicate(timeout=SESSION_S)
        assert (code, f"{machine.to}: another `gpueval assets download` writes there now" in text) == (5, True)
        assert machine.finish()[0] == 0
