"""gpueval baselines."""

import json

import pytest

from pytest_gpueval.runs import baselines
from tests.cli.test_cli import gpueval
from tests.runs.test_baselines import METADATA, hashed, run


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def session(tmp_path):
    """A session with two cases, of which one has a baseline."""
    directory = tmp_path / "reports" / "evaluations" / "nightly"
    first = run(directory / "toy-one-fast")
    run(directory / "toy-two-fast", metadata={"run_id": "toy-two-fast", "case": "two-fast", "dataset": {**METADATA["dataset"], "name": "two"}})
    (directory / "session.json").write_text("{}")
    baselines.write(tmp_path / "baselines", hashed(baselines.from_run(first)))
    return directory


def test_ls(session):
    (row,) = json.loads(gpueval("baselines", "ls", "--json").stdout)
    assert (row["suite"], row["case"], row["samples"], row["metric"], row["value"]) == ("toy", "one-fast", 3, "accuracy", 0.75)
    table = gpueval("baselines", "ls").stdout
    assert table.splitlines()[1].split() == ["toy", "one-fast", "3", "accuracy", "0.75", "[0.500,", "0.900]", "open", "ffffffffffff"]
    for name in ("nightly", str(session)):
        assert [row["case"] for row in json.loads(gpueval("baselines", "ls", name, "--json").stdout)] == ["one-fast", "two-fast"]


def test_show(session):
    done = gpueval("baselines", "show", "toy", "one-fast")
    assert done.exit_code == 0
    assert "samples: 3, 2 of them scored" in done.stdout
    assert "runtime cpu, policy open, commit ffffffffffff\n" in done.stdout
    document = json.loads(gpueval("baselines", "show", "toy", "two-fast", "--from", "nightly", "--json").stdout)
    assert (document["case"], document["samples"], document["scored"]) == ("two-fast", 3, 2)


def test_one_that_is_broken_does_not_hide_the_others(session, tmp_path):
    (tmp_path / "baselines" / "toy" / "zero-fast.json").write_text("{")
    done = gpueval("baselines", "ls", "--json")
    assert [row["case"] for row in json.loads(done.stdout)] == ["one-fast"]
    assert (done.exit_code, done.stderr.startswith("gpueval: ")) == (1, True)
    assert "zero-fast.json: not JSON" in done.stderr


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (("ls", "nothing"), "nothing: there is no such folder, and no such session"),
        (("ls", "git:HEAD"), "is in no git repository that can be read"),
        (("show", "toy", "two-fast"), "there is no baseline of toy/two-fast. Cases of 'toy' that have one: one-fast."),
        (("show", "toy", "x", "--from", "nightly"), "has no run of toy/x. Valid cases of 'toy' there: one-fast, two-fast."),
    ],
)
def test_what_is_not_there(session, argv, words):
    done = gpueval("baselines", *argv)
    assert done.exit_code == 2
    assert words in done.stderr
    assert done.stderr.startswith("gpueval: ")


def test_a_damaged_table(session, tmp_path):
    (tmp_path / "baselines" / "toy" / "one-fast.parquet").write_bytes(b"PAR1")
    done = gpueval("baselines", "show", "toy", "one-fast")
    assert (done.exit_code, done.stdout) == (1, "")
    assert "one-fast.parquet: not a whole parquet file" in done.stderr
