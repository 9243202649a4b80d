"""Which shards a session runs: chosen by -k, node ids, --lf and -x; kept, continued and reused."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess

import pytest

from tests.session.cut import ALONE, FILE, LANES, WATCHED, asked, gate, metadata, outcome, ran, record, runs, said, shards
from tests.session.test_again import count_lines, start
from tests.waiting import SESSION_S, wait_for

TOY = ("--gpueval-suite", "toy")
IT = (*TOY, "--gpueval-session", "it")
WHOLE = f"{FILE}::test_eval[one-fast]"
SECOND = f"{FILE}::test_eval[one-fast-2of3]"
OF_ONE = ["one-fast", "one-fast-1of3", "one-fast-2of3", "one-fast-3of3"]


@pytest.fixture
def cut(toy):
    """A suite that cuts its datasets in three, and a model that writes down what it is asked for."""
    toy.suite("toy", model=WATCHED)
    shards(toy, 3)
    return toy


# Selection.


@pytest.mark.parametrize("args", [(*TOY, "-k", "one"), (*TOY, "-k", "not two"), (WHOLE,)], ids=["-k one", "-k not two", "node id"])
def test_a_dataset_with_its_shards(cut, args):
    result = cut.run(*args, *ALONE)
    result.assert_outcomes(passed=4, deselected=0 if args == (WHOLE,) else 1)
    assert ran(cut) == OF_ONE


@pytest.mark.parametrize("lanes", [(), LANES], ids=["one process", "lanes"])
def test_named_shards(cut, lanes):
    result = cut.spawn(SECOND, f"{FILE}::test_eval[one-fast-3of3]", SECOND, *lanes)
    result.assert_outcomes(passed=2)
    assert ran(cut) == ["one-fast-2of3", "one-fast-3of3"]
    assert sorted(asked(cut)) == sorted(f"one-{number}" for number in range(16, 50))
    table = said(result).rpartition("= gpueval =")[2]
    shown = [line.split()[0] for line in table.splitlines() if line.startswith("one-")]
    ended = sorted(shown) if lanes else shown  # on two lanes either may end first
    assert ended == ["one-fast-2of3", "one-fast-3of3"]


def test_a_named_shard_is_a_piece_of_the_session(cut):
    cut.run(SECOND, "--gpueval-session", "it").assert_outcomes(passed=1)
    assert len(asked(cut)) == 17
    cut.run(*IT, "-k", "one").assert_outcomes(passed=4, deselected=1)
    assert len(asked(cut)) == 33
    assert ran(cut, reused=True) == ["one-fast-2of3"]
    cut.run(f"{FILE}::test_eval[one-fast-1of4]", "--gpueval-session", "it").assert_outcomes(passed=1)
    assert record(cut)["cuts"] == {"toy/one-fast": 3}


def test_named_from_within_the_folder(cut):
    done = subprocess.run(
        [*cut.pytester._getpytestargs(), "suite.toml::test_eval[one-fast-2of3]"], cwd=cut.root / "suites/toy", capture_output=True, text=True, timeout=SESSION_S
    )
    assert "1 passed" in done.stdout, done.stdout + done.stderr
    assert len(asked(cut)) == 17


@pytest.mark.parametrize(("shard", "args"), [("5of3", ()), ("5of3", LANES), ("0of3", ("--gpueval-dry-run",))], ids=["one process", "lanes", "dry run"])
def test_a_shard_that_cannot_be(cut, shard, args):
    result = cut.spawn(f"{FILE}::test_eval[one-fast-{shard}]", *args)
    text = said(result)
    assert f"one-fast-{shard}]: there is no shard {shard[0]} of 3" in text
    assert text.count("there is no shard") == 1, text
    assert "INTERNALERROR" not in text and "Traceback" not in text
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert asked(cut) == []


def test_a_dataset_that_is_not_there(cut):
    result = cut.spawn(f"{FILE}::test_eval[none-fast-2of3]")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*not found: *suite.toml::test_eval*"])


def test_collect_only_lists_datasets(cut):
    result = cut.run(*TOY, *ALONE, "--collect-only", "-q")
    assert result.outlines[:3] == [WHOLE, f"{FILE}::test_eval[two-fast]", ""]
    assert not cut.output.exists()


def test_tests_of_ones_own_are_never_cut(cut):
    cut.pytester.makepyfile(
        """
        import pytest
        @pytest.mark.gpueval(suite="toy")
        def test_mine(case, predictions):
            assert (case.shard, case.parts) == (None, 1)
            assert len(list(predictions)) == 50
        """
    )
    cut.spawn(*TOY, *LANES, str(cut.root / "test_tests_of_ones_own_are_never_cut.py")).assert_outcomes(passed=10)
    assert ran(cut).count("one-fast") == 2


def test_marks_of_a_conftest_reach_the_shards(cut):
    gate(cut)
    cut.pytester.makeconftest(
        """
        import pytest
        def pytest_collection_modifyitems(items):
            for item in items:
                item.add_marker(pytest.mark.xfail(strict=True, reason="known") if "one" in item.name else pytest.mark.skip("not today"))
        """
    )
    result = cut.run(*TOY, *ALONE, "-v")
    result.assert_outcomes(xpassed=3, xfailed=1, skipped=4)


# --lf and -x.


def test_lf_after_a_failed_gate(cut):
    gate(cut)
    first = cut.spawn(*IT, *ALONE, "-p", "cacheprovider")
    first.assert_outcomes(passed=7, failed=1)
    asked(cut)
    blocked = cut.spawn(*IT, *ALONE, "--lf")
    assert blocked.ret == pytest.ExitCode.USAGE_ERROR
    cut.spawn(*TOY, "--gpueval-session", "new", *ALONE, "--lf").assert_outcomes(passed=3, failed=1, deselected=1)
    assert ran(cut, "new") == OF_ONE
    assert len(asked(cut)) == 50, "another session reuses nothing"


@pytest.mark.parametrize("lanes", [ALONE, LANES], ids=["one process", "lanes"])
@pytest.mark.parametrize("stop", [(), ("-x",)], ids=["all", "-x"])
def test_lf_after_a_failed_shard(cut, lanes, stop):
    (cut.root / "suites/toy/raise").write_text("one-20")
    first = cut.spawn(*IT, *lanes, *stop)
    outcomes = first.parseoutcomes()
    if stop:
        assert outcomes["failed"] == 1 and "toy-one-fast" not in runs(cut, "it"), "what joins comes last"
    else:
        assert outcomes == {"passed": 6, "failed": 2}
    (cut.root / "suites/toy/raise").unlink()
    done = sorted(name for name, status in runs(cut, "it").items() if status == "passed" and "-one-fast-" in name)
    asked(cut)
    if stop:
        again = cut.spawn(*IT, *lanes, "--lf", "--gpueval-force")
        assert again.parseoutcomes()["passed"] == 4
        assert ran(cut) == OF_ONE
        return
    if lanes == ALONE:
        assert cut.spawn(*IT, *lanes, "--lf").ret == pytest.ExitCode.USAGE_ERROR, "a shard that failed is not run again unasked"
    cut.spawn(SECOND, "--gpueval-session", "it", "--gpueval-force").assert_outcomes(passed=1)
    asked(cut)
    cut.spawn(*IT, *lanes, "--lf").assert_outcomes(passed=4)
    assert (asked(cut), ran(cut), ran(cut, reused=True)) == ([], ["one-fast"], OF_ONE[1:])
    assert done == ["toy-one-fast-1of3", "toy-one-fast-3of3"]


def test_command_sh_runs_the_shard_again(cut):
    cut.run(*IT, *ALONE, "-k", "one").assert_outcomes(passed=4, deselected=1)
    asked(cut)
    directory = cut.session() / "toy-one-fast-2of3"
    done = subprocess.run(["sh", str(directory / "command.sh")], cwd="/", capture_output=True, text=True, timeout=SESSION_S)
    assert "1 passed" in done.stdout, done.stdout + done.stderr
    assert asked(cut) == [f"one-{number}" for number in range(16, 33)]
    assert len(list(directory.glob("summary.json.bak-*"))) == 1
    assert record(cut)["cuts"] == {"toy/one-fast": 3}
    assert metadata(directory)["shard"] == "2of3"
    assert metadata(cut.session() / "toy-one-fast")["shards"] == [f"toy-one-fast-{number}of3" for number in (1, 2, 3)]


# The same session again.


def test_killed_in_mid_shard_and_continued(cut):
    """On two lanes; gone on with in one process, in a suite that would be cut otherwise by now."""
    meet = cut.root / "suites/toy/meet"
    meet.write_text("2")
    process = start(cut, *IT, *LANES, "-k", "one", "--gpueval-workers", "2", seconds=1.0)
    parts = [cut.output / f"it/toy-one-fast-{number}of3/results.jsonl" for number in (1, 2, 3)]
    wait_for(lambda: sum(count_lines(part) >= 4 for part in parts) >= 2)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=SESSION_S)
    wait_for(lambda: all(not locked(part.parent) for part in parts))
    left = {part: count_lines(part) for part in parts}
    begun = [part for part in parts if left[part]]
    assert len(begun) == 2 and all(4 <= left[part] < 16 for part in begun)
    meet.unlink()
    with begun[0].open("a") as file:
        file.write('{"id":"one-3')  # what a process that is killed while writing leaves
    asked(cut)
    cut.edit("shards = 3", "shards = 5")
    cut.spawn(*IT, "-k", "one").assert_outcomes(passed=4, deselected=1)
    assert ran(cut, "it") == OF_ONE
    assert len(asked(cut)) == 50 - sum(left.values()), "no row is asked for twice"
    cut.run(*TOY, "--gpueval-session", "whole", "-k", "one").assert_outcomes(passed=1, deselected=1)
    assert outcome(cut, "it") == outcome(cut, "whole")
    asked(cut)

    again = cut.spawn(*IT, *LANES)  # finished: not cut again; the other one as the suite now says
    again.assert_outcomes(passed=7)
    assert ran(cut, "it", reused=True) == ["one-fast"]
    assert ran(cut, "it") == ["two-fast", *(f"two-fast-{number}of5" for number in range(1, 6))]
    assert len(asked(cut)) == 50
    assert record(cut, "it")["cuts"] == {"toy/one-fast": 3, "toy/two-fast": 5}


def locked(directory) -> bool:
    """Whether a worker still holds a run's directory."""
    from filelock import FileLock, Timeout

    if not directory.exists():
        return False
    try:
        with FileLock(directory / ".lock", timeout=0):
            return False
    except Timeout:
        return True


