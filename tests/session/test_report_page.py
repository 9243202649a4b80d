"""report.html of real sessions: the samples of their runs, with the texts that were asked for, and no secret."""

from __future__ import annotations

import json

import pytest

from pytest_gpueval.datasets.parquet import ParquetSplit
from pytest_gpueval.reports import session_page
from pytest_gpueval.runs.redact import Redactor
from pytest_gpueval.scoring.spans import SpanDetection
from pytest_gpueval.session.page_samples import of_run
from tests.reports import pages
from tests.session.conftest import rows

SECRET = "hush-hush-0123456789"


def blocks(toy, session="it"):
    source = (toy.session(session) / "report.html").read_text()
    return source, pages.unpacked(source)


@pytest.mark.parametrize(("given", "texts"), [((), 5), (("--gpueval-report-texts=yes",), 50), (("--gpueval-report-texts=no",), 0)])
def test_the_texts_that_were_asked_for(toy, given, texts):
    toy.run("--gpueval-suite", "toy", "--gpueval-session", "it", *given).assert_outcomes(passed=2)
    source, found = blocks(toy)
    assert set(found) == {(0, 0), (0, 1), (1, 0), (1, 1)}
    assert found[0, 0]["id"] == [f"one-{number}" for number in range(50)]
    assert found[0, 0]["state"] == "1000000000" * 5
    shown = [text for text in found[0, 1]["text"] if text is not None]
    assert shown == ["aaaaabbbbb"] * texts
    assert found[0, 1]["gold"][0] == [[0, 5, 0]]
    assert "50 samples, 5 answered wrongly." in source


def test_a_value_that_no_option_has(toy):
    result = toy.run("--gpueval-suite", "toy", "--gpueval-report-texts=maybe")
    result.stderr.fnmatch_lines(["*--gpueval-report-texts maybe: *errors, no, yes*"])


def test_secrets_in_texts_and_errors_are_redacted_before_they_are_packed(toy, monkeypatch):
    monkeypatch.setenv("TOY_TOKEN", SECRET)
    table = rows(6)
    table[0]["text"] = f"aaaaabbbbb {SECRET}"
    table[1]["text"] = f"BOOM {SECRET}"
    table[2]["text"] = "aaaaa token hf_" + "A1b2C3d4" * 4
    toy.split([{**row, "spans": []} for row in table])
    toy.edit('runtime = "cpu"', 'runtime = "cpu"\nmax_error_share = 1.0')
    toy.run("--gpueval-suite", "toy", "--gpueval-session", "it", "-k", "one", "--gpueval-report-texts=yes").assert_outcomes(passed=1)
    source, found = blocks(toy)
    everything = source + json.dumps(list(found.values()))
    assert SECRET not in everything
    assert "hf_A1" not in everything
    assert found[0, 1]["text"][:3] == ["aaaaabbbbb <redacted>", "BOOM <redacted>", "aaaaa token <redacted>"]
    assert found[0, 1]["predicted"][0] == [], "offsets of a text that is another one now"


def test_a_split_that_is_another_one_by_the_end_leaves_samples_without_texts(toy):
    toy.run("--gpueval-suite", "toy", "--gpueval-session", "it", "-k", "one").assert_outcomes(passed=1)
    changed = rows(50, "one")
    changed[3]["id"] = "another"
    split = ParquetSplit(toy.split(changed), "")
    found = of_run(
        toy.session("it") / "toy-one-fast", lambda: (split, SpanDetection(["A", "B"])), texts="yes", redactor=Redactor(), budget=session_page.Budget()
    )
    assert found.note == "The split is not the one that was evaluated: texts are left out from the first difference on."
    assert (found.kept, found.texts) == (50, 3)


def test_a_split_that_is_gone_leaves_samples_without_texts(toy):
    toy.run("--gpueval-suite", "toy", "--gpueval-session", "it", "-k", "one").assert_outcomes(passed=1)
    gone = ParquetSplit(toy.root / "gone.parquet", "")
    found = of_run(toy.session("it") / "toy-one-fast", lambda: (gone, SpanDetection(["A"])), texts="yes", redactor=Redactor(), budget=session_page.Budget())
    assert found.note == f"The split cannot be read, so there are no texts: {toy.root / 'gone.parquet'}: no such file"
    assert (found.kept, found.texts) == (50, 0)


def test_a_line_that_is_no_result_leaves_the_samples_before_it(toy):
    toy.run("--gpueval-suite", "toy", "--gpueval-session", "it", "-k", "one").assert_outcomes(passed=1)
    path = toy.session("it") / "toy-one-fast"
    lines = (path / "results.jsonl").read_text().splitlines()
    (path / "results.jsonl").write_text("\n".join([*lines[:7], "not a line", *lines[7:]]) + "\n")
    split = ParquetSplit(toy.root / "suites/toy/data/one/fast.parquet", "")
    found = of_run(path, lambda: (split, SpanDetection(["A", "B"])), texts="yes", redactor=Redactor(), budget=session_page.Budget())
    assert (found.kept, found.texts) == (7, 7)
    assert "results.jsonl:8: not a result line" in found.note


def test_a_session_without_a_single_result_has_a_page(toy):
    toy.edit('target = "model.py:Model"', 'target = "model.py:None_such"')
    toy.run("--gpueval-suite", "toy", "--gpueval-session", "it")
    source, found = blocks(toy)
    assert found == {}
    assert "None_such" in source
