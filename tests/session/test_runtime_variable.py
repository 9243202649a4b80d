"""GR_RUNTIME_MODE: the runtime where neither the command line nor the ini file names one."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from pytest_gpueval.cli.main import app
from tests.session.conftest import MODEL, SUITE

VARIABLE = "GR_RUNTIME_MODE"
SECOND = '[runtimes.second]\nkind = "inprocess"\ntarget = "model.py:Model"\n'


@pytest.fixture
def two(toy, monkeypatch):
    """A suite with two runtimes, of which the variable names the second."""
    toy.append(SECOND)
    monkeypatch.setenv(VARIABLE, "second")
    return toy


def runtimes(toy, session=None):
    return {run["runtime"] for run in json.loads((toy.session(session) / "session.json").read_text())["runs"]}


def test_it_chooses_and_the_screen_says_so(two):
    result = two.run("--gpueval-suite", "toy", "--gpueval-session", "it")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines([f"gpueval: toy * runtime second (inprocess, from {VARIABLE}) *"])
    assert runtimes(two, "it") == {"second"}
    assert "--gpueval-runtime=second" in (two.session("it") / "toy-one-fast/command.sh").read_text(), "it runs the same where the variable is not set"


def test_for_workers_too(two):
    two.spawn("--gpueval-suite", "toy", "--gpus", "none", "-n", "2").assert_outcomes(passed=2)
    assert runtimes(two) == {"second"}


def test_an_option_and_an_ini_key_say_more(two):
    result = two.run("--gpueval-suite", "toy", "--gpueval-runtime", "cpu")
    result.stdout.fnmatch_lines(["gpueval: toy * runtime cpu (inprocess) *"])
    two.pytester.makeini("[pytest]\ngpueval_runtime = cpu\n")
    two.run("--gpueval-suite", "toy").stdout.fnmatch_lines(["gpueval: toy * runtime cpu (inprocess) *"])


def test_empty_is_not_set(two, monkeypatch):
    monkeypatch.setenv(VARIABLE, " ")
    two.run("--gpueval-suite", "toy").stdout.fnmatch_lines(["gpueval: toy * runtime cpu (inprocess) *"])


def test_suites_that_lack_it_are_named_and_nothing_runs(two):
    two.suite("other")
    two.suite("third", SUITE.replace("cpu", "slow"), MODEL)
    result = two.run("--gpueval-suite", "toy,other,third")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert result.errlines == [
        f"ERROR: {VARIABLE}=second: suite 'other' has no runtime 'second'. Valid runtimes: cpu.",
        f"{VARIABLE}=second: suite 'third' has no runtime 'second'. Valid runtimes: slow.",
        f"Say --gpueval-runtime NAME, or leave each suite its own default:  {VARIABLE}= pytest ...",
        "",
    ]
    assert not two.output.exists()


def test_a_test_of_the_users_own_has_the_same_error(two):
    two.suite("other")
    two.pytester.makepyfile("import pytest\n@pytest.mark.gpueval(suite='other')\ndef test_mine(case): pass")
    two.run("test_a_test_of_the_users_own_has_the_same_error.py").stdout.fnmatch_lines([f"*{VARIABLE}=second: suite 'other' has no runtime 'second'.*"])


def test_plans_say_it(two, monkeypatch):
    result = two.run("--gpueval-suite", "toy", "--gpueval-dry-run")
    result.stdout.fnmatch_lines([f"runtime second, from {VARIABLE}", "plan: 2 datasets*"])
    monkeypatch.chdir(two.root)
    said = CliRunner().invoke(app, ["plan", "toy", "--gpus", "none"])
    assert (said.exit_code, said.stdout.splitlines()[0]) == (0, f"runtime second, from {VARIABLE}")
    said = CliRunner().invoke(app, ["plan", "toy", "--gpus", "none", "--runtime", "cpu"])
    assert said.stdout.startswith("plan: ")
    monkeypatch.setenv(VARIABLE, "secnd")
    said = CliRunner().invoke(app, ["plan", "toy"])
    assert (said.exit_code, said.stderr.splitlines()[0]) == (
        2,
        f"gpueval: {VARIABLE}=secnd: suite 'toy' has no runtime 'secnd'. Did you mean 'second'? Valid runtimes: cpu, second.",
    )
