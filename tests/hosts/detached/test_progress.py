"""How far runs are: what they tell, what their logs show, and what whoever writes that may write."""

import base64
import json
import os
import socket
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_gpueval.hosts.detached.agent.files import Run, read_bytes
from pytest_gpueval.hosts.detached.agent.progress import MOST_TOLD, last_percent, progress_of
from pytest_gpueval.hosts.detached.progress import Progress, progress
from pytest_gpueval.hosts.detached.states import State
from tests.detached_runs import ended, what
from tests.waiting import wait_for


def read(text, *, percent=None, at=100.0, now=100.0):
    data = text if isinstance(text, bytes) else json.dumps(text).encode()
    return progress({"told": base64.b64encode(data).decode(), "at": at, "percent": percent}, now)


def of(agent, run_id="one"):
    (run,) = agent.status([run_id])
    return run.progress


# What is told


@pytest.mark.parametrize(
    ("told", "found"),
    [
        ({"done": 12, "total": 40, "unit": "items", "note": "kaggle-test"}, Progress(30, 12, 40, 0, "items", "kaggle-test", 5.0)),
        ({"done": 12, "total": 40, "failed": 3, "more": [1]}, Progress(30, 12, 40, 3, "", "", 5.0)),
        ({"done": 7}, Progress(None, 7, None, 0, "", "", 5.0)),
        ({"done": 7, "total": None, "note": ""}, Progress(None, 7, None, 0, "", "", 5.0)),
        ({"done": 0, "total": 0}, Progress(None, 0, 0, 0, "", "", 5.0)),
        ({"done": 9, "total": 8}, Progress(100, 9, 8, 0, "", "", 5.0)),
        ({"done": 999, "total": 1000}, Progress(99, 999, 1000, 0, "", "", 5.0)),
    ],
)
def test_what_is_told(told, found):
    assert read(told, percent=77, at=95.0) == found


@pytest.mark.parametrize(
    "told",
    [
        b"",
        b"{",
        b"null",
        b"[" * 4000,
        b'{"a":' * 700,
        b"\xff\xfe",
        b'{"done": 1' + b"0" * 3000 + b"}",
        {},
        {"done": True},
        {"done": 1.5},
        {"done": "12"},
        {"done": -1},
        {"done": 10**16},
        b'{"done": NaN}',
        {"done": 1, "total": -1},
        {"done": 1, "total": "2"},
        {"done": 1, "failed": None},
        {"done": 1, "unit": 3},
        b'{"done": 1, "note": "\\ud800"}',
        {"done": 1, "note": {"a": 1}},
    ],
)
def test_what_is_not_as_it_should_be_says_nothing_and_the_log_counts(told):
    assert read(told, percent=45) == Progress(45)
    assert read(told) is None


def test_words_are_one_harmless_line():
    found = read({"done": 1, "unit": "u" * 500, "note": "a\x1b]0;title\x07\nb\t\u202e" + "ж" * 500})
    assert found.note.startswith("a\\x1b]0;title\\x07 b \\u202e") and found.note.isprintable() and len(found.note) == 120
    assert found.unit == "u" * 19 + "…"


@given(
    st.binary(max_size=200)
    | st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), lambda c: st.lists(c) | st.dictionaries(st.text(), c))
)
def test_whatever_is_written_is_read_or_not(told):
    found = read(told if isinstance(told, bytes) else json.dumps(told).encode("utf-8", "backslashreplace"), percent=3)
    assert found == Progress(3) or found.done >= 0


@given(st.fixed_dictionaries({"done": st.integers(0, 10**15), "total": st.integers(0, 10**15), "note": st.text(), "unit": st.text()}))
def test_whatever_is_told_fits_a_line(told):
    found = read(told)
    assert (found.done, found.total) == (told["done"], told["total"])
    assert found.percent is None or 0 <= found.percent <= 100
    assert "\n" not in found.note and len(found.note) <= 120


# What logs show


@pytest.mark.parametrize(
    ("text", "percent"),
    [
        (b"", None),
        (b"45%", None),
        (b"loss fell by 45% | ok [45 %]", None),
        (b"  0%|          | 0/10 [00:00<?, ?it/s]\r 45%|####      | 9/20", 45),
        (b"Loading:   5%|", 5),
        (b"tests/test_a.py ....   [ 45%]\ntests/test_b.py ..    [100%]\n===== 6 passed", 100),
        (b"[gw0] [  4%] PASSED a", 4),
        (b" 30%|###  | x\n 999%|", 30),
        (b"1.45%|", None),
        (b"12345%|", None),
    ],
)
def test_the_last_percentage_of_a_log(text, percent):
    assert last_percent(text) == percent


