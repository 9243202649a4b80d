"""Sessions of three machines become one: with real sessions, and with what can go wrong on the way."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time

import junitparser
import pytest
from filelock import FileLock
from typer.testing import CliRunner

from pytest_gpueval.cli.main import app
from pytest_gpueval.runs import gather, validate
from tests.session.conftest import Toy, rows

DATASETS = ("one", "two", "three")


@pytest.fixture
def toy(pytester):
    """A suite of three datasets, and a session `m-<dataset>` of each."""
    toy = Toy(pytester)
    toy.append("[datasets.three]\nsplits.fast = {}\n")
    toy.split(rows(50, "three"), "three")
    return toy


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Where the sessions lie once they are made: they take a second."""
    return tmp_path_factory.mktemp("made") / "sessions"


@pytest.fixture
def sessions(toy, made):
    if made.exists():
        shutil.copytree(made, toy.output)
    else:
        for dataset in DATASETS:
            toy.run("--gpueval-suite", "toy", "-k", f"{dataset}-fast", "--gpueval-session", f"m-{dataset}").assert_outcomes(passed=1, deselected=2)
        shutil.copytree(toy.output, made)
    return [toy.session(f"m-{dataset}") for dataset in DATASETS]


def merge(*argv):
    return CliRunner().invoke(app, ["runs", "merge", *map(str, argv)])


def tree(directory):
    return {path.relative_to(directory).as_posix(): path.read_bytes() for path in sorted(directory.rglob("*")) if path.is_file()}


def change(session, **changes):
    file = session / "session.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def nothing_left(target):
    return not target.exists() and not list(target.parent.glob(".*merging*"))


def test_three_sessions_become_one_that_pytest_takes_for_its_own(toy, sessions, monkeypatch):
    before = [tree(session) for session in sessions]
    target = toy.output / "all"
    done = merge(target, *sessions)
    assert done.exit_code == 0, done.output
    assert [line.split() for line in done.stdout.splitlines()[1:4]] == [[f"toy-{name}-fast", "passed", f"m-{name}"] for name in ("one", "three", "two")]
    assert done.stdout.splitlines()[-1] == f"report: {target / 'report.html'}"
    assert [tree(session) for session in sessions] == before, "the sessions stay as they are"
    assert [path.name for path in toy.output.iterdir() if path.name.startswith(".")] == []

    assert validate.problems(target) == []
    assert CliRunner().invoke(app, ["runs", "validate", str(target)]).stdout == "3 run(s) follow the contract\n"
    listed = json.loads(CliRunner().invoke(app, ["runs", "list", str(target), "--json"]).stdout)
    assert [(run["session"], run["status"]) for run in listed] == [("all", "passed")] * 3
    for session, name in zip(sessions, DATASETS, strict=True):
        expected = {file: content for file, content in tree(session / f"toy-{name}-fast").items() if file != ".lock"}
        assert tree(target / f"toy-{name}-fast") == expected

    record = json.loads((target / "session.json").read_text())
    parts = [json.loads((session / "session.json").read_text()) for session in sessions]
    assert record["merged_from"] == ["m-one", "m-two", "m-three"]
    assert (record["session"], record["suites"], record["exit_status"], record["differences"]) == ("all", ["toy"], 0, [])
    assert record["started_at"] == min(part["started_at"] for part in parts)
    assert record["ended_at"] == max(part["ended_at"] for part in parts)
    assert [run["run_id"] for run in record["runs"]] == ["toy-one-fast", "toy-three-fast", "toy-two-fast"]
    for report in ("report.md", "report.html"):
        text = (target / report).read_text()
        assert "Joined from" in text
        assert all(f"{name}-fast" in text for name in DATASETS)

    (suite,) = junitparser.JUnitXml.fromfile(str(target / "junit.xml"))
    assert (suite.tests, suite.failures, suite.errors, suite.skipped) == (3, 0, 0, 0)
    places = [item.value for case in suite for item in case.child(junitparser.Properties) if item.name == "gpueval.run_dir"]
    assert places == [str(target / f"toy-{name}-fast") for name in DATASETS]

    monkeypatch.setenv("TOY_SECONDS", "1000")  # the model is not asked
    result = toy.run("--gpueval-suite", "toy", "--gpueval-session", "all")
    result.assert_outcomes(passed=3)
    assert result.stdout.str().count("reused") >= 3


