"""gpueval datasets and gpueval assets, in processes of their own, against the stand-in for the Hub; the libraries others use are the judges."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pytest_gpueval.datasets import assets
from pytest_gpueval.datasets.remote import RemoteFile
from pytest_gpueval.errors import StorageError
from tests.hub import client
from tests.hub.server import FakeHub

FAST, FULL = "data/fast-00000-of-00001.parquet", "data/full-00000-of-00001.parquet"
SUITE = """
description = "People"
task = "span_detection"
labels = ["PERSON", "CITY", "DATE"]
split = "fast"
runtime = "cpu"
[runtimes.cpu]
kind = "inprocess"
target = "model.py:Model"
[runtimes.big]
kind = "openai"
vllm = { model = "acme/tiny" }
[datasets.people]
rate = 20.0
repo = "acme/people"
splits.fast = { rows = 60 }
splits.full = {}
label_map = { name = "PERSON", town = "CITY", day = "DATE" }
"""
_INT64 = {"_type": "Value", "dtype": "int64"}
CARD = """---
# Written by hand: keep it.
version: 1.10
license: cc0-1.0
dataset_info:
  splits:
  - {name: fast, num_bytes: 1, num_examples: 40}   # small
  - {name: full, num_bytes: 2, num_examples: 900}
  download_size: 3
  dataset_size: 3
---
# Люди
"""


def rows(count, first=0):
    """Mostly names, few towns, fewer days; every fourth row has nothing."""
    names = {0: [], 1: ["name"], 2: ["name", "town"], 3: ["day"] if count > 100 else ["day", "town", "name"]}
    made = []
    for number in range(first, first + count):
        kinds = names[number % 4] if number % 12 != 3 or count <= 100 else ["name"]
        spans = [{"start": 4 * at, "end": 4 * at + 3, "label": kind} for at, kind in enumerate(kinds)]
        made.append({"id": f"p-{number}", "text": "aaa bbb ccc ddd", "spans": spans})
    return made


def parquet(table):
    sink = io.BytesIO()
    schema = pa.schema(
        [("id", pa.string()), ("text", pa.string()), ("spans", pa.list_(pa.struct([("start", pa.int64()), ("end", pa.int64()), ("label", pa.string())])))]
    )
    pq.write_table(pa.Table.from_pylist(table, schema), sink)
    return sink.getvalue()


class Place:
    """A suite's folder, its repository, and one machine."""

    def __init__(self, root: Path, hub: FakeHub):
        self.root, self.hub = root, hub
        self.token = hub.user("alice", orgs=["acme"])
        left_over = {"data/fast-00000-of-00002.parquet": parquet(rows(20)), "data/fast-00001-of-00002.parquet": parquet(rows(20, 20))}
        self.repo = hub.repo("acme/people", {"README.md": CARD.encode(), FULL: parquet(rows(900)), **left_over}, private=True)
        directory = root / "suites/people"
        directory.mkdir(parents=True)
        (directory / "suite.toml").write_text(SUITE)
        (directory / "model.py").write_text("class Model:\n    def predict(self, batch):\n        return [[] for _ in batch]\n")

    def environment(self, token=None, home="home"):
        found = self.hub.environment(token or self.token, home=self.root / home)
        return {**found, "XDG_CACHE_HOME": str(self.root / home / "cache"), "COLUMNS": "200"}

    def gpueval(self, *arguments, code=0, token=None, **changes):
        command = [sys.executable, "-c", "from pytest_gpueval.cli.main import run; run()", *map(str, arguments)]
        done = subprocess.run(command, cwd=self.root, env={**self.environment(token), **changes}, capture_output=True, text=True, timeout=180, check=False)
        assert done.returncode == code, done.stdout + done.stderr
        assert "Traceback" not in done.stderr, done.stderr
        return done.stdout if code in (0, 1) else done.stderr

    def as_json(self, *arguments, **given):
        return json.loads(self.gpueval(*arguments, "--json", **given))

    def loads(self, home):
        """What everybody else gets."""
        said = client.run("import datasets; result = len(datasets.load_dataset('acme/people', split='fast'))", self.environment(home=home))
        return said.value if said.error is None else said.error

    def damage(self):
        """What the runbook warns of: the file is replaced, the card is not."""
        return self.repo.commit({FAST: parquet(rows(30))}, delete=[path for path in self.repo.files() if path.startswith("data/fast") and path != FAST])


