"""gpueval compare: sessions, baselines and commits beside each other."""

from __future__ import annotations

import json
import sys

import pytest
from typer.testing import CliRunner

from pytest_gpueval.cli.main import app
from pytest_gpueval.processes import aside
from pytest_gpueval.runs.baselines import align
from pytest_gpueval.scoring.paired import differences
from pytest_gpueval.session import comparing
from pytest_gpueval.session.baseline_sources import Session as Source
from pytest_gpueval.suites.schema import SPEED
from tests.session.conftest import rows, toy  # noqa: F401
from tests.session.test_drop_gates import UPDATE, worse


@pytest.fixture
def two(toy, monkeypatch):  # noqa: F811 - the fixture
    """A session with baselines of its own, and one that found less."""
    toy.run(*UPDATE).assert_outcomes(passed=2)
    worse(toy)
    toy.run("--gpueval-suite", "toy", "--gpueval-session", "second").assert_outcomes(passed=2)
    monkeypatch.chdir(toy.root)
    return toy


def compare(*args):
    return CliRunner().invoke(app, ["compare", *args], catch_exceptions=False)


def document(*args, expect=0):
    done = compare(*args, "--json")
    assert done.exit_code == expect, done.output
    return json.loads(done.stdout)


def quality(found):
    """The rows without those of speed."""
    return [row for row in found["rows"] if row["metric"] not in SPEED]


@pytest.mark.parametrize("a", ["first", "baselines", "baselines/toy", "reports/evaluations/first"])
def test_the_same_from_a_session_and_from_its_baselines(two, a):
    found = document(a, "second")
    assert [(row["case"], row["metric"], row["samples"], row["changed"]) for row in found["rows"]] == [
        ("one-fast", "strict.f1", 50, 17),
        ("two-fast", "strict.f1", 50, 17),
    ]
    for row in found["rows"]:
        assert row["a"] == pytest.approx(0.9) and row["difference"] == pytest.approx(row["b"] - row["a"]) and row["difference"] < -0.1
        assert row["low"] < row["difference"] < row["high"] < 0 and row["p"] < 0.01 and row["p"] < row["p_adjusted"] <= 2 * row["p"]
    assert found["notes"] == []


@pytest.mark.parametrize("more", [(), ("--all",)])
def test_the_same_with_sides_in_processes_of_their_own(two, monkeypatch, more):
    alone = document("first", "second", *more)
    started, start = [], aside.Aside
    monkeypatch.setattr(comparing, "_MANY", 1)
    monkeypatch.setattr(aside, "cores", lambda: 2)
    monkeypatch.setattr(aside, "Aside", lambda *args: started.append(start(*args)) or started[-1])
    assert document("first", "second", *more) == alone
    assert document("baselines", "second", *more)["rows"] == quality(alone)
    assert len(started) == 4, "one for each case"
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    assert document("first", "second", *more) == alone, "where none can be started, this process reads both"
    assert len(started) == 4


@pytest.mark.parametrize(
    "line",
    [
        ' {"id": "sample-0003", "error": "boom"}',
        '{"id": "sample-0003", "prediction": "\\ud800", "score": {"cross":[0,0],"labels":{}}}',
        '{"id":"sample-0003","score":{"labels":{},"cross":[0,0]}}',
    ],
)
def test_unusual_lines_are_compared_as_they_were(two, line):
    """What is read quickly, a block at a time, and what is read sample by sample come to the same."""
    results = two.root / "reports/evaluations/second/toy-one-fast/results.jsonl"
    lines = results.read_text().splitlines()
    results.write_text("\n".join([*lines[:3], line, *lines[4:]]) + "\n")
    found = document("first", "second", "--all", "--case", "one-fast", "--intersect")
    a, b = (Source(two.root / "reports/evaluations" / name, name).get("toy", "one-fast") for name in ("first", "second"))
    plain = align(a, b.samples.ids, sha256=a.record.dataset.sha256, intersect=True)
    sides = zip(a.samples.parts(plain.baseline), b.samples.parts(plain.current), strict=True)
    before, after = zip(*[pair for pair in sides if None not in pair], strict=True)
    asked = comparing._asked(b.record, everything=True)
    expected = differences(comparing._task(b.record, two.root), before, after, asked, level=0.05, sides="two")
    assert [(row["a"], row["b"], row["low"], row["high"], row["samples"], row["changed"]) for row in quality(found)] == [
        (one.baseline, one.value, one.low, one.high, one.n, one.changed) for one in expected.values()
    ]