def test_baselines_come_along(toy):
    """Of each case once, and nothing through links or names that lead elsewhere; a session that was not compared has nothing."""
    toy.run("--gpueval-suite", "toy", "--gpueval-update-baseline", "--gpueval-session", "first").assert_outcomes(passed=3)
    for name in DATASETS[:2]:
        options = ("--gpueval-baseline", "baselines", "--gpueval-session", f"m-{name}")
        toy.run("--gpueval-suite", "toy", "-k", f"{name}-fast", *options).assert_outcomes(passed=1, deselected=2)
    toy.run("--gpueval-suite", "toy", "-k", "three-fast", "--gpueval-session", "m-three").assert_outcomes(passed=1, deselected=2)
    (toy.session("m-one") / "compared/toy/one-fast.speed.json").write_text("{}\n")
    linked = toy.session("m-two") / "compared/toy/two-fast.parquet"
    linked.unlink()
    linked.symlink_to("/etc/passwd")
    result = merge(toy.output / "whole", *(toy.session(f"m-{name}") for name in DATASETS))
    assert result.exit_code == 0, result.output
    assert "compared" not in result.output.replace(str(linked), "") and "two-fast.parquet: is no regular file; not copied" in result.output
    found = tree(toy.output / "whole/compared")
    assert sorted(found) == ["toy/one-fast.json", "toy/one-fast.parquet", "toy/one-fast.speed.json", "toy/two-fast.json"]
    assert found["toy/one-fast.parquet"] == (toy.session("m-one") / "compared/toy/one-fast.parquet").read_bytes()


def test_again_is_nothing_to_do_and_something_else_is_refused(toy, sessions):
    target = toy.output / "all"
    first = merge(target, *sessions)
    before = tree(target)
    again = merge(target, *sessions)
    assert (first.exit_code, again.exit_code) == (0, 0)
    assert "already there, nothing to do" in again.stdout
    assert merge(target, *sessions, "--dry-run").exit_code == 0
    assert tree(target) == before
    other = merge(target, *sessions[:2])
    assert other.exit_code == 5
    assert "exists already, and is not the result of this merge" in other.stderr
    (sessions[0] / "toy-one-fast" / "stdout.log").write_text("something else")
    assert merge(target, *sessions).exit_code == 5
    assert tree(target) == before
    empty = toy.output / "empty"
    empty.mkdir()
    assert merge(empty, *sessions).exit_code == 0
    assert (empty / "session.json").exists()


def test_dry_run_says_the_same_and_touches_nothing(toy, sessions):
    for session in sessions:
        (session / ".lock").unlink()
    before = tree(toy.output)
    target = toy.output / "deep" / "all"
    dry = merge(target, *sessions, "--dry-run", "--json")
    assert tree(toy.output) == before
    assert not target.parent.exists()
    done = merge(target, *sessions, "--pretty")
    assert (dry.exit_code, done.exit_code) == (0, 0)
    said, did = json.loads(dry.stdout), json.loads(done.stdout)
    assert dry.stdout.count("\n") == 1 < done.stdout.count("\n")
    assert (said.pop("outcome"), did.pop("outcome")) == ("dry run, nothing written", "written")
    assert said == did
    assert said["runs"][0] == {"run": "toy-one-fast", "status": "passed", "session": "m-one"}


def test_a_missing_shard_is_said_and_nothing_is_lost(toy, sessions):
    for number, session in enumerate(sessions):
        change(session, shard={"index": number, "count": 4})
    target = toy.output / "some"
    done = merge(target, *sessions)
    assert done.exit_code == 1
    assert "missing: shard 3 of 4 is missing: there are 0, 1 and 2 of 4" in done.stdout
    assert len(validate.run_directories(target)) == 3
    assert merge(target, *sessions).exit_code == 1, "it is still missing"
    change(sessions[2], shard={"index": 0, "count": 2})
    change(sessions[1], shard={"index": 1, "count": 2})
    change(sessions[0], shard={"index": 1, "count": 2})
    done = merge(toy.output / "whole", *sessions)
    assert done.exit_code == 0
    assert "note: shard 1 of 2 is in 2 sessions" in done.stdout
    change(sessions[0], shard=None)
    nested = merge(toy.output / "nested", toy.output / "whole")
    assert nested.exit_code == 0
    assert json.loads((toy.output / "nested/session.json").read_text())["shards"] == [{"index": i, "count": 2} for i in (1, 1, 0)]


