"""Every way in which a run can break the contract is one line."""

import json

import pytest
from typer.testing import CliRunner

from pytest_gpueval.cli.main import app
from pytest_gpueval.runs import validate
from pytest_gpueval.runs.directory import COMMAND, LOG, METADATA, RESULTS, SUMMARY

_METADATA = {
    "run_id": "r", "nodeid": "n", "suite": "s", "case": "c", "task": "t", "dataset": {}, "runtime": {},
        "model": {}, "scoring": {}, "policy": {}, "gates": [], "code": {},
    "environment": {}, "packages": {}, "python": "3", "host": "h", "platform": "p", "worker": "w", "gpus": [], "started_at": "now", "plugin_version": "0",
}  # fmt: skip
_SUMMARY = {
    "run_id": "run", "ok": True, "status": "passed", "headline": "f1", "metrics": {"f1": {"value": 0.91239, "low": None, "high": None, "n": 2}},
    "rows": {"total": 3, "scored": 1, "errors": 1, "skipped": 1}, "seconds": 1.5,
}  # fmt: skip
_LINES = '{"id":"a","prediction":1,"score":{}}\n{"id":"b","error":"x"}\n{"id":"c","skipped":"\\ud800"}\n'


@pytest.fixture
def run(tmp_path):
    """A run that keeps the contract, at <root>/session/run."""
    path = tmp_path / "root" / "session" / "run"
    path.mkdir(parents=True)
    (path / COMMAND).write_text("#!/bin/sh\n")
    (path / LOG).write_text("")
    (path / METADATA).write_text(json.dumps(_METADATA))
    (path / SUMMARY).write_text(json.dumps(_SUMMARY))
    (path / RESULTS).write_text(_LINES)
    return path


def found(run):
    return [(str(file.relative_to(run)), problem) for file, problem in validate.problems(run)]


def test_a_run_that_keeps_the_contract_seen_from_three_places(run):
    for root in (run, run.parent, run.parent.parent):
        assert validate.run_directories(root) == [run]
        assert validate.problems(root) == []


@pytest.mark.parametrize("name", [COMMAND, METADATA, SUMMARY, LOG])
def test_a_missing_file(run, name):
    (run / name).unlink()
    if name == METADATA:  # that is what makes a directory a run
        assert validate.run_directories(run) == []
    else:
        assert found(run) == [(name, "missing")]


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"status": "fine"}, "status: Input should be 'passed', 'failed'"),
        ({"extra": 1}, "extra: Extra inputs are not permitted"),
        ({"run_id": "other"}, "run_id: is 'other', but the directory is 'run'"),
        ({"ok": False}, "ok: is false, but status is 'passed'"),
        ({"status": "failed"}, "ok: is true, but status is 'failed'"),
        ({"rows": {"total": 4, "scored": 1, "errors": 1, "skipped": 1}}, "rows: 1 scored, 1 errors and 1 skipped do not make 4"),
    ],
)
def test_a_summary_that_contradicts_itself(run, changes, problem):
    (run / SUMMARY).write_text(json.dumps({**_SUMMARY, **changes}))
    ((file, text),) = found(run)
    assert file == SUMMARY
    assert text.startswith(problem)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[" * 100_000])
@pytest.mark.parametrize("name", [SUMMARY, METADATA])
def test_a_file_that_is_no_json(run, name, content):
    (run / name).write_bytes(content)
    ((file, text),) = found(run)
    assert file == name
    assert text.startswith("not JSON: ")


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b'{"id":"b"}\n', "line 2: exactly one of score, error and skipped must be there, found none"),
        (b'{"id":"b","score":{},"error":"x"}\n', "line 2: exactly one of score, error and skipped must be there, found score and error"),
        (b'{"id":3,"error":"x"}\n', "line 2: id: Input should be a valid string"),
        (b'{"id":"b","error":"x","other":1}\n', "line 2: other: Extra inputs are not permitted"),
        (b"\xff\n", "line 2: not JSON: "),
        (b"{\n", "line 2: not JSON: "),
        (b"", "2 lines, but summary.json counts 1 scored, 1 errors, 1 skipped"),
    ],
)
def test_a_wrong_line(run, line, problem):
    lines = _LINES.encode().splitlines(keepends=True)
    (run / RESULTS).write_bytes(lines[0] + line + lines[2])
    problems = found(run)
    assert problems[0][0] == RESULTS
    assert problems[0][1].startswith(problem)
    assert all("lines, but" in text for _, text in problems[1:])


def test_a_session_record(run):
    (run.parent / "session.json").write_text("{}")
    texts = [problem for file, problem in validate.problems(run.parent.parent) if file.name == "session.json"]
    assert "argv: Field required" in texts


# The command.


def gpueval(*argv):
    return CliRunner().invoke(app, ["runs", *map(str, argv)])


def test_validate_says_so_when_all_is_well(run):
    done = gpueval("validate", run.parent)
    assert (done.exit_code, done.stdout) == (0, "1 run(s) follow the contract\n")
    assert gpueval("validate", run, "--json").stdout == "[]\n"


def test_validate_fails_and_shows_whole_paths(run):
    (run / LOG).unlink()
    done = gpueval("validate", run)
    assert done.exit_code == 1
    assert f"{run / LOG}  missing" in done.stdout
    done = gpueval("validate", run, "--json")
    assert (done.exit_code, json.loads(done.stdout)) == (1, [{"file": str(run / LOG), "problem": "missing"}])
    assert done.stdout.count("\n") == 1
    assert gpueval("validate", run, "--pretty").stdout.count("\n") > 3


def test_validating_nothing_is_not_a_success(tmp_path):
    for place, message in ((tmp_path, "there is no run at or below it"), (tmp_path / "gone", "no such directory")):
        done = gpueval("validate", place)
        assert done.exit_code == 2
        assert message in done.stderr


def test_list(run, tmp_path):
    (run.parent / "open").mkdir()
    (run.parent / "open" / METADATA).write_text(json.dumps(_METADATA))
    (run.parent / "broken").mkdir()
    (run.parent / "broken" / METADATA).write_text("")
    (run.parent / "broken" / SUMMARY).write_text("{")
    done = gpueval("list", run.parent.parent, "--json")
    assert done.exit_code == 0
    rows = {row["run_id"]: row for row in json.loads(done.stdout)}
    assert rows["run"] == {
        "session": "session", "run_id": "run", "path": str(run), "status": "passed", "rows": 1, "headline": "f1", "value": 0.9124, "seconds": 1.5,
    }  # fmt: skip
    assert rows["open"]["status"] == "unfinished"
    assert rows["broken"]["status"].startswith("unreadable: ")
    table = gpueval("list", run.parent.parent)
    assert table.exit_code == 0
    assert "passed" in table.stdout
    assert gpueval("list", tmp_path / "gone").exit_code == 2
