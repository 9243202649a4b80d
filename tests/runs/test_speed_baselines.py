"""Speeds of several machines in one file: kept apart, merged by git, refused with words where they are damaged."""

from __future__ import annotations

import json
import subprocess

import pytest

from pytest_gpueval.errors import DataError, StorageError
from pytest_gpueval.runs.baselines import cases_of, speed
from pytest_gpueval.runs.baselines.files import suites_of
from pytest_gpueval.runs.baselines.speed import SpeedEntry
from pytest_gpueval.runs.records import RunMetadata, Speed, Summary
from tests.runs.test_baselines import METADATA, SUMMARY

RATE = {"value": 52.1, "low": 50.0, "high": 54.2, "n": 20}


def entry(device="NVIDIA H100 80GB HBM3", **changes):
    fields = {
        "device": device, "gpus": 1, "workers": 8, "runtime": "cuda", "batch": {"samples_in_flight": 16}, "rows": 3, "samples_per_s": RATE,
        "dataset_sha256": "d" * 64, "model": METADATA["model"], "commit": None, "runs": {"samples_per_s": [RATE["value"]]},
    }  # fmt: skip
    return SpeedEntry(**{**fields, **changes})


def written(directory, *entries):
    for one in entries:
        speed.write(directory, speed.record("toy", "one-fast", one))
    return (directory / "toy/one-fast.speed.json").read_text()


def test_written_and_read(tmp_path):
    text = written(tmp_path, entry())
    found = speed.read(tmp_path, "toy", "one-fast")
    assert list(found.machines) == ["NVIDIA H100 80GB HBM3, 8 workers, runtime cuda, samples_in_flight 16"]
    assert found.machines.popitem()[1] == entry()
    assert '"samples_per_s": {"high": 54.2, "low": 50.0, "n": 20, "value": 52.1}' in text
    assert not speed.write(tmp_path, speed.record("toy", "one-fast", entry())), "nothing changes"
    assert speed.read(tmp_path, "toy", "two-fast") is None
    assert cases_of(tmp_path, "toy") == [], "it is no baseline by itself"


def test_the_order_of_machines_is_that_of_their_names(tmp_path):
    machines = [entry("NVIDIA H200"), entry("cpu: mine (2 cores)", gpus=0), entry("NVIDIA A100")]
    assert written(tmp_path / "a", *machines) == written(tmp_path / "b", *reversed(machines))
    assert [key.partition(",")[0] for key in json.loads(written(tmp_path / "a"))["machines"]] == ["NVIDIA A100", "NVIDIA H200", "cpu: mine (2 cores)"]


def test_the_same_machine_again_takes_the_place_of_its_entry(tmp_path):
    written(tmp_path, entry(), entry("NVIDIA A100"), entry(runs={"samples_per_s": [53.0]}), entry())
    found = speed.read(tmp_path, "toy", "one-fast").machines
    assert len(found) == 2 and found[entry().key].runs == {"samples_per_s": [52.1, 53.0]}, "runs are remembered, each once"


@pytest.mark.parametrize("other", [{"model": {"code_sha256": "0" * 64}}, {"dataset_sha256": "e" * 64}])
def test_runs_of_another_model_or_other_data_are_forgotten(tmp_path, other):
    written(tmp_path, entry(), entry(**other, runs={"samples_per_s": [9.0]}))
    assert speed.read(tmp_path, "toy", "one-fast").machines[entry().key].runs == {"samples_per_s": [9.0]}


def test_old_runs_fall_out(tmp_path):
    written(tmp_path, *(entry(runs={"samples_per_s": [float(number)]}) for number in range(30)))
    found = speed.read(tmp_path, "toy", "one-fast").machines[entry().key].runs
    assert found == {"samples_per_s": [float(number) for number in range(10, 30)]}


@pytest.mark.parametrize("changes", [{"workers": 4}, {"runtime": "cuda-triton"}, {"batch": {"samples_in_flight": 64}}, {"gpus": 2}, {"device": "NVIDIA H200"}])
def test_what_changes_speed_is_part_of_the_key(changes):
    assert entry(**changes).key != entry().key


def test_git_merges_machines_of_two_branches(tmp_path):
    files = {}
    for name, machines in {"ours": ["A100", "H100"], "base": ["H100"], "theirs": ["H100", "L40"]}.items():
        files[name] = tmp_path / name
        files[name].write_text(written(tmp_path / f"in-{name}", *(entry(machine) for machine in machines)))
    merged = subprocess.run(["git", "merge-file", "-p", *(files[name] for name in ("ours", "base", "theirs"))], capture_output=True, text=True)
    assert merged.returncode == 0 and merged.stdout == written(tmp_path / "all", *map(entry, ["A100", "H100", "L40"]))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda text: text[:100], "not JSON"),
        (lambda text: text.replace("52.1", "NaN"), "not JSON"),
        (lambda text: text.replace('"schema_version": 1', '"schema_version": 2'), "has schema 2; this pytest-gpueval knows schema 1"),
        (lambda text: text.replace('"case": "one-fast"', '"case": "two-fast"'), "is of toy/two-fast, not of toy/one-fast"),
        (lambda text: text.replace('"workers": 8', '"workers": 4'), "the entry under 'NVIDIA H100 80GB HBM3, 8 workers*HBM3, 4 workers"),
        (lambda text: text.replace('"rows": 3', '"rows": "many"'), "machines.NVIDIA H100*rows: "),
        (lambda _text: "[]", "has schema None"),
    ],
    ids=["cut short", "NaN", "later schema", "copied", "edited", "type", "no table"],
)
def test_damaged(tmp_path, damage, words):
    text = written(tmp_path, entry())
    (tmp_path / "toy/one-fast.speed.json").write_text(damage(text))
    with pytest.raises(DataError) as caught:
        speed.read(tmp_path, "toy", "one-fast")
    first, _, last = words.partition("*")
    assert first in str(caught.value) and last in str(caught.value) and "one-fast.speed.json" in str(caught.value)
    assert "--gpueval-update-baseline" in str(caught.value)


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "toy").write_text("")
    with pytest.raises(StorageError, match=r"one-fast\.speed\.json"):
        speed.write(tmp_path, speed.record("toy", "one-fast", entry()))


@pytest.mark.parametrize(("rows", "taken"), [(3, True), (2, False)])
def test_a_run_that_measured_all_its_rows(rows, taken):
    measured = Speed(**entry(rows=rows).model_dump(exclude={"dataset_sha256", "model", "commit", "runs"}))
    found = speed.of_run(RunMetadata(**METADATA), Summary(**{**SUMMARY, "speed": measured}))
    assert (found == entry(commit="f" * 40)) if taken else found is None
    assert speed.of_run(RunMetadata(**METADATA), Summary(**SUMMARY)) is None


def test_suites_are_those_that_have_baselines(tmp_path):
    written(tmp_path, entry())
    assert suites_of(tmp_path) == []
