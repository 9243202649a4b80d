"""What PyTriton has of its own; what it shares with Triton's server alone is in test_triton.py, for both."""

import dataclasses
import os
import re
import signal
import socket

import pytest

from pytest_gpueval.errors import RuntimeFault, UsageProblem
from pytest_gpueval.servers import server
from pytest_gpueval.servers.pytriton import PyTriton
from pytest_gpueval.servers.triton import TritonSettings
from tests import triton
from tests.triton import PYTHON, model, processes
from tests.waiting import alive, wait_for


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return triton.suite(tmp_path_factory.mktemp("suite"))


@pytest.fixture
def fresh(tmp_path):
    made = []

    def make(**settings):
        made.append(triton.server(tmp_path / f"pytriton{len(made)}.log", engine="pytriton", **settings))
        return made[-1]

    yield make
    for one in made:
        one.stop(hurry=True)


def test_each_model_has_a_server(fresh, directory):
    """And each its own end. A process of the server that is killed is noticed; what comes back is whole."""
    one = fresh()
    first, second = model(directory, note=1), dataclasses.replace(model(directory, note=2), instances=2)
    names = [one.load(loaded) for loaded in (first, second)]
    servers = [triton.behind(one, loaded) for loaded in (first, second)]
    assert one.load(first) == names[0] and len({server.url for server in servers}) == 2
    assert not triton.control(servers[0]).answers_as(servers[1].kind._identity)
    os.kill(processes(servers[0])["triton_python_b"][0], signal.SIGKILL)
    assert "is gone" in wait_for(one.problem)  # it, or one that ends because of it
    seen, generation = set(servers[0].kind._seen.paths), servers[0].generation
    servers[0].recover(generation, "seen by the test")
    servers[0].recover(generation, "who comes second finds it done")
    assert servers[0].generation == generation + 1 and one.problem() is None and not [path for path in seen if path.exists()]
    found = processes(servers[1])
    one.unload(second)
    assert not [pid for pids in found.values() for pid in pids if alive(pid)]
    wait_for(lambda: one.log.read_text().count("closed 2\n") == 2)
    one.unload(second)
    assert one.problem() is None
    one.stop(hurry=True)
    assert "closed 1\n" not in one.log.read_text() and one.notes == []


def test_a_server_that_ends_while_it_starts_is_noticed_at_once(fresh, directory, monkeypatch):
    """PyTriton waits two minutes for it. The port is somebody else's."""
    monkeypatch.setattr(server, "_PORT_TRIES", 1)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        one = fresh(arguments=["--http-address=127.0.0.1", f"--http-port={taken.getsockname()[1]}"])
        with pytest.raises(RuntimeFault, match=r"(?s)pytriton did not start: it ended with exit code 1.*Probable cause: somebody else took the port first"):
            triton.behind(one, model(directory)).start()
    assert one.log.read_text().count("tritonserver has ended") == 1


def test_arguments_are_fields_of_its_configuration(fresh, directory):
    one = fresh(arguments=["--log-verbose=1", "--allow-http=TRUE"])
    one.load(model(directory))
    wait_for(lambda: "log_verbose" in one.log.read_text() or "verbose" in one.log.read_text())
    with pytest.raises(UsageProblem, match=r"arguments: PyTriton does not take --no-such-option. It takes: .*log_verbose"):
        fresh(arguments=["--no-such-option=1"]).load(model(directory))
    with pytest.raises(UsageProblem, match=r"arguments: '--log-verbose': PyTriton takes them as --name=value"):
        fresh(arguments=["--log-verbose"]).load(model(directory))


def test_options_are_bounded(fresh, directory):
    with pytest.raises(UsageProblem, match=r"its options take \d\d,\d\d\d bytes; at most some 60,000 can be handed to PyTriton"):
        fresh().load(model(directory, note="x" * 70_000))


@pytest.mark.parametrize(
    ("said", "cause"),
    [
        ("ModuleNotFoundError: No module named 'zmq'", "nvidia-pytriton in /p is incomplete"),
        ("ImportError: cannot import name 'Tensor' from 'pytriton.model_config'", "or another version than 0.7"),
        ("A module that was compiled using NumPy 1.x cannot be run in NumPy 2.1.0", "the interpreter has numpy 2"),
        ("failed to start HTTP service: Unavailable - Socket '127.0.0.1:1' already in use", "somebody else took the port first"),
        ("pinned_memory_manager.cc:273] Unable to allocate pinned system memory: CUDA driver version is insufficient", None),
        ("RuntimeError: CUDA driver version is insufficient for CUDA runtime version", "the NVIDIA driver does not fit"),
    ],
)
def test_probable_causes(directory, said, cause):
    causes = PyTriton(TritonSettings("/p"), model(directory), "m").causes
    found = next((advice for pattern, advice in causes.items() if re.search(pattern, f"before\n{said}\nafter")), None)
    assert found is None if cause is None else cause in found


def test_a_model_that_takes_too_long_to_start(fresh, directory):
    one, loaded = fresh(start_s=1.0, stop_s=0.5), model(directory, start="hang")
    with pytest.raises(RuntimeFault, match=r"model model.py:Model did not start on pytriton: it is not ready after 1 s"):
        one.load(loaded)
    assert not triton.behind(one, loaded).running


def test_sockets_have_room(directory, monkeypatch, tmp_path):
    """A path of a socket holds 107 characters: in a deep TMPDIR there would be none left."""
    deep = tmp_path / ("d" * 90)
    deep.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(deep))
    kind = PyTriton(TritonSettings(PYTHON), model(directory), "x" * 24)
    launch = kind.launch()
    try:
        assert launch.made[0].parent.as_posix() == "/tmp"
    finally:
        kind.clean(launch)
    assert not launch.made[0].exists()


def test_what_goes_wrong_at_its_end_is_said(fresh, monkeypatch):
    """Whatever it is: each of its servers is stopped in a thread of its own."""

    class Full:
        notes = ()

        def stop(self, *, hurry):
            raise OSError(28, "No space left on device")

    server = fresh()
    monkeypatch.setitem(server._models, "full", Full())
    with pytest.raises(RuntimeFault, match="No space left on device"):
        server.stop()
    monkeypatch.undo()
