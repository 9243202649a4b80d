"""--gpueval-shard-index and --gpueval-shard-count: parts for machines that know nothing of each other, and what `gpueval runs merge` makes of them."""

from __future__ import annotations

import json
import shutil

import pytest
from typer.testing import CliRunner

from pytest_gpueval.cli.main import app
from tests.session.conftest import rows
from tests.session.cut import FILE, LANES, WATCHED, asked, gate, outcome, ran, record, runs, said, shards

TOY = ("--gpueval-suite", "toy")
MORE = '[datasets.three]\nsplits.fast = {}\n[datasets.four]\nsplits.fast = {}\nshards = 3\n[datasets.five]\nsplits.fast = {}\nshards = "auto"\n'


def part(index: int, count: int) -> tuple[str, ...]:
    return "--gpueval-shard-index", str(index), "--gpueval-shard-count", str(count)


def merge(*args: object):
    return CliRunner().invoke(app, ["runs", "merge", *map(str, args)])


@pytest.fixture
def cut(toy):
    toy.suite("toy", model=WATCHED)
    return toy


@pytest.fixture
def five(cut):
    """Five datasets, of which one is cut as the suite fixes it."""
    cut.append(MORE)
    for name in ("three", "four", "five"):
        cut.split(rows(7, name), name)
    return cut


WHOLE = ["five-fast", *(f"four-fast-{number}of3" for number in (1, 2, 3)), "one-fast", "three-fast", "two-fast"]


@pytest.mark.parametrize("count", [1, 2, 3, 5, 9])
def test_parts_are_disjoint_and_complete(five, count):
    found = []
    for index in range(count):
        result = five.run(*TOY, *part(index, count), "--gpueval-session", f"part{index}")
        assert result.ret == (pytest.ExitCode.OK if index < len(WHOLE) else pytest.ExitCode.NO_TESTS_COLLECTED)
        found.append(ran(five, f"part{index}"))
        assert record(five, f"part{index}")["shard"] == {"index": index, "count": count}
    joined = [cases for cases in found if "four-fast" in cases]
    assert len(joined) == (1 if count == 1 else 0), "what joins is where all its shards are"
    every = [case for cases in found for case in cases if case != "four-fast"]
    assert sorted(every) == WHOLE
    units = [len([case for case in cases if case != "four-fast"]) for cases in found]
    assert max(units) - min(units) <= 1
    assert len(asked(five)) == 2 * 50 + 3 * 7


def test_parts_of_a_selection(five):
    found = []
    for index in range(2):
        five.run(*TOY, *part(index, 2), "-k", "four or one", "--gpueval-session", f"part{index}").assert_outcomes(passed=2, deselected=6)
        found += ran(five, f"part{index}")
    assert sorted(found) == ["four-fast-1of3", "four-fast-2of3", "four-fast-3of3", "one-fast"]


def test_parts_do_not_depend_on_the_machine(five):
    """Rates that one of them has measured, lanes that it has: all cut alike."""
    five.append("[datasets.six]\nsplits.fast = {}\nrate = 1\n")
    five.split(rows(7, "six"), "six")
    five.run(*TOY, "-k", "five").assert_outcomes(passed=1, deselected=5)
    five.run(*TOY, *part(0, 2), "--gpueval-session", "a")
    five.spawn(*TOY, *part(1, 2), *LANES, "--gpueval-session", "b")
    assert sorted([*ran(five, "a"), *ran(five, "b")]) == sorted([*WHOLE, "six-fast"])


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (("--gpueval-shard-index", "0"), "belong together"),
        (("--gpueval-shard-count", "2"), "belong together"),
        (part(2, 2), "--gpueval-shard-index 2: expected a whole number from 0 to 1"),
        (("--gpueval-shard-index=-1", "--gpueval-shard-count=2"), "--gpueval-shard-index -1: expected a whole number from 0 to 1"),
        (("--gpueval-shard-index", "0", "--gpueval-shard-count", "0"), "--gpueval-shard-count 0: expected a whole number from 1 on"),
        (("--gpueval-shard-index", "0", "--gpueval-shard-count=-2"), "--gpueval-shard-count -2: expected"),
        (("--gpueval-shard-index", "one", "--gpueval-shard-count", "2"), "--gpueval-shard-index one: expected"),
        (("--gpueval-shard-index", "0", "--gpueval-shard-count", "two"), "--gpueval-shard-count two: expected"),
        (("--gpueval-shard-index", "1.0", "--gpueval-shard-count", "2"), "--gpueval-shard-index 1.0: expected"),
        (("--gpueval-shard-index=", "--gpueval-shard-count", "2"), "--gpueval-shard-index has an empty value"),
    ],
)
def test_wrong_parts(toy, args, expected):
    result = toy.run(*TOY, *args)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert expected in said(result)
    assert not toy.output.exists()


# Merged again.


