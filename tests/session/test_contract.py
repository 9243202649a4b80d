"""What a session leaves behind: run directories, session files, JUnit XML."""

from __future__ import annotations

import json
import subprocess

import junitparser
import pytest

from pytest_gpueval.runs import validate
from tests.waiting import SESSION_S

FILES = {"command.sh", "run_metadata.json", "summary.json", "stdout.log", "results.jsonl"}


@pytest.fixture(params=[(), ("-n", "2")], ids=["one process", "xdist"])
def finished(request, toy):
    toy.append('[[gates]]\nmetric = "strict.f1"\nmin = 0.5\n[[datasets.two.gates]]\nmetric = "strict.f1"\nmin = 0.99\n')
    toy.spawn("--gpueval-suite", "toy", "--gpueval-session", "it", *request.param).assert_outcomes(passed=1, failed=1)
    return toy


def test_every_run_leaves_the_contract(finished):
    session = finished.session("it")
    for run in ("toy-one-fast", "toy-two-fast"):
        assert {path.name for path in (session / run).iterdir() if not path.name.startswith(".")} == FILES
    assert {"session.json", "junit.xml", "report.md", "report.html"} <= {path.name for path in session.iterdir()}
    assert validate.problems(session) == []

    one, two = finished.summary("toy-one-fast", "it"), finished.summary("toy-two-fast", "it")
    assert (one["ok"], one["status"], two["ok"], two["status"]) == (True, "passed", False, "failed")
    assert one["metrics"]["strict.f1"]["value"] == 0.9
    assert one["metrics"]["strict.f1"]["low"] < 0.9 < one["metrics"]["strict.f1"]["high"]
    assert two["gates"][0]["outcome"] == "fail"
    assert one["rows"] == {"total": 50, "scored": 50, "errors": 0, "skipped": 0}

    record = json.loads((session / "session.json").read_text())
    assert [(run["run_id"], run["status"]) for run in sorted(record["runs"], key=lambda run: run["run_id"])] == [
        ("toy-one-fast", "passed"),
        ("toy-two-fast", "failed"),
    ]
    assert record["exit_status"] == 1


def test_junit_is_read_by_junitparser(finished):
    (suite,) = junitparser.JUnitXml.fromfile(str(finished.session("it") / "junit.xml"))
    cases = {case.name: case for case in suite}
    assert set(cases) == {"test_eval[one-fast]", "test_eval[two-fast]"}
    properties = {item.name: item.value for item in cases["test_eval[one-fast]"].child(junitparser.Properties)}
    assert properties["gpueval.dataset"] == "one"
    assert properties["strict.f1"] == "0.9"
    assert float(properties["strict.f1.low"]) < 0.9
    failure = cases["test_eval[two-fast]"].result[0]
    assert "strict.f1" in failure.text
    assert "Traceback" not in failure.text
    assert ".py:" not in failure.text


def test_junit_goes_where_the_user_wants_and_into_the_session(toy):
    toy.run("--gpueval-suite", "toy", "--gpueval-session", "it", "--junitxml", "mine.xml").assert_outcomes(passed=2)
    assert (toy.root / "mine.xml").read_text() == (toy.session("it") / "junit.xml").read_text()


def test_command_sh_runs_this_item_again(toy):
    toy.run("--gpueval-suite", "toy", "--gpueval-session", "it", "--gpueval-limit", "20").assert_outcomes(passed=2)
    run = toy.session("it") / "toy-one-fast"
    before = toy.lines("toy-one-fast", "it")
    done = subprocess.run(["sh", run / "command.sh"], cwd="/", capture_output=True, text=True, timeout=SESSION_S)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout
    after = toy.lines("toy-one-fast", "it")
    assert [line | {"latency_ms": 0} for line in after] == [line | {"latency_ms": 0} for line in before]
    assert list(run.glob("summary.json.bak-*")), "the earlier summary is kept"


def test_metadata_says_what_was_run(toy, monkeypatch):
    monkeypatch.setenv("MY_API_KEY", "abcdefgh12345678")
    monkeypatch.setenv("GR_MODEL_DIR", "/models")
    toy.run("--gpueval-suite", "toy", "--gpueval-limit", "5").assert_outcomes(passed=2)
    metadata = json.loads((toy.session() / "toy-one-fast/run_metadata.json").read_text())
    assert metadata["dataset"]["rows"] == 50
    assert len(metadata["dataset"]["sha256"]) == 64
    assert metadata["limit"] == 5
    assert metadata["environment"]["MY_API_KEY"] == "<set>"
    assert metadata["environment"]["GR_MODEL_DIR"] == "/models"
    assert metadata["packages"]["pytest"] == pytest.__version__
    assert metadata["policy"]["name"] == "open"


def test_stdout_log_has_what_the_run_and_its_children_print(toy):
    toy.suite(
        "toy",
        model="""
        import os, subprocess, sys
        class Model:
            def warm_up(self):
                print("loading the model")
            def predict(self, batch):
                print("from python"); sys.stderr.write("from stderr\\n")
                subprocess.run(["echo", "from a child"], check=True)
                os.write(1, b"from the descriptor\\n")
                return [[] for _ in batch]
        """,
    )
    toy.run("--gpueval-suite", "toy", "-k", "one").assert_outcomes(passed=1, deselected=1)
    log = (toy.session() / "toy-one-fast/stdout.log").read_text()
    for line in ("loading the model", "from python", "from stderr", "from a child", "from the descriptor"):
        assert line in log


SECRET = "s3cr3t-value-of-the-token"


@pytest.mark.parametrize("args", [(), ("-n", "2"), ("-s",)], ids=["one process", "xdist", "no capture"])
def test_a_secret_reaches_no_file(toy, monkeypatch, args):
    monkeypatch.setenv("HF_TOKEN", SECRET)
    toy.suite(
        "toy",
        model="""
        import os, subprocess
        class Model:
            def predict(self, batch):
                print("token:", os.environ["HF_TOKEN"])
                subprocess.run(["sh", "-c", "echo $HF_TOKEN >&2"], check=True)
                if any(item["id"].endswith("-7") for item in batch):
                    raise RuntimeError("401 for token " + os.environ["HF_TOKEN"])
                return [[] for _ in batch]
        """,
    )
    toy.pytester.makeconftest(
        """
        import os, pytest
        @pytest.fixture(autouse=True)
        def noisy(request):
            yield
            if "two" in request.node.name:
                raise RuntimeError("teardown with " + os.environ["HF_TOKEN"])
        """
    )
    result = toy.spawn("--gpueval-suite", "toy", *args)
    assert "failed" in result.stdout.str()
    assert any("error" in line for line in toy.lines())
    holders = [path for path in toy.output.rglob("*") if path.is_file() and SECRET in path.read_text(errors="replace")]
    assert holders == []


def test_a_secret_in_the_arguments_reaches_no_file(toy):
    toy.pytester.makeconftest('def pytest_addoption(parser): parser.addoption("--my-api-key")')
    toy.run("--gpueval-suite", "toy", "--my-api-key", SECRET).assert_outcomes(passed=2)
    toy.run("--gpueval-suite", "toy", f"--my-api-key={SECRET}").assert_outcomes(passed=2)
    holders = [path for path in toy.output.rglob("*") if path.is_file() and SECRET in path.read_text(errors="replace")]
    assert holders == []
