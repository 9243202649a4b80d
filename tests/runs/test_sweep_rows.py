"""The rows of a sweep are read from whatever its runs left, and their table is written whole or not at all."""

import json
import os

import pyarrow.parquet as pq
import pytest

from pytest_gpueval.errors import Conflict, StorageError, UsageProblem
from pytest_gpueval.reports import sweep
from pytest_gpueval.runs import sweep_rows


def run(session, name, metadata=None, summary=None, lines=(), tail=b""):
    directory = session / name
    directory.mkdir(parents=True)
    (directory / "run_metadata.json").write_text(json.dumps({"task": "sweep", "parameters": {"lr": 0.1}, **(metadata or {})}))
    if summary is not None:
        (directory / "summary.json").write_text(json.dumps(summary))
    (directory / "results.jsonl").write_bytes(b"".join(json.dumps(line).encode() + b"\n" for line in lines) + tail)
    return directory


SUMMARY = {
    "ok": True,
    "status": "passed",
    "reason": None,
    "attempts": 2,
    "seconds": 12.5,
    "metrics": {"loss": {"value": 2.3, "low": None, "high": None, "n": 1}},
}


def test_a_row_is_what_its_run_says(tmp_path):
    lines = [{"id": "20", "score": {"loss": 2.5, "lr": 0.1}}, {"id": "10", "score": {"loss": 3}}, {"id": "20", "score": {"loss": 2.4}}]
    parameters = {"lr": 0.1, "compile": False, "act": "relu", "seed": 1, "warmup": None, "betas": [0.9, 0.95]}
    run(tmp_path, "nano-a", {"parameters": parameters}, SUMMARY, lines)
    (row,) = sweep_rows.read(tmp_path, sweep.SweepRow)
    assert row == sweep.SweepRow(
        "nano-a",
        {**parameters, "betas": "[0.9, 0.95]"},
        True,
        "passed",
        None,
        2,
        12.5,
        {"loss": 2.3},
        {"loss": [(10.0, 3.0), (20.0, 2.4)], "lr": [(20.0, 0.1)]},
    )


def test_the_record_that_a_session_writes_can_be_read(tmp_path):
    from pytest_gpueval.runs.files import to_json
    from pytest_gpueval.runs.records import Figure, Summary

    directory = run(tmp_path, "nano-a")
    figures = {"loss": Figure(value=float("nan"), low=None, high=None, n=1), "mfu": Figure(value=None, low=None, high=None, n=0)}
    summary = Summary(run_id="nano-a", ok=False, status="oom", reason="CUDA out of memory\nat step 3", metrics=figures, seconds=3.5, attempts=3)
    (directory / "summary.json").write_text(to_json(summary.model_dump(mode="json")))
    (row,) = sweep_rows.read(tmp_path, sweep.SweepRow)
    assert (row.status, row.reason, row.attempts, row.seconds) == ("oom", "CUDA out of memory\nat step 3", 3, 3.5)
    assert str(row.metrics["loss"]) == "nan"
    assert row.metrics["mfu"] is None


def test_runs_that_did_not_end_or_cannot_be_read_are_rows_that_say_so(tmp_path):
    run(tmp_path, "a")
    (run(tmp_path, "b") / "summary.json").write_text("{")
    (run(tmp_path, "c") / "summary.json").write_text("[]")
    found = {row.run_id: row for row in sweep_rows.read(tmp_path, sweep.SweepRow)}
    assert [(name, row.status, row.ok) for name, row in found.items()] == [("a", "unfinished", False), ("b", "unreadable", False), ("c", "unreadable", False)]
    assert "did not end" in found["a"].reason
    assert "b/summary.json: cannot be read" in found["b"].reason
    assert "c/summary.json: is not a JSON object" in found["c"].reason


@pytest.mark.parametrize("tail", [b'{"id": "30", "sco', b"\xff\n", b"[1]\n", b'{"score": {"loss": 1}}\n'])
def test_a_torn_line_costs_what_comes_after_it_only(tmp_path, tail):
    run(tmp_path, "a", None, SUMMARY, [{"id": "10", "score": {"loss": 3.0}}], tail)
    (row,) = sweep_rows.read(tmp_path, sweep.SweepRow)
    assert (row.ok, row.series) == (True, {"loss": [(10.0, 3.0)]})
    assert row.reason.endswith("results.jsonl:2: not a result line")