@pytest.fixture
def place(tmp_path):
    with FakeHub(tmp_path / "hub") as hub:
        yield Place(tmp_path, hub)


def test_a_fast_split_is_chosen_and_published_in_one_commit(place):
    before, files = place.repo.head, place.repo.files()
    shown = place.gpueval("datasets", "rebalance", "people", "--dry-run")
    assert place.repo.head == before
    assert "- data/fast-00000-of-00002.parquet" in shown
    assert "+  - {name: fast, num_bytes: " in shown
    (done,) = place.as_json("datasets", "rebalance", "people")
    assert (done["parent"], done["commit"]) == (before, place.repo.head)
    after = place.repo.files()
    assert sorted(after) == sorted({*files, FAST} - {path for path in files if path.startswith("data/fast")})
    assert after[FULL] == files[FULL]
    table = pq.read_table(io.BytesIO(after[FAST]))
    found = [frozenset(span["label"] for span in spans) for spans in table["spans"].to_pylist()]
    assert len(found) == 60
    assert sum(not labels for labels in found) == 12
    counts = [sum(name in labels for labels in found) for name in ("name", "town", "day")]
    assert max(counts) - min(counts) <= 2
    assert [done["labels"][label]["after"] for label in ("PERSON", "CITY", "DATE")] == counts
    changed = [(old, new) for old, new in zip(CARD.splitlines(), after["README.md"].decode().splitlines(), strict=True) if old != new]
    assert [new.split(":")[0] for _, new in changed] == ["  - {name", "  download_size", "  dataset_size"]
    assert "num_examples: 60}   # small" in changed[0][1]
    (again,) = place.as_json("datasets", "rebalance", "people")
    assert (again["commit"], again["changes"]) == (None, False)


def test_what_others_load_before_and_after(place):
    place.gpueval("datasets", "rebalance", "people")
    assert place.loads("old") == 60
    place.damage()
    assert [place.loads(home) for home in ("old", "new")] == ["NonMatchingSplitsSizesError"] * 2
    wrong = {row["what"]: row["ok"] for row in place.as_json("datasets", "verify", "people", code=1)}
    assert wrong == {
        "content hash": True,
        "row count": False,
        "schema": True,
        "labels": True,
        "duplicates": True,
        "rows in 'full'": False,
        "datasets.load_dataset": False,
    }
    assert "split fast: num_examples says 60, should be 30" in place.gpueval("datasets", "publish-info", "people")
    assert [place.loads(home) for home in ("old", "new", "third")] == [30] * 3
    place.gpueval("datasets", "rebalance", "people")
    assert [place.loads(home) for home in ("old", "new")] == [60] * 2
    assert all(row["ok"] for row in place.as_json("datasets", "verify", "people"))


def test_somebody_else_commits_meanwhile(place):
    place.hub.on_commit(lambda: place.repo.commit({"notes.txt": b"mine"}))
    (done,) = place.as_json("datasets", "rebalance", "people")
    assert place.repo.head == done["commit"]
    assert place.repo.files()["notes.txt"] == b"mine"
    place.damage()
    place.hub.on_commit(lambda: place.repo.commit({"notes.txt": str(len(place.repo.log())).encode()}), once=False)
    assert "somebody else committed meanwhile" in place.gpueval("datasets", "publish-info", "people", code=5)


def test_who_may_not_write_is_told_so(place):
    reader = place.hub.user("alice", role="read", orgs=["acme"])
    said = place.gpueval("datasets", "rebalance", "people", code=4, token=reader)
    assert "acme/people: not allowed:" in said
    assert "You are 'alice' (token of HF_TOKEN, role read)." in said
    assert reader not in said
    assert len(place.repo.log()) == 1