def test_differences_are_listed_refused_and_recorded(toy, sessions):
    change(sessions[0], plugin_version="9.9", data="hub", code={"commit": "abc", "dirty": False, "diff_sha256": None})
    metadata = sessions[1] / "toy-two-fast/run_metadata.json"
    metadata.write_text(json.dumps(json.loads(metadata.read_text()) | {"limit": 5}))
    target = toy.output / "all"
    done = merge(target, *sessions)
    assert done.exit_code == 5
    for words in (
        'commit: "abc" in m-one; null in m-two, m-three',
        'plugin version: "9.9" in m-one;',
        'data: "hub" in m-one;',
        "toy limit: null in m-one, m-three; 5",
    ):
        assert words in done.stderr
    assert "--allow-differences" in done.stderr
    assert nothing_left(target)
    assert merge(target, *sessions, "--allow-differences").exit_code == 0
    record = json.loads((target / "session.json").read_text())
    assert len(record["differences"]) == 4
    assert record["code"]["commit"] is None
    assert "differs: " in (target / "report.md").read_text()
    assert validate.problems(target) == []


def test_the_finished_run_is_taken_of_two(toy, sessions):
    summary = toy.summary("toy-one-fast", "m-one")
    shutil.copytree(sessions[0], toy.output / "broken", ignore=shutil.ignore_patterns(".*"))
    broken = toy.output / "broken"
    (broken / "toy-one-fast/summary.json").write_text(json.dumps(summary | {"ok": False, "status": "failed", "reason": "no"}))
    xml = (broken / "junit.xml").read_text().replace("</properties>", '</properties><failure message="no">no</failure>')
    (broken / "junit.xml").write_text(xml)
    target = toy.output / "all"
    done = merge(target, broken, *sessions)
    assert done.exit_code == 0, done.output
    assert "note: toy-one-fast: passed in m-one, failed in broken; taken from m-one" in done.stdout
    assert toy.summary("toy-one-fast", "all") == summary
    (suite,) = junitparser.JUnitXml.fromfile(str(target / "junit.xml"))
    assert (suite.tests, suite.failures) == (3, 0)


def test_two_finished_runs_must_agree(toy, sessions):
    shutil.copytree(sessions[0], toy.output / "twin", ignore=shutil.ignore_patterns(".*"))
    twin = toy.output / "twin"
    done = merge(toy.output / "all", twin, *sessions)
    assert done.exit_code == 0
    assert "toy-one-fast: the same in twin and m-one; taken from twin" in done.stdout
    summary = toy.summary("toy-one-fast", "twin")
    summary["metrics"]["strict.f1"]["value"] = 0.5
    (twin / "toy-one-fast/summary.json").write_text(json.dumps(summary))
    done = merge(toy.output / "other", twin, *sessions)
    assert done.exit_code == 5
    assert f"toy-one-fast: {twin / 'toy-one-fast'} and {sessions[0] / 'toy-one-fast'} differ in metrics" in done.stderr
    assert nothing_left(toy.output / "other")


def test_sessions_of_one_name_on_two_machines(toy, sessions):
    for number, session in enumerate(sessions):
        shutil.move(session, toy.root / f"machine{number}" / "nightly")
    found = [toy.root / f"machine{number}" / "nightly" for number in range(3)]
    done = merge("all", *(path.relative_to(toy.root) for path in found))
    assert done.exit_code == 0, done.output
    assert json.loads((toy.root / "all/session.json").read_text())["merged_from"] == [f"machine{number}/nightly" for number in range(3)]


def test_a_continued_session_has_runs_that_its_record_does_not_name(toy, sessions):
    toy.run("--gpueval-suite", "toy", "-k", "two-fast", "--gpueval-session", "m-one").assert_outcomes(passed=1, deselected=2)
    done = merge(toy.output / "all", sessions[0], sessions[2])
    assert done.exit_code == 0
    assert "note: junit.xml has no test case of toy-one-fast" in done.stdout
    record = json.loads((toy.output / "all/session.json").read_text())
    (run,) = [run for run in record["runs"] if run["run_id"] == "toy-one-fast"]
    assert (run["status"], run["rows"], run["runtime"], run["case"]) == ("passed", 50, "cpu", "one-fast")
    assert validate.problems(toy.output / "all") == []


