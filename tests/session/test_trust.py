"""Results are never mixed, counted twice, taken from another run, or changed by what keeps secrets out."""

from __future__ import annotations

import json

import pytest

from .conftest import MODEL, rows
from .test_again import IT, interrupted, untimed, untimed_summary


@pytest.mark.parametrize("state", ["finished", "interrupted"])
@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda toy: (toy.root / "suites/toy/model.py").write_text(MODEL.replace("0.9", "0.8")), "model.code_sha256"),
        (lambda toy: (toy.root / "suites/toy/beside.py").write_text("x = 1"), "model.code_sha256"),
        (lambda toy: toy.edit('labels = ["A", "B"]', 'labels = ["A", "B", "C"]'), "scoring.labels"),
        (lambda toy: toy.edit('split = "fast"', 'split = "fast"\nmax_error_share = 0.5'), "scoring.max_error_share"),
        (lambda toy: toy.pytester.makeconftest("def pytest_gpueval_metrics(): return {'m': lambda s, p: 1.0}"), "scoring.metrics"),
    ],
    ids=["model", "file beside it", "labels", "errors allowed", "metric"],
)
def test_what_decides_a_result_must_not_change_unseen(toy, state, change, named):
    if state == "finished":
        toy.run(*IT, "-k", "one").assert_outcomes(passed=1, deselected=1)
    else:
        interrupted(toy)
    before = (toy.session("it") / "toy-one-fast/results.jsonl").read_text()
    change(toy)
    again = toy.spawn(*IT, "-k", "one")
    again.assert_outcomes(errors=1, deselected=1)
    again.stdout.fnmatch_lines([f"*{named}: * there, * now", "*--gpueval-force*"])
    again.stdout.no_fnmatch_line("one-fast *passed*")
    assert (toy.session("it") / "toy-one-fast/results.jsonl").read_text() == before


def test_an_option_that_is_hidden_still_counts(toy):
    toy.edit('target = "model.py:Model"', 'target = "model.py:Model"\noptions = { decode_key = "beam-search" }')
    toy.suite("other")
    model = MODEL.replace("class Model:", "class Model:\n    def __init__(self, decode_key): pass")
    (toy.root / "suites/toy/model.py").write_text(model)
    toy.run(*IT, "-k", "one").assert_outcomes(passed=1, deselected=1)
    assert "beam-search" not in (toy.session("it") / "toy-one-fast/run_metadata.json").read_text()
    toy.edit("beam-search", "greedy-search")
    toy.run(*IT, "-k", "one").stdout.fnmatch_lines(["*model.options_sha256*"])


def test_a_label_and_an_id_that_equal_a_secret_stay_what_they_are(toy, monkeypatch):
    monkeypatch.setenv("DB_PASSWORD", "PERSON")
    toy.edit('labels = ["A", "B"]', 'labels = ["PERSON"]')
    (toy.root / "suites/toy/model.py").write_text(MODEL.replace('"A"', '"PERSON"'))
    table = [row | {"id": f"PERSON-{row['id']}", "spans": [row["spans"][0] | {"label": "PERSON"}]} for row in rows(50)]
    toy.split(table)
    run = interrupted(toy)
    toy.run(*IT, "-k", "one").assert_outcomes(passed=1, deselected=1)
    toy.run("--gpueval-suite", "toy", "--gpueval-session", "whole", "-k", "one").assert_outcomes(passed=1, deselected=1)
    assert untimed(toy.lines(session="it")) == untimed(toy.lines(session="whole"))
    assert untimed_summary(toy.summary(session="it"))["rows"] == untimed_summary(toy.summary(session="whole"))["rows"]
    line = json.loads((run / "results.jsonl").read_text().splitlines()[0])
    assert line["id"] == "PERSON-r-0"
    assert line["prediction"][0][2] == "PERSON"


def test_a_refused_continuation_leaves_the_run_as_it_was(toy):
    run = interrupted(toy)
    lines = (run / "results.jsonl").read_text().splitlines(keepends=True)
    (run / "results.jsonl").write_text("".join([*lines[:5], "garbage\n", *lines[5:]]))
    toy.run(*IT, "-k", "one").assert_outcomes(failed=1, deselected=1)
    (run / "results.jsonl").write_text("".join(lines))
    toy.run(*IT, "-k", "one").assert_outcomes(passed=1, deselected=1)
    assert toy.summary(session="it")["rows"]["scored"] == 50


def mine(toy, body: str) -> None:
    toy.pytester.makepyfile(test_mine=f'import pytest\n@pytest.mark.gpueval(suite="toy")\ndef test_mine(case, predictions, run):\n    {body}\n')


MINE = "toy-one-fast-test_mine.test_mine"


def test_predictions_are_read_once(toy):
    mine(toy, "list(predictions); list(predictions)")
    result = toy.run("-k", "one")
    result.assert_outcomes(failed=1, deselected=1)
    result.stdout.fnmatch_lines(["predictions can be read once*"])
    assert len(toy.lines(MINE)) == 50


def test_a_test_that_reads_half_is_never_reused(toy):
    mine(toy, "next(iter(predictions))")
    toy.run("-k", "one", "--gpueval-session", "it").assert_outcomes(passed=1, deselected=1)
    summary = toy.summary(MINE, "it")
    assert (summary["ok"], summary["complete"], summary["rows"]["scored"]) == (True, False, 1)
    assert "1 of 50 rows" in summary["reason"]
    mine(toy, "assert len(list(predictions)) == 50")
    toy.run("-k", "one", "--gpueval-session", "it").assert_outcomes(passed=1, deselected=1)
    assert toy.summary(MINE, "it")["complete"] is True


