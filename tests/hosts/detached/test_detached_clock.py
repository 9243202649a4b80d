"""Runs on a host whose clock is an hour off: real SSH, real programs, another time."""

import time

import pytest

from pytest_gpueval.hosts.detached import fetch as fetching
from pytest_gpueval.hosts.detached.states import State
from tests.clocks import off_by
from tests.detached_runs import carriers, ended, nonce_of, runs_in, what
from tests.waiting import wait_for

HOUR_S = 3600


@pytest.fixture(params=[+1, -1], ids=["ahead", "behind"])
def hours(request):
    return request.param


@pytest.fixture
def agent(sshd, root, hours):
    with sshd.host(environment=off_by(f"{hours:+d}h")) as host, runs_in(root, host) as agent:
        yield agent


def test_a_run_is_in_the_right_state_for_the_right_time(agent, hours, tmp_path):
    (tmp_path / "go").touch()
    agent.submit(what("echo begin; while [ -e go ]; do sleep 0.05; done; echo RESULT_X a=1", directory=str(tmp_path)), {})
    (run,) = agent.status(["one"])
    assert run.state is State.RUNNING and abs(run.submitted_at - time.time() - hours * HOUR_S) < 60  # its clock is off indeed
    assert 0 <= run.seconds < 60
    piece = wait_for(lambda: (found := agent.logs("one")).data and found)
    assert piece.data == b"begin\n"
    (tmp_path / "go").unlink()
    run = ended(agent)
    assert run.state is State.PASSED and 0 <= run.seconds < 60 and run.results == {"x.a": 1.0}
    assert agent.logs("one", after=piece, wait_s=5).data == b"RESULT_X a=1\n"


def test_the_same_again_is_the_same_run(agent, tmp_path):
    first = agent.submit(what("sleep 600", directory=str(tmp_path)), {})
    again = agent.submit(what("sleep 600", directory=str(tmp_path)), {})
    assert (first.again, again.again) == (False, True)
    nonce = nonce_of(agent)
    stopped = agent.stop("one", grace_s=5)
    assert stopped.run.state is State.CANCELLED and wait_for(lambda: not carriers(nonce))


def test_what_it_wrote_is_fetched_once(agent, tmp_path):
    agent.submit(what('printf data >"$GPUEVAL_RUN_DIR/file"', directory=str(tmp_path)), {})
    ended(agent)
    here = tmp_path / "here"
    first = fetching.fetch(agent, "one", here, most_bytes=1 << 20, most_files=100)
    assert (here / "one/file").read_text() == "data" and "file" in {entry.name for entry in first.files}
    again = fetching.fetch(agent, "one", here, most_bytes=1 << 20, most_files=100)
    assert not again.files and "file" in set(again.unchanged)
