"""gpueval datasets budget: what it proposes, from which figures, and what it refuses."""

import json
import os
import subprocess
import sys

import pytest
import typer
from typer.testing import CliRunner

from pytest_gpueval.cli import budget
from pytest_gpueval.runs.records import Figure, RowCounts, SessionRecord, SessionRun, Summary
from pytest_gpueval.scoring.estimates import wilson
from pytest_gpueval.scoring.power import ONE_UNIT_A_ROW, Spread, against_baseline, against_bound

SUITE = """
task = "classification"
labels = ["a", "b"]
split = "full"
runtime = "cpu"
budget_s = 120
[runtimes.cpu]
kind = "inprocess"
target = "model.py:Model"
startup_s = 2
[runtimes.pair]
kind = "inprocess"
target = "model.py:Model"
gpus = 2
[[gates]]
metric = "accuracy"
min = 0.8
[[gates]]
metric = "log_loss"
max = 0.5
[datasets.slow]
rate = 5
splits.fast = { rows = 400 }
splits.full = { rows = 9000 }
[datasets.quick]
rate = 50
splits.fast = { rows = 600 }
splits.full = { rows = 1300 }
gates = [{ metric = "f1", label = "a", min = 0.5 }]
"""
H100 = "NVIDIA H100 80GB HBM3"


