"""The samples of a merged session's report.html: as a session that ran at once shows them, wherever the rows that were evaluated are to be had."""

from __future__ import annotations

import json
import shutil
import sys

import pytest
from selenium.webdriver.support.ui import WebDriverWait
from typer.testing import CliRunner

from pytest_gpueval.cli.main import app
from tests.chromium import chromium
from tests.reports import pages
from tests.session.conftest import Toy, rows

SECRET = "hush-hush-0123456789"
PARTS = ("one", "two")


@pytest.fixture
def toy(pytester, monkeypatch):
    monkeypatch.delenv("GR_RUNTIME_MODE", raising=False)
    return Toy(pytester)


def sessions(toy, *options, parts=PARTS):
    """A session of each dataset."""
    for name in parts:
        toy.run("--gpueval-suite", "toy", "-k", f"{name}-fast", "--gpueval-session", f"m-{name}", *options).assert_outcomes(passed=1, deselected=1)
    return [toy.session(f"m-{name}") for name in parts]


def merged(toy, parts, name="all"):
    done = CliRunner().invoke(app, ["runs", "merge", str(toy.output / name), *map(str, parts)])
    assert done.exit_code == 0, done.output
    return page(toy, name)


def page(toy, name):
    """The source of a session's page, and what it shows of each sample: (id, text, gold, prediction)."""
    source = (toy.session(name) / "report.html").read_text()
    found = pages.unpacked(source)
    columns = [(case, block) for case, block in found if block == 0]
    shown = [zip(found[case, 0]["id"], *(found[case, 1][key] for key in ("text", "gold", "predicted")), strict=True) for case, _ in columns]
    return source, {sample[0]: sample[1:] for case in shown for sample in case}


@pytest.mark.parametrize(("given", "texts"), [((), 10), (("--gpueval-report-texts=yes",), 100), (("--gpueval-report-texts=no",), 0)])
def test_a_merged_session_shows_what_one_session_shows(toy, given, texts):
    toy.run("--gpueval-suite", "toy", "--gpueval-session", "whole", *given).assert_outcomes(passed=2)
    whole, expected = page(toy, "whole")
    source, found = merged(toy, sessions(toy, *given))
    assert found == expected and len(found) == 100
    assert sum(text is not None for text, _, _ in found.values()) == texts
    assert found["one-0"][1] == [[0, 5, 0]], "what was missed is known where the rows are"
    assert "Precision and recall over the threshold" not in whole + source, "all scores are equal"
    assert "cannot be read" not in source


def test_the_most_reticent_session_decides(toy):
    first = sessions(toy, "--gpueval-report-texts=yes", parts=["one"])
    last = sessions(toy, "--gpueval-report-texts=no", parts=["two"])
    _, found = merged(toy, [*first, *last])
    assert {text for text, _, _ in found.values()} == {None}
    assert json.loads((toy.session("all") / "session.json").read_text())["report_texts"] == "no"
    between = sessions(toy, "--gpueval-report-texts=errors", "--gpueval-force", parts=["two"])
    _, found = merged(toy, [*first, *between], "less")
    assert sum(text is not None for text, _, _ in found.values()) == 10


def test_a_session_that_does_not_say_gets_no_texts(toy):
    parts = sessions(toy)
    record = json.loads((parts[0] / "session.json").read_text())
    (parts[0] / "session.json").write_text(json.dumps({name: value for name, value in record.items() if name != "report_texts"}))
    source, found = merged(toy, parts)
    assert {text for text, _, _ in found.values()} == {None}
    assert source.count("there are no texts: one of the sessions does not say which texts its report may hold") == 2


def test_secrets_are_cut_out(toy, monkeypatch):
    table = rows(6, "one", wrong_every=1)
    table[0]["text"] = f"aaaaabbbbb {SECRET}"
    table[1]["text"] = "aaaaa token hf_" + "A1b2C3d4" * 4
    toy.split(table, "one")
    toy.edit('target = "model.py:Model"', f'target = "model.py:Model"\noptions = {{ api_token = "{SECRET}" }}')
    model = toy.root / "suites/toy/model.py"
    model.write_text(model.read_text() + "    def __init__(self, **options):\n        pass\n")
    source, found = merged(toy, sessions(toy))
    assert SECRET not in source + json.dumps(found) and "hf_A1" not in json.dumps(found)
    assert [found[name][0] for name in ("one-0", "one-1")] == ["aaaaabbbbb <redacted>", "aaaaa token <redacted>"]


MINE = """
from pytest_gpueval.scoring.spans import SpanDetection

def pytest_gpueval_tasks():
    return {"mine": SpanDetection}
"""