def test_a_killed_session_is_joined_and_goes_on(toy, sessions):
    run = sessions[1] / "toy-two-fast"
    (run / "summary.json").unlink()
    results = (run / "results.jsonl").read_bytes()
    (run / "results.jsonl").write_bytes(results[: len(results) // 2])
    (sessions[1] / "junit.xml").unlink()
    change(sessions[1], ended_at=None, exit_status=None)
    done = merge(toy.output / "all", *sessions)
    assert done.exit_code == 1
    assert "missing: toy-two-fast: unfinished in m-two" in done.stdout
    assert "note: m-two: did not end" in done.stdout
    assert "note: m-two: has no junit.xml" in done.stdout
    assert json.loads((toy.output / "all/session.json").read_text())["exit_status"] == 2
    toy.run("--gpueval-suite", "toy", "--gpueval-session", "all").assert_outcomes(passed=3)
    assert [line["id"] for line in toy.lines("toy-two-fast", "all")] == [f"two-{number}" for number in range(50)]
    assert validate.problems(toy.output / "all") == []


# What is refused.


def test_no_session(toy, sessions):
    target = toy.output / "all"
    for place, message in (
        (toy.root / "gone", "no such directory"),
        (toy.output, "Sessions in it: "),
        (sessions[0] / "toy-one-fast", "is no session: it has no file session.json"),
    ):
        done = merge(target, sessions[1], place)
        assert done.exit_code == 2
        assert message in done.stderr
    assert merge(target).exit_code == 2
    (toy.output / "also").symlink_to(sessions[0])
    twice = merge(target, sessions[0], toy.output / "also")
    assert twice.exit_code == 2
    assert "is given twice" in twice.stderr
    inside = merge(sessions[0] / "inner", *sessions)
    assert inside.exit_code == 2
    assert "lies in the session" in inside.stderr
    assert merge(toy.output / "a b", *sessions).exit_code == 2
    assert nothing_left(target)


def test_a_session_that_is_being_written(toy, sessions):
    (sessions[2] / ".owner.json").write_text(json.dumps({"pid": 7, "user": "ann", "host": "h", "started_at": "now"}))
    with FileLock(sessions[2] / ".lock"):
        for more in ((), ("--dry-run",)):
            done = merge(toy.output / "all", *sessions, *more)
            assert done.exit_code == 5
            assert f"{sessions[2]}: is still being written (pid 7 of 'ann' on 'h', since 'now')" in done.stderr
    assert nothing_left(toy.output / "all")
    assert merge(toy.output / "all", *sessions).exit_code == 0
    run = sessions[2] / "toy-three-fast"
    (run / "summary.json").unlink()
    with FileLock(run / ".lock"):  # the controller was killed, its worker lives
        assert merge(toy.output / "other", *sessions).exit_code == 5


def test_a_run_that_breaks_the_contract(toy, sessions):
    with (sessions[0] / "toy-one-fast/results.jsonl").open("a") as file:
        file.write("{}\n")
    (sessions[0] / "toy-one-fast/stdout.log").unlink()
    done = merge(toy.output / "all", *sessions)
    assert done.exit_code == 2
    assert "stdout.log: missing" in done.stderr
    assert "51 lines, but summary.json counts 50 scored" in done.stderr
    assert nothing_left(toy.output / "all")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cannot be read: "),
        (b"\xff", "cannot be read: "),
        (b"[" * 100_000, "cannot be read: "),
        (b"[]", "Input should be a valid dictionary"),
        (b"{}", "session: Field required"),
    ],
)
def test_a_session_record_that_is_none(toy, sessions, content, message):
    file = sessions[0] / "session.json"
    file.write_bytes(content)
    done = merge(toy.output / "all", *sessions)
    assert done.exit_code == 2
    assert f"{file}: " in done.stderr
    assert message in done.stderr
    assert len(done.stderr) < 500


def test_what_lies_in_a_session_and_is_no_run(toy, sessions):
    (sessions[0] / "plots").mkdir()
    (sessions[0] / "notes.txt").write_text("mine")
    done = merge(toy.output / "all", *sessions)
    assert done.exit_code == 0
    assert f"note: {sessions[0] / 'plots'}: has no run_metadata.json, so it is no run; not copied" in done.stdout
    shutil.copytree(sessions[0] / "toy-one-fast", sessions[0] / "toy one")
    done = merge(toy.output / "other", *sessions)
    assert done.exit_code == 2
    assert f"{sessions[0] / 'toy one'}: is not the name of a run directory" in done.stderr


def test_a_session_that_cannot_be_locked_is_read_as_it_is(toy, sessions):
    (sessions[0] / ".lock").unlink()
    (sessions[0] / ".lock").symlink_to("/dev/null/nowhere")
    done = merge(toy.output / "all", *sessions)
    assert done.exit_code == 0, done.output
    assert f"note: {sessions[0]}: cannot be locked" in done.stdout


