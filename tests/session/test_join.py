"""Shards joined: nobody can tell the result from that of one run, and without all of them there is no verdict."""

from __future__ import annotations

import json
import os
import shutil
from fnmatch import fnmatch
from itertools import pairwise
from xml.etree import ElementTree as ET

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pytest_gpueval.session import join
from pytest_gpueval.suites.model import Shard
from tests.session.conftest import rows
from tests.session.cut import ALONE, FILE, LANES, WATCHED, asked, gate, outcome, ran, runs, said, shards
from tests.session.test_again import untimed

IT = ("--gpueval-suite", "toy", "--gpueval-session", "it")
ONE = (*IT, "-k", "one")
SECOND = f"{FILE}::test_eval[one-fast-2of3]"


@given(rows=st.integers(0, 10**9), count=st.integers(1, 1000))
@example(rows=0, count=1)
@example(rows=3, count=7)
def test_shards_partition_the_rows(rows, count):
    bounds = [Shard(number, count).bounds(rows) for number in range(1, count + 1)]
    assert bounds[0][0] == 0 and bounds[-1][1] == rows
    assert all(before[1] == after[0] for before, after in pairwise(bounds))
    sizes = [stop - first for first, stop in bounds]
    assert max(sizes) - min(sizes) <= 1 and min(sizes) >= 0


# The results are those of one run.

OWN = """
from pytest_gpueval.scoring.spans import SpanDetection
def pytest_gpueval_tasks():
    return {"my_spans": SpanDetection}
def pytest_gpueval_metrics():
    return {"length": lambda sample, prediction: len(sample.inputs["text"]) / 7 if len(sample.inputs["text"]) % 3 else None}
"""

CLASSIFIER = """
class Model:
    def predict(self, batch):
        return [("a" if len(item["text"]) % 3 else "b", len(item["text"]) % 7 / 7) for item in batch]
"""


def uneven(count: int, **changes) -> list[dict]:
    """Rows of which no two shards have the same figures."""
    return [{**row, "text": row["text"] + "x" * (number * number % 11)} for number, row in enumerate(rows(count, "one", wrong_every=7, **changes))]


def spans(_toy) -> tuple[str, ...]:
    return ()


def classes(toy) -> tuple[str, ...]:
    toy.edit('task = "span_detection"', 'task = "classification"')
    toy.edit('labels = ["A", "B"]', 'labels = ["a", "b"]')
    (toy.root / "suites/toy/model.py").write_text(CLASSIFIER)
    toy.split([{"id": f"one-{n}", "text": "x" * (n % 10 + 1), "label": "a" if n % 4 else "b"} for n in range(50)])
    return ()


def own(toy) -> tuple[str, ...]:
    toy.pytester.makeconftest(OWN)
    toy.edit('task = "span_detection"', 'task = "my_spans"')
    toy.append('[[datasets.one.gates]]\nmetric = "length"\nmin = 0.1\n')
    return ()


def limited(_toy) -> tuple[str, ...]:
    return ("--gpueval-limit", "23")


def bad_rows(toy) -> tuple[str, ...]:
    table = uneven(50)
    for number in (0, 16, 17, 33, 49):
        table[number]["spans"] = [{"start": 0, "end": 500, "label": "A"}]
    toy.split(table)
    return ("--gpueval-on-bad-row", "skip")


def errors(toy) -> tuple[str, ...]:
    table = uneven(50)
    for number in (0, 20, 49):
        table[number]["text"] += "BOOM"
    toy.split(table)
    toy.edit('split = "fast"', 'split = "fast"\nmax_error_share = 0.06')
    return ()


def few_rows(toy) -> tuple[str, ...]:
    toy.split(uneven(3))
    return ()


