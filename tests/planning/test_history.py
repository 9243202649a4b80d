"""What earlier sessions measured, and what else is in the directory of sessions."""

import json
import os
import random
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_gpueval.planning import history as costs
from pytest_gpueval.planning.history import DEFAULT_RATE, History
from pytest_gpueval.planning.plan import Estimate
from pytest_gpueval.runs.records import SessionRecord, SessionRun
from pytest_gpueval.suites import load

H100 = "NVIDIA H100 80GB HBM3"


@pytest.fixture(scope="module")
def case():
    suite = load.read(Path(__file__).parents[2] / "suites/guardrails_ru/suite.toml")
    meddies = next(case for case in suite.cases() if case.dataset == "meddies")
    return replace(meddies, rate=None, runtime=meddies.runtime.model_copy(update={"startup_s": None}))


def run(**changes):
    base = {
        "run_id": "guardrails_ru-meddies-fast", "nodeid": "suites/guardrails_ru/suite.toml::test_eval[meddies-fast]", "suite": "guardrails_ru",
        "case": "meddies-fast", "worker": "gpu0", "status": "passed", "ok": True, "seconds": 9.0, "rows": 800, "samples_per_s": 56.0, "startup_s": None,
        "runtime": "cpu", "gpu": H100, "begin_s": 0.0,
    }  # fmt: skip
    return SessionRun(**{**base, **changes})


def write(directory, number, runs):
    """A session; higher numbers are newer."""
    path = directory / f"session-{number}"
    path.mkdir(parents=True, exist_ok=True)
    record = SessionRecord(
        session=path.name, argv=[], suites=["guardrails_ru"], data="embedded", lanes=[], host="h", code={}, plugin_version="1", started_at="t", runs=runs
    )
    (path / "session.json").write_text(record.model_dump_json())
    os.utime(path, (1_000_000 + number, 1_000_000 + number))


def test_without_a_history(case, tmp_path):
    for history in (History(), History.read(tmp_path), History.read(tmp_path / "none")):
        assert history.estimate(case, H100) == Estimate(DEFAULT_RATE, 0.0, "default")


def test_what_the_suite_says(case):
    runtime = case.runtime.model_copy(update={"startup_s": 12.0})
    assert History().estimate(replace(case, rate=20.0, runtime=runtime), None) == Estimate(20.0, 12.0, "suite")
    assert History().estimate(replace(case, runtime=runtime), None) == Estimate(DEFAULT_RATE, 12.0, "default")


def test_the_median_of_the_newest_five(case, tmp_path):
    for number, rate in enumerate([1000, 1000, 50, 60, 10, 70, 80]):
        write(tmp_path, number, [run(samples_per_s=rate, startup_s=float(number))])
    assert History.read(tmp_path).estimate(case, H100) == Estimate(60, 4.0, "measured")


def test_models_that_were_measured(tmp_path):
    write(tmp_path, 1, [run(), run(gpu=None), run(gpu="A100", runtime="cuda"), run(gpu="L4", samples_per_s=None), run(gpu="T4", suite="other")])
    assert History.read(tmp_path).models("guardrails_ru", "cpu") == {H100, None}


def test_shards_count_for_their_dataset_and_newer_runs_of_a_session_first(case, tmp_path):
    write(tmp_path, 1, [run(case=f"meddies-fast-{part}of7", samples_per_s=10.0 * part, begin_s=float(part)) for part in range(1, 8)])
    assert History.read(tmp_path).estimate(case, H100).rate == 50


@pytest.mark.parametrize(
    "changes",
    [
        {"suite": "other"},
        {"case": "meddies-full"},
        {"case": "meddies-fast-extra"},
        {"runtime": "cuda"},
        {"runtime": None},
        {"gpu": None},
        {"gpu": "NVIDIA A100"},
        {"status": "error"},
        {"status": "crashed"},
        {"status": None},
        {"reused": True},
        {"samples_per_s": None},
        {"samples_per_s": 0.0},
        {"samples_per_s": -1.0},
        {"samples_per_s": float("inf")},
        {"samples_per_s": float("nan")},
    ],
)
def test_what_does_not_count(changes, case, tmp_path):
    write(tmp_path, 1, [run(**changes)])
    assert History.read(tmp_path).estimate(case, H100).source == "default"


def test_a_failed_gate_was_measured_all_the_same(case, tmp_path):
    write(tmp_path, 1, [run(status="failed", gpu=None)])
    assert History.read(tmp_path).estimate(case, None) == Estimate(56.0, 0.0, "measured")


def test_a_measured_start_up_counts_for_all_datasets_of_the_runtime(case, tmp_path):
    write(tmp_path, 1, [run(case="kaggle-fast", startup_s=30.0)])
    assert History.read(tmp_path).estimate(case, H100) == Estimate(DEFAULT_RATE, 30.0, "default")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"runs": null}',
        b'{"runs": {"a": 1}}',
        b'{"runs": [1, null, "x", []]}',
        b"\xff\xfe",
        b'{"runs": [{"suite": 1, "case": [], "runtime": {}, "status": "passed", "samples_per_s": 5}]}',
        b'{"runs": [{"suite": "guardrails_ru", "case": "meddies-fast", "runtime": "cpu", "gpu": 7, "status": "passed", "samples_per_s": 5}]}',
        b'{"runs": [{"suite": "guardrails_ru", "case": "meddies-fast", "runtime": "cpu", "status": "passed", "samples_per_s": true, "begin_s": "x"}]}',
        b'{"runs": [{"suite": "guardrails_ru", "case": "meddies-fast", "runtime": "cpu", "status": ["passed"], "samples_per_s": "5"}]}',
    ],
)
def test_foreign_sessions_are_passed_over(content, case, tmp_path):
    write(tmp_path, 1, [run()])
    (tmp_path / "newer").mkdir()
    (tmp_path / "newer" / "session.json").write_bytes(content)
    (tmp_path / "no session").mkdir()
    (tmp_path / "a directory" / "session.json").mkdir(parents=True)
    (tmp_path / "file").write_text("")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    assert History.read(tmp_path).estimate(case, H100) == Estimate(56.0, 0.0, "measured")
    assert History.read(tmp_path).estimate(case, None).source == "default"


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.text(max_size=5), lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=5), inner)))
def test_no_content_raises(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "costs" / "one"
    path.mkdir(parents=True, exist_ok=True)
    (path / "session.json").write_text(json.dumps({"runs": [content, {"suite": content, "case": "x", "runtime": content, "status": content}]}))
    History.read(path.parent)


def test_only_the_newest_sessions_are_read(case, tmp_path, monkeypatch):
    numbers = list(range(200))
    random.Random(1).shuffle(numbers)
    for number in numbers:
        write(tmp_path, number, [run(samples_per_s=float(number + 1), case="meddies-fast" if number % 10 == 5 else "kaggle-fast")])
    read = []
    really = Path.read_bytes
    monkeypatch.setattr(costs.Path, "read_bytes", lambda path: read.append(path.parent.name) or really(path))
    assert History.read(tmp_path, sessions=30).estimate(case, H100).rate == 186
    assert read == [f"session-{number}" for number in range(199, 169, -1)]


def test_how_much_slower_one_gpu_is_than_another(case):
    rates = {(case.suite, case.whole_id, case.runtime_name, gpu): found for gpu, found in ((H100, (100.0, 90.0, 110.0)), ("A100", (50.0,)))}
    history = History(rates)
    assert history.pace([case], "A100", H100) == 2.0 and history.pace([case], H100, "A100") == 0.5
    assert history.pace([case], "V100", H100) == history.pace([], "A100", H100) == 1.0
