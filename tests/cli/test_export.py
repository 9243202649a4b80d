"""`gpueval runs export`: the rows of a sweep as one table."""

import csv
import io
import json

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from pytest_gpueval.cli.main import app


@pytest.fixture
def session(tmp_path):
    """A sweep of three rows; the last one did not end."""
    place = tmp_path / "fineweb10B"
    for number, loss in enumerate((2.5, "nan", None)):
        directory = place / f"base-{number}"
        directory.mkdir(parents=True)
        (directory / "run_metadata.json").write_text(json.dumps({"task": "sweep", "parameters": {"lr": 0.1 * number, "seed": number}}))
        if loss is not None:
            figures = {"loss": {"value": loss}}
            summary = {"ok": True, "status": "passed", "attempts": 1, "seconds": 4.5, "metrics": figures}
            (directory / "summary.json").write_text(json.dumps(summary))
    return place


def export(*words):
    return CliRunner().invoke(app, ["runs", "export", *map(str, words)])


def test_the_table_on_the_screen(session):
    done = export(session)
    assert done.exit_code == 0
    lines = list(csv.DictReader(io.StringIO(done.stdout)))
    assert [(line["run_id"], line["status"], line["param.seed"], line["metric.loss"]) for line in lines] == [
        ("base-0", "passed", "0", "2.5"),
        ("base-1", "passed", "1", "nan"),
        ("base-2", "unfinished", "2", ""),
    ]


def test_the_table_for_a_program(session):
    rows = json.loads(export(session, "--json").stdout, parse_constant=pytest.fail)
    assert [row["metric.loss"] for row in rows] == [2.5, "nan", None]


@pytest.mark.parametrize("name", ["out.csv", "out.parquet"])
def test_the_table_in_a_file(session, tmp_path, name):
    file = tmp_path / name
    told = export(session, "--output", file, "--dry-run")
    assert (told.exit_code, file.exists()) == (0, False)
    assert "3 row(s), 8 columns (dry run, nothing written)" in told.stdout
    done = export(session, "--output", file, "--json")
    assert json.loads(done.stdout)["rows"] == 3
    ids = pq.read_table(file)["run_id"].to_pylist() if name.endswith("parquet") else [line["run_id"] for line in csv.DictReader(io.StringIO(file.read_text()))]
    assert ids == ["base-0", "base-1", "base-2"]
    again = export(session, "--output", file)
    assert (again.exit_code, again.stdout) == (5, "")
    assert "exists already" in again.stderr
    assert export(session, "--output", file, "--force").exit_code == 0


def test_what_is_wrong_is_one_message(session, tmp_path):
    for words, code, message in (
        ([tmp_path / "nowhere"], 2, "no such directory"),
        ([session / "base-0", "--output", tmp_path / "out.xlsx"], 2, "written as .csv or .parquet"),
    ):
        done = export(*words)
        assert done.exit_code == code
        assert message in done.stderr
        assert "Traceback" not in done.output