@pytest.mark.parametrize("kind", [spans, classes, own, limited, bad_rows, errors, few_rows])
def test_nobody_can_tell_the_cut(toy, kind):
    toy.split(uneven(50))
    args = ("--gpueval-suite", "toy", "-k", "one", *kind(toy))
    for label in ("A", "a"):
        if f'"{label}"' in (toy.root / FILE).read_text():
            toy.append(f'[[datasets.one.gates]]\nmetric = "{"recall" if label == "a" else "strict.recall"}"\nlabel = "{label}"\nmin = 0.01\n')
    toy.run(*args, "--gpueval-session", "whole").assert_outcomes(passed=1, deselected=1)
    summary, lines = outcome(toy, "whole")
    assert summary["gates"] and summary["labels"]
    text = (toy.root / FILE).read_text()
    for count in (1, 2, 3, 7, 60) if kind is spans else (3, 7):
        (toy.root / FILE).write_text(text.replace('split = "fast"', f'split = "fast"\nshards = {count}', 1))
        made = min(count, len(lines))
        toy.run(*args, *ALONE, "--gpueval-session", f"cut{count}").assert_outcomes(passed=made + 1 if made > 1 else 1, deselected=1)
        assert outcome(toy, f"cut{count}") == (summary, lines), count
        if made > 1:
            parts = [toy.lines(f"toy-one-fast-{number}of{made}", f"cut{count}") for number in range(1, made + 1)]
            assert untimed([line for part in parts for line in part]) == lines
            assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_a_directory_is_cut_by_the_rows_that_it_has(toy):
    """The suite says 10 rows; elsewhere the split has 3."""
    shards(toy, 7)
    toy.edit("[datasets.one]\nsplits.fast = {}", "[datasets.one]\nsplits.fast = { rows = 10 }")
    file = toy.root / "elsewhere/one/fast.parquet"
    file.parent.mkdir(parents=True)
    toy.split(rows(3)).rename(file)
    args = (*ONE, *ALONE, "--gpueval-data", str(toy.root / "elsewhere"))
    toy.run(*args).assert_outcomes(passed=4, deselected=1)
    assert [line["id"] for line in toy.lines()] == ["r-0", "r-1", "r-2"]
    toy.run(*args).assert_outcomes(passed=1, deselected=1)


def test_too_many_errors_fail_the_whole_alone(toy):
    shards(toy, 5)
    table = rows(50)
    table[7]["text"] += "BOOM"
    toy.split(table)
    toy.edit('split = "fast"', 'split = "fast"\nmax_error_share = 0.01')
    result = toy.run(*ONE, *ALONE)
    result.assert_outcomes(passed=5, failed=1, deselected=1)
    result.stdout.fnmatch_lines(["*toy one-fast: 1 of 50 rows have no prediction*", "First: r-7:*"])


# The gate speaks once.


def test_the_gate_speaks_once(toy):
    shards(toy, 3)
    table = rows(51, wrong_every=1000)
    for number in (0, *range(40, 51)):
        table[number]["spans"][0]["end"] = 3 if number == 0 else 5
    toy.split(table)
    gate(toy, least=0.9)
    result = toy.spawn(*ONE, *LANES)
    result.assert_outcomes(passed=3, failed=1)
    assert runs(toy, "it") == {"toy-one-fast": "failed", **{f"toy-one-fast-{number}of3": "passed" for number in (1, 2, 3)}}
    assert [toy.summary(f"toy-one-fast-{number}of3")["gates"] for number in (1, 2, 3)] == [[], [], []]
    assert toy.summary("toy-one-fast-1of3")["metrics"]["strict.f1"]["value"] == 1.0
    (verdict,) = toy.summary()["gates"]
    assert verdict["outcome"] == "fail"
    cases = {case.get("name"): case for case in ET.parse(toy.session() / "junit.xml").iter("testcase")}
    assert sorted(cases) == ["test_eval[one-fast-1of3]", "test_eval[one-fast-2of3]", "test_eval[one-fast-3of3]", "test_eval[one-fast]"]
    properties = {name: {p.get("name"): p.get("value") for p in case.iter("property")} for name, case in cases.items()}
    assert properties["test_eval[one-fast-2of3]"]["gpueval.shard"] == "2of3"
    assert "gpueval.shard" not in properties["test_eval[one-fast]"]
    assert [name for name, case in cases.items() if case.find("failure") is not None] == ["test_eval[one-fast]"]
    table = said(result).rpartition("= gpueval =")[2]
    assert [line.split()[0] for line in table.splitlines() if line.startswith("one-fast")] == ["one-fast"]
    assert "2of3" not in (toy.session() / "report.md").read_text()
    page = (toy.session() / "report.html").read_text()
    assert "one-fast-2of3" in page.partition("<h2>Timeline</h2>")[2], "where it ran"
    assert '<a href="#case-1">' not in page, "one case"


# A shard is missing.


def broken(toy, how: str) -> None:
    """A session on two lanes whose second shard of three fails."""
    toy.suite("toy", model=WATCHED)
    shards(toy, 3)
    (toy.root / "suites/toy" / how).write_text("one-20")
    result = toy.spawn(*ONE, *LANES)
    result.assert_outcomes(passed=2, failed=2)
    (toy.root / "suites/toy" / how).unlink()
    text = said(result)
    assert "no verdict on toy one-fast: 1 of 3 shards have no result" in text
    why = "error: *" if how == "raise" else "crashed: worker cpu* died of SIGKILL*"
    result.stdout.fnmatch_lines([f"*toy-one-fast-2of3: {why}"])
    assert "INTERNALERROR" not in text and "Traceback" not in text.partition("no verdict")[2]
    asked(toy)