@pytest.mark.parametrize("name", ["results.jsonl", "passed on"])
def test_a_file_that_cannot_be_read(toy, sessions, monkeypatch, name):
    file = sessions[1] / "toy-two-fast" / name
    file.touch()
    opening = os.open

    def refuse(path, *args, **kwargs):
        if path == file:
            raise PermissionError(13, "Permission denied", str(path))
        return opening(path, *args, **kwargs)

    monkeypatch.setattr(os, "open", refuse)
    done = merge(toy.output / "all", *sessions)
    assert done.exit_code == 2
    assert done.stderr == f"gpueval: {file}: cannot be read: Permission denied\n"
    assert nothing_left(toy.output / "all")


def test_a_session_that_cannot_be_listed(toy, sessions, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(gather.os, "scandir", refuse)
    done = merge(toy.output / "all", *sessions)
    assert (done.exit_code, done.stderr) == (2, f"gpueval: {sessions[0]}: cannot be read: Permission denied\n")


@pytest.mark.parametrize("run_id", ["../../etc", "a/b", "..", "", "x\x1b[2J", "/etc", "junit.xml"])
def test_a_run_id_that_leads_elsewhere(toy, sessions, run_id):
    record = json.loads((sessions[0] / "session.json").read_text())
    record["runs"][0]["run_id"] = run_id
    change(sessions[0], runs=record["runs"])
    done = merge(toy.output / "all", *sessions)
    assert done.exit_code == 2
    assert f"run_id {run_id!r} is not the name of a run directory" in done.stderr
    assert nothing_left(toy.output / "all")


def test_links_and_pipes_are_not_followed(toy, sessions):
    run = sessions[0] / "toy-one-fast"
    (run / "notes").mkdir()
    (run / "notes" / "mine.txt").write_text("kept")
    (run / "passwd").symlink_to("/etc/passwd")
    (run / "etc").symlink_to("/etc")
    os.mkfifo(run / "pipe")
    (sessions[0] / "elsewhere").symlink_to(sessions[1] / "toy-two-fast")
    target = toy.output / "all"
    done = merge(target, *sessions)
    assert done.exit_code == 0, done.output
    assert {path.name for path in (target / "toy-one-fast").iterdir()} & {"passwd", "etc", "pipe", "notes"} == {"notes"}
    assert (target / "toy-one-fast/notes/mine.txt").read_text() == "kept"
    for name in ("passwd", "etc", "pipe"):
        assert f"note: {run / name}: is no regular file; not copied" in done.stdout
    assert f"{sessions[0] / 'elsewhere'}: is a link; not followed" in done.stdout
    assert not (target / "elsewhere").exists()
    assert merge(target, *sessions).exit_code == 0


@pytest.mark.parametrize("name", ["summary.json", "run_metadata.json", "results.jsonl", "stdout.log"])
@pytest.mark.parametrize("kind", ["link", "pipe"])
def test_a_file_of_the_contract_that_is_none(toy, sessions, name, kind):
    file = sessions[0] / "toy-one-fast" / name
    file.unlink()
    file.symlink_to("/dev/zero") if kind == "link" else os.mkfifo(file)
    done = merge(toy.output / "all", *sessions)
    assert done.exit_code == 2
    assert f"{file}: is no regular file" in done.stderr


def test_hostile_junit(toy, sessions):
    bomb = "<!DOCTYPE x [" + '<!ENTITY a0 "ha">' + "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 12)) + "]><testsuites>&a11;</testsuites>"
    for text in (bomb + " " * 50_000_000, "<testsuites>" * 200_000, "no xml", '<?xml version="1.0" encoding="utf-7"?><a/>'):
        (sessions[0] / "junit.xml").write_text(text)
        started = time.monotonic()
        done = merge(toy.output / "all", *sessions)
        assert time.monotonic() - started < 30
        assert done.exit_code == 2
        assert f"{sessions[0] / 'junit.xml'}: is no JUnit XML that can be joined" in done.stderr
        assert len(done.stderr) < 500
    assert nothing_left(toy.output / "all")


