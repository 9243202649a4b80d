"""Gates against a baseline in sessions: what passes, fails, is not known, and what a failure shows."""

from __future__ import annotations

import json
import re

import pytest
from typer.testing import CliRunner

from pytest_gpueval.cli.main import app

from .conftest import rows

SUITE = ("--gpueval-suite", "toy")
UPDATE = (*SUITE, "--gpueval-update-baseline", "--gpueval-session", "first")
AGAINST = (*SUITE, "--gpueval-baseline", "baselines")
# Finds nothing in these samples.
MISSING = """
class Model(Model):
    def predict(self, batch):
        return [[] if int(item["id"].rpartition("-")[2]) % 3 == 1 else self.one(item["text"]) for item in batch]
"""


@pytest.fixture
def gated(toy):
    """A suite whose figures may not fall, and its baseline of 50 rows a dataset."""
    toy.append('[[gates]]\nmetric = "strict.f1"\nmax_drop = 0.01\n')
    toy.run(*UPDATE).assert_outcomes(passed=2)
    return toy


def worse(toy, text: str = MISSING):
    model = toy.root / "suites/toy/model.py"
    model.write_text(model.read_text() + text)


def gates_of(toy, session, case="one-fast"):
    return json.loads((toy.session(session) / f"toy-{case}/summary.json").read_text())["gates"]


def test_the_same_answers_pass(gated):
    result = gated.run(*AGAINST, "--gpueval-session", "second")
    result.assert_outcomes(passed=3)
    result.stdout.no_fnmatch_line("*do not speak*")
    words = [r"dataset +rows +metric +value \[95 % CI\] +vs baseline +p +finds +samples/s +verdict", r"one-fast .* \+0\.000 +1 +0\.\d+ .* passed, 1 gate$"]
    result.stdout.re_match_lines(words)
    assert "+0.000 vs baseline (p 1, finds 0." in (gated.session("second") / "report.md").read_text()
    page = (gated.session("second") / "report.html").read_text()
    assert page.count("drop &lt;= 0.01") >= 2 and "p beside all such gates of the suite" in page
    for case in ("one-fast", "two-fast"):
        (verdict,) = gates_of(gated, "second", case)
        change = verdict["change"]
        assert (verdict["outcome"], verdict["bound"], verdict["n"]) == ("pass", "drop <= 0.01", 50)
        assert (change["difference"], change["low"], change["high"], change["p"], change["changed"]) == (0, 0, 0, 1, 0)
        assert 0 < change["detectable"] < 1


def test_a_drop_fails_and_shows_what_fell(gated):
    worse(gated)
    result = gated.run(*AGAINST, "--gpueval-session", "second")
    result.assert_outcomes(failed=2, passed=1)
    text = result.stdout.str()
    assert "toy one-fast: 1 of 1 gates failed" in text
    (verdict,) = gates_of(gated, "second")
    change = verdict["change"]
    assert (verdict["outcome"], change["changed"], verdict["n"]) == ("fail", 17, 50)
    assert change["baseline"] == pytest.approx(0.9) and change["difference"] == pytest.approx(verdict["value"] - 0.9)
    assert change["high"] < -0.01 and change["p"] < 0.025 and change["p_adjusted"] == pytest.approx(2 * change["p"])
    assert "labels that changed most:" in text and "A  strict.f1 0.9000 ->" in text
    # Each of these was found and is not any more; "one-10" never counted as right.
    shown = [line.split() for line in result.outlines if line.split()[1:] == ["1.000", "->", "0.000"]]
    assert [line[0] for line in shown[:5]] == [f"one-{number}" for number in (1, 4, 7, 13, 16)]
    assert "right: [A aaa]aabbbbb" in text and "now:   aaaaabbbbb" in text
    (command,) = {line.strip() for line in result.outlines if "test_eval[one-fast]" in line and "--gpueval-baseline" in line}
    assert "run just this again:" in text and "--gpueval-session=second" in command


def test_a_gate_that_cannot_see_what_it_promises_is_named(gated, monkeypatch):
    """50 rows do not show a drop of a hundredth; they do show one of a half."""
    words = r"toy/one-fast: strict.f1: max_drop 0.01, but on 50 rows a change must be about 0\.[12]\d\d to be found"
    assert re.search(words, gated.run(*AGAINST, "--gpueval-session", "second").stdout.str())
    monkeypatch.chdir(gated.root)
    planned = CliRunner().invoke(app, ["plan", "toy", "--gpus", "none", "--baseline", "baselines"])
    assert planned.exit_code == 0 and re.search(words, planned.stdout)
    gated.edit("max_drop = 0.01", "max_drop = 0.5")
    assert "a change must be" not in CliRunner().invoke(app, ["plan", "toy", "--gpus", "none", "--baseline", "baselines"]).stdout


