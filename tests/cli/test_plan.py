"""gpueval plan: what it prints, from which figures, and what it refuses."""

import json
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from pytest_gpueval.cli.main import app

SUITE = """
task = "classification"
labels = ["a", "b"]
split = "fast"
runtime = "cpu"
budget_s = 20
[runtimes.cpu]
kind = "inprocess"
target = "model.py:Model"
startup_s = 2
[runtimes.pair]
kind = "inprocess"
target = "model.py:Model"
gpus = 2
[datasets.big]
rate = 10
splits.fast = { rows = 400 }
[datasets.small]
splits.fast = {}
splits.full = { rows = 7 }
"""


def gpueval(*argv):
    return CliRunner().invoke(app, ["plan", *argv])


def planned(*argv):
    done = gpueval(*argv, "--json")
    assert done.exit_code == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(autouse=True)
def toy(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    directory = tmp_path / "suites" / "toy"
    (directory / "data" / "small").mkdir(parents=True)
    (directory / "suite.toml").write_text(SUITE)
    (directory / "model.py").write_text("raise AssertionError('a plan loads no model')")
    pq.write_table(pa.Table.from_pylist([{"id": str(number)} for number in range(50)]), directory / "data" / "small" / "fast.parquet")
    return directory


def test_a_plan(toy, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")  # on 80 columns some items are counted, not named
    done = gpueval("toy", "--lanes", "4")
    assert done.exit_code == 0
    first = done.stdout.splitlines()[0]
    assert first.startswith("plan: ")
    assert "of 2 datasets, predicted 0:1" in first
    assert "on 4 GPUs · budget 0:20" in first
    assert "join big-fast" in done.stdout
    assert "(2.0 s start-up)" in done.stdout
    assert "small-fast" in done.stdout


def test_json(toy):
    plan = planned("toy", "--lanes", "4")
    ids = [item["id"] for item in plan["assignments"]]
    shards = sum("big-fast-" in id_ for id_ in ids)
    assert f"suites/toy/suite.toml::test_eval[big-fast-{shards}of{shards}]" in ids
    assert "suites/toy/suite.toml::test_eval[big-fast]" in ids
    (small,) = [item for item in plan["assignments"] if "small" in item["id"]]
    assert (small["seconds"], small["source"]) == (1.02, "default")  # 50 rows in the footer, 50 samples/s
    assert plan["rows_unknown"] == []
    assert gpueval("toy", "--lanes", "1", "--pretty").stdout.startswith('{\n  "makespan_s"')


def test_one_lane_cuts_nothing_and_exceeds_the_budget(toy):
    plan = planned("toy", "--lanes", "1")
    assert [item["id"].partition("[")[2] for item in plan["assignments"]] == ["big-fast]", "small-fast]"]
    assert "exceeds the budget by" in gpueval("toy", "--lanes", "1").stdout


def test_measured_lengths(toy, tmp_path):
    session = tmp_path / "reports/evaluations/one"
    session.mkdir(parents=True)
    run = {"suite": "toy", "case": "big-fast", "runtime": "cpu", "gpu": "H100", "status": "passed", "samples_per_s": 400, "startup_s": 5}
    (session / "session.json").write_text(json.dumps({"runs": [run]}))
    measured = planned("toy", "--lanes", "1", "--gpu-name", "H100")["assignments"]
    assert [(item["seconds"], item["startup_s"], item["source"]) for item in measured] == [(1.02, 5.0, "measured"), (1.02, 0.0, "default")]
    assert planned("toy", "--lanes", "1", "--gpu-name", "A100")["assignments"][0]["source"] == "suite"
    assert planned("toy", "--lanes", "1", "--gpu-name", "H100", "--output-dir", "elsewhere")["assignments"][0]["source"] == "suite"


def test_rows_that_nobody_knows(toy):
    (toy / "data/small/fast.parquet").unlink()
    assert planned("toy", "--lanes", "1")["rows_unknown"] == ["small-fast"]
    assert gpueval("toy", "--lanes", "1").stdout.endswith("  rows unknown, 1,000 assumed: small-fast\n")
    assert planned("toy", "--lanes", "1", "--limit", "10")["total_s"] == pytest.approx(1 + 0.2 + 0.04)


def test_limit_split_and_runtime(toy):
    assert planned("toy", "--lanes", "1", "--limit", "10")["total_s"] == pytest.approx(1 + 0.2 + 0.04)
    (full,) = planned("toy", "--lanes", "2", "--split", "full")["assignments"]
    assert full["id"].endswith("[small-full]")
    wide = planned("toy", "--lanes", "4", "--runtime", "pair")
    assert {item["slot"] for item in wide["assignments"] if not item["merge"]} == {"gpu0+1", "gpu2+3"}
    narrow = gpueval("toy", "--lanes", "1", "--runtime", "pair")
    assert narrow.exit_code == 2
    assert narrow.stderr.startswith("gpueval: a runtime of this suite needs 2 GPUs at once, and --gpus gives 1.")


def test_cpu_lanes(toy):
    assert "CPU lane" in gpueval("toy", "--gpus", "none").stdout.splitlines()[0]


def test_a_shipped_suite_generates_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert gpueval("guardrails_ru", "--lanes", "8", "--split", "full").exit_code == 0
    assert not (tmp_path / "cache").exists()
    assert not (tmp_path / "reports").exists()


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["toi"], "Did you mean 'toy'?"),
        (["toy", "--split", "fats"], "has no split 'fats'"),
        (["toy", "--runtime", "gpu"], "has no runtime 'gpu'"),
        (["toy", "--policy", "x"], "has no policy 'x'"),
        (["toy", "--gpus", "zero"], "'zero' is not understood"),
        (["toy", "--gpus", "none", "--lanes", "2"], "leave one out"),
        (["toy", "--gpu-name", "H100"], "--gpu-name names the model of --lanes N"),
        (["toy", "--lanes", "0"], "--lanes"),
        (["toy", "--limit", "0"], "--limit"),
        (["toy", "--data", "nowhere"], "no such directory"),
        ([","], "SUITE is empty"),
        ([], "SUITE"),
    ],
)
def test_wrong_usage(argv, words):
    done = gpueval(*argv)
    assert done.exit_code == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_a_damaged_split(toy):
    (toy / "data/small/fast.parquet").write_text("no parquet")
    done = gpueval("toy", "--lanes", "2")
    assert done.exit_code == 1
    assert "not a whole parquet file" in done.stderr


def test_planning_does_not_load_pytest(toy):
    """What import-linter cannot see: annotations aside, no room that the plan uses imports it."""
    source = (
        "import atexit, sys; sys.argv[1:] = ['plan', 'toy', '--lanes', '2']\n"
        "atexit.register(lambda: print([name for name in ('pytest', '_pytest', 'xdist', 'torch') if name in sys.modules]))\n"
        "from pytest_gpueval.cli.main import run; run()"
    )
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "[]"), done.stderr
