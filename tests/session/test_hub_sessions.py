"""Sessions whose rows come from the Hub: pinned, checked, never silently old. The hub is a stand-in, its clients are the real ones."""

from __future__ import annotations

import hashlib
import io
import json
import random
import re
import shutil
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pytest_gpueval.datasets import locks
from pytest_gpueval.datasets.remote import RemoteFile, RemoteSplit
from tests.hub.endpoints import refusing, silent
from tests.hub.server import FakeHub
from tests.reports import pages
from tests.session.conftest import SUITE, rows
from tests.waiting import SESSION_S

REPOS = {"one": "acme/one", "two": "acme/two"}


def parquet(count=0, name="r", table=None):
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(table or rows(count, name)), sink)
    return sink.getvalue()


def card(**splits):
    entries = "".join(f"  - name: {name}\n    num_examples: {count}\n" for name, count in splits.items())
    return f"---\ndataset_info:\n  splits:\n{entries}---\n# Rows\n".encode()


def files(fast=50, full=5000, name="r"):
    return {
        "README.md": card(fast=fast, full=full),
        "data/fast-00000-of-00001.parquet": parquet(fast, name),
        "data/full-00000-of-00002.parquet": parquet(full - full // 2, name),
        "data/full-00001-of-00002.parquet": parquet(full // 2, f"{name}2"),
    }


class Place:
    """The toy suite, whose datasets are repositories of a hub, and one machine's home."""

    def __init__(self, toy, hub):
        self.toy, self.hub = toy, hub
        self.token = hub.user("alice", orgs=["acme"])
        self.repos = {name: hub.repo(repo, files(name=name), private=True) for name, repo in REPOS.items()}
        self.suite()

    def suite(self, extra="", splits=("fast", "full")):
        base = SUITE.partition("[datasets.")[0]
        for name, repo in REPOS.items():
            base += f'[datasets.{name}]\nrepo = "{repo}"\n' + "".join(f"splits.{split} = {{}}\n" for split in splits) + extra
        self.toy.suite("toy", base)

    def run(self, *args, token="own", home="home", data="hub", timeout=SESSION_S, program=("-m", "pytest"), cache=("-p", "no:cacheprovider"), **changes):
        environment = {
            **self.hub.environment(self.token if token == "own" else token, home=self.toy.root / home),
            "XDG_CACHE_HOME": str(self.toy.root / home / "cache"),
        }
        environment = {name: value for name, value in environment.items() if not name.startswith("PYTEST_XDIST")} | changes
        command = [sys.executable, *program, *cache, "--gpueval-suite", "toy", f"--gpueval-data={data}", *args]
        done = subprocess.run(command, cwd=self.toy.root, env=environment, capture_output=True, text=True, timeout=timeout, check=False)
        self.code, self.text = done.returncode, done.stdout + done.stderr
        assert "Traceback" not in self.text, self.text
        assert "INTERNALERROR" not in self.text, self.text
        assert (self.token[-12:] in self.text) is False
        return self.text

    def passes(self, *args, **changes):
        text = self.run(*args, **changes)
        assert self.code == 0, text
        return text

    def refused(self, *args, code=4, **changes):
        text = self.run(*args, **changes)
        assert self.code == code, text
        assert not list((self.toy.root / "reports").rglob("summary.json"))
        return text

    def metadata(self, session, run="toy-one-fast"):
        return json.loads((self.toy.root / "reports/evaluations" / session / run / "run_metadata.json").read_text())

    def asked(self, pattern=""):
        return [request.path for request in self.hub.requests if re.search(pattern, request.path)]

    def cached(self, pattern, home="home"):
        return [path for path in (self.toy.root / home).rglob("*") if re.search(pattern, str(path)) and not path.is_dir()]


@pytest.fixture
def hub(tmp_path_factory):
    with FakeHub(tmp_path_factory.mktemp("hub")) as running:
        yield running


@pytest.fixture
def place(toy, hub):
    return Place(toy, hub)


def test_one_split_is_fetched_and_nothing_else(place):
    text = place.passes("--gpueval-session", "it", "-n", "2")
    assert "gpueval: fetching 2 splits" in text
    assert "(2 datasets, 100 rows, hub)" in text
    fetched = [request for request in place.hub.requests if request.method == "GET" and "/download/" in request.path]
    assert sum(request.bytes_sent for request in fetched) == 2 * len(place.repos["one"].files()["data/fast-00000-of-00001.parquet"])
    for repo in REPOS.values():  # asked once, on the controller
        assert len(place.asked(f"^/api/datasets/{repo}")) == 1
    known = place.metadata("it")["dataset"]
    file = place.repos["one"].files()["data/fast-00000-of-00001.parquet"]
    assert known["revision"] == place.repos["one"].head
    assert known["sha256"] == hashlib.sha256(file).hexdigest()
    assert known["rows"] == 50
    assert known["origin"] == f"hub: acme/one@{place.repos['one'].head[:7]}"


def test_what_is_here_is_not_fetched_again_and_a_new_commit_is_seen(place):
    place.passes("--gpueval-session", "a")
    place.hub.forget_requests()
    place.passes("--gpueval-session", "b")
    assert not place.asked("/download/|/resolve/")
    old = place.repos["one"].head
    new = place.repos["one"].commit({"data/fast-00000-of-00001.parquet": parquet(60, "new"), "README.md": card(fast=60, full=5000)})
    place.passes("--gpueval-session", "c")
    assert [place.metadata(session)["dataset"]["revision"] for session in "abc"] == [old, old, new]
    assert place.metadata("c")["dataset"]["rows"] == 60


def test_a_selection_fetches_what_it_selects(place):
    place.passes("-k", "two", "--gpueval-session", "it")
    assert len(set(place.asked("/download/"))) == 1


def test_a_pinned_commit_needs_no_hub_once_it_is_here(place):
    pin = place.repos["one"].head
    place.suite(f'revision = "{pin}"\n')
    place.repos["two"] = place.repos["one"]
    place.suite("", ("fast",))
    toml = place.toy.root / "suites/toy/suite.toml"
    toml.write_text(
        toml.read_text()
        .replace('repo = "acme/two"', f'repo = "acme/one"\nrevision = "{pin}"')
        .replace('repo = "acme/one"\nsplits', f'repo = "acme/one"\nrevision = "{pin}"\nsplits')
    )
    place.passes("--gpueval-session", "a")
    place.repos["one"].commit({"data/fast-00000-of-00001.parquet": parquet(70)})
    place.hub.forget_requests()
    for number, changes in enumerate(({}, {"HF_HUB_OFFLINE": "1"}, {"HF_ENDPOINT": "http://127.0.0.1:9"})):
        place.passes("--gpueval-session", f"b{number}", **changes)
        assert place.metadata(f"b{number}")["dataset"]["revision"] == pin
    assert not place.hub.requests


def test_splits_of_several_files_are_read_in_their_order(place):
    place.passes("--gpueval-split", "full", "-k", "one", "--gpueval-session", "it", "--gpueval-limit", "2600")
    ids = [json.loads(line)["id"] for line in (place.toy.root / "reports/evaluations/it/toy-one-full/results.jsonl").read_text().splitlines()]
    assert ids == [f"one-{number}" for number in range(2500)] + [f"one2-{number}" for number in range(100)]


@pytest.mark.parametrize("status", [500, 503])
def test_a_hub_that_is_down_is_no_reason_to_take_old_rows(place, status):
    place.passes("--gpueval-session", "a")
    shutil.rmtree(place.toy.root / "reports")
    place.hub.fail("GET", "^/api/datasets/", status, times=None)
    text = place.refused(code=10)
    assert re.search(rf"acme/one: http://127.0.0.1:\d+ answers {status}", text)
    assert "--gpueval-data DIR" in text
    assert len(place.asked("^/api/datasets/acme/one")) < 10


def test_a_moment_of_trouble_is_waited_for(place):
    place.hub.fail("GET", "^/api/datasets/", 429, times=2, headers={"Retry-After": "1"})
    place.hub.fail("GET", "^/api/datasets/", 502, times=1)
    place.passes()


def test_a_dead_endpoint_fails_soon(place):
    for endpoint in (refusing(), silent()):
        with endpoint as url:
            assert f"{url} cannot be reached" in place.refused(HF_ENDPOINT=url, code=10)
    locked(place)  # then the file is what is asked for first
    with silent() as url:
        assert f"{url} cannot be reached" in place.refused(HF_ENDPOINT=url, code=10)


def test_who_may_not_is_told_who_they_are(place):
    place.passes("--gpueval-session", "a")
    shutil.rmtree(place.toy.root / "reports")
    bob = place.hub.user("bob", role="read")
    text = place.refused(token=bob)
    assert (
        "acme/one: there is no such repository, or it is private and not for you: the Hub answers 404 to both. You are 'bob' (token of HF_TOKEN, role read)."
        in text
    )
    assert "hf auth login" in text
    text = place.refused(token=None)
    assert re.search(r"You have no token: HF_TOKEN is not set, and there is none in \S+/token\.", text)
    usual = place.toy.root / "me/.cache/huggingface/token"
    usual.parent.mkdir(parents=True)
    usual.write_text(place.token)
    text = place.refused(token=None, HOME=str(place.toy.root / "me"))
    assert f"(there is one in {usual}, but HF_HOME is {place.toy.root / 'home'})" in text
    text = place.refused(token="hf_" + "x" * 30)
    assert "The token of HF_TOKEN is not valid." in text
    assert "xxxxxxxx" not in text


def test_a_gated_repository_says_where_to_ask(place):
    place.hub.repo("other/three", files(), gated="manual")
    place.toy.edit('repo = "acme/two"', 'repo = "other/three"')
    text = place.refused()
    assert "other/three: access is granted on request only. You are 'alice'" in text
    assert "/datasets/other/three" in text


def test_offline_says_what_it_takes_and_how_old_it_is(place):
    text = place.refused(HF_HUB_OFFLINE="1")
    assert "acme/one: revision main was never looked at from here" in text
    place.passes("--gpueval-session", "a")
    head = place.repos["one"].head
    text = place.passes("--gpueval-session", "b", HF_HUB_OFFLINE="1")
    assert f"acme/one: offline; main is taken to be {head[:7]}, as it was less than an hour ago" in text
    shutil.rmtree(place.toy.root / "reports")
    place.suite(f'revision = "{"0" * 40}"\n')
    text = place.refused(HF_HUB_OFFLINE="1")
    assert f"revision {'0' * 40} was never looked at from here" in text


def test_a_revision_that_is_not_there(place):
    place.suite('revision = "v9"\n')
    assert "acme/one: has no revision v9" in place.refused()


def test_a_split_that_is_not_there(place):
    place.suite("", ("fats",))
    place.toy.edit('split = "fast"', 'split = "fats"')
    assert "has no split 'fats'. Did you mean 'fast'? Valid splits: fast, full." in place.refused()


def test_a_damaged_cache_is_mended_and_said(place):
    place.passes("--gpueval-session", "a")
    (blob,) = place.cached(r"datasets--acme--one/blobs/[0-9a-f]{64}$")
    data = bytearray(blob.read_bytes())
    data[100] ^= 1
    blob.write_bytes(data)
    text = place.passes("--gpueval-session", "b")
    assert "was damaged in the cache, and is fetched anew" in text
    assert place.metadata("b")["dataset"] == place.metadata("a")["dataset"]


def test_a_download_that_is_cut_is_finished(place):
    place.hub.cut("/download/", 1000)
    place.passes("--gpueval-session", "a")
    assert place.metadata("a")["dataset"]["rows"] == 50


def test_a_download_that_arrives_damaged_is_refused(place):
    place.hub.corrupt("/download/")
    assert "is not the file that it should be" in place.refused("-k", "one")


def test_metadata_of_another_file_is_found_out(place):
    place.repos["one"].commit({"data/fast-00000-of-00001.parquet": parquet(60)})
    text = place.refused()
    assert "acme/one@" in text
    assert "split 'fast' has 60 rows, but the repository says 50 of itself" in text
    assert "gpueval datasets publish-info" in text


def test_what_is_no_parquet_is_read_by_the_library(place):
    place.hub.repo(
        "acme/three",
        {
            "README.md": b"---\nconfigs:\n- config_name: default\n  data_files:\n  - split: fast\n    path: rows.jsonl\n---\n",
            "rows.jsonl": "\n".join(map(json.dumps, rows(20))).encode(),
        },
    )
    place.toy.edit('repo = "acme/two"', 'repo = "acme/three"')
    place.passes("--gpueval-session", "a")
    assert place.metadata("a", "toy-two-fast")["dataset"]["rows"] == 20
    place.hub.forget_requests()
    place.passes("--gpueval-session", "b")
    assert not place.asked("rows.jsonl")


def test_a_dataset_without_a_repository(place):
    place.toy.edit('repo = "acme/two"', "")
    assert "datasets.two.repo: missing; --gpueval-data hub needs the repository" in place.refused()


# A directory that came from elsewhere.


def mirror(place, name="mirror"):
    directory = place.toy.root / name
    entries = []
    for dataset, repo in REPOS.items():
        data = parquet(50, dataset)
        (directory / dataset).mkdir(parents=True)
        (directory / dataset / "fast.parquet").write_bytes(data)
        entry = {"dataset": dataset, "split": "fast", "repo": repo, "revision": "a" * 40, "file": f"{dataset}/fast.parquet"}
        entries.append({**entry, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest(), "rows": 50})
    (directory / "manifest.json").write_text(json.dumps({"version": 1, "datasets": entries}))
    return directory


def test_a_mirror_needs_no_network(place):
    directory = mirror(place)
    text = place.passes("--gpueval-session", "it", data=directory, HF_ENDPOINT="http://127.0.0.1:9")
    assert f"(2 datasets, {directory})" in text
    assert not place.hub.requests
    known = place.metadata("it")["dataset"]
    assert (known["revision"], known["rows"], known["origin"]) == ("a" * 40, 50, f"mirror: {directory}")


def test_all_that_is_wrong_with_a_mirror_is_said_at_once(place):
    directory = mirror(place)
    (directory / "one/fast.parquet").unlink()
    good = (directory / "two/fast.parquet").read_bytes()
    (directory / "two/fast.parquet").write_bytes(good[:-9])
    text = place.refused(data=directory)
    assert "2 of 2 splits cannot be used:" in text
    assert f"one-fast: {directory}/one/fast.parquet is missing" in text
    assert re.search(r"two-fast: \S+ has [\d,]+ bytes, not [\d,]+", text)
    (directory / "two/fast.parquet").write_bytes(good[:200] + bytes([good[200] ^ 1]) + good[201:])
    assert "two-fast: " + str(directory / "two/fast.parquet") + " was damaged or replaced" in place.refused(data=directory)


ONE = "suites/toy/suite.toml::test_eval[one-fast]"
TWO = "suites/toy/suite.toml::test_eval[two-fast]"


def failed_last(place, *nodeids):
    place.toy.root.joinpath(".pytest_cache/v/cache").mkdir(parents=True, exist_ok=True)
    place.toy.root.joinpath(".pytest_cache/v/cache/lastfailed").write_text(json.dumps(dict.fromkeys(nodeids, True)))


@pytest.mark.parametrize("workers", [("-n", "2"), ("-p", "no:xdist")])
@pytest.mark.parametrize(
    ("selection", "early"),
    [(("-k", "two"), True), (("-k", "not one and toy"), True), (("--lf",), True), (("-m", "second"), False), (("--deselect", ONE), False)],
)
def test_only_what_is_selected_must_be_there_and_all_that_is_missing_is_told_before_a_model_loads(place, selection, early, workers):
    """Also before GPUs are taken, where names decide. What a conftest.py marks, only the collection can tell."""
    place.toy.root.joinpath("conftest.py").write_text(
        "import pytest\n"
        "def pytest_configure(config):\n    config.addinivalue_line('markers', 'second')\n"
        "def pytest_collection_modifyitems(items):\n    [item.add_marker('second') for item in items if 'two' in item.name]\n"
    )
    model = place.toy.root / "suites/toy/model.py"
    model.write_text("open('loaded', 'w').close()\n" + model.read_text())
    directory = mirror(place)
    one, two = (directory / f"{name}/fast.parquet" for name in ("one", "two"))
    good = one.read_bytes()
    one.unlink()
    failed_last(place, TWO)
    cache = ("-p", "cacheprovider")
    text = place.passes(*selection, *workers, "--gpueval-session", "a", data=directory, cache=cache)
    assert "1 passed" in text
    place.toy.root.joinpath("loaded").unlink()
    one.write_bytes(good)
    two.write_bytes(two.read_bytes()[:-9])
    shutil.rmtree(place.toy.root / "reports")
    failed_last(place, TWO)
    text = place.refused(*selection, *workers, data=directory, cache=cache)
    assert "1 of 1 splits cannot be used:" in text
    assert re.search(rf"two-fast: {two} has [\d,]+ bytes, not [\d,]+", text)
    assert ("session reports" not in text) is early  # else its header is on the screen already
    assert not place.toy.root.joinpath("loaded").exists()


def test_node_ids_choose_what_must_be_there(place):
    directory = mirror(place)
    (directory / "one/fast.parquet").unlink()
    (directory / "two/fast.parquet").unlink()
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", f"--gpueval-data={directory}", "--gpus", "none", TWO]
    done = subprocess.run(command, cwd=place.toy.root, capture_output=True, text=True, timeout=SESSION_S, check=False)
    assert (done.returncode, "1 of 1 splits cannot be used:\n  two-fast: " in done.stderr) == (4, True), done.stdout + done.stderr


def test_a_repository_that_nobody_wants_to_run_need_not_be_there(place):
    place.toy.edit('repo = "acme/two"', 'repo = "acme/nobody"')
    assert "acme/nobody: there is no such repository" in place.refused()
    place.passes("-k", "one", "--gpueval-session", "it", "--gpus", "none", "-n", "2")
    assert "acme/nobody: there is no such repository" in place.run("-k", "two", "--gpueval-session", "it")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "is not JSON"),
        ('{"version": 2}', "is of version 2"),
        ('{"version": 1, "datasets": [{}]}', "datasets.0.file: Field required"),
        ('{"version": 1, "datasets": [{"dataset": "one", "split": "fast", "file": "../x", "bytes": 1, "sha256": "' + "0" * 64 + '"}]}', "'../x' is not below"),
        ('{"version": 1, "datasets": []}', "one-fast: not in manifest.json"),
    ],
)
def test_a_manifest_that_is_none(place, text, said):
    directory = mirror(place)
    (directory / "manifest.json").write_text(text)
    assert said in place.refused(data=directory)