def test_a_junit_file_that_is_none(toy, sessions):
    file = sessions[0] / "junit.xml"
    file.write_bytes(b"\xff")
    assert f"{file}: cannot be read: " in merge(toy.output / "all", *sessions).stderr
    file.unlink()
    os.mkfifo(file)
    done = merge(toy.output / "all", *sessions)
    assert (done.exit_code, done.stderr.splitlines()[0]) == (2, f"gpueval: {file}: is no regular file.")
    for session in sessions:
        (session / "junit.xml").unlink()
    assert merge(toy.output / "all", *sessions).exit_code == 0
    assert not (toy.output / "all/junit.xml").exists()


# Faults.

GPUEVAL = [sys.executable, "-c", "from pytest_gpueval.cli.main import run; run()", "runs", "merge"]


def test_a_full_disk_leaves_nothing(toy, sessions):
    (sessions[1] / "toy-two-fast/big.bin").write_bytes(bytes(3_000_000))
    target = toy.output / "all"
    done = subprocess.run(
        [*GPUEVAL, target, *sessions],
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000)),
    )
    assert done.returncode == 1
    assert "cannot be written: File too large" in done.stderr
    assert "the sessions are as they were" in done.stderr
    assert "Traceback" not in done.stderr
    assert nothing_left(target)
    assert merge(target, *sessions).exit_code == 0


def test_a_target_that_cannot_be_written(toy, sessions):
    (toy.root / "file").write_text("")
    for place in (toy.root / "file" / "all", "/proc/all"):
        done = merge(place, *sessions)
        assert done.exit_code == 1
        assert f"{place}: cannot be written: " in done.stderr
    (toy.output / "file").write_text("mine")
    assert merge(toy.output / "file", *sessions).exit_code == 5
    (toy.output / "dangling").symlink_to("nowhere")
    assert merge(toy.output / "dangling", *sessions).exit_code == 5
    (toy.output / ".all.merging").symlink_to(toy.root)
    done = merge(toy.output / "all", *sessions)
    assert done.exit_code == 5
    assert "is in the way" in done.stderr


def test_ctrl_c_in_mid_copy_leaves_nothing(toy, sessions):
    target = toy.output / "all"
    slow = "import time; from pytest_gpueval.runs import gather; copy = gather._copy_file\n"
    slow += "def slowly(*files): copy(*files); print('copied', flush=True); time.sleep(60)\n"
    slow += "gather._copy_file = slowly; from pytest_gpueval.cli.main import run; run()"
    with subprocess.Popen(
        [sys.executable, "-c", slow, "runs", "merge", target, *sessions], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as running:
        assert running.stdout.readline() == "copied\n"
        assert list(toy.output.glob(".all.merging/all/*/*"))
        assert CliRunner().invoke(app, ["runs", "list", str(toy.output)]).stdout.count("toy-") == 3, "what is half done is no session"
        second = merge(target, sessions[1])  # the sessions are held, and so is the target
        assert second.exit_code == 5
        running.send_signal(signal.SIGINT)
        assert running.wait(20) != 0
        assert "Traceback" not in running.stderr.read()
    assert nothing_left(target)


def test_what_a_killed_merge_left_is_cleared(toy, sessions):
    left = toy.output / ".all.merging" / "all" / "toy-one-fast"
    left.mkdir(parents=True)
    (left / "half").write_text("x")
    assert merge(toy.output / "all", *sessions).exit_code == 0
    assert not (toy.output / "all/toy-one-fast/half").exists()
    assert not (toy.output / ".all.merging").exists()


def test_a_merge_of_the_same_target_is_waited_for(toy, sessions):
    (toy.output / ".all.merging").mkdir()
    with FileLock(toy.output / ".all.merging/.lock"):
        done = merge(toy.output / "all", *sessions)
    assert done.exit_code == 5
    assert "another merge is writing it" in done.stderr


def test_something_that_appears_in_the_target_meanwhile_is_kept(toy, sessions, monkeypatch):
    target = toy.output / "all"
    copy = gather._copy_file

    def meddle(*args):
        target.mkdir(exist_ok=True)
        (target / "mine").write_text("x")
        copy(*args)

    monkeypatch.setattr(gather, "_copy_file", meddle)
    done = merge(target, *sessions)
    assert done.exit_code == 5
    assert "something was written there meanwhile" in done.stderr
    assert [path.name for path in target.iterdir()] == ["mine"]


def test_across_file_systems(toy, sessions, monkeypatch):
    def refuse(*_args):
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "copy_file_range", refuse)
    assert merge(toy.output / "all", *sessions).exit_code == 0
    assert toy.lines("toy-one-fast", "all") == toy.lines("toy-one-fast", "m-one")
