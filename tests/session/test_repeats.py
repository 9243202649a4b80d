"""A split in which an id repeats: nobody could tell the results of two rows apart."""

from __future__ import annotations

import pytest

from tests.session.conftest import rows


@pytest.fixture
def repeating(toy):
    table = rows(50, "one")
    for row, like in ((7, 3), (41, 40), (45, 40)):
        table[row]["id"] = table[like]["id"]
    toy.split(table)
    return toy


def test_a_run_names_the_file_and_both_rows_before_the_model_loads(repeating):
    result = repeating.run("--gpueval-suite", "toy", "--gpueval-session", "it")
    result.assert_outcomes(passed=1, failed=1)
    text = result.stdout.str()
    assert f"{repeating.root}/suites/toy/data/one/fast.parquet: 3 rows have the id of an earlier one: " in text
    assert "'one-3' (rows 4 and 8), 'one-40' (rows 41 and 42), 'one-40' (rows 41 and 46)." in text
    assert "--gpueval-on-bad-row skip" in text
    summary = repeating.summary(session="it")
    assert (summary["status"], summary["rows"]["scored"], summary["startup_s"]) == ("error", 0, None)


def test_such_rows_can_be_skipped_and_are_counted(repeating):
    repeating.run("--gpueval-suite", "toy", "--gpueval-session", "it", "--gpueval-on-bad-row", "skip").assert_outcomes(passed=2)
    summary = repeating.summary(session="it")
    assert (summary["rows"]["scored"], summary["rows"]["skipped"]) == (47, 3)
    lines = repeating.lines(session="it")
    assert [number for number, line in enumerate(lines) if "skipped" in line] == [7, 41, 45]
    assert lines[7] == {"id": "one-3", "skipped": "an earlier row has this id"}


def test_rows_that_are_not_evaluated_do_not_count(repeating):
    repeating.run("--gpueval-suite", "toy", "--gpueval-limit", "7").assert_outcomes(passed=2)
    repeating.run("--gpueval-suite", "toy", "--gpueval-limit", "8").assert_outcomes(passed=1, failed=1)


def test_the_shard_that_has_the_row_fails(repeating):
    repeating.edit("[datasets.one]\n", "[datasets.one]\nshards = 5\n")
    result = repeating.spawn("--gpueval-suite", "toy", "-k", "one", "--gpus", "none", "-n", "2", "--gpueval-session", "it")
    result.assert_outcomes(passed=3, failed=3)
    for number, message in ((1, "'one-3' (rows 4 and 8)"), (5, "2 rows have the id of an earlier one")):
        assert message in repeating.summary(f"toy-one-fast-{number}of5", "it")["reason"]
    repeating.edit("shards = 5", "shards = 4")
    result = repeating.spawn("--gpueval-suite", "toy", "-k", "one", "--gpus", "none", "-n", "2", "--gpueval-session", "skip", "--gpueval-on-bad-row", "skip")
    result.assert_outcomes(passed=5)
    assert repeating.summary("toy-one-fast", "skip")["rows"]["skipped"] == 3