def test_what_has_begun_whole_stays_whole(cut):
    cut.run(*IT, "-k", "one").assert_outcomes(passed=1, deselected=1)
    whole = cut.session() / "toy-one-fast"
    (whole / "summary.json").unlink()
    lines = (whole / "results.jsonl").read_text().splitlines(keepends=True)
    (whole / "results.jsonl").write_text("".join(lines[:40]))
    asked(cut)
    cut.run(*IT, *ALONE).assert_outcomes(passed=5)
    assert ran(cut) == ["one-fast", "two-fast", *(f"two-fast-{number}of3" for number in (1, 2, 3))]
    assert asked(cut)[:10] == [f"one-{number}" for number in range(40, 50)]


def test_force_cuts_anew(cut):
    cut.run(*IT, *ALONE, "-k", "one").assert_outcomes(passed=4, deselected=1)
    cut.run(*IT, *ALONE, "-k", "one").assert_outcomes(passed=1, deselected=1)
    assert ran(cut, reused=True) == ["one-fast"]
    asked(cut)
    cut.run(*IT, *ALONE, "-k", "one", "--gpueval-force").assert_outcomes(passed=4, deselected=1)
    assert len(asked(cut)) == 50


def test_xdist_alone_cannot_join(cut):
    cut.run(*IT, *ALONE, "-k", "one").assert_outcomes(passed=4, deselected=1)
    (cut.session() / "toy-one-fast/summary.json").unlink()
    shutil.rmtree(cut.session() / "toy-one-fast-2of3")
    result = cut.spawn(*IT, "-n", "2")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "which -n alone cannot run in order" in said(result)
    assert "INTERNALERROR" not in said(result)
    cut.spawn(*IT, *LANES).assert_outcomes(passed=8)
    assert json.loads((cut.session() / "session.json").read_text())["exit_status"] == 0