def test_swapped_sides_swap_the_signs(two):
    there, back = document("first", "second")["rows"][0], document("second", "first")["rows"][0]
    assert (back["difference"], back["low"], back["high"]) == pytest.approx((-there["difference"], -there["high"], -there["low"]))
    assert back["p"] == pytest.approx(there["p"])


TASK = """
from pytest_gpueval.scoring.classification import Classification
class Mine(Classification):
    pass
def pytest_gpueval_tasks():
    return {"mine": lambda **options: Mine(**{**options, "labels": ["A", "B"]})}
"""


@pytest.fixture
def own(two):
    """Both sessions with a task of the user's own."""
    for run in (two.root / "reports/evaluations").glob("*/toy-*-fast"):
        metadata = json.loads((run / "run_metadata.json").read_text())
        (run / "run_metadata.json").write_text(json.dumps({**metadata, "task": "mine"}))
        summary = json.loads((run / "summary.json").read_text())
        (run / "summary.json").write_text(json.dumps({**summary, "headline": "accuracy"}))
        lines = [json.loads(line) for line in (run / "results.jsonl").read_text().splitlines()]
        right = ["AB"[line["score"]["labels"]["A"][0]] for line in lines]
        scores = [{"id": line["id"], "score": {"gold": "B", "predicted": name}} for line, name in zip(lines, right, strict=True)]
        (run / "results.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in scores))
    return two


@pytest.mark.parametrize("place", ["conftest.py", "suites/conftest.py", "suites/toy/conftest.py"])
def test_a_task_of_a_conftest(own, place, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    (own.root / place).write_text(TASK)
    found = document("first", "second")
    assert [(row["metric"], row["samples"], row["method"]) for row in found["rows"]] == [("accuracy", 50, "exact McNemar, Newcombe's interval")] * 2
    assert found["notes"] == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "task 'mine' is neither this package's nor of a conftest.py"),
        ("1 / 0", "cannot be imported: ZeroDivisionError"),
        ("def pytest_gpueval_tasks():\n    return 3", "gave a int; it must give a mapping"),
        ("def pytest_gpueval_tasks():\n    return {'mine': lambda labels: 1}", "cannot be made with the options of toy/one-fast"),
    ],
)
def test_a_conftest_that_does_not_help_is_named(own, text, words, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    (own.root / "conftest.py").write_text(text)
    found = document("first", "second", expect=2)
    assert found["rows"] == [] and len(found["notes"]) == 2
    assert found["notes"][0].startswith("toy/one-fast: not compared: ") and words in found["notes"][0]


def test_speeds_on_the_same_machine_are_compared_too(two):
    folder = two.root / "reports/evaluations"
    for name, rate in (("first", 100.0), ("second", 80.0)):
        path = folder / name / "toy-one-fast/summary.json"
        summary = json.loads(path.read_text())
        figures = {"samples_per_s": {"value": rate, "low": rate - 2, "high": rate + 2, "n": 40}, "latency_p95_ms": None, "gpu_peak_memory_mib": rate}
        path.write_text(json.dumps({**summary, "speed": {**summary["speed"], **figures}}))
    found = [row for row in document("first", "second", "--all", "--case", "one-fast")["rows"] if row["metric"] in SPEED]
    rate, memory = found
    assert (rate["a"], rate["b"], rate["difference"], rate["samples"]) == (100, 80, -20, 50) and rate["label"].startswith("cpu: ")
    assert rate["low"] < -20 < rate["high"] < -16 and rate["p"] < 1e-6 and rate["p_adjusted"] is None
    assert (memory["difference"], memory["low"], memory["p"]) == (-20, None, None)
    assert not {row["metric"] for row in document("first", "second")["rows"]} & set(SPEED)


def test_speeds_of_other_machines_are_not(two):
    path = two.root / "reports/evaluations/second/toy-one-fast/summary.json"
    summary = json.loads(path.read_text())
    path.write_text(json.dumps({**summary, "speed": {**summary["speed"], "device": "another"}}))
    assert document("first", "second", "--all", "--case", "one-fast")["notes"] == ["toy/one-fast: no machine has speeds on both sides"]


def test_nothing_changed(two):
    (row, _) = document("first", "first")["rows"]
    assert (row["difference"], row["low"], row["high"], row["p"], row["changed"]) == (0, 0, 0, 1, 0)


def test_all_metrics_and_those_of_labels(two):
    found = document("first", "second", "--all", "--case", "one-fast")["rows"]
    names = {(row["metric"], row["label"]) for row in found}
    assert {("strict.f1", None), ("strict.f1", "A"), ("document.recall", None)} <= names
    assert [row["metric"] for row in found if row["p_adjusted"] is not None] == ["strict.f1"], "adjusted are the headline metrics"


def test_forms(two, tmp_path):
    table = compare("first", "second").stdout
    assert "one-fast" in table and "strict.f1" in table and "-0.1" in table
    markdown = compare("first", "second", "--markdown").stdout
    assert markdown.startswith("# second beside first\n") and markdown.count("\n| toy/") == 2
    page = tmp_path / "page.html"
    assert compare("first", "second", "--html", str(page)).exit_code == 0
    text = page.read_text()
    assert text.count('<tr class="down">') == 2 and "<script" not in text and "http" not in text.replace("http-equiv", "")


def test_what_is_not_common_is_said(two):
    (two.root / "baselines/toy/two-fast.json").unlink()
    (two.root / "baselines/toy/two-fast.parquet").unlink()
    found = document("baselines", "second")
    assert [row["case"] for row in found["rows"]] == ["one-fast"]
    assert found["notes"] == ["toy/two-fast: only second has it"]
    two.split(rows(40, "one"))
    two.run("--gpueval-suite", "toy", "--gpueval-session", "third", "-k", "one")
    found = document("baselines", "third", expect=1)
    (note,) = found["notes"]
    assert found["rows"] == [] and note.startswith("toy/one-fast: not compared: ") and "are not at hand" in note


@pytest.mark.parametrize(("damage", "words"), [(b"\xff", "not UTF-8: byte {} of the line is 0xff"), (b'"', "not a result that a baseline can be made of")])
def test_damaged_results_are_named_and_do_not_hide_other_cases(two, damage, words):
    path = two.root / "reports/evaluations/second/toy-one-fast/results.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    place = lines[7].index(b'"A"') + 2
    lines[7] = lines[7][:place] + damage + lines[7][place:]
    path.write_bytes(b"".join(lines))
    found = document("first", "second", expect=1)
    assert [row["case"] for row in found["rows"]] == ["two-fast"]
    (note,) = found["notes"]
    assert note.startswith(f"toy/one-fast: not compared: {path}:8: {words.format(place + 1)}") and "\n" not in note


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("first", "scond"), "Did you mean 'second'?"),
        (("first", "second", "--suite", "tyo"), "Did you mean 'toy'?"),
        (("first", "second", "--case", "one"), "neither first nor second has 'one'"),
        (("first", "git:main"), "is in no git repository"),
    ],
)
def test_wrong_names(two, args, words):
    done = compare(*args)
    assert done.exit_code == 2 and words in done.stderr and "Traceback" not in done.output


def test_hostile_names_stay_text(two, tmp_path):
    folder = two.root / "reports/evaluations"
    evil = "x<script>alert(1)|`"
    (folder / "second").rename(folder / evil)
    page = tmp_path / "page.html"
    markdown = compare("first", evil, "--markdown", "--html", str(page)).stdout
    assert "<script>" not in page.read_text() and "&lt;script&gt;" in page.read_text()
    assert "<script>" not in markdown
