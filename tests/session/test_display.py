"""The screen: a header, live progress that fits its place, a line for each run, a table at the end."""

from __future__ import annotations

import os
import re
import sys

import pexpect
import pytest

from pytest_gpueval.session import display
from pytest_gpueval.session.failures import INFRASTRUCTURE_EXIT
from tests.waiting import SESSION_S

from .conftest import rows


def test_the_header_says_what_runs_on_what(toy):
    result = toy.run("--gpueval-suite", "toy", "--gpueval-session", "it", "--gpueval-policy", "closed")
    result.stdout.fnmatch_lines(
        [
            "gpueval: toy · fast (2 datasets, embedded: synthetic) · runtime cpu (inprocess) · policy closed · one process",
            "gpueval: session reports/evaluations/it",
        ]
    )


@pytest.mark.parametrize(("args", "lanes"), [(("--gpus", "none", "-n", "2"), "2 CPU lanes"), (("-n", "2"), "2 xdist workers")], ids=["lanes", "xdist"])
def test_the_header_names_the_lanes(toy, args, lanes):
    toy.spawn("--gpueval-suite", "toy", *args).stdout.fnmatch_lines([f"gpueval: toy*{lanes}"])


def test_a_line_for_each_run_and_a_table(toy):
    toy.append('[[datasets.two.gates]]\nmetric = "strict.f1"\nmin = 0.99\n')
    result = toy.run("--gpueval-suite", "toy", "--gpueval-session", "it")
    result.stdout.fnmatch_lines(
        [
            "one-fast *passed *50 rows  strict.f1 0.900 ?0.7* */s *main",
            "two-fast *failed *50 rows  strict.f1 0.900*",
            "*= gpueval =*",
            "dataset *rows *metric *value ?95 % CI? *samples/s *verdict*",
            "one-fast *50 *strict.f1 *0.900 ?0.7* *passed, no gates*",
            "two-fast *failed, 1 gate*",
            "report: reports/evaluations/it/report.html",
            "junit:  reports/evaluations/it/junit.xml",
            "FAILED suites/toy/suite.toml::test_eval?two-fast?*",
        ]
    )


def test_quiet_prints_the_table_only(toy):
    text = toy.run("--gpueval-suite", "toy", "-q").stdout.str()
    assert "gpueval: toy" not in text
    assert re.search(r"^one-fast .* passed, no gates", text, re.MULTILINE)
    assert toy.run("--gpueval-suite", "toy", "-qq").stdout.str().count("one-fast") == 0


def test_verbose_is_pytests_own(toy):
    toy.run("--gpueval-suite", "toy", "-v").stdout.fnmatch_lines(["suites/toy/suite.toml::test_eval?one-fast? PASSED*"])


def test_a_log_gets_no_escape_codes(toy):
    result = toy.spawn("--gpueval-suite", "toy")
    assert "\x1b" not in result.stdout.str()
    assert "\r" not in result.stdout.str()


def terminal(toy, *args: str, width: int = 130, encoding: str = "utf-8") -> pexpect.spawn:
    """A session on a terminal, slow enough to be watched."""
    return pexpect.spawn(
        sys.executable,
        ["-m", "pytest", "--gpueval-suite", "toy", *args],
        cwd=str(toy.root),
        env={**os.environ, "TOY_SECONDS": "0.06", "TERM": "xterm-256color", "PYTHONIOENCODING": encoding},
        dimensions=(40, width),
        encoding=encoding,
        timeout=SESSION_S,
    )


@pytest.mark.parametrize("xdist", [[], ["-n", "2"]], ids=["one process", "xdist"])
def test_a_terminal_shows_live_progress_and_clears_it(toy, xdist):
    child = terminal(toy, "--gpueval-workers", "2", *xdist)
    child.expect(r"one-fast +\d+/50 +\d+/s +ETA 0:0\d")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0
    end = child.before
    table = end[end.index("= gpueval =") :]
    assert "ETA" not in table
    assert "2 passed" in table


def test_a_terminal_without_unicode(toy):
    """Long names are shortened by a sign that it does not have."""
    name = "a-dataset-whose-name-does-not-fit-into-the-line-of-a-worker"
    toy.append(f"[datasets.{name}]\nsplits.fast = {{}}\n")
    toy.split(rows(50), name)
    child = terminal(toy, "-k", "does-not-fit", "-n", "1", width=80, encoding="koi8-r")
    child.expect(r"gw0 +\S*\?\S*-fast ")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0


def test_a_message_that_cannot_be_taken_in_is_an_error_of_the_session(toy):
    """Not an interrupt that nobody made; and what was measured is kept."""
    toy.pytester.makeconftest(
        """
        from pytest_gpueval.session.display import Display
        def hear(self, message):
            if message["event"] == "end":
                raise ZeroDivisionError("a bug")
        Display.hear = hear
        """
    )
    result = toy.spawn("--gpueval-suite", "toy", "-n", "1", "--gpueval-session", "it")
    assert result.ret == INFRASTRUCTURE_EXIT
    result.stdout.fnmatch_lines(["*: a message (end) could not be taken in: ZeroDivisionError: a bug"])
    result.stdout.no_fnmatch_line("*eyboard*")
    result.assert_outcomes(passed=2)
    assert toy.summary("toy-one-fast", "it")["status"] == "passed"


def test_progress_in_a_log_comes_in_whole_lines(toy, monkeypatch):
    monkeypatch.setattr("pytest_gpueval.session.display._LOG_EVERY_S", 0.0)
    monkeypatch.setattr("pytest_gpueval.session.worker._PROGRESS_EVERY_S", 0.0)
    result = toy.run("--gpueval-suite", "toy", "-k", "one")
    result.stdout.fnmatch_lines(["main   one-fast * 16/50 *", "main   one-fast * 50/50 *"])


@pytest.mark.parametrize(("bad", "listed"), [(0, []), (2, ["d1", "d3"]), (5, ["d1", "d3", "d5"])])
def test_of_very_many_runs_those_that_did_not_pass_are_listed(toy, monkeypatch, bad, listed):
    monkeypatch.setattr(display, "MOST_ROWS", 3)
    texts = {f"d{number}": "raise ValueError('no')" if number % 2 and number < 2 * bad else "pass" for number in range(12)}
    toy.datasets(texts)
    monkeypatch.setenv("TOY_EVENTS", str(toy.root / "events.jsonl"))
    lines = toy.run("--gpueval-suite", "toy", "--gpueval-session", "again", "--tb=no").outlines
    table = lines[next(number for number, line in enumerate(lines) if "= gpueval =" in line) + 1 :]
    assert [line.split()[0].removesuffix("-fast") for line in table if line.startswith("d") and line.split()[0] != "dataset"] == listed
    above = {0: "", 2: " Above are those that did not.", 5: " Above are 3 of those that did not."}[bad]
    assert f"{12 - bad} of 12 runs passed.{above} All are in the report." in table