def locked(place):
    """Of what there is now, without a word to the hub."""
    remotes = {}
    for name, repo in REPOS.items():
        path = "data/fast-00000-of-00001.parquet"
        data = place.repos[name].files()[path]
        remotes[name, "fast"] = RemoteSplit(repo, place.repos[name].head, "fast", None, (RemoteFile(path, len(data), hashlib.sha256(data).hexdigest()),), 50)
    locks.write(place.toy.root / "suites/toy", remotes)


@pytest.mark.parametrize("lock", [False, True])
def test_a_merge_finds_rows_that_sessions_have_fetched_and_asks_nobody(place, lock):
    if lock:
        locked(place)
    for name in REPOS:
        place.passes("--gpueval-session", f"m-{name}", "-k", f"{name}-fast")
    place.hub.forget_requests()
    shutil.rmtree(place.toy.root / "suites/toy/data")
    output = place.toy.root / "reports/evaluations"
    for home in ("home", "elsewhere"):
        merge = ["-c", "from pytest_gpueval.cli.main import run; run()", "runs", "merge", str(output / home), *(str(output / f"m-{name}") for name in REPOS)]
        environment = {**place.hub.environment(place.token, home=place.toy.root / home), "XDG_CACHE_HOME": str(place.toy.root / home / "cache")}
        done = subprocess.run([sys.executable, *merge], cwd=place.toy.root, env=environment, capture_output=True, text=True, timeout=SESSION_S, check=False)
        assert done.returncode == 0, done.stderr
    assert not place.hub.requests
    for home, texts in (("home", 5), ("elsewhere", 0)):
        source = (output / home / "report.html").read_text()
        found = pages.unpacked(source)
        assert [sum(text is not None for text in found[case, 1]["text"]) for case in (0, 1)] == [texts, texts], source
        head = place.repos["one"].head[:7]
        assert (f"hub: acme/one@{head}: split &#39;fast&#39; is not in this machine&#39;s cache" in source) is (home == "elsewhere")