def test_a_test_of_ones_own_runs_again_over_stored_predictions(toy):
    mine(toy, "assert len(list(predictions)) == 50")
    toy.run("-k", "one", "--gpueval-session", "it").assert_outcomes(passed=1, deselected=1)
    toy.pytester.makeconftest("import pytest_gpueval.runtimes.inprocess as runtime\nruntime.load_object = None  # no model may be loaded")
    mine(toy, "assert len(list(predictions)) == 51")
    toy.spawn("-k", "one", "--gpueval-session", "it").assert_outcomes(failed=1, deselected=1)


@pytest.mark.parametrize("arguments", ['suite="toy", split="full"', 'suite="toy", limit=3', '"toy", "fast"', ""])
def test_marker_arguments_that_mean_nothing_are_refused(toy, arguments):
    toy.pytester.makepyfile(f"import pytest\n@pytest.mark.gpueval({arguments})\ndef test_mine(case): pass")
    result = toy.run()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*the marker gpueval takes a suite*"])
    assert "Traceback" not in result.stdout.str()
    assert "_pytest" not in result.stdout.str()


def test_a_metric_must_not_hide_another(toy):
    toy.pytester.makeconftest("def pytest_gpueval_metrics(): return {'strict.f1': lambda sample, prediction: 1.0}")
    toy.run("--gpueval-suite", "toy", "-k", "one").stdout.fnmatch_lines(["*a metric 'strict.f1', which task span_detection has already*"])


def test_a_gate_on_a_metric_that_does_not_exist_stops_before_the_model_runs(toy):
    toy.append('[[gates]]\nmetric = "strict.f2"\nmin = 0.5\n')
    result = toy.run("--gpueval-suite", "toy", "-k", "one")
    result.assert_outcomes(errors=1, deselected=1)
    result.stdout.fnmatch_lines(["*names metric 'strict.f2', which does not exist. Did you mean 'strict.f1'?*"])


def test_a_forked_child_of_the_model_writes_nothing(toy):
    toy.suite("toy", model="import os\nclass Model:\n    def predict(self, batch):\n        os.fork()\n        return [[] for _ in batch]\n")
    toy.spawn("--gpueval-suite", "toy", "-k", "one").assert_outcomes(passed=1, deselected=1)
    assert len(toy.lines()) == 50


def test_a_model_that_cannot_be_closed_is_named(toy):
    (toy.root / "suites/toy/model.py").write_text(MODEL + "    def close(self): raise OSError('still busy')\n")
    result = toy.spawn("--gpueval-suite", "toy")
    result.assert_outcomes(passed=2)
    assert result.ret == 0
    assert "runtime cpu did not close: OSError('still busy')" in result.stderr.str()


def test_without_junitxml(toy):
    toy.spawn("--gpueval-suite", "toy", "-p", "no:junitxml").assert_outcomes(passed=2)


def test_looking_at_the_plan_leaves_nothing(toy):
    toy.spawn("--gpueval-suite", "toy", "--setup-plan")
    assert not toy.output.exists()


@pytest.mark.parametrize("flag", ["--gpueval-session", "--gpueval-policy", "--gpueval-output-dir", "--gpueval-data"])
def test_an_empty_value_is_refused(toy, flag):
    result = toy.run("--gpueval-suite", "toy", f"{flag}=")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert f"{flag} has an empty value" in result.stderr.str()


def test_a_session_named_like_a_secret_is_refused(toy, monkeypatch):
    monkeypatch.setenv("X_TOKEN", "tok123456789")
    result = toy.run("--gpueval-suite", "toy", "--gpueval-session", "tok123456789")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "holds a secret" in result.stderr.str()


def test_secret_options_of_a_suite_reach_no_file(toy):
    toy.edit('target = "model.py:Model"', 'target = "model.py:Model"\noptions = { api_key = "OptSecretValue987654" }')
    (toy.root / "suites/toy/model.py").write_text(MODEL.replace("class Model:", "class Model:\n    def __init__(self, api_key): print(api_key)"))
    toy.run("--gpueval-suite", "toy").assert_outcomes(passed=2)
    assert [path for path in toy.output.rglob("*") if path.is_file() and "OptSecret" in path.read_text(errors="replace")] == []


def test_several_suites_are_told_apart_on_the_screen(toy):
    toy.suite("other")
    toy.run("--gpueval-suite", "toy,other", "-k", "one").stdout.fnmatch_lines(["toy/one-fast *", "other/one-fast *"])


def test_a_test_of_ones_own_may_be_called_test_eval(toy):
    toy.pytester.makepyfile(test_mine='import pytest\n@pytest.mark.gpueval(suite="toy")\ndef test_eval(case, predictions): assert list(predictions) == []\n')
    toy.run("test_mine.py", "--gpueval-suite", "toy", "-k", "one", "--gpueval-session", "it").assert_outcomes(passed=1, failed=1, deselected=2)
    assert toy.summary("toy-one-fast", "it")["ok"] is True
    assert toy.summary("toy-one-fast-test_mine.test_eval", "it")["status"] == "failed"
