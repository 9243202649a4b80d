"""The same session again: reuse, refuse, force, continue."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.waiting import SESSION_S, wait_for

IT = ("--gpueval-suite", "toy", "--gpueval-session", "it")


def start(toy, *args: str, seconds: float = 0.02) -> subprocess.Popen:
    """A session in the background whose model takes `seconds` a batch."""
    return subprocess.Popen(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *args],
        cwd=toy.root,
        env={**os.environ, "TOY_SECONDS": str(seconds)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def count_lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def untimed(lines: list[dict]) -> list[dict]:
    return [{key: value for key, value in line.items() if key != "latency_ms"} for line in lines]


def untimed_summary(summary: dict) -> dict:
    return {key: value for key, value in summary.items() if key not in ("seconds", "startup_s", "samples_per_s", "latency", "speed", "gpu")}


def test_finished_runs_are_reused(toy):
    toy.run(*IT).assert_outcomes(passed=2)
    results = toy.session("it") / "toy-one-fast/results.jsonl"
    before = results.stat().st_mtime_ns
    toy.pytester.makeconftest("import pytest_gpueval.runtimes.inprocess as runtime\nruntime.load_object = None  # no model may be loaded")
    again = toy.spawn(*IT)
    again.assert_outcomes(passed=2)
    again.stdout.fnmatch_lines(["*one-fast*reused*", "one-fast*passed, no gates, reused*"])
    assert results.stat().st_mtime_ns == before
    record = json.loads((toy.session("it") / "session.json").read_text())
    assert all(run["reused"] for run in record["runs"])


@pytest.mark.parametrize("xdist", [(), ("-n", "2")], ids=["one process", "xdist"])
def test_a_failed_run_stops_the_operator_before_anything_runs(toy, xdist):
    toy.append('[[datasets.two.gates]]\nmetric = "strict.f1"\nmin = 0.99\n')
    toy.run(*IT, "-k", "two").assert_outcomes(failed=1, deselected=1)
    again = toy.spawn(*IT, *xdist)
    assert again.ret == pytest.ExitCode.USAGE_ERROR
    text = again.stdout.str() + again.stderr.str()
    assert "toy-two-fast: failed" in text
    assert "--gpueval-force" in text
    assert "Traceback" not in text
    assert not (toy.session("it") / "toy-one-fast").exists(), "nothing may have run"
    toy.run(*IT, "-k", "one").assert_outcomes(passed=1, deselected=1)


def test_force_backs_up_and_runs_again(toy):
    toy.run(*IT).assert_outcomes(passed=2)
    run = toy.session("it") / "toy-one-fast"
    old = (run / "summary.json").read_text()
    toy.run(*IT, "--gpueval-force").assert_outcomes(passed=2)
    toy.run(*IT, "--gpueval-force").assert_outcomes(passed=2)
    backups = sorted(run.glob("summary.json.bak-*"))
    assert len(backups) == 2
    assert old in [backup.read_text() for backup in backups]
    assert len(list(run.glob("results.jsonl.bak-*"))) == len(list(run.glob("stdout.log.bak-*"))) == 2


@pytest.mark.parametrize("xdist", [(), ("-n", "2")], ids=["one process", "xdist"])
@pytest.mark.parametrize("killer", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM], ids=["KILL", "INT", "TERM"])
def test_stopped_in_mid_dataset_and_continued(toy, killer, xdist):
    # Ten batches of a second: a busy machine may take its time to pass the signal on.
    process = start(toy, *IT, "-k", "one", "--gpueval-workers", "5", *xdist, seconds=1.0)
    results = toy.output / "it/toy-one-fast/results.jsonl"
    wait_for(lambda: count_lines(results) >= 15)
    process.send_signal(killer)
    output, _ = process.communicate(timeout=SESSION_S)
    left = count_lines(results)
    assert 15 <= left < 50
    if killer is not signal.SIGKILL:
        assert toy.summary(session="it")["status"] == "interrupted"
        assert toy.summary(session="it")["rows"]["scored"] in (left, left + 1), "a worker that was killed by xdist may have one line on its way"
        assert process.returncode == pytest.ExitCode.INTERRUPTED, output
        assert (toy.output / "it/junit.xml").exists()
    if not xdist:
        with results.open("a") as file:
            file.write('{"id":"one-3')  # what a process that is killed while writing leaves

    toy.spawn(*IT, "-k", "one").assert_outcomes(passed=1, deselected=1)
    toy.spawn("--gpueval-suite", "toy", "--gpueval-session", "undisturbed", "-k", "one").assert_outcomes(passed=1, deselected=1)
    assert untimed(toy.lines(session="it")) == untimed(toy.lines(session="undisturbed"))
    assert untimed_summary(toy.summary(session="it")) == untimed_summary(toy.summary(session="undisturbed"))


def test_skipped_rows_keep_their_place_when_continued(toy):
    table = [{"id": f"r-{i}", "text": "aaaaabbbbb", "spans": [{"start": 0, "end": 50 if i in (0, 7, 8, 30, 49) else 3, "label": "A"}]} for i in range(50)]
    toy.split(table)
    args = ("--gpueval-suite", "toy", "-k", "one", "--gpueval-on-bad-row", "skip")
    toy.run(*args, "--gpueval-session", "whole").assert_outcomes(passed=1, deselected=1)
    whole = (toy.output / "whole/toy-one-fast/results.jsonl").read_text().splitlines(keepends=True)
    assert [json.loads(line)["id"] for line in whole] == [f"r-{i}" for i in range(50)]
    for kept in (0, 1, 7, 8, 9, 31, 49, 50):
        name = f"cut{kept}"
        toy.run(*args, "--gpueval-session", name).assert_outcomes(passed=1, deselected=1)
        run = toy.output / name / "toy-one-fast"
        (run / "summary.json").unlink()
        (run / "results.jsonl").write_text("".join(whole[:kept]))
        toy.run(*args, "--gpueval-session", name).assert_outcomes(passed=1, deselected=1)
        assert untimed(toy.lines(session=name)) == untimed(toy.lines(session="whole"))
        assert untimed_summary(toy.summary(session=name)) == untimed_summary(toy.summary(session="whole"))


def interrupted(toy, kept: int = 20) -> Path:
    """A run that was stopped after `kept` rows."""
    toy.run(*IT, "-k", "one").assert_outcomes(passed=1, deselected=1)
    run = toy.session("it") / "toy-one-fast"
    (run / "summary.json").unlink()
    lines = (run / "results.jsonl").read_text().splitlines(keepends=True)
    (run / "results.jsonl").write_text("".join(lines[:kept]))
    return run


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda toy: toy.split([{"id": "x", "text": "aaab", "spans": []}]), "dataset"),
        (lambda toy: toy.edit("[policies.open]", "[policies.open]\nthreshold = 0.5"), "policy"),
        (lambda toy: toy.edit('target = "model.py:Model"', 'target = "model.py:Model"\noptions = {}\nextra = "x"'), "runtime"),
    ],
    ids=["data", "policy", "runtime"],
)
def test_another_run_is_not_continued(toy, change, named):
    run = interrupted(toy)
    before = (run / "results.jsonl").read_text()
    change(toy)
    again = toy.run(*IT, "-k", "one")
    again.assert_outcomes(errors=1, deselected=1)
    again.stdout.fnmatch_lines([f"*another {named}:*", "*--gpueval-force*"])
    assert (run / "results.jsonl").read_text() == before, "nothing is lost"


def test_foreign_lines_are_not_continued(toy):
    run = interrupted(toy)
    (run / "results.jsonl").write_text('{"id":"elsewhere","score":{"labels":{},"cross":[0,0]},"prediction":[]}\n')
    again = toy.run(*IT, "-k", "one")
    again.assert_outcomes(failed=1, deselected=1)
    again.stdout.fnmatch_lines(["*results.jsonl:1: holds the result of 'elsewhere'*"])


def test_two_sessions_never_write_the_same_directory(toy):
    first = start(toy, *IT, seconds=1000)
    wait_for((toy.output / "it/toy-one-fast/run_metadata.json").exists)
    second = toy.spawn(*IT)
    assert second.ret == pytest.ExitCode.USAGE_ERROR
    second.stderr.fnmatch_lines([f"*another session is writing here (pid {first.pid} of *"])
    first.terminate()
    first.communicate(timeout=SESSION_S)
    assert first.returncode == pytest.ExitCode.INTERRUPTED
    toy.spawn(*IT).assert_outcomes(passed=2)


def test_a_worker_that_dies_leaves_a_crashed_run_and_the_others_finish(toy):
    toy.suite(
        "toy",
        model="""
        import os, signal
        class Model:
            def predict(self, batch):
                if any(item["id"] == "one-20" for item in batch):
                    os.kill(os.getpid(), signal.SIGKILL)
                return [[] for _ in batch]
        """,
    )
    result = toy.spawn(*IT, "-n", "2")
    result.assert_outcomes(passed=1, failed=1)
    summary = toy.summary(session="it")
    assert (summary["status"], summary["ok"], summary["rows"]["scored"]) == ("crashed", False, 16)
    junit = (toy.session("it") / "junit.xml").read_text()
    assert 'name="gpueval.status" value="crashed"' in junit
    again = toy.spawn(*IT)
    again.stderr.fnmatch_lines(["*toy-one-fast: crashed*"])
