"""The README keeps its word: commands run, the option table is complete, its examples work."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from pytest_gpueval.session.failures import INFRASTRUCTURE_EXIT
from pytest_gpueval.session.settings import OPTIONS

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BIN = Path(sys.executable).parent


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def commands() -> list[str]:
    return [line[2:] for block in blocks("console") for line in block.splitlines() if line.startswith("$ ")]


def test_every_option_is_in_the_table_with_its_own_words():
    table = dict(re.findall(r"^\| `(--[^`]*)` \| (.*) \|$", README, re.MULTILINE))
    for option in OPTIONS:
        flag = f"{option.flag} {option.metavar}".strip() if option.metavar else option.flag
        words = option.help + (f" (default: {option.default})" if option.default else "")
        assert table.pop(flag.replace("|", "\\|")) == words
    assert table == {}


def test_every_variable_of_the_table_is_one_that_does_something():
    table = README[README.index("| environment variable |") :].partition("\n\n")[0]
    names = re.findall(r"`([A-Z_]+)`", "".join(re.findall(r"^\| (`[A-Z].*?) \|", table, re.MULTILINE)))
    sources = "".join(path.read_text() for path in (ROOT / "pytest_gpueval").rglob("*.py"))
    elsewhere = {"TMPDIR", "HF_ENDPOINT"}  # tempfile, huggingface_hub
    assert len(names) > 10
    assert [name for name in names if f'"{name}"' not in sources and name not in elsewhere] == []


def test_every_option_of_a_task_is_in_the_table_with_its_own_words():
    from pytest_gpueval.suites.schema import TASK_OPTIONS

    told = re.findall(r"^\| `(\w+) = [^`]*` \| `(\w+)` \| (.*) \|$", README, re.MULTILINE)
    fields = {(name, task): field.description for task, model in TASK_OPTIONS.items() for name, field in model.model_fields.items()}
    assert {(name, task): words for name, task, words in told if task in TASK_OPTIONS} == fields


def test_links_within_it_lead_somewhere():
    headings = re.findall(r"^#+ (.*)$", re.sub(r"^```.*?^```", "", README, flags=re.MULTILINE | re.DOTALL), re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    links = re.findall(r"\]\(#([^)]*)\)", README)
    assert len(links) > 15
    assert [link for link in links if link not in anchors] == []


def test_the_first_two_commands_are_targets_of_make():
    first = commands()[:3]
    assert first[1:] == ["make eval", "make test"]
    targets = {word for command in commands() if command.startswith("make ") for word in command.split()[1:]}
    for target in ("bench", "check", *targets):
        assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


def test_the_first_command_needs_nothing_that_tests_need(tmp_path):
    own = tomllib.loads((ROOT / "pyproject.toml").read_text())
    names = [re.split(r"[<>=\[ ]", word)[0].replace("-", "_") for word in own["dependency-groups"]["test"]]
    for name in [*names, "sklearn"]:
        (tmp_path / f"{name}.py").write_text(f"raise ModuleNotFoundError({name!r})")
    only_ours = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": str(tmp_path)}
    command = [BIN / "pytest", "-p", "xdist", "-p", "gpueval", "--gpueval-suite", "guardrails_ru", "--gpus", "auto", "--collect-only", "-q"]
    done = subprocess.run([*command, "-p", "no:cacheprovider"], cwd=ROOT, env={**os.environ, **only_ours}, capture_output=True, text=True)
    assert done.returncode == 0 and "suites/guardrails_ru/suite.toml::test_eval[" in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize("command", [command for command in commands() if command.startswith("pytest")])
def test_pytest_commands_select_something(command, tmp_path):
    words = [word for word in shlex.split(command.split(" & ")[0])[1:] if word not in ("--collect-only", "-q")]
    place = ("-o", f"cache_dir={tmp_path}")  # --lf must not meet, or change, what the developer ran last
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh/config").write_text("Host gpu-a gpu-b\n")
    environment = {**os.environ, "HOME": str(tmp_path)}
    done = subprocess.run([BIN / "pytest", *words, "--collect-only", "-q", *place], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^suites/\w+/suite\.toml::test_(eval|sweep)\[", done.stdout, re.MULTILINE)


def test_every_console_command_is_of_a_known_kind():
    known = ("git clone", "make ", "pytest ", "wc -l")
    assert [command for command in commands() if not command.startswith(known)] == []


def test_gpueval_commands_exist():
    for command in set(re.findall(r"`(gpueval [a-z]+(?: [a-z-]+)?)", README)):
        words = command.split()[1:]
        words = words[:1] if words[0] == "init" else words
        done = subprocess.run([BIN / "gpueval", *words, "--help"], capture_output=True, text=True)
        assert done.returncode == 0, command


def test_the_new_suite_of_the_readme_runs(pytester):
    assert "`gpueval init sentiment`" in README
    subprocess.run([BIN / "gpueval", "init", "sentiment"], cwd=pytester.path, check=True, capture_output=True)
    pytester.runpytest_subprocess("--gpueval-suite", "sentiment").assert_outcomes(passed=1)


def test_the_suite_file_of_the_readme_is_valid():
    from pytest_gpueval.hosts.declared import HostsFile
    from pytest_gpueval.hosts.sync.rules import CodeEntry
    from pytest_gpueval.suites.load import validated
    from pytest_gpueval.suites.schema import SPEED, ComparisonEntry, DatasetEntry, GenerationOptions, JudgeEntry, PolicyEntry, RuntimeEntry, SuiteFile
    from pytest_gpueval.suites.sweep_schema import SweepFile

    suite, columns, judged, gates, speed, policy, runtimes, sweep, data, hosts = blocks("toml")
    told_hosts = validated(HostsFile, tomllib.loads(hosts), "README")
    assert told_hosts.hosts["gpu-a"].gpus == "0-7"
    assert told_hosts.code.model_copy(update={"include": [], "exclude": []}) == CodeEntry(), "what it says are the defaults"
    reviews = {**tomllib.loads(suite)["datasets"]["reviews"], **tomllib.loads(columns)["datasets"]["reviews"]}
    assert validated(DatasetEntry, reviews, "README").columns == {"text": "body", "label": "target"}
    assert validated(SweepFile, tomllib.loads(sweep), "README").early_stop is not None
    assert validated(SuiteFile, tomllib.loads(suite), "README").task == "classification"
    against = validated(SuiteFile, {**tomllib.loads(suite), **tomllib.loads(gates)}, "README")
    assert [gate.is_paired for gate in against.gates] == [True, True] and against.comparison == ComparisonEntry(), "what it says are the defaults"
    timed = validated(SuiteFile, {**tomllib.loads(suite), **tomllib.loads(speed)}, "README")
    assert {gate.metric for gate in timed.gates if gate.is_speed} == set(SPEED), "all there are"
    told = tomllib.loads(judged)
    judge = validated(JudgeEntry, told["judge"], "README")
    assert (judge.pattern, judge.right) == (JudgeEntry(runtime="x").pattern, JudgeEntry(runtime="x").right), "what it says are the defaults"
    assert validated(GenerationOptions, told["task_options"], "README").match == "judge"
    assert validated(RuntimeEntry, told["runtimes"][judge.runtime], "README").kind == "openai"
    validated(DatasetEntry, tomllib.loads(data)["datasets"]["people"], "README")
    validated(PolicyEntry, tomllib.loads(policy)["policies"]["internal_strict"], "README")
    kinds = {validated(RuntimeEntry, entry, "README").kind for entry in tomllib.loads(runtimes)["runtimes"].values()}
    assert {"inprocess", *kinds} == set(re.findall(r"^\| `(\w+)` \|", README[README.index("| `kind` of a runtime") :].partition("\n\n")[0], re.MULTILINE))


def test_the_python_of_the_readme_runs(pytester):
    test, conftest, _ = blocks("python")
    pytester.makepyfile(test)
    pytester.makeconftest(conftest)
    result = pytester.runpytest_subprocess("--gpueval-limit", "5", "-k", "presidio", f"--rootdir={pytester.path}")
    result.assert_outcomes(passed=1, deselected=6)


def test_what_the_readme_tells_of_progress_is_read(tmp_path, monkeypatch):
    from pytest_gpueval.hosts.detached.agent.files import Run
    from pytest_gpueval.hosts.detached.agent.progress import progress_of
    from pytest_gpueval.hosts.detached.progress import progress

    place = tmp_path / "one"
    place.mkdir()
    (document,) = blocks("json")
    (place / "progress.json").write_text(document)
    found = progress(progress_of(Run(str(tmp_path), "one")), 0.0)
    assert (found.done, found.total, found.failed, found.unit, found.note) == (12, 40, 1, "items", "kaggle-test")
    monkeypatch.setenv("GPUEVAL_RUN_DIR", str(place))
    exec(blocks("python")[2], {"os": os, "json": json, "Path": Path, "step": 3, "steps": 40, "loss": 2.5})
    found = progress(progress_of(Run(str(tmp_path), "one")), 0.0)
    assert (found.done, found.total, found.unit, found.note) == (3, 40, "steps", "loss 2.500")
    assert [path.name for path in place.iterdir()] == ["progress.json"]


# Takes what MLflow takes, and refuses what it refuses.
MLFLOW = """
import contextlib, json, re
def write(kind, found):
    with open("logged.jsonl", "a") as file:
        file.write(json.dumps([kind, found]) + "\\n")