@pytest.fixture(autouse=True)
def toy(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    directory = tmp_path / "suites" / "toy"
    directory.mkdir(parents=True)
    (directory / "suite.toml").write_text(SUITE)
    (directory / "model.py").write_text("raise AssertionError('a proposal loads no model')")
    return directory


def gpueval(*argv):
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(budget.budget)
    return CliRunner().invoke(app, [*argv])


def proposed(*argv):
    done = gpueval(*argv, "--json")
    assert done.exit_code == 0, done.stderr
    document = json.loads(done.stdout)
    return document, {one["dataset"]: one for one in document["datasets"]}


def figure(value, trials):
    low, high = wilson(value, trials)
    return Figure(value=value, low=low, high=high, n=round(trials))


def session(root, name, number, runs):
    """A session of `runs`: case -> (changes of its record, metrics, labels, rows). Higher numbers are newer."""
    path = root / "reports/evaluations" / name
    path.mkdir(parents=True)
    found = []
    for case, (changes, metrics, labels, rows) in runs.items():
        base = {
            "run_id": f"toy-{case}", "nodeid": f"x[{case}]", "suite": "toy", "case": case, "worker": "gpu0", "status": "passed", "ok": True,
            "rows": rows, "samples_per_s": 20.0, "runtime": "cpu", "gpu": H100,
        }  # fmt: skip
        run = SessionRun(**{**base, **changes})
        found.append(run)
        summary = Summary(
            run_id=run.run_id, ok=bool(run.ok), status=run.status, headline="accuracy", metrics=metrics, labels=labels, rows=RowCounts(total=rows, scored=rows)
        )
        (path / run.run_id).mkdir()
        (path / run.run_id / "summary.json").write_text(summary.model_dump_json())
    record = SessionRecord(session=name, argv=[], suites=["toy"], data="embedded", lanes=[], host="h", code={}, plugin_version="1", started_at="t", runs=found)
    (path / "session.json").write_text(record.model_dump_json())
    os.utime(path, (1_000_000 + number, 1_000_000 + number))
    return path


def test_without_a_session(toy):
    document, found = proposed("toy")
    assert (document["split"], document["runtime"], document["budget_s"], document["startup_s"]) == ("fast", "cpu", 120, 2)
    assert document["seconds"] <= 120
    assert document["seconds_now"] == pytest.approx(2 + 400 / 5 + 600 / 50 + 0.04)
    slow, quick = found["slow"], found["quick"]
    assert (slow["rate"], slow["source"], slow["rows_now"], slow["ceiling"]) == (5, "suite", 400, 9000)
    assert [(one["rows"], one["limit"]) for one in (slow, quick)] == [(500, None)] * 2  # 110 s; 50 more of the slow one are 10 s
    assert slow["judged"] | {"spread": None} == {
        "metric": "accuracy", "label": None, "bound": 0.8, "origin": 0.8, "spread": None, "session": None, "name": "accuracy >= 0.8",
    }  # fmt: skip
    assert slow["mde_now"] == against_bound(ONE_UNIT_A_ROW, 0.8, 400)
    assert document["largest_mde"] == slow["mde"] < document["largest_mde_now"] == slow["mde_now"]


def test_the_table(toy):
    done = gpueval("toy", "--minutes", "10")
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["dataset", "samples/s", "measured", "rows", "now", "rows", "at", "minutes", "gate", "MDE", "now", "MDE"]
    drops = {rows: f"{against_bound(ONE_UNIT_A_ROW, 0.8, rows):.4f}" for rows in (400, 600, 1300, 2850)}
    assert lines[1].split() == f"slow 5 as the suite says 400 2,850 9.50 accuracy >= 0.8 * {drops[400]} {drops[2850]}".split()
    assert lines[2].split() == f"quick 50 as the suite says 600 1,300 ceiling 0.43 accuracy >= 0.8 * {drops[600]} {drops[1300]}".split()
    assert lines[3] == "predicted 9:58 of 10:00 on 1 GPU, 2.0 s of start-up included; rows now: 1:34"
    assert lines[4] == f"largest MDE {drops[1300]}, now {drops[400]}: the drop below its gate's bound that is found with 80 % power, one-sided at 5 %"
    assert lines[5].startswith("* no session measured the spread of slow, quick: a row counts as one unit")
    assert len(lines) == 6
    assert gpueval("toy", "--pretty").stdout.startswith('{\n  "suite": "toy"')


def test_what_was_measured(toy, tmp_path):
    session(
        tmp_path,
        "one",
        1,
        {
            "slow-fast": ({"startup_s": 30.0}, {"accuracy": figure(0.9, 2000)}, {}, 400),
            "quick-fast": ({"samples_per_s": 100.0, "status": "failed", "ok": False}, {"accuracy": figure(0.75, 300)}, {}, 600),
        },
    )
    document, found = proposed("toy", "--gpus", "2")
    assert (document["gpu_name"], document["startup_s"]) == (H100, 30)
    assert [(one["rate"], one["source"]) for one in found.values()] == [(20, "measured"), (100, "measured")]
    assert found["slow"]["judged"]["spread"]["binomial"] == pytest.approx(400 / 2000)
    assert found["quick"]["judged"]["spread"]["binomial"] == pytest.approx(600 / 300)
    assert {one["judged"]["session"] for one in found.values()} == {"one"}
    assert found["quick"]["mde_now"] == pytest.approx(against_bound(Spread(binomial=2.0), 0.8, 600))
    _, against = proposed("toy", "--gpus", "2", "--against", "baseline")
    assert against["quick"]["mde_now"] == pytest.approx(against_baseline(Spread(binomial=2.0), 0.75, 600))
    table = gpueval("toy", "--gpus", "2").stdout
    assert "*" not in table and f"{H100} " in table and "on 2 GPUs, 30.0 s of start-up included" in table
    _, elsewhere = proposed("toy", "--output-dir", "elsewhere")
    assert elsewhere["slow"]["source"] == "suite" and elsewhere["slow"]["judged"]["session"] is None


def test_the_run_with_the_most_rows_tells_the_spread(toy, tmp_path):
    for number, rows in enumerate([300, 900, 900, 50]):
        session(tmp_path, f"s{number}", number, {"slow-fast": ({}, {"accuracy": figure(0.9, rows)}, {}, rows)})
    assert proposed("toy")[1]["slow"]["judged"]["session"] == "s2"


@pytest.mark.parametrize(
    "changes",
    [{"suite": "other"}, {"runtime": "pair"}, {"status": "crashed"}, {"case": "slow-fast-1of2"}, {"case": "slow-other"}, {"run_id": "../elsewhere"}],
    ids=str,
)
def test_runs_that_tell_nothing(toy, tmp_path, changes):
    path = session(tmp_path, "one", 1, {"slow-fast": ({}, {"accuracy": figure(0.9, 300)}, {}, 300)})
    record = json.loads((path / "session.json").read_text())
    record["runs"][0].update(changes)
    (path / "session.json").write_text(json.dumps(record))
    assert proposed("toy")[1]["slow"]["judged"]["session"] is None


def test_a_damaged_summary_tells_nothing(toy, tmp_path):
    path = session(tmp_path, "one", 1, {"slow-fast": ({}, {"accuracy": figure(0.9, 300)}, {}, 300)})
    (path / "toy-slow-fast/summary.json").write_text("{")
    _, found = proposed("toy")
    assert (found["slow"]["source"], found["slow"]["judged"]["session"]) == ("measured", None)


def test_another_split_is_better_than_nothing(toy, tmp_path):
    session(tmp_path, "one", 1, {"slow-full": ({}, {"accuracy": figure(0.9, 300)}, {}, 300)})
    _, found = proposed("toy")
    assert (found["slow"]["rate"], found["slow"]["measured_split"], found["slow"]["judged"]["session"]) == (20, "full", "one")
    assert f"{H100}, full" in gpueval("toy").stdout


class TestGates:
    def judged(self, toy, tmp_path, gates, metrics, labels=None):
        (toy / "suite.toml").write_text(SUITE.replace('gates = [{ metric = "f1", label = "a", min = 0.5 }]', f"gates = {gates}"))
        session(tmp_path, "one", 1, {"quick-fast": ({}, metrics, labels or {}, 1000)})
        return proposed("toy")[1]["quick"]["judged"]["name"]

    def test_the_headline_first(self, toy, tmp_path):
        metrics = {"accuracy": figure(0.9, 1000), "f1_macro": figure(0.9, 100)}
        assert self.judged(toy, tmp_path, '[{ metric = "f1_macro", min = 0.8 }]', metrics) == "accuracy >= 0.8"

    def test_else_the_one_that_sees_least(self, toy, tmp_path):
        metrics, labels = {"f1_macro": figure(0.9, 500)}, {"a": {"f1": figure(0.9, 100)}, "b": {"f1": figure(0.9, 900)}}
        gates = '[{ metric = "f1_macro", min = 0.8 }, { metric = "f1", label = "a", min = 0.8 }, { metric = "f1", label = "b", min = 0.8 }]'
        assert self.judged(toy, tmp_path, gates, metrics, labels) == "f1[a] >= 0.8"

    def test_none_that_was_measured(self, toy, tmp_path):
        """The gate on accuracy stays, with what is assumed."""
        assert self.judged(toy, tmp_path, "[]", {}) == "accuracy >= 0.8"

    def test_no_gate_at_all(self, toy, tmp_path):
        (toy / "suite.toml").write_text(SUITE.replace('[[gates]]\nmetric = "accuracy"\nmin = 0.8\n', "").replace("min = 0.5", "max = 0.5"))
        slow = proposed("toy")[1]["slow"]
        assert (slow["judged"]["name"], slow["judged"]["origin"]) == ("no gate", 0.5)
        session(tmp_path, "one", 1, {"slow-fast": ({}, {"accuracy": figure(0.9, 300)}, {}, 300)})
        slow = proposed("toy")[1]["slow"]
        assert (slow["judged"]["name"], slow["judged"]["origin"]) == ("accuracy", 0.9)

    def test_a_mean_of_any_range(self, toy, tmp_path):
        (toy / "suite.toml").write_text(SUITE.replace('metric = "accuracy"\nmin = 0.8', 'metric = "length"\nmin = -4.0'))
        session(tmp_path, "one", 1, {"slow-fast": ({}, {"length": Figure(value=5.0, low=4.8, high=5.2, n=400)}, {}, 400)})
        slow = proposed("toy")[1]["slow"]
        assert slow["judged"]["name"] == "length >= -4"
        assert slow["mde_now"] == pytest.approx(2.4864749 * 0.2 / 1.959964)


def test_more_gpus(toy):
    one, two = (proposed("toy", "--minutes", "30", "--gpus", number)[1]["slow"]["rows"] for number in ("1", "2"))
    assert one == 8850 and two == 9000
    document, found = proposed("toy", "--runtime", "pair", "--gpus", "4", "--minutes", "3")
    assert document["seconds"] <= 180 and document["runtime"] == "pair"
    assert found["slow"]["gpu_seconds"] == pytest.approx(2 * found["slow"]["rows"] / 5)


def test_the_plan_is_kept_to(toy):
    """Short items on many lanes: what an item costs of its own counts."""
    (toy / "suite.toml").write_text(SUITE.replace("rate = 50", "rate = 3000").replace("rows = 1300", "rows = 90000"))
    for gpus in ("3", "8", "31"):
        for minutes in ("0.5", "1"):
            document, _ = proposed("toy", "--gpus", gpus, "--minutes", minutes, "--floor", "20")
            assert 0.9 * document["budget_s"] < document["seconds"] <= document["budget_s"]


def test_a_dataset_that_is_never_cut(toy):
    (toy / "suite.toml").write_text(SUITE.replace("rate = 5\n", "rate = 5\nshards = 1\n"))
    document, found = proposed("toy", "--gpus", "8")
    assert found["slow"]["rows"] == 550  # (120 - 2) * 5 = 590
    assert document["seconds"] <= 120


def test_floor_and_ceiling(toy):
    _, found = proposed("toy", "--ceiling", "300", "--minutes", "10")
    assert [(one["rows"], one["limit"]) for one in found.values()] == [(300, "ceiling")] * 2
    _, found = proposed("toy", "--floor", "500", "--minutes", "1.97")
    assert (found["slow"]["rows"], found["slow"]["limit"]) == (500, "floor")
    (toy / "suite.toml").write_text(
        SUITE.replace("splits.full = { rows = 1300 }", "splits.full = {}").replace("splits.fast = { rows = 600 }", "splits.fast = {}")
    )
    done = gpueval("toy")
    assert "nobody says how many rows there are of quick: give --ceiling" in done.stdout
    assert ", now" not in done.stdout and "rows now:" not in done.stdout


def test_several_models_were_measured(toy, tmp_path):
    for number, gpu in enumerate([H100, None]):
        session(tmp_path, f"s{number}", number, {"slow-fast": ({"gpu": gpu, "samples_per_s": 10.0 + number}, {}, {}, 400)})
    done = gpueval("toy")
    assert done.exit_code == 2
    assert f"measured suite 'toy', runtime 'cpu', on \"{H100}\", cpu.\nChoose one with --gpu-name." in done.stderr
    assert [proposed("toy", "--gpu-name", name)[1]["slow"]["rate"] for name in (H100, "cpu", "A100")] == [10, 11, 5]
    assert "on 1 CPU lane," in gpueval("toy", "--gpu-name", "cpu").stdout


def test_a_speed_that_nobody_knows(toy):
    (toy / "suite.toml").write_text(SUITE.replace("rate = 50\n", ""))
    done = gpueval("toy", "--runtime", "pair", "--gpus", "2")
    assert done.exit_code == 2
    assert done.stderr == (
        "gpueval: suite 'toy': how fast quick runs is not known: no session in reports/evaluations measured it (runtime 'pair'), "
        "and the suite says no 'rate'.\n"
        "Run a session first:  pytest --gpueval-suite toy --gpueval-split fast --gpueval-runtime pair --gpueval-limit 200\n"
    )


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["toi"], "Did you mean 'toy'?"),
        (["toy", "--split", "fats"], "has no split 'fats'"),
        (["toy", "--runtime", "gpu"], "has no runtime 'gpu'"),
        (["toy", "--runtime", "pair"], "needs 2 GPUs at once"),
        (["toy", "--against", "basline"], "Did you mean 'baseline'?"),
        (["toy", "--ceiling", "100"], "--ceiling 100 is below --floor 200"),
        (["toy", "--minutes", "0.5"], "0.5 minutes on 1 GPU are 16 s too short"),
        (["toy", "--minutes", "0"], "--minutes"),
        (["toy", "--minutes", "nan"], "--minutes"),
        (["toy", "--gpus", "0"], "--gpus"),
        (["toy", "--floor", "0"], "--floor"),
        ([], "SUITE"),
    ],
)
def test_wrong_usage(argv, words):
    done = gpueval(*argv)
    assert done.exit_code == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_it_does_not_load_pytest(toy):
    source = (
        "import sys; from pytest_gpueval.cli import budget\n"
        "budget.budget('toy')\n"
        "print([name for name in ('pytest', '_pytest', 'xdist', 'torch', 'pyarrow') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_real_session_is_a_measurement(pytester, monkeypatch):
    """The suite that ships, its detector and its data: the interval of 100 documents tells what 800 will show."""
    monkeypatch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)  # on Python 3.12 its detector's tables of places take minutes to load under a tracer
    done = pytester.runpytest_subprocess("--gpueval-suite", "guardrails_ru", "-k", "presidio", "--gpueval-limit", "100", "-n", "0", "--gpueval-session", "it")
    done.assert_outcomes(passed=1, deselected=6)
    document, found = proposed("guardrails_ru", "--minutes", "2")
    presidio, other = found["presidio-test"], found["meddies"]
    assert (presidio["source"], presidio["judged"]["session"]) == ("measured", "it")
    assert (other["source"], other["judged"]["session"]) == ("suite", None)
    assert 0.1 < presidio["judged"]["spread"]["binomial"] < 1, "documents have several spans"
    assert document["seconds"] <= 120
    assert document["largest_mde"] < document["largest_mde_now"]
