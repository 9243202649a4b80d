"""States of servers, from what a host says of them; and who listens there."""

import os
import socket
from dataclasses import replace

import pytest

from pytest_gpueval.hosts.detached.agent import serving as there
from pytest_gpueval.hosts.detached.client import DetachedRun
from pytest_gpueval.hosts.detached.gpus import Gpu
from pytest_gpueval.hosts.detached.servers import different
from pytest_gpueval.hosts.detached.serving import Serving, judged, served
from pytest_gpueval.hosts.detached.states import Outcome, State
from pytest_gpueval.hosts.detached.submission import Submission

RUN = DetachedRun(
    run_id="vllm",
    outcome=Outcome(State.RUNNING),
    command=("vllm", "serve", "m"),
    directory="/r/vllm",
    submitted_at=100.0,
    seconds=30.0,
    exit_code=None,
    signal=None,
    tmux=None,
    processes=2,
    environment={"A": "b"},
    workdir="/w",
)
SEEN = {"url": "http://127.0.0.1:8000/v1", "listener": None, "own": False, "pids": [7, 8], "ready": None, "starts": 1}
OWN = {"listener": {"pids": [7], "words": "pid 7 (vllm) of user ann"}, "own": True}


@pytest.mark.parametrize(
    ("seen", "state", "reason"),
    [
        ({}, Serving.LOADING, "it does not listen yet"),
        ({"ready": {"at": 1.0}}, Serving.SILENT, "it answered before, and does not now"),
        ({**OWN, "models": None, "status": None}, Serving.LOADING, "it listens, and does not answer yet"),
        ({**OWN, "models": None, "status": 401}, Serving.SILENT, "it lists its models to nobody without a key (HTTP 401): --secret API_KEY, or what it reads"),
        ({**OWN, "models": ["m"]}, Serving.SERVING, ""),
        ({"listener": {"pids": [9], "words": "pid 9 (\x1b[31mx) of user eve"}}, Serving.LOADING, r"its port is taken by pid 9 (\x1b[31mx) of user eve"),
    ],
)
def test_a_server_is_in_one_state(seen, state, reason):
    assert judged(RUN, {**SEEN, **seen}) == (state, reason)


def test_the_end_of_its_run_goes_before_everything():
    ended = replace(RUN, outcome=Outcome(State.FAILED, "exit code 1"))
    assert judged(ended, {**SEEN, **OWN, "models": ["m"]}) == (Serving.ENDED, "failed: exit code 1")


HELD = {"GPU-a": ((7, 10), (8, 5), (9, 99)), "GPU-b": ((8, None),)}


def test_gpu_memory_is_that_of_its_own_processes():
    found = tuple(Gpu(number, uuid, "H100", None, None, "550", held) for number, (uuid, held) in enumerate(HELD.items()))
    one = served(RUN, {**SEEN, "ready": {"at": 190.0}}, found, now=200.0)
    assert (one.gpu_memory_mib, one.load_s) == ({"GPU-a": 15}, 20.0)
    assert served(RUN, SEEN, None, now=200.0).gpu_memory_mib is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({}, ""),
        ({"command": ("vllm", "serve", "n")}, "- m, + n"),
        ({"command": ("serve", "vllm", "m")}, "its words in another order"),
        ({"environment": {"A": "c"}}, "- A=b, + A=c"),
        ({"secrets": ("HF_TOKEN",)}, "+ secret HF_TOKEN"),
        ({"directory": "/x"}, "- directory /w, + directory /x"),
        ({"directory": "~"}, ""),
    ],
)
def test_what_is_asked_for_anew_is_told(change, words):
    asked = Submission("vllm", RUN.command, "/w", RUN.environment, ())
    assert different(RUN, replace(asked, **change)) == words


@pytest.mark.parametrize(("family", "address"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
def test_who_listens(family, address):
    with socket.create_server((address, 0), family=family) as server:
        port = server.getsockname()[1]
        found = there.who_listens(address, port)
        assert found["pids"] == [os.getpid()] and found["words"].startswith(f"pid {os.getpid()} (")
    assert there.who_listens(address, port) is None


def test_where_the_kernel_does_not_tell_who_listens(tmp_path, monkeypatch):
    assert there.listeners(80, str(tmp_path)) is None
    monkeypatch.setattr(there, "listeners", lambda port: None)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert there.who_listens("127.0.0.1", port) == {"pids": [], "words": "a process that this system does not show"}
    assert there.who_listens("127.0.0.1", port) is None
