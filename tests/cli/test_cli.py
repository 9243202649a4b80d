"""The command: what it prints, and the codes it leaves with."""

import json
import os
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from pytest_gpueval import __version__
from pytest_gpueval.cli.main import app


def gpueval(*argv):
    return CliRunner().invoke(app, list(argv))


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_help_and_version():
    done = gpueval("--help")
    assert done.exit_code == 0
    for word in ("suites", "init", "gpus", "runs", "Exit codes: 0 ok, 1 failed, 2 usage, 3 unreachable, 4 not allowed, 5 locked or conflicting."):
        assert word in " ".join(done.stdout.split())
    assert gpueval("-h").stdout == done.stdout
    assert (gpueval("--version").exit_code, gpueval("--version").stdout) == (0, f"gpueval {__version__}\n")


@pytest.mark.parametrize("argv", [["nonsense"], ["runs", "nonsense"], ["suites", "--nonsense"], ["init"], []])
def test_wrong_usage(argv):
    assert gpueval(*argv).exit_code == 2


def test_the_console_script():
    done = subprocess.run([sys.executable, "-c", "from pytest_gpueval.cli.main import run; run()", "nonsense"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "nonsense" in done.stderr
    assert "Traceback" not in done.stderr


def test_suites():
    rows = json.loads(gpueval("suites", "--json").stdout)
    (shipped,) = [row for row in rows if row["suite"] == "guardrails_ru"]
    assert shipped["kind"] == "evaluation"
    assert shipped["path"].endswith("guardrails_ru/suite.toml")
    assert "guardrails_ru" in gpueval("suites").stdout
    assert gpueval("suites", "--pretty").stdout.startswith("[\n  {")


def test_a_broken_suite_does_not_hide_the_others(tmp_path):
    for name in ("one", "two"):
        (tmp_path / "suites" / name).mkdir(parents=True)
        (tmp_path / "suites" / name / "suite.toml").write_text("task = ")
    done = gpueval("suites", "--json")
    assert done.exit_code == 2
    assert [row["suite"] for row in json.loads(done.stdout)] == ["fineweb10B", "guardrails_ru", "llm_smoke", "pendulum"]
    assert done.stderr.count("not valid TOML") == 2
    assert done.stderr.startswith("gpueval: ")


def test_init_writes_a_suite_that_is_whole(tmp_path):
    done = gpueval("init", "sentiment")
    assert done.exit_code == 0
    assert "pytest --gpueval-suite sentiment" in done.stdout
    files = {path.relative_to(tmp_path / "suites" / "sentiment").as_posix() for path in (tmp_path / "suites").rglob("*") if path.is_file()}
    assert files == {"suite.toml", "model.py", "data/example/fast.parquet"}
    (row,) = [row for row in json.loads(gpueval("suites", "--json").stdout) if row["suite"] == "sentiment"]
    assert (row["datasets"], row["splits"]) == (1, "fast")


def test_init_twice_changes_nothing(tmp_path):
    gpueval("init", "sentiment")
    (tmp_path / "suites" / "sentiment" / "model.py").write_text("mine")
    done = gpueval("init", "sentiment")
    assert done.exit_code == 5
    assert done.stderr == "gpueval: suites/sentiment exists already; choose another name\n"
    assert (tmp_path / "suites" / "sentiment" / "model.py").read_text() == "mine"


@pytest.mark.parametrize("name", ["../x", "a/b", "a b", ".", "_", ""])
def test_init_of_a_name_that_is_none(name, tmp_path):
    done = gpueval("init", name)
    assert done.exit_code == 2
    assert "a suite's name is made of letters, digits, _ and -" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_init_where_nothing_can_be_written(tmp_path):
    (tmp_path / "suites").write_text("")
    done = gpueval("init", "sentiment")
    assert done.exit_code == 1
    assert done.stderr == "gpueval: suites/sentiment: cannot be written: Not a directory\n"


def test_init_without_pyarrow(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    done = gpueval("init", "sentiment")
    assert done.exit_code == 2
    assert "pytest-gpueval[data]" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_terminal_without_unicode(tmp_path):
    """What it cannot show is escaped, as on stderr; what a program reads is the same."""
    gpueval("init", "toy")
    file = tmp_path / "suites/toy/suite.toml"
    text = file.read_text(encoding="utf-8")
    assert "What this suite measures" in text
    file.write_text(text.replace("What this suite measures", "Привет"), encoding="utf-8")

    def said(*words):
        command = [sys.executable, "-c", "from pytest_gpueval.cli.main import run; run()", "suites", *words]
        done = subprocess.run(command, cwd=tmp_path, env={**os.environ, "PYTHONIOENCODING": "latin-1"}, capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    assert r"\u041f\u0440\u0438\u0432\u0435\u0442" in said()
    assert "Привет" in [suite["description"] for suite in json.loads(said("--json"))]