@contextlib.contextmanager
def start_run(run_name):
    write("run", run_name)
    yield
def log_params(params):
    write("params", {key: str(value) for key, value in params.items()})
def log_metrics(metrics):
    assert all(isinstance(value, float) and re.fullmatch(r"[\\w\\-. /:]+", name) for name, value in metrics.items())
    write("metrics", metrics)
def set_tags(tags):
    write("tags", {key: str(value) for key, value in tags.items()})
def log_artifact(path):
    write("artifact", json.load(open(path)))
"""


def test_the_logger_of_our_conftest_logs_where_it_is_asked_to(pytester, monkeypatch):
    pytester.makeconftest((ROOT / "conftest.py").read_text())
    pytester.makepyfile(mlflow=MLFLOW)
    monkeypatch.setenv("PYTHONPATH", str(pytester.path))
    words = ("--gpueval-suite", "guardrails_ru", "--gpueval-limit", "5", "-k", "presidio", "--gpueval-session")
    pytester.runpytest_subprocess(*words, "quiet").assert_outcomes(passed=1, deselected=6)
    assert not (pytester.path / "logged.jsonl").exists()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "file:here")
    result = pytester.runpytest_subprocess(*words, "it")
    assert "WARNING: pytest_gpueval" not in result.stdout.str()
    logged = dict(json.loads(line) for line in (pytester.path / "logged.jsonl").read_text().splitlines())
    summary = logged["artifact"]
    assert logged["run"] == f"it/{summary['run_id']}"
    assert logged["metrics"]["strict.f1"] == summary["metrics"]["strict.f1"]["value"]
    assert (logged["params"]["case"], logged["tags"]["status"]) == ("presidio-test-fast", summary["status"])


def test_the_ci_examples_are_valid_and_their_options_exist():
    github, gitlab = map(yaml.safe_load, blocks("yaml"))
    (jenkins,) = blocks("groovy")
    steps = github["jobs"]["evaluate"]["steps"]
    lines = [step["run"] for step in steps if "run" in step] + gitlab["evaluate"]["script"] + re.findall(r"script: '(pytest [^']*)'", jenkins)
    sessions = [shlex.split(line) for line in lines if line.startswith("pytest ")]
    assert len(sessions) == 3
    for words in sessions:
        done = subprocess.run([BIN / "pytest", *words[1:], "--collect-only", "-q"], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    assert gitlab["evaluate"]["retry"]["exit_codes"] == [INFRASTRUCTURE_EXIT]
    assert f"status == {INFRASTRUCTURE_EXIT})" in jenkins
    assert gitlab["evaluate"]["artifacts"]["reports"]["junit"] == "reports/evaluations/*/junit.xml"
    plain = re.sub(r"'[^']*'|\"[^\"]*\"|//.*", "", jenkins)
    assert all(plain.count(opening) == plain.count(closing) for opening, closing in ("()", "{}"))


def test_commands_of_reports_in_the_readme_are_understood(pytester):
    (pytester.path / "reports/evaluations").mkdir(parents=True)
    lines = [line for block in blocks("sh") for line in block.splitlines() if line.startswith("gpueval report")]
    assert len(lines) == 2
    for line in lines:
        words = ["reports/evaluations" if word == "/mnt/evaluations" else word for word in shlex.split(line.partition(" > ")[0])[1:]]
        done = subprocess.run([BIN / "gpueval", *words], cwd=pytester.path, capture_output=True, text=True)
        assert done.returncode == 0 or "no session in" in done.stderr, done.stderr


def test_every_run_file_of_the_readme_is_written(pytester):
    pytester.runpytest_subprocess("--gpueval-suite", "guardrails_ru", "--gpueval-limit", "5", "-k", "presidio", "--gpueval-session", "it")
    (run,) = (pytester.path / "reports/evaluations/it").glob("guardrails_ru-*")
    named = re.search(r"guardrails_ru-meddies-fast/\n((?:    .*\n)+)", README)
    assert named is not None
    files = {line.split()[0] for line in named[1].splitlines()}
    assert {path.name for path in run.iterdir() if not path.name.startswith(".")} == files


def test_dependencies_of_the_table_are_those_of_the_package():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = {re.split(r"[<>=\[ ]", item)[0] for items in [project["dependencies"], *project["optional-dependencies"].values()] for item in items}
    section = README[README.index("## Dependencies") :]
    told = {name.strip() for cell in re.findall(r"^\| ([a-z][^|]*) \|", section, re.MULTILINE) for name in cell.split(",")} - {"package"}
    assert told == wanted - {"pytest-gpueval"}
