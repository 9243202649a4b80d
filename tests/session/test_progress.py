"""Sessions that run as detached runs tell how far they are."""

from __future__ import annotations

import json
import sys
import threading

import pytest

from pytest_gpueval.hosts.detached.states import State
from pytest_gpueval.runs.redact import Redactor
from pytest_gpueval.session import progress
from tests.detached_runs import ended, runs_in, what
from tests.waiting import wait_for

SESSION = (sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--gpueval-suite", "toy", "--gpueval-session", "it")


@pytest.fixture
def agent(tmp_path):
    with runs_in(tmp_path / "runs") as agent:
        yield agent


def submit(agent, toy, *words):
    variables = [f"TOY_EVENTS={toy.root / 'events.jsonl'}"]
    agent.submit(what([*SESSION, *words], directory=str(toy.root), variables=variables), {})


def until(agent, condition):
    def look():
        (run,) = agent.status(["one"])
        assert not run.state.ended, agent.status(["one"], tail_lines=100)[0].tail
        return run.progress if run.progress is not None and condition(run.progress) else None

    return wait_for(look)


@pytest.mark.parametrize("words", [("-p", "no:xdist"), ("--gpus", "none", "-n", "1"), ("-n", "1")], ids=" ".join)
def test_a_session_tells_how_far_it_is(toy, agent, words):
    waits = "wait_for(lambda: os.path.exists({name!r}), {name!r})"
    toy.datasets({"one": waits.format(name="go-1"), "two": waits.format(name="go-2") + "; raise ValueError('no')", "three": waits.format(name="go-3")})
    submit(agent, toy, *words)
    seen = []
    for done in range(3):
        names = {note.partition(" ")[0] for note in seen}  # for a moment the last one may still be named
        found = until(agent, lambda now, done=done, names=names: now.done == done and now.note and now.note.partition(" ")[0] not in names)
        assert (found.total, found.unit) == (3, "items")
        seen.append(found.note)
        begun = wait_for(lambda done=done: [line["id"] for line in toy.events("begin")][done:])[0]
        assert found.note.startswith(f"{begun.partition('-')[0]}-fast"), found
        (toy.root / f"go-{['one', 'two', 'three'].index(begun.partition('-')[0]) + 1}").touch()
    assert len({note.partition(" ")[0] for note in seen}) == 3
    run = ended(agent)
    assert run.state is State.FAILED, "an item has errors"
    assert (run.progress.done, run.progress.total, run.progress.failed, run.progress.note, run.progress.percent) == (3, 3, 1, "", 100), run.tail


def test_a_worker_that_dies_and_an_item_tried_again_count_once(toy, agent):
    kills = "len(recorded('begin')) > 2 or os.kill(os.getpid(), 9)"
    toy.datasets({"one": kills, "two": kills})
    submit(agent, toy, "--gpus", "none", "-n", "1", "--gpueval-retries", "2")
    run = ended(agent)
    assert run.state is State.PASSED, run.tail
    assert (run.progress.done, run.progress.total, run.progress.failed) == (2, 2, 0)


def test_a_session_that_is_stopped_leaves_how_far_it_came(toy, agent):
    toy.datasets({"one": "", "two": "wait_for(lambda: os.path.exists('go'), 'go')"})
    submit(agent, toy, "-p", "no:xdist")
    until(agent, lambda now: now.done == 1)
    run = agent.stop("one").run
    (run,) = agent.status(["one"])
    assert run.state is State.CANCELLED and (run.progress.done, run.progress.total, run.progress.note) == (1, 2, "")


def test_only_the_session_of_the_run_itself_tells(tmp_path):
    run = tmp_path / "one"
    (run / ".gpueval/abc").mkdir(parents=True)
    own = {"GPUEVAL_RUN_DIR": str(run), "GPUEVAL_DETACHED": "abc"}
    assert progress.place(own) == run / "progress.json"
    assert progress.place({}) is None
    assert progress.place({"GPUEVAL_RUN_DIR": str(run)}) is None
    assert progress.place({**own, "GPUEVAL_DETACHED": "def"}) is None
    assert progress.place({**own, "GPUEVAL_RUN_DIR": str(tmp_path / "row-of-a-sweep")}) is None
    assert progress.place({**own, "PYTEST_CURRENT_TEST": "a session within a test"}) is None


def test_a_session_of_its_own_writes_nothing(toy, monkeypatch, tmp_path):
    monkeypatch.setenv("GPUEVAL_RUN_DIR", str(tmp_path))
    toy.spawn("--gpueval-suite", "toy", "-p", "no:xdist").assert_outcomes(passed=2)
    assert not (tmp_path / "progress.json").exists()


class Reports:
    def __init__(self, monkeypatch):
        self.written = []
        write = progress.write_json

        def kept(path, value, **more):
            self.written.append(value)
            write(path, value, **more)

        monkeypatch.setattr(progress, "write_json", kept)


def test_much_news_are_few_writes_and_the_last_is_never_lost(tmp_path, monkeypatch):
    reports, file = Reports(monkeypatch), tmp_path / "progress.json"
    monkeypatch.setattr(progress, "_EVERY_S", 60.0)
    teller = progress.Progress(file, Redactor.of({}))
    teller.hear({"event": "start", "worker": "gpu0", "case": "x"})
    news = [{"event": "progress", "worker": "gpu0", "case": "x", "done": done, "total": 1000} for done in range(1000)]
    threads = [threading.Thread(target=lambda part=part: [*map(teller.hear, news[part::4])]) for part in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(reports.written) == 1, "within a minute"
    teller.pytest_runtest_logfinish("a")
    teller.pytest_sessionfinish()
    assert json.loads(file.read_text()) == reports.written[-1] == {"done": 1, "total": 1, "failed": 0, "unit": "items", "note": ""}
    teller.hear({"event": "start", "worker": "gpu0", "case": "late"})
    assert len(reports.written) == 2


def test_what_came_within_the_pause_is_told_after_it(tmp_path, monkeypatch):
    monkeypatch.setattr(progress, "_EVERY_S", 0.2)
    file = tmp_path / "progress.json"
    teller = progress.Progress(file, Redactor.of({}))
    for case in ("first", "second"):
        teller.hear({"event": "start", "worker": "gpu0", "case": case})
    wait_for(lambda: json.loads(file.read_text())["note"] == "second")
    teller.hear({"event": "end", "worker": "gpu0", "case": "second"})
    wait_for(lambda: json.loads(file.read_text())["note"] == "")
    teller.pytest_sessionfinish()


def test_secrets_stay_out_and_a_disk_that_is_full_stops_nobody(tmp_path):
    file = tmp_path / "progress.json"
    teller = progress.Progress(file, Redactor.of({"MY_TOKEN": "canary-7f3a91"}))
    teller.hear({"event": "start", "worker": "gpu0", "case": "of canary-7f3a91"})
    assert "7f3a91" not in file.read_text()
    elsewhere = progress.Progress(tmp_path / "no/such/progress.json", Redactor.of({}))
    elsewhere.hear({"event": "start", "worker": "gpu0", "case": "x"})
    elsewhere.pytest_sessionfinish()