def test_a_repository_that_the_hub_does_not_show(place):
    """It is more likely missing for those who belong to its owner, and private for all others."""
    steps = "If the name is wrong, mend it in suite.toml.\nIf the repository is private, log in with `hf auth login`, or set HF_TOKEN"
    said = place.gpueval("datasets", "lock", "people", code=4, token=place.hub.user("bob"))
    assert "acme/people: there is no such repository, or it is private and not for you: the Hub answers 404 to both. You are 'bob'" in said
    assert steps in said
    suite = place.root / "suites/people/suite.toml"
    suite.write_text(suite.read_text().replace("acme/people", "acme/poeple"))
    said = place.gpueval("datasets", "lock", "people", code=2)
    assert (
        "acme/poeple: there is no such repository: the Hub answers 404 also for private ones, but as a rule not to those who belong to 'acme', as you do"
        in said
    )
    assert steps in said
    said = place.gpueval("datasets", "lock", "people", code=4, HF_TOKEN="")
    assert "the Hub answers 401 to both. You have no token" in said


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("rebalance", "people", "--rows", "901"), 2, "901 rows are asked for, but 900 can be selected"),
        (("rebalance", "people", "--dataset", "poeple"), 2, "Did you mean 'people'?"),
        (("rebalance", "poeple"), 2, "Did you mean 'people'?"),
        (("rebalance", "people", "--source", "whole"), 1, "has no split 'whole' to choose from; it has fast, full"),
        (("rebalance", "people", "--split", "tiny"), 2, "datasets.people.splits.tiny.rows: missing"),
        (("verify", "people", "--split", "fats"), 1, "has no split 'fats'. Did you mean 'fast'?"),
    ],
)
def test_what_cannot_be(place, arguments, code, said):
    command = [sys.executable, "-c", "from pytest_gpueval.cli.main import run; run()", "datasets", *arguments]
    done = subprocess.run(command, cwd=place.root, env=place.environment(), capture_output=True, text=True, timeout=180, check=False)
    assert (done.returncode, said in done.stderr) == (code, True), done.stderr
    assert len(place.repo.log()) == 1


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (parquet(rows(900))[:-20], "not a whole parquet file"),
        (parquet([]), "60 rows are asked for, but 0 can be selected"),
        (b"", "not a whole parquet file"),
    ],
)
def test_a_full_split_that_is_none(place, data, said):
    place.repo.commit({FULL: data})
    command = [sys.executable, "-c", "from pytest_gpueval.cli.main import run; run()", "datasets", "rebalance", "people"]
    done = subprocess.run(command, cwd=place.root, env=place.environment(), capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode in (1, 2)
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert len(place.repo.log()) == 2


def test_a_label_that_vanished_and_rows_that_are_no_rows(place):
    table = rows(60)
    table[5]["spans"] = [{"start": 3, "end": 99, "label": "name"}]
    table[6]["spans"] = [{"start": 0, "end": 3, "label": "planet"}]
    table[8]["id"] = table[7]["id"]
    for row in table:
        row["spans"] = [span for span in row["spans"] if span["label"] != "day"]
    place.repo.commit({FAST: parquet(table)}, delete=[path for path in place.repo.files() if path.startswith("data/fast")])
    seen = {row["what"]: row["seen"] for row in place.as_json("datasets", "verify", "people", code=1) if not row["ok"]}
    assert "'p-5': " in seen["schema"]
    assert "planet (1 times)" in seen["labels"]
    assert "without a single row: DATE" in seen["labels"]
    assert "'p-7' (rows 7 and 8)" in seen["duplicates"]
    assert seen["rows in 'full'"].split(" of 60")[0].isdigit()


def test_columns_of_other_names_and_labels_that_are_numbers(place):
    names = ["name", "town", "day"]
    table = [{"uid": row["id"], "body": row["text"], "marks": [{**span, "label": names.index(span["label"])} for span in row["spans"]]} for row in rows(900)]
    kind = pa.list_(pa.struct([("start", pa.int64()), ("end", pa.int64()), ("label", pa.int64())]))
    features = {"marks": {"_type": "List", "feature": {"label": {"_type": "ClassLabel", "names": names}, "start": _INT64, "end": _INT64}}}
    features |= {name: {"_type": "Value", "dtype": "string"} for name in ("uid", "body")}
    schema = pa.schema([("uid", pa.string()), ("body", pa.string()), ("marks", kind)], {"huggingface": json.dumps({"info": {"features": features}})})
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(table, schema), sink)
    place.repo.commit({FULL: sink.getvalue()}, delete=[path for path in place.repo.files() if path.startswith("data/fast")])
    suite = place.root / "suites/people/suite.toml"
    suite.write_text(suite.read_text().replace("label_map", 'columns = { id = "uid", text = "body", spans = "marks" }\nlabel_map'))
    (done,) = place.as_json("datasets", "rebalance", "people")
    assert {label: counts["after"] > 5 for label, counts in done["labels"].items()} == dict.fromkeys(("PERSON", "CITY", "DATE", "(none)"), True)
    found = {row["what"]: row["seen"] for row in place.as_json("datasets", "verify", "people")}
    assert (found["labels"], found["duplicates"], found["datasets.load_dataset"]) == ("3 labels", "every uid once", "60 rows")
    suite.write_text(suite.read_text().replace('"body"', '"bdoy"'))
    (wrong,) = [row for row in place.as_json("datasets", "verify", "people", code=1) if not row["ok"]]
    assert wrong["what"] == "schema"
    assert "column 'bdoy', which `columns` in suite.toml names for 'text', is missing. Did you mean 'body'?" in wrong["seen"]