@pytest.mark.parametrize("how", ["raise", "die"])
def test_a_missing_shard(toy, how):
    broken(toy, how)
    assert toy.summary()["complete"] is False
    again = toy.spawn(*ONE, *LANES)
    assert again.ret == pytest.ExitCode.USAGE_ERROR
    assert "1 earlier run(s)" in said(again), "what has no verdict blocks nobody"
    assert "toy-one-fast-2of3: " in said(again)

    toy.run(SECOND, "--gpueval-session", "it", "--gpueval-force").assert_outcomes(passed=1)
    assert set(asked(toy)) == {f"one-{number}" for number in range(16, 33)}
    toy.spawn(*ONE).assert_outcomes(passed=4, deselected=1)  # in one process: the session keeps its cut
    assert ran(toy) == ["one-fast"]
    assert asked(toy) == []
    toy.run("--gpueval-suite", "toy", "--gpueval-session", "whole", "-k", "one").assert_outcomes(passed=1, deselected=1)
    assert outcome(toy, "it") == outcome(toy, "whole")

    toy.run(SECOND, "--gpueval-session", "it", "--gpueval-force").assert_outcomes(passed=1)
    assert not (toy.session("it") / "toy-one-fast/summary.json").exists(), "the verdict was on other results"
    toy.spawn(*ONE).assert_outcomes(passed=4, deselected=1)
    assert outcome(toy, "it") == outcome(toy, "whole")


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (lambda shard: (shard / "results.jsonl").unlink(), "results.jsonl is missing"),
        (lambda shard: (shard / "run_metadata.json").write_text("{"), "*run_metadata.json: cannot be read*"),
        (lambda shard: (shard / "summary.json").write_text("[]"), "did not run to its end"),
        (lambda shard: (shard / "summary.json").unlink(), "did not run to its end"),
        (shutil.rmtree, "did not run to its end"),
    ],
    ids=["results", "metadata", "summary", "no summary", "nothing"],
)
def test_why_there_is_no_verdict(toy, damage, why):
    shards(toy, 3)
    toy.run(*ONE, *ALONE).assert_outcomes(passed=4, deselected=1)
    parts = [toy.session() / f"toy-one-fast-{number}of3" for number in (1, 2, 3)]
    results = toy.session() / "toy-one-fast/results.jsonl"
    before = results.read_bytes()
    assert join.join("it", parts, results).samples_per_s
    assert results.read_bytes() == before
    damage(parts[1])
    with pytest.raises(join.NoVerdict) as caught:
        join.join("it", parts, results)
    first, second = str(caught.value).splitlines()
    assert first == "no verdict on it: 1 of 3 shards have no result"
    assert fnmatch(second, f"  toy-one-fast-2of3: {why}")
    assert results.read_bytes() == before


def test_shards_of_another_model_are_not_joined(toy):
    shards(toy, 3)
    toy.run(*ONE, *ALONE).assert_outcomes(passed=4, deselected=1)
    (toy.session() / "toy-one-fast/summary.json").unlink()
    (toy.session() / "toy-one-fast/results.jsonl").unlink()
    (toy.root / "suites/toy/model.py").write_text((toy.root / "suites/toy/model.py").read_text() + "# changed\n")
    result = toy.run(*ONE, *ALONE)
    result.assert_outcomes(failed=1, errors=3, deselected=1)
    result.stdout.fnmatch_lines(["*no verdict on toy one-fast: 3 of 3*", "*1of3: holds an earlier run with another model"])
    assert toy.summary()["ok"] is False


def test_a_join_that_crashed_may_be_tried_again(toy):
    toy.suite("toy", model=WATCHED)
    shards(toy, 3)
    toy.pytester.makeconftest(
        """
        import os, signal
        def pytest_gpueval_metrics():
            def metric(sample, prediction):
                if "[one-fast]" in os.environ["PYTEST_CURRENT_TEST"] and not os.environ.get("SURVIVE"):
                    os.kill(os.getpid(), signal.SIGKILL)
                return 1.0
            return {"mine": metric}
        import pytest
        @pytest.hookimpl(tryfirst=True)
        def pytest_pyfunc_call(pyfuncitem):
            if "[one-fast]" in pyfuncitem.name and not os.environ.get("SURVIVE"):
                os.kill(os.getpid(), signal.SIGKILL)
        """
    )
    toy.spawn(*ONE, *LANES).assert_outcomes(passed=3, failed=1)
    assert toy.summary()["status"] == "crashed"
    asked(toy)
    os.environ["SURVIVE"] = "1"
    try:
        toy.run(*ONE).assert_outcomes(passed=4, deselected=1)
    finally:
        del os.environ["SURVIVE"]
    assert asked(toy) == []
    assert json.loads((toy.session() / "session.json").read_text())["cuts"] == {"toy/one-fast": 3}