def test_what_is_no_number_is_no_point(tmp_path):
    scores = ["nan", "x", None, True, {"value": 1}, 1e400, 10**400]
    lines = [
        *({"id": str(step), "score": {"loss": value}} for step, value in enumerate(scores)),
        {"id": "first", "score": {"loss": 1.0}},
        {"id": "9", "error": "no"},
    ]
    run(tmp_path, "a", None, {**SUMMARY, "metrics": {"loss": {"value": "inf"}, "odd": {"value": "x"}, "flat": 3}, "attempts": "many", "seconds": None}, lines)
    (row,) = sweep_rows.read(tmp_path, sweep.SweepRow)
    assert row.series == {}
    assert row.metrics == {"loss": float("inf"), "odd": None, "flat": 3.0}
    assert (row.attempts, row.seconds) == (1, 0.0)


def test_other_runs_are_left_out_and_named_where_there_is_nothing_else(tmp_path):
    run(tmp_path, "reviews-fast", {"task": "classification"}, SUMMARY)
    with pytest.raises(UsageProblem, match=r"no run of a sweep at or below it; there are runs of classification \(1\)"):
        sweep_rows.read(tmp_path, sweep.SweepRow)
    run(tmp_path, "nano-a", None, SUMMARY)
    assert [row.run_id for row in sweep_rows.read(tmp_path, sweep.SweepRow)] == ["nano-a"]
    with pytest.raises(UsageProblem, match="no such directory"):
        sweep_rows.read(tmp_path / "nowhere", sweep.SweepRow)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageProblem, match=r"no run of a sweep at or below it\.\nGive"):
        sweep_rows.read(tmp_path / "empty", sweep.SweepRow)


def test_pipes_are_not_read(tmp_path):
    directory = run(tmp_path, "a", None, SUMMARY)
    for name in ("results.jsonl", "summary.json"):
        (directory / name).unlink()
        os.mkfifo(directory / name)
    (row,) = sweep_rows.read(tmp_path, sweep.SweepRow)
    assert (row.status, row.series) == ("unreadable", {})


def table(*rows):
    return sweep.export(sweep.Sweep("nano", None, "min", rows))


def test_both_formats_hold_the_table(tmp_path):
    row = sweep.SweepRow("=1", {"lr": 0.5, "seed": 1, "compile": True, "act": None}, True, "passed", None, 1, 2.5, {"loss": 1.25}, {})
    for name in ("out.csv", "out.parquet"):
        sweep_rows.write(tmp_path / name, table(row).csv(), table(row).columns)
    assert (tmp_path / "out.csv").read_text() == (
        "run_id,status,ok,attempts,seconds,param.lr,param.seed,param.compile,param.act,metric.loss\n'=1,passed,true,1,2.5,0.5,1,true,,1.25\n"
    )
    stored = pq.read_table(tmp_path / "out.parquet")
    told = {"run_id": "=1", "status": "passed", "ok": True, "attempts": 1, "seconds": 2.5}
    assert stored.to_pylist() == [{**told, "param.lr": 0.5, "param.seed": 1, "param.compile": True, "param.act": None, "metric.loss": 1.25}]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.csv", "out.parquet"]


def test_any_mixture_of_parameters_fits_parquet(tmp_path):
    values = [1, True, "x\ud800", None, 2.5, 10**30, float("nan")]
    rows = [sweep.SweepRow(str(number), {"p": value}, True, "passed", None, 1, 1.0, {}, {}) for number, value in enumerate(values)]
    sweep_rows.write(tmp_path / "out.parquet", "", table(*rows).columns)
    assert pq.read_table(tmp_path / "out.parquet")["param.p"].to_pylist() == ["1", "true", "x\\ud800", None, "2.5", str(10**30), "nan"]
    sweep_rows.write(tmp_path / "out.csv", table(*rows).csv(), {})
    assert "x\\ud800" in (tmp_path / "out.csv").read_text()


def test_nothing_is_replaced_unasked(tmp_path):
    (tmp_path / "sweep.csv").write_text("mine")
    with pytest.raises(Conflict, match=r"exists already.\nChoose another --output FILE, or replace it with --force"):
        sweep_rows.write(tmp_path / "sweep.csv", "ours", {})
    assert (tmp_path / "sweep.csv").read_text() == "mine"
    sweep_rows.write(tmp_path / "sweep.csv", "ours", {}, force=True)
    assert (tmp_path / "sweep.csv").read_text() == "ours"


def test_a_file_that_cannot_be_written_leaves_nothing(tmp_path, monkeypatch):
    from pathlib import Path

    def full(path, content):
        path.write_text("half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(StorageError, match="No space left"):
        sweep_rows.write(tmp_path / "a.csv", "x", {})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("name", "message"), [("a.xlsx", "written as .csv or .parquet"), ("no/a.csv", "there is no directory"), ("d.csv", "is a directory")])
def test_places_that_are_none(tmp_path, name, message):
    (tmp_path / "d.csv").mkdir()
    with pytest.raises(UsageProblem, match=message):
        sweep_rows.check(tmp_path / name, force=True)