def untimed_record(toy, session: str) -> dict:
    """What a joined session and one that ran whole must say alike."""
    found = record(toy, session)
    kept = {key: found[key] for key in ("suites", "data", "code", "plugin_version", "cuts")}
    return {**kept, "runs": sorted((run["run_id"], run["nodeid"], run["status"], run["ok"], run["rows"]) for run in found["runs"])}


@pytest.mark.parametrize("failing", [False, True], ids=["passed", "a gate says no"])
def test_merged_parts_equal_one_run(cut, failing):
    """The shards of "one" are spread over two parts: the merged session judges them, without the model."""
    shards(cut, 3)
    cut.split(rows(30, "two", wrong_every=4), "two")
    gate(cut, least=0.99 if failing else 0.5)
    verdict = {"failed": 1, "passed": 7} if failing else {"passed": 8}
    cut.run(*TOY, *part(0, 1), "--gpueval-session", "whole").assert_outcomes(**verdict)
    asked(cut)
    for index in range(2):
        cut.run(*TOY, *part(index, 2), "--gpueval-session", f"part{index}").assert_outcomes(passed=3, deselected=5)
    assert len(asked(cut)) == 80
    target, places = cut.output / "merged", [cut.output / f"part{index}" for index in range(2)]
    done = merge(target, *places)
    assert done.exit_code == 0, done.output
    assert "judge the shards: pytest --gpueval-suite toy" in done.output
    assert record(cut, "merged")["shards"] == [{"index": 0, "count": 2}, {"index": 1, "count": 2}]
    assert record(cut, "merged")["cuts"] == {"toy/one-fast": 3, "toy/two-fast": 3}

    judged = cut.run(*TOY, "--gpueval-session", "merged")
    judged.assert_outcomes(**verdict)
    assert asked(cut) == [], "no model"
    assert ran(cut, "merged") == ["one-fast", "two-fast"]
    assert untimed_record(cut, "merged") == untimed_record(cut, "whole")
    assert runs(cut, "merged") == runs(cut, "whole")
    for run in runs(cut, "whole"):
        assert outcome(cut, "merged", run) == outcome(cut, "whole", run)
    assert record(cut, "merged")["merged_from"] == ["part0", "part1"]

    again = merge(cut.output / "twice", target)  # what joins is there: its shards need no line
    assert again.exit_code == 0, again.output
    assert "judge the shards" not in again.output
    assert "1of3" not in (cut.output / "twice/report.md").read_text()


def test_a_missing_part_is_said(cut):
    shards(cut, 3)
    cut.run(*TOY, *part(0, 2), "--gpueval-session", "part0").assert_outcomes(passed=3, deselected=5)
    done = merge(cut.output / "merged", cut.output / "part0")
    assert done.exit_code == 1
    assert "missing: shard 1 of 2 is missing: there is 0 of 2" in done.output
    assert "missing: toy one-fast: of the shards of its rows, 2of3 is missing" in done.output
    assert "missing: toy two-fast: of the shards of its rows, 1of3 and 3of3 are missing" in done.output
    asked(cut)
    cut.run(*TOY, "--gpueval-session", "merged").assert_outcomes(passed=8)
    assert len(asked(cut)) == 17 + 33, "only what is missing"


def test_a_whole_without_verdict_waits_for_its_shard(cut):
    """One machine lost a shard; another ran it: the merge knows that there is something to judge."""
    shards(cut, 3)
    (cut.root / "suites/toy/raise").write_text("one-20")
    cut.run(*TOY, *part(0, 1), "-k", "one", "--gpueval-session", "a").assert_outcomes(passed=2, failed=2, deselected=1)
    (cut.root / "suites/toy/raise").unlink()
    lost = merge(cut.output / "lost", cut.output / "a")
    assert "judge the shards" not in lost.output
    cut.run(f"{FILE}::test_eval[one-fast-2of3]", "--gpueval-session", "b").assert_outcomes(passed=1)
    done = merge(cut.output / "merged", cut.output / "a", cut.output / "b")
    assert done.exit_code == 0, done.output
    assert "judge the shards: pytest --gpueval-suite toy" in done.output
    asked(cut)
    cut.run(*TOY, "-k", "one", "--gpueval-session", "merged").assert_outcomes(passed=4, deselected=1)
    assert asked(cut) == []


def test_a_part_is_continued(cut):
    shards(cut, 3)
    cut.run(*TOY, *part(1, 2), "--gpueval-session", "it").assert_outcomes(passed=3, deselected=5)
    (cut.session() / "toy-one-fast-2of3/summary.json").unlink()
    shutil.rmtree(cut.session() / "toy-two-fast-1of3")
    asked(cut)
    cut.run(*TOY, *part(1, 2), "--gpueval-session", "it").assert_outcomes(passed=3, deselected=5)
    assert len(asked(cut)) == 16
    assert json.loads((cut.session() / "session.json").read_text())["cuts"] == {"toy/one-fast": 3, "toy/two-fast": 3}
