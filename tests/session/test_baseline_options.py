"""--gpueval-update-baseline, --gpueval-baseline, --gpueval-baseline-intersect: what they write, what they compare with, what they refuse."""

from __future__ import annotations

import json
import subprocess

import pytest

from pytest_gpueval.runs import baselines
from pytest_gpueval.session.failures import INFRASTRUCTURE_EXIT
from tests.session.conftest import rows

TOY = ("--gpueval-suite", "toy")
UPDATE = (*TOY, "--gpueval-update-baseline")

# Says what a case is compared with, from where a judge would ask.
ASKING = """
import pytest

@pytest.fixture(autouse=True)
def _asks(request):
    run = request.getfixturevalue("run")
    yield
    if run.evaluation is None or not run.evaluation.complete:
        return
    pairs = run.paired()
    told = None if pairs is None else (pairs.baseline.where, pairs.alignment.common, len(pairs.now), pairs.alignment.words)
    with open(request.config.rootpath / "compared.txt", "a") as file:
        print(run.case.id, told, file=file)
"""


@pytest.fixture
def folder(toy):
    return toy.root / "baselines"


def files(folder):
    return {path.relative_to(folder).as_posix(): (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.rglob("*") if path.is_file()}


def text(result):
    return result.stdout.str() + result.stderr.str()


def compared(toy) -> str:
    """The last line that a run said of what it is compared with."""
    return (toy.root / "compared.txt").read_text().splitlines()[-1]


def usage_error(result, *words):
    assert result.ret == pytest.ExitCode.USAGE_ERROR, text(result)
    assert "Traceback" not in text(result)
    for word in words:
        assert word in text(result)


def git(toy, *argv):
    known = ["-c", "user.name=T", "-c", "user.email=t@example.org", "-c", "init.defaultBranch=main", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", *known, *argv], cwd=toy.root, check=True, capture_output=True)


def test_an_update_writes_what_the_session_found_and_the_same_again_nothing(toy, folder):
    toy.run(*UPDATE).stdout.fnmatch_lines(["baseline: 2 cases written to baselines/toy"])
    before = files(folder)
    assert sorted(before) == ["toy/one-fast.json", "toy/one-fast.parquet", "toy/two-fast.json", "toy/two-fast.parquet"]
    found = baselines.read(folder, "toy", "one-fast")
    assert found.samples.ids.to_pylist() == [row["id"] for row in rows(50, "one")]
    assert found.samples.hashes.tolist() == [baselines.text_hash(row) for row in rows(50, "one")]
    assert all(parts is not None for parts in found.samples.parts())
    assert found.record.metrics["strict.f1"].value == pytest.approx(0.9)
    toy.run(*UPDATE, "--gpueval-session", "again").stdout.fnmatch_lines(["baseline: 2 cases unchanged in baselines/toy"])
    assert files(folder) == before
    toy.split(rows(40, "two"), "two")
    toy.run(*UPDATE).stdout.fnmatch_lines(["baseline: 1 case written to baselines/toy, 1 unchanged"])


def test_runs_that_are_reused_count_too(toy, folder):
    toy.run(*TOY, "--gpueval-session", "it")
    assert not folder.exists()
    toy.run(*UPDATE, "--gpueval-session", "it").stdout.fnmatch_lines(["*reused*", "baseline: 2 cases written to baselines/toy"])


def test_workers_and_shards_give_the_same_files_as_one_process(toy, folder):
    toy.run(*UPDATE)
    before = {name: data for name, (_, data) in files(folder).items()}
    for path in folder.rglob("*.*"):
        path.unlink()
    toy.edit('split = "fast"', 'split = "fast"\nshards = 3')
    done = toy.spawn(*UPDATE, "--gpus", "none", "-n", "2", "--gpueval-session", "it")
    done.stdout.fnmatch_lines(["baseline: 2 cases written to baselines/toy"])
    assert (toy.session("it") / "toy-one-fast-2of3").is_dir(), "there were shards"
    assert {name: data for name, (_, data) in files(folder).items()} == before


def test_a_drop_that_a_gate_has_found_can_be_accepted(toy, folder):
    toy.append('[[datasets.two.gates]]\nmetric = "strict.f1"\nmin = 0.99\n')
    done = toy.run(*UPDATE)
    done.assert_outcomes(passed=1, failed=1)
    done.stdout.fnmatch_lines(["baseline: 2 cases written to baselines/toy", "baseline: taken although gates failed: toy/two-fast"])


def test_errors_are_no_baseline(toy, folder):
    toy.split([{"id": "x", "text": "BOOM", "spans": []}], "two")
    done = toy.run(*UPDATE)
    done.assert_outcomes(passed=1, failed=1)
    done.stdout.fnmatch_lines(["baseline: 1 case written to baselines/toy", "baseline: not written for toy/two-fast: it ended without a verdict: error (*"])
    assert sorted(files(folder)) == ["toy/one-fast.json", "toy/one-fast.parquet"]


def test_a_test_that_is_not_the_suites_makes_none(toy, folder):
    toy.pytester.makepyfile('import pytest\n@pytest.mark.gpueval(suite="toy")\ndef test_mine(case, predictions):\n    list(predictions)\n')
    toy.run("--gpueval-update-baseline", "--gpueval-session", "it").stdout.fnmatch_lines(["baseline: no case ran to a verdict, none written"])
    assert not folder.exists()


def test_rows_that_are_skipped_have_no_score(toy, folder):
    table = [*rows(3, "one"), {"id": "one-1", "text": "again", "spans": []}, {"id": "bad", "text": "aaa", "spans": [{"start": 0, "end": 99, "label": "A"}]}]
    toy.split(table)
    toy.run(*UPDATE, "--gpueval-on-bad-row", "skip", "-k", "one").stdout.fnmatch_lines(["baseline: 1 case written*"])
    found = baselines.read(folder, "toy", "one-fast")
    assert found.samples.ids.to_pylist() == ["one-0", "one-1", "one-2", "bad"]
    assert [parts is None for parts in found.samples.parts()] == [False, False, False, True]
    assert found.samples.hashes.tolist()[1] == baselines.text_hash(table[1])
    done = toy.run(*TOY, "--gpueval-on-bad-row", "skip", "-k", "one", "--gpueval-baseline=baselines")
    done.assert_outcomes(passed=1, deselected=1)


def test_a_part_of_the_rows_is_no_baseline(toy, folder):
    usage_error(toy.run(*UPDATE, "--gpueval-limit", "5"), "--gpueval-update-baseline needs all rows of each split: leave out --gpueval-limit")
    assert not folder.exists()


def test_where_it_cannot_be_written_the_session_fails(toy, folder):
    folder.write_text("in the way")
    done = toy.run(*UPDATE)
    assert done.ret == INFRASTRUCTURE_EXIT
    done.stdout.fnmatch_lines(["ERROR: *baselines/toy: the baseline of one-fast cannot be written: *"])
    assert "Traceback" not in text(done)


def test_a_dry_run_writes_none(toy, folder):
    toy.run(*UPDATE, "--gpueval-dry-run")
    assert not folder.exists()


# Comparing.


def test_all_kinds_of_sources_reach_the_judge(toy, folder):
    toy.run(*UPDATE, "--gpueval-session", "before")
    git(toy, "init")
    git(toy, "add", "baselines")
    git(toy, "commit", "-m", "it")
    git(toy, "tag", "v1")
    toy.pytester.makeconftest(ASKING)
    for spec, where in (
        ("baselines", "baselines"),
        (str(folder), str(folder)),
        ("baselines/toy", "baselines/toy"),
        ("before", "before"),
        (str(toy.session("before")), str(toy.session("before"))),
        ("git:HEAD", "git:HEAD"),
        ("git:v1", "git:v1"),
    ):
        toy.run(*TOY, f"--gpueval-baseline={spec}", "-k", "one").assert_outcomes(passed=1, deselected=1)
        assert compared(toy) == f"one-fast ('{where}', 50, 50, '')"
    git(toy, "rm", "-r", "baselines")
    toy.run(*TOY, "--gpueval-baseline=git:v1", "-k", "one")
    assert compared(toy) == "one-fast ('git:v1', 50, 50, '')"
    toy.run(*TOY, "-k", "one")
    assert compared(toy) == "one-fast None"


def test_workers_are_handed_what_the_controller_saw(toy, folder):
    toy.run(*UPDATE)
    toy.pytester.makeconftest(ASKING)
    toy.edit('split = "fast"', 'split = "fast"\nshards = 2')
    toy.spawn(*TOY, "--gpus", "none", "-n", "2", "--gpueval-session", "it", "--gpueval-baseline=baselines").assert_outcomes(passed=6)
    kept = toy.session("it") / "compared"
    assert {name: data for name, (_, data) in files(kept).items()} == {name: data for name, (_, data) in files(folder).items()}
    assert "one-fast ('baselines', 50, 50, '')" in (toy.root / "compared.txt").read_text().splitlines()


def test_the_command_of_a_run_names_the_baseline_and_updates_none(toy):
    toy.run(*UPDATE)
    toy.run(*UPDATE, "--gpueval-session", "it", "--gpueval-baseline=baselines")
    command = (toy.session("it") / "toy-one-fast" / "command.sh").read_text()
    assert "--gpueval-baseline=baselines" in command
    assert "--gpueval-update-baseline" not in command


def test_ini_keys(toy, folder):
    toy.pytester.makeini("[pytest]\ngpueval_baseline = baselines\n")
    usage_error(toy.run(*TOY), "--gpueval-baseline baselines: there is no such folder")
    toy.run(*UPDATE, "--gpueval-session", "first").stdout.fnmatch_lines(["baseline: 2 cases written to baselines/toy"])
    toy.run(*TOY).assert_outcomes(passed=2)


def refused(toy, *args, words):
    """Refused before anything runs."""
    done = toy.run(*TOY, "--gpueval-session", "no", *args)
    usage_error(done, *words)
    assert not toy.session("no").exists()


def test_a_case_without_a_baseline_stops_the_session_before_it_begins(toy, folder):
    toy.run(*UPDATE, "-k", "one")
    there = "there is no baseline of toy/two-fast. Cases of 'toy' that have one: one-fast."
    refused(toy, "--gpueval-baseline=baselines", words=[there, "pytest --gpueval-suite toy --gpueval-update-baseline"])
    toy.run(*TOY, "--gpueval-baseline=baselines", "-k", "one").assert_outcomes(passed=1, deselected=1)
    both = toy.run(*UPDATE, "--gpueval-baseline=baselines")
    both.assert_outcomes(passed=2)
    both.stdout.fnmatch_lines(["baseline: 1 case written to baselines/toy, 1 unchanged"])


def test_where_only_the_collection_can_tell_the_case_itself_fails(toy, folder):
    toy.run(*UPDATE, "-k", "one")
    done = toy.run(*TOY, "--gpueval-baseline=baselines", "-m", "not slow")
    done.assert_outcomes(passed=1, errors=1)
    done.stdout.fnmatch_lines(["*baselines: there is no baseline of toy/two-fast. Cases of 'toy' that have one: one-fast.*"])


def test_sources_that_are_none(toy, folder):
    toy.run(*TOY, "--gpueval-session", "nightly")
    refused(toy, "--gpueval-baseline=nigthly", words=["there is no such folder, and no such session", "Did you mean 'nightly'?"])
    (toy.root / "empty").mkdir()
    refused(toy, "--gpueval-baseline=empty", words=["holds neither a baseline (<suite>/<case>.json) nor a session"])
    refused(toy, "--gpueval-baseline=git:main", words=["is in no git repository that can be read"])
    git(toy, "init")
    git(toy, "commit", "--allow-empty", "-m", "it")
    refused(toy, "--gpueval-baseline=git:nothing", words=["git:nothing: there is no such commit", "git fetch origin nothing"])
    refused(toy, "--gpueval-baseline=git:--help", words=["git:--help: not the name of a commit"])
    refused(toy, "--gpueval-baseline=git:", words=["not the name of a commit"])
    refused(toy, "--gpueval-baseline=git:HEAD", words=["there is no baseline of 2 cases: toy/one-fast, toy/two-fast. There is none at all."])


def test_a_session_whose_run_has_no_verdict(toy):
    toy.split([{"id": "x", "text": "BOOM", "spans": []}], "two")
    toy.run(*TOY, "--gpueval-session", "before")
    refused(toy, "--gpueval-baseline=before", words=["toy-two-fast: cannot be a baseline: it ended without a verdict: error"])


def test_damaged_files_stop_the_session_before_it_begins(toy, folder):
    toy.run(*UPDATE)
    path = folder / "toy" / "one-fast.parquet"
    path.write_bytes(path.read_bytes()[:50])
    refused(toy, "--gpueval-baseline=baselines", words=["one-fast.parquet: not a whole parquet file"])
    document = json.loads((folder / "toy" / "two-fast.json").read_text())
    (folder / "toy" / "two-fast.json").write_text(json.dumps({**document, "schema_version": 7}))
    refused(toy, "--gpueval-baseline=baselines", "-k", "two", words=["has schema 7; this pytest-gpueval knows schemas up to 1"])


def test_another_ruler_is_refused_and_another_policy_is_said(toy, folder):
    toy.run(*UPDATE)
    done = toy.run(*TOY, "--gpueval-baseline=baselines", "--gpueval-policy", "closed", "-k", "one")
    done.stdout.fnmatch_lines(['WARNING: toy/one-fast: compared with a baseline of another policy.name: "open" in the baseline, "closed" now*'])
    toy.edit('labels = ["A", "B"]', 'labels = ["A", "B", "C"]')
    refused(toy, "--gpueval-baseline=baselines", words=["was measured otherwise", 'labels: ["A", "B"] in the baseline, ["A", "B", "C"] now'])


def test_other_data_is_refused_before_the_model_loads_unless_intersect_is_asked_for(toy, folder):
    toy.run(*UPDATE)
    changed = rows(50, "one")
    changed[7]["text"] += "b"
    toy.split([*changed[:49], *rows(2, "new")])
    toy.pytester.makeconftest(ASKING)
    done = toy.run(*TOY, "--gpueval-baseline=baselines", "--gpueval-session", "no", "-k", "one")
    done.assert_outcomes(failed=1, deselected=1)
    for line in (
        "*is of other data:*",
        "*2 are new here: 'new-0', 'new-1'*",
        "*1 are not here any more: 'one-49'*",
        "*1 have the same id and another row: 'one-7'*",
    ):
        done.stdout.fnmatch_lines([line])
    assert not (toy.session("no") / "toy-one-fast" / "results.jsonl").exists()
    toy.run(*TOY, "--gpueval-baseline=baselines", "--gpueval-baseline-intersect", "-k", "one").assert_outcomes(passed=1, deselected=1)
    assert compared(toy) == "one-fast ('baselines', 48, 51, '48 common samples of 51 here and 50 in the baseline')"


def test_the_same_rows_in_another_file_are_the_same_data(toy, folder):
    toy.run(*UPDATE)
    toy.split(list(reversed(rows(50, "one"))))
    toy.run(*TOY, "--gpueval-baseline=baselines", "-k", "one").assert_outcomes(passed=1, deselected=1)


def test_first_rows_are_compared_where_intersect_is_asked_for(toy, folder):
    toy.run(*UPDATE)
    toy.pytester.makeconftest(ASKING)
    limited = (*TOY, "--gpueval-baseline=baselines", "-k", "one", "--gpueval-limit", "20")
    toy.run(*limited).assert_outcomes(failed=1, deselected=1)
    toy.run(*limited, "--gpueval-baseline-intersect").assert_outcomes(passed=1, deselected=1)
    assert compared(toy) == "one-fast ('baselines', 20, 20, '20 common samples of 20 here and 50 in the baseline')"


def test_a_session_that_goes_on_without_it_forgets_the_baseline(toy, folder):
    toy.run(*UPDATE)
    toy.run(*TOY, "-k", "one", "--gpueval-session", "it", "--gpueval-baseline=baselines")
    assert (toy.session("it") / "compared").is_dir()
    toy.run(*TOY, "--gpueval-session", "it")
    assert not (toy.session("it") / "compared").exists()