def test_the_lock_file_follows_the_hub_when_told(place):
    assert "would write" in place.gpueval("datasets", "lock", "people", "--dry-run")
    lock = place.root / "suites/people/datasets.lock"
    assert not lock.exists()
    place.gpueval("datasets", "lock", "people")
    first = json.loads(lock.read_text())
    assert first["datasets"]["people"]["full"]["revision"] == place.repo.head
    assert "all 2 splits are as locked" in place.gpueval("datasets", "lock", "people")
    place.damage()
    assert "2 of 2 splits changed: people-fast, people-full" in place.gpueval("datasets", "lock", "people")
    assert json.loads(lock.read_text()) != first


def test_assets_are_fetched_once_checked_and_mended(place):
    model = {"config.json": b"{}", "weights/model.safetensors": b"\0" * 5000}
    place.hub.repo("acme/tiny", model, kind="model")
    to = place.root / "assets"
    place.hub.fail("GET", "model.safetensors", 403, times=None)
    assert "acme/tiny: not allowed" in place.gpueval("assets", "download", "people", "--to", to, code=4)
    place.hub.mend()
    place.hub.forget_requests()
    place.gpueval("assets", "download", "people", "--to", to)
    assert (to / "models/acme--tiny/weights/model.safetensors").read_bytes() == model["weights/model.safetensors"]
    assert sorted(path.name for path in to.iterdir()) == ["manifest.json", "models", "people"]
    assert "fetched 0 of" in place.gpueval("assets", "download", "people", "--to", to)
    assert "5 of 5" in place.gpueval("assets", "verify", to) or "6 of 6" in place.gpueval("assets", "verify", to)
    (to / "people/full.parquet").write_bytes(b"PAR1")
    (to / "models/acme--tiny/config.json").unlink()
    said = place.as_json("assets", "verify", to, code=1)
    assert {row["file"] for row in said if row["state"] != "ok"} == {"people/full.parquet", "models/acme--tiny/config.json"}
    assert "fetched 2 of" in place.gpueval("assets", "download", "people", "--to", to)
    place.gpueval("assets", "verify", to)
    assert "no split 'fats'. Did you mean 'fast'?" in place.gpueval("assets", "download", "people", "--to", to, "--split", "fats", code=2)


def test_assets_that_do_not_fit_are_not_begun(place, tmp_path):
    huge = assets.Asset("model", "acme/huge", "a" * 40, RemoteFile("weights.bin", 1 << 60, "0" * 64), "models/acme--huge/weights.bin")
    hub = None  # is not asked
    with pytest.raises(StorageError, match=r"1,152,921,504\.61 GB are to be fetched, but [\d,.]+ GB are free"):
        assets.download(hub, tmp_path / "there", [huge], [huge], lambda _: None)


def test_the_sizes_of_a_time_budget_are_published_when_told(place):
    asked = ("datasets", "budget", "people", "--minutes", "0.2", "--ceiling", "700", "--floor", "50")
    before = place.repo.head
    ((one,), (shown,)) = place.as_json(*asked)["datasets"], place.as_json(*asked, "--apply", "--dry-run")
    assert 50 <= one["rows"] <= 240
    assert shown["rows"] == one["rows"]
    assert place.repo.head == before
    assert "belongs to --apply" in place.gpueval(*asked, "--dry-run", code=2)
    place.gpueval(*asked, "--apply")
    assert place.repo.head != before
    assert pq.read_table(io.BytesIO(place.repo.files()[FAST])).num_rows == one["rows"]


def test_a_card_without_a_word_on_splits_gets_all_of_them(place):
    place.repo.commit({"README.md": b"# Nothing but words\r\n", ".gitattributes": b"*.parquet filter=lfs\n"})
    place.gpueval("datasets", "rebalance", "people")
    text = place.repo.files()["README.md"].decode()
    assert text.endswith("# Nothing but words\r\n")
    assert text.count("num_examples: 60") == text.count("num_examples: 900") == 1
    assert place.loads("new") == 60