def test_texts_that_are_not_to_be_shown(gated):
    worse(gated)
    text = gated.run(*AGAINST, "--gpueval-session", "second", "--gpueval-report-texts", "no").stdout.str()
    assert "  one-1  1.000 -> 0.000" in text and "aaaaabbbbb" not in text and "aabbbbb" not in text


def test_few_rows_cannot_tell(toy):
    toy.append('[[gates]]\nmetric = "strict.f1"\nmax_drop = 0.3\n[comparison]\ninconclusive = "fail"\n')
    for name in ("one", "two"):
        toy.split(rows(6, name), name)
    toy.run(*UPDATE).assert_outcomes(passed=2)
    worse(toy)
    toy.run(*AGAINST, "--gpueval-session", "second").assert_outcomes(failed=2, passed=1)
    assert [verdict["outcome"] for verdict in gates_of(toy, "second")] == ["inconclusive"]
    toy.edit('inconclusive = "fail"', 'inconclusive = "pass"')
    toy.run(*AGAINST, "--gpueval-session", "third").assert_outcomes(passed=3)


def test_without_a_baseline_they_do_not_speak(gated):
    worse(gated)
    result = gated.run(*SUITE, "--gpueval-session", "second")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["*2 gates against a baseline do not speak: give --gpueval-baseline*"])
    assert gates_of(gated, "second") == []


def test_a_finished_run_is_judged_again_beside_another_baseline(gated):
    """From its results, without the model; beside the same baseline its verdict is reused."""
    worse(gated)
    gated.run(*SUITE, "--gpueval-session", "second").assert_outcomes(passed=2)
    worse(gated, "\nclass Model(Model):\n    def predict(self, batch):\n        raise AssertionError\n")
    model = gated.root / "suites/toy/model.py"
    model.write_text(model.read_text().partition("\nclass Model(Model):\n    def predict(self, batch):\n        raise")[0])
    gated.run(*AGAINST, "--gpueval-session", "second").assert_outcomes(failed=2, passed=1)
    assert len(gates_of(gated, "second")) == 1


def test_holm_goes_on_once_all_have_spoken(toy):
    """Of two gates one fails at half the level; the other then need only reach the whole one."""
    toy.append('[[gates]]\nmetric = "strict.f1"\nmax_drop = 0\n')
    toy.run(*UPDATE).assert_outcomes(passed=2)
    worse(toy, MISSING)
    name = toy.root / "suites/toy/model.py"
    # In "two" fewer samples fall: by themselves they are not enough at half the level, only at the whole one.
    name.write_text(name.read_text().replace("% 3 == 1", '% (3 if item["id"].startswith("one") else 9) == 1'))
    result = toy.run(*AGAINST, "--gpueval-session", "second")
    (one,), (two,) = gates_of(toy, "second"), gates_of(toy, "second", "two-fast")
    assert one["outcome"] == "fail" and two["outcome"] == "inconclusive"
    assert 0.025 < two["change"]["p"] <= 0.05
    result.assert_outcomes(failed=2, passed=1)
    assert "toy: 1 more gate failed beside the others of the suite (Holm, level 0.05)" in result.stdout.str()


def test_a_gate_of_a_figure_that_less_is_better_of(toy):
    toy.append('[[gates]]\nmetric = "document.false_positive_rate"\nmax_rise = 0.1\n')
    for name in ("one", "two"):
        table = rows(60, name)
        toy.split([{**row, "spans": []} if number % 2 else row for number, row in enumerate(table)], name)
    worse(toy, MISSING.replace("% 3 == 1", "% 2 == 1"))
    toy.run(*UPDATE).assert_outcomes(passed=2)
    worse(toy)
    toy.run(*AGAINST, "--gpueval-session", "second").assert_outcomes(failed=2, passed=1)
    (verdict,) = gates_of(toy, "second")
    assert (verdict["outcome"], verdict["change"]["baseline"], verdict["value"], verdict["bound"]) == ("fail", 0, pytest.approx(2 / 3), "rise <= 0.1")


def test_a_policy_does_not_escape_them(gated):
    """Its own gates take the place of bounds, not of what sees the costs of choosing it."""
    gated.edit("[policies.closed]\nthreshold = 0.95\n", '[policies.closed]\nthreshold = 0.95\n[[policies.closed.gates]]\nmetric = "strict.f1"\nmin = 0\n')
    gated.run(*AGAINST, "--gpueval-policy", "closed", "--gpueval-session", "second").assert_outcomes(failed=2, passed=1)
    assert [(verdict["bound"], verdict["outcome"]) for verdict in gates_of(gated, "second")] == [(">= 0", "pass"), ("drop <= 0.01", "fail")]


def test_on_workers_and_in_shards(gated):
    gated.edit("[datasets.one]\n", "[datasets.one]\nshards = 2\n")
    worse(gated)
    result = gated.spawn(*AGAINST, "--gpus", "none", "-n", "2", "--gpueval-session", "second")
    result.assert_outcomes(failed=2, passed=3)
    assert [verdict["outcome"] for verdict in gates_of(gated, "second")] == ["fail"]