def test_a_lock_file_keeps_all_machines_at_the_same_rows(place):
    locked(place)
    old = place.repos["one"].head
    new = place.repos["one"].commit({"data/fast-00000-of-00001.parquet": parquet(60), "README.md": card(fast=60, full=5000)})
    place.passes("--gpueval-session", "a")
    place.hub.forget_requests()
    place.passes("--gpueval-session", "b")
    assert not place.hub.requests
    place.passes("--gpueval-session", "c", "--gpueval-refresh")
    assert [place.metadata(session)["dataset"]["revision"] for session in "abc"] == [old, old, new]
    lock = place.toy.root / "suites/toy/datasets.lock"
    lock.write_text("{")
    shutil.rmtree(place.toy.root / "reports")
    assert "datasets.lock: is no lock file" in place.refused()


def test_a_full_disk_is_said_and_nothing_is_half_there(place):
    """No file may grow beyond 20 KB: as on a disk that is full, but for the number of the error."""
    table = [{**row, "id": random.randbytes(1000).hex()} for row in rows(60)]
    place.repos["one"].commit({"data/fast-00000-of-00001.parquet": parquet(table=table), "README.md": card(fast=60, full=5000)})
    limited = (
        "import resource, signal, sys, pytest; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
        "limit = lambda most: resource.setrlimit(resource.RLIMIT_FSIZE, (most, resource.RLIM_INFINITY)); "
        "limit(20000); code = pytest.main(); limit(resource.RLIM_INFINITY); sys.exit(code)"
    )
    text = place.refused(program=("-c", limited))
    assert re.search(r"cannot be written: File too large\.\nHF_HOME chooses another place", text)
    place.passes("--gpueval-session", "a")
    assert place.metadata("a")["dataset"]["rows"] == 60