@given(st.binary())
def test_any_log_can_be_read(text):
    assert last_percent(text) in {None, *range(101)}


TESTS = """
import os, time, pytest
@pytest.mark.parametrize("n", range(4))
def test_one(n):
    while n > 1 and not os.path.exists({go!r}):
        time.sleep(0.02)
"""


def test_real_progress_bars(agent, tmp_path):
    """Of tqdm and of pytest, from their beginning to their end."""
    bar = f"(seq 5; while [ ! -e {tmp_path}/go ]; do sleep 0.02; done; seq 5) | {sys.executable} -m tqdm --total 10 --mininterval 0 --miniters 1"
    agent.submit(what(bar), {})
    tests = tmp_path / "test_many.py"
    tests.write_text(TESTS.format(go=str(tmp_path / "go")))
    agent.submit(what([sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider", str(tests)], "two"), {})
    wait_for(lambda: of(agent) == Progress(50))
    wait_for(lambda: of(agent, "two") == Progress(50))
    (tmp_path / "go").touch()
    assert ended(agent).progress == ended(agent, "two").progress == Progress(100)


# What is in the place of the file


TRAINING = """
import json, os, sys, time
place, go = os.environ["GPUEVAL_RUN_DIR"] + "/progress.json", sys.argv[1]
for step in range(0, 301, 100):
    with open(place + ".new", "w") as file:
        json.dump({"done": step, "total": 300, "unit": "steps", "note": "loss %.2f" % (3 - step / 100)}, file)
    os.replace(place + ".new", place)
    while step < 300 and not os.path.exists(go + str(step)):
        time.sleep(0.02)
"""


def test_a_training_tells(agent, root, tmp_path):
    agent.submit(what([sys.executable, "-c", TRAINING, str(tmp_path / "go")]), {})
    for step in (0, 100, 200):
        found = wait_for(lambda step=step: (now := of(agent)) and now.done == step and now)
        assert (found.total, found.unit, found.note) == (300, "steps", f"loss {3 - step / 100:.2f}") and found.age_s < 60
        (tmp_path / f"go{step}").touch()
    run = ended(agent)
    assert run.state is State.PASSED and (run.progress.percent, run.progress.done) == (100, 300)
    agent.submit(what("exec sleep 600"), {}, force=True)
    assert of(agent) is None, "what the run before has told is put aside"
    assert len(list(root.glob("one/progress.json.bak-*"))) == 1


@pytest.mark.parametrize("kind", ["fifo", "directory", "loop", "socket", "device", "huge", "nothing"])
def test_what_is_no_small_file_holds_nobody_up(agent, root, kind, monkeypatch):
    agent.submit(what("echo ' 45%|####'; exec sleep 600"), {})
    for name in ("progress.json", "summary.json"):
        place = root / "one" / name
        if kind == "fifo":
            os.mkfifo(place)
        elif kind == "directory":
            place.mkdir()
        elif kind == "loop":
            place.symlink_to(place)
        elif kind == "socket":
            with socket.socket(socket.AF_UNIX) as server:
                monkeypatch.chdir(place.parent)  # paths of sockets must be short
                server.bind(name)
        elif kind == "device":
            place.symlink_to("/dev/zero")
        elif kind == "huge":
            place.write_bytes(b'{"done": 1, "note": "' + b"x" * MOST_TOLD + b'"}')
    wait_for(lambda: of(agent) == Progress(45))
    (run,) = agent.status()
    assert run.state is State.RUNNING and (run.summary is None or kind == "huge")


def test_a_summary_that_is_too_deep_is_none(agent, root):
    agent.submit(what("true"), {})
    ended(agent)
    (root / "one/summary.json").write_bytes(b"[" * 200_000)
    assert agent.status()[0].summary is None


def test_a_file_that_cannot_be_read_is_said(tmp_path):
    run = Run(str(tmp_path), "one")
    (tmp_path / "one").mkdir()
    assert progress_of(run) == {"told": "", "at": None, "percent": None}
    (tmp_path / "one/progress.json").write_text('{"done": 3}')
    assert read_bytes(str(tmp_path / "one/progress.json"), 2, 4) == b"done"
    assert progress_of(run)["at"] is not None
