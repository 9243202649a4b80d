"""Hooks for loggers: called once each, by the process that was started, with what the session's files say; one that raises changes nothing."""

from __future__ import annotations

import json

import pytest

from .conftest import rows

LOGGER = """
import dataclasses, json, os, threading
def write(event, payload, config):
    assert threading.current_thread() is threading.main_thread() and not hasattr(config, "workerinput")
    with open("heard.jsonl", "a") as file:
        file.write(json.dumps({"event": event, "pid": os.getpid(), **dataclasses.asdict(payload)}) + "\\n")
def pytest_gpueval_verdict(verdict, config):
    write("verdict", verdict, config)
def pytest_gpueval_run_finished(run, config):
    write("run", run, config)
def pytest_gpueval_session_finished(session, config):
    write("session", session, config)
"""
START = """
@dataclasses.dataclass
class Start:
    pass
def pytest_sessionstart(session):
    if not hasattr(session.config, "workerinput"):
        write("start", Start(), session.config)
"""
GATE = '[[gates]]\nmetric = "strict.f1"\nmin = 0.5\n'


def heard(toy, event: str | None = None) -> list[dict]:
    lines = [json.loads(line) for line in (toy.root / "heard.jsonl").read_text().splitlines()]
    return [line for line in lines if event in (None, line["event"])]


def test_what_a_logger_hears(toy):
    toy.append(GATE)
    toy.split(rows(50, wrong_every=1), "two")
    toy.pytester.makeconftest(LOGGER)
    toy.run("--gpueval-suite", "toy", "--gpueval-session", "it").assert_outcomes(passed=1, failed=1)

    assert [line["event"] for line in heard(toy)] == ["verdict", "run", "verdict", "run", "session"]
    good, bad = heard(toy, "run")
    summary = toy.summary("toy-one-fast", "it")
    for key in ("run_id", "status", "ok", "headline", "metrics", "labels", "seconds", "samples_per_s", "attempts"):
        assert good[key] == summary[key], key
    assert (good["suite"], good["case"], good["session"], good["failure"], good["shard"]) == ("toy", "one-fast", "it", None, None)
    assert (good["rows_scored"], good["rows_failed"], good["rows_skipped"], good["reused"]) == (50, 0, 0, False)
    assert good["provenance"] == json.loads((toy.session("it") / "toy-one-fast/run_metadata.json").read_text())
    assert good["path"] == str(toy.session("it") / "toy-one-fast")
    assert (bad["status"], bad["failure"], bad["verdicts"][0]["outcome"]) == ("failed", "gate", "fail")
    verdict, _ = heard(toy, "verdict")
    assert verdict["details"] == summary["gates"][0]
    assert (verdict["metric"], verdict["bound"], verdict["outcome"], verdict["run_id"]) == ("strict.f1", ">= 0.5", "pass", "toy-one-fast")
    (session,) = heard(toy, "session")
    assert session["statuses"] == {"toy-one-fast": "passed", "toy-two-fast": "failed"}
    assert session["exit_status"] == toy.record()["exit_status"] == 1
    assert sorted(session["reports"]) == ["html", "junit", "markdown", "session"]
    assert session["provenance"]["code"] == toy.record()["code"]


def test_reused_runs_are_told_again_and_flagged(toy):
    toy.append(GATE)
    toy.run("--gpueval-suite", "toy", "--gpueval-session", "it", "-k", "one").assert_outcomes(passed=1, deselected=1)
    toy.pytester.makeconftest(LOGGER)
    toy.run("--gpueval-suite", "toy", "--gpueval-session", "it").assert_outcomes(passed=2)
    assert {line["run_id"]: line["reused"] for line in heard(toy, "run")} == {"toy-one-fast": True, "toy-two-fast": False}
    assert [line["reused"] for line in heard(toy, "verdict")] == [True, False]
    assert heard(toy, "session")[0]["reused"] == ["toy-one-fast"]


@pytest.mark.parametrize("args", [("--gpus", "none", "-n", "2"), ("-n", "2", "-p", "no:terminal")], ids=["lanes", "xdist"])
def test_workers_run_items_and_the_controller_tells(toy, args):
    toy.pytester.makeconftest(LOGGER + START)
    assert toy.spawn("--gpueval-suite", "toy", "--gpueval-session", "it", *args).ret == 0
    (start,) = heard(toy, "start")
    assert sorted(line["run_id"] for line in heard(toy, "run")) == ["toy-one-fast", "toy-two-fast"]
    assert {line["pid"] for line in heard(toy)} == {start["pid"]}
    assert len(heard(toy, "session")) == 1


def test_a_hook_that_raises_is_a_line_and_takes_nothing_from_the_others(toy, monkeypatch):
    toy.pytester.makeconftest(LOGGER)
    toy.pytester.makepyfile(
        plugin="""
        import os, pytest
        def pytest_gpueval_run_finished(run):
            raise ValueError("no such project: " + os.environ["TOY_API_KEY"] + "\\nsecond line")
        def pytest_gpueval_session_finished():
            pytest.fail("enough")
        """
    )
    toy.pytester.syspathinsert()
    monkeypatch.setenv("TOY_API_KEY", "k3y-0f-many-letters")
    result = toy.run("--gpueval-suite", "toy", "-p", "plugin")
    result.assert_outcomes(passed=2)
    assert result.ret == 0
    text = result.stdout.str()
    assert "WARNING: pytest_gpueval_run_finished of plugin.py raised ValueError: no such project: <redacted> (2 times)" in text
    assert "WARNING: pytest_gpueval_session_finished of plugin.py raised Failed: enough" in text
    assert "Traceback" not in text and "second line" not in text
    assert [line["event"] for line in heard(toy)] == ["run", "run", "session"], "the other logger hears all"


def test_without_loggers_no_files_are_read_for_them(toy, monkeypatch):
    monkeypatch.setattr("pytest_gpueval.session.listeners._finished", lambda *_: pytest.exit("nobody listens", 99))
    assert toy.run("--gpueval-suite", "toy").ret == 0


def test_nobody_waits_for_a_logger(toy):
    """While it runs, what workers say is heard, and shown."""
    toy.datasets({f"d{number}": "pass" for number in range(4)})
    toy.pytester.makeconftest(
        """
        import threading
        def pytest_gpueval_run_finished(run, config):
            if hasattr(config, "workerinput"):
                return
            display, heard = config.pluginmanager.getplugin("gpueval-display"), []
            def hear():
                display.hear({"event": "progress", "worker": "none"})
                heard.append(run.case)
            worker = threading.Thread(target=hear, daemon=True)
            worker.start()
            worker.join(30)
            with open("shown.txt", "a") as file:
                file.writelines(f"{case}\\n" for case in heard)
        """
    )
    toy.finish(toy.on_gpus(2), "--gpus", "0-1")
    assert sorted((toy.root / "shown.txt").read_text().split()) == [f"d{number}-fast" for number in range(4)]