def test_a_task_of_a_conftest_and_a_policy_of_a_file(toy, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    toy.pytester.makeconftest(MINE)
    toy.edit('task = "span_detection"', 'task = "mine"')
    policy = toy.root / "mine.toml"
    policy.write_text("[policies.few]\nthreshold = 0.95\n")
    options = (f"--gpueval-policy={policy}:few", "--gpueval-report-texts=yes")
    toy.run("--gpueval-suite", "toy", "--gpueval-session", "whole", *options).assert_outcomes(passed=2)
    parts = sessions(toy, *options)
    policy.unlink()
    _, found = merged(toy, parts)
    assert found == page(toy, "whole")[1] and len(found) == 100
    assert {text for text, _, _ in found.values()} == {"aaaaabbbbb"}


def changed_rows(toy):
    toy.split(rows(51, "one"), "one")
    return "one/fast as it was evaluated (SHA-256 ", "fast.parquet is another file by now"


def no_rows(toy):
    (toy.root / "suites/toy/data/one/fast.parquet").unlink()
    return "one/fast as it was evaluated (SHA-256 ", "fast.parquet: no such file"


def other_labels(toy):
    toy.edit('labels = ["A", "B"]', 'labels = ["A", "C"]')
    return "suite.toml: says otherwise than when this was run: labels", ""


def broken(toy):
    toy.edit('labels = ["A", "B"]', "labels = 7")
    return "suite.toml: labels: expected", ""


def no_dataset(toy):
    toy.edit("[datasets.one]", "[datasets.three]")
    return "has no dataset &#39;one&#39; with split &#39;fast&#39; any more", ""


def no_suite(toy):
    shutil.rmtree(toy.root / "suites/toy")
    return "there is no suite &#39;toy&#39;", ""


@pytest.mark.parametrize("change", [changed_rows, no_rows, other_labels, broken, no_dataset, no_suite])
def test_rows_that_are_not_here_are_said_on_the_page(toy, change):
    parts = sessions(toy)
    words = change(toy)
    source, found = merged(toy, parts)
    assert "The split cannot be read, so there are no texts: " in source
    assert all(word in source for word in words), source
    assert len(found) == 100 and all(found[f"one-{number}"][0] is None for number in range(50))


def test_rows_of_a_directory_are_found_there_or_in_the_suite(toy):
    """The directory is gone when the second merge looks: the suite has the very same rows of one dataset."""
    place = toy.root / "mirror"
    shutil.copytree(toy.root / "suites/toy/data", place)
    toy.split(rows(50, "one", wrong_every=5), "one")
    parts = sessions(toy, f"--gpueval-data={place}")
    _, found = merged(toy, parts)
    assert sum(text is not None for text, _, _ in found.values()) == 10
    shutil.rmtree(place)
    source, found = merged(toy, parts, "later")
    assert {name.partition("-")[0] for name, (text, _, _) in found.items() if text is not None} == {"two"}
    assert f"--gpueval-data {place}: no such directory" in source


def test_shards_of_rows_have_their_own_texts(toy):
    toy.append("[datasets.three]\nsplits.fast = {}\nshards = 2\n")
    toy.split(rows(40, "three"), "three")
    for number in (1, 2):
        node = f"suites/toy/suite.toml::test_eval[three-fast-{number}of2]"
        toy.run(node, "--gpueval-session", f"m-{number}", "-p", "no:xdist").assert_outcomes(passed=1)
    _, found = merged(toy, [toy.session("m-1"), toy.session("m-2")])
    assert [name for name, (text, _, _) in found.items() if text is not None] == ["three-0", "three-10", "three-20", "three-30"]


def test_nothing_is_packed_for_a_dry_run(toy, monkeypatch):
    parts = sessions(toy)
    monkeypatch.setattr("pytest_gpueval.session.joined_samples.of_run", lambda *_args, **_named: pytest.fail("rows were read"))
    done = CliRunner().invoke(app, ["runs", "merge", str(toy.output / "all"), *map(str, parts), "--dry-run"])
    assert done.exit_code == 0, done.output


def test_a_browser_shows_them(toy):
    merged(toy, sessions(toy))
    with chromium() as browser:
        browser.get(f"{(toy.session('all') / 'report.html').as_uri()}#case-0")
        wait = WebDriverWait(browser, 20, 0.02)
        marks = lambda: [(mark.get_attribute("class"), mark.text) for mark in browser.find_elements("css selector", ".view.here .detail mark")]  # noqa: E731
        wait.until(lambda _: marks() == [("both", "aaa"), ("missed", "aa")])
        assert "aaaaabbbbb" in browser.find_element("css selector", ".view.here .item").text
        assert browser.get_log("browser") == []
