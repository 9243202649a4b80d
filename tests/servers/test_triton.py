"""Triton's server, the real one: its life, its models, and what is said when something is wrong. `make triton-server` makes its interpreter."""

import dataclasses
import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from pytest_gpueval.errors import Conflict, RuntimeFault, UsageProblem
from pytest_gpueval.processes import leftovers
from pytest_gpueval.runtimes.triton import client_library
from pytest_gpueval.servers import ports, triton_python, triton_server
from pytest_gpueval.servers.triton import Triton, TritonModel, TritonSettings
from pytest_gpueval.servers.triton_control import Refused
from tests import triton
from tests.triton import PYTHON, SECRET, model, processes
from tests.waiting import alive, wait_for

ROOT = Path(__file__).resolve().parents[2]
# One that everybody may run, unlike those of a virtual environment below somebody's home.
SYSTEM_PYTHON = "/usr/bin/python3"


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return triton.suite(tmp_path_factory.mktemp("suite"))


both = pytest.mark.parametrize("engine", triton.ENGINES)


@pytest.fixture(scope="module")
def shared_by_engine(tmp_path_factory):
    """A server of each engine for tests that leave it as they found it."""
    with triton.of_each_engine(tmp_path_factory) as made:
        yield made


@pytest.fixture
def shared(shared_by_engine):
    return shared_by_engine["tritonserver"]


@pytest.fixture
def fresh(tmp_path):
    """Servers of a test's own."""
    made = []

    def make(**settings):
        made.append(triton.server(tmp_path / f"triton{len(made)}.log", **settings))
        return made[-1]

    yield make
    for one in made:
        one.stop()


def open_files():
    return {path.name for path in Path("/proc/self/fd").iterdir()}


def listening(pids):
    """Ports on which one of these listens."""
    return [entry.laddr.port for entry in psutil.net_connections("tcp") if entry.status == psutil.CONN_LISTEN and entry.pid in pids]


def words(pid):
    return Path(f"/proc/{pid}/cmdline").read_text() + Path(f"/proc/{pid}/comm").read_text()


# Its life.


@both
def test_it_is_up_and_nothing_is_left_of_it(fresh, directory, engine):
    files = open_files()
    one, loaded = fresh(engine=engine), model(directory, secret=SECRET, note="by itself", start="child")
    name, server = one.load(loaded), triton.behind(one, loaded)
    triton.control(server).ping(name, 10)
    place, found = server.launch.made[0], processes(server)
    child = int(re.search(r"child (\d+)", wait_for(lambda: "child " in one.log.read_text() and one.log.read_text()))[1])
    everyone = [*(pid for pids in found.values() for pid in pids), child]
    own = {"python", "python3", f"python{sys.version_info[0]}.{sys.version_info[1]}"} if engine == "pytriton" else set()
    assert set(found) - own == {"tritonserver", "triton_python_b", "sleep"} and one.problem() is None
    prefix, store = server.kind._segments, set(getattr(getattr(server.kind, "_seen", None), "paths", ()))
    assert triton.segments(prefix) and server.launch.ports == {} and not listening(everyone), "on no port at all"
    assert {path.name.partition("_")[0] for path in store if not path.name.startswith(prefix)} == ({"psm"} if engine == "pytriton" else set())
    assert place.stat().st_mode & 0o777 == 0o700
    assert all(str(place) in words(pid) for pid in found["triton_python_b"]), "the server makes no folders elsewhere, where they would stay"
    assert not [file for file in place.rglob("*") if file.is_file() and SECRET in file.read_text(errors="replace")]
    assert not [pid for pid in everyone if SECRET in words(pid)]
    one.stop()
    assert not [pid for pid in everyone if alive(pid)]
    assert not triton.segments(prefix) and not [path for path in store if path.exists()] and not place.exists()
    assert one.notes == [] and "leaked" not in one.log.read_text()
    assert open_files() <= files
    text = one.log.read_text()
    assert "warm\n" in text and "closed by itself\n" in text and SECRET not in text
    one.stop()  # again is harmless


def test_two_at_once(fresh, shared, directory):
    other = fresh()
    names = [one.load(model(directory)) for one in (shared, other)]
    for one, name in zip((shared, other), names, strict=True):
        triton.control(one).ping(name, 10)
    assert not triton.control(other).answers_as(shared._triton._identity)


def test_a_model_is_loaded_once_and_unloaded_whole(shared, directory):
    first = shared.load(model(directory, note=1))
    assert shared.load(model(directory, note=1)) == first
    other = dataclasses.replace(model(directory, note=2), instances=2)
    assert shared.load(other) != first
    stubs = [stub.pid for loaded in shared._models.values() if loaded.model == other for stub in loaded.stubs]
    assert len(stubs) == 2 and all(map(alive, stubs))
    shared.unload(other)
    assert not any(map(alive, stubs)) and shared.log.read_text().count("closed 2\n") == 2
    shared.unload(other)
    assert shared.problem() is None


def test_a_model_that_cannot_be_unloaded_takes_the_server_with_it(fresh, directory):
    one = fresh(stop_s=0.5)
    names = [one.load(model(directory, note=note)) for note in ("stays", "hangs")]
    one.unload(model(directory, note="hangs"))
    assert not one.running and "close() was cut off" in one.notes[0]
    assert one.load(model(directory, note="stays")) == names[0] and one.problem() is None and len(processes(one)["triton_python_b"]) == 1


def test_an_idle_model_whose_process_was_killed_is_loaded_again(shared, directory, monkeypatch):
    """Triton starts no other one, and calls the model ready."""
    monkeypatch.setattr(triton_server, "_REPAIR_S", 30.0)
    name = shared.load(model(directory))
    (loaded,) = [one for one in shared._models.values() if one.name == name]
    before, generation, (stub,) = processes(shared)["tritonserver"], shared.generation, loaded.stubs
    os.kill(stub.pid, signal.SIGKILL)
    assert wait_for(shared.problem) == "the process of model model.py:Model is gone"
    shared.recover(generation, "seen by the test")
    assert processes(shared)["tritonserver"] == before and shared.generation == generation + 1
    assert shared.problem() is None and loaded.stubs[0].pid != stub.pid
    shared.recover(generation, "who comes second finds it done")
    assert shared.generation == generation + 1


def test_a_server_that_was_killed_comes_back_with_its_models(fresh, directory):
    one = fresh()
    names = [one.load(model(directory, note=note)) for note in (1, 2)]
    os.kill(processes(one)["tritonserver"][0], signal.SIGKILL)
    wait_for(one.problem)
    one.recover(1, "killed")
    assert one.generation == 2 and one.problem() is None
    for name in names:
        triton.control(one).ping(name, 10)


@both
def test_a_model_that_does_not_close_holds_nothing_up_for_long(fresh, directory, engine):
    one, loaded = fresh(engine=engine, stop_s=0.5), model(directory, note="hangs")
    one.load(loaded)
    found = processes(triton.behind(one, loaded))
    one.stop()
    (note,) = one.notes
    assert note.startswith("model.py:Model: close() was cut off, 0.5 s after it was asked for. To give it more, let the fixture triton_settings return")
    assert note in one.log.read_text()
    assert not [pid for pids in found.values() for pid in pids if alive(pid)]


@both
def test_it_ends_with_a_session_that_is_killed(directory, tmp_path, engine):
    code = (
        "import json, sys, time; from pathlib import Path; from tests import triton, waiting\n"
        "one, loaded = triton.server(Path(sys.argv[1]) / 'log', engine=sys.argv[3]), triton.model(Path(sys.argv[2]), start='child')\n"
        "one.load(loaded); server = triton.behind(one, loaded)\n"
        "waiting.wait_for(lambda: 'sleep' in triton.processes(server))\n"
        "pids = [pid for pids in triton.processes(server).values() for pid in pids]\n"
        "left = [str(server.launch.made[0]), *map(str, getattr(getattr(server.kind, '_seen', None), 'paths', []))]\n"
        "print(json.dumps([pids, left, server.kind._segments]), flush=True); time.sleep(1000)"
    )
    session = subprocess.Popen([sys.executable, "-c", code, str(tmp_path), str(directory), engine], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    with session:
        pids, left, prefix = json.loads(session.stdout.readline())
        assert len(pids) >= 3
        session.kill()
    wait_for(lambda: not any(map(alive, pids)))
    leftovers.end()
    wait_for(lambda: not [path for path in left if Path(path).exists()] and not triton.segments(prefix))  # another session may be at it


# Who reaches it.


def test_sockets_of_a_server_have_room(monkeypatch, tmp_path):
    """A path of a socket holds 107 characters: in a deep TMPDIR there would be none left."""
    deep = tmp_path / ("d" * 90)
    deep.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(deep))
    kind = Triton(TritonSettings(PYTHON))
    launch = kind.launch()
    kind.clean(launch)
    assert launch.made[0].parent.as_posix() == "/tmp" and not launch.made[0].exists()


@both
def test_only_its_own_user_reaches_it(fresh, directory, engine):
    """Others, whatever they can read of its processes: not even the sockets' names tell them a way in."""
    one, loaded = fresh(engine=engine), model(directory)
    one.load(loaded)
    server = triton.behind(one, loaded)
    if os.geteuid() != 0:
        pytest.skip("only root can become somebody else")
    code = "import socket, sys\nfor path in sys.argv[1:]:\n    try: socket.socket(socket.AF_UNIX).connect(path)\n    except PermissionError: print('no')\n"
    assert {path.stat().st_mode & 0o077 for path in triton.segments(server.kind._segments)} == {0}, "rows and answers pass through them"
    paths = sorted(str(path) for path in server.launch.made[0].glob("*.sock*"))
    assert [Path(path).name for path in paths] == ["grpc.sock:1", "http.sock"] and not listening([pid for pids in processes(server).values() for pid in pids])
    said = subprocess.run([SYSTEM_PYTHON, "-c", code, *paths], capture_output=True, text=True, check=True, user="nobody", group="nogroup", cwd="/")
    assert said.stdout.split() == ["no", "no"], said


def raw(port, method, header):
    """What a gRPC server says to a call with a header of any name. HTTP/2 by hand (RFC 9113, RFC 7541): clients send no name that is none."""

    def frame(kind, flags, stream, data):
        return len(data).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + data

    fields = {":method": "POST", ":scheme": "http", ":path": method, ":authority": "x", "te": "trailers", "content-type": "application/grpc", **header}
    block = b"".join(b"\0" + b"".join(bytes([len(word)]) + word.encode() for word in pair) for pair in fields.items())
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, b"") + frame(1, 4, 1, block) + frame(0, 1, 1, bytes(5)))
        said = b""
        while b"grpc-status" not in said and (piece := connection.recv(65536)):
            said += piece
        return said


def test_through_a_fixed_port_nobody_loads_a_model(fresh, directory):
    """Not with a key either: it asks for one that cannot be sent."""
    library, _ = client_library()
    (port,) = ports.free(1)
    one = fresh(grpc_port=port)
    name = one.load(model(directory))
    (rule,) = [word for word in words(processes(one)["tritonserver"][0]).split("\0") if "restricted" in word]
    key = f"triton-grpc-protocol-{rule.rpartition(':')[2].partition('=')[0]}"
    with library.InferenceServerClient(f"127.0.0.1:{port}") as client:
        assert client.is_model_ready(name)
        for call in (client.get_model_repository_index, lambda **more: client.load_model(name, **more), lambda **more: client.unload_model(name, **more)):
            with pytest.raises(library.InferenceServerException, match="This protocol is restricted"):
                call()
    index = "/inference.GRPCInferenceService/RepositoryIndex"
    assert b"This protocol is restricted" in raw(port, index, {"triton-grpc-protocol-a": "none"})
    for header in (key, key.replace(" ", "-"), key.replace(" ", "")):
        assert b"grpc-status\x010" not in raw(port, index, {header: "none"})
    other = one.load(model(directory, note="another"))
    assert one.problem() is None and set(triton.control(one).states().values()) == {"READY"} and other in triton.control(one).states()
    with pytest.raises(Refused):
        triton.control(one).load("nobody", {}, 10)


@both
def test_a_fixed_port_in_use_names_its_owner(fresh, directory, engine):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(Conflict, match=rf"the grpc port {port} is in use by pid {os.getpid()} "):
            fresh(engine=engine, grpc_port=port).load(model(directory))


@pytest.mark.parametrize("given", [{"http_port": 0}, {"grpc_port": 70000}, {"http_port": 9, "grpc_port": 9}])
def test_ports_that_are_none(given):
    with pytest.raises(UsageProblem, match="Triton's"):
        TritonSettings(PYTHON, **given)


# Models that do not start.


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        (
            {"start": "raise"},
            RuntimeFault,
            r"(?s)model model.py:Model did not start on \w+: ValueError: no such weights: /nowhere\n.*model.py\", line \d+, in __init__",
        ),
        (
            {"start": "import"},
            UsageProblem,
            r"(?s)needs the package 'no_such_package', which Triton's interpreter does not have.*-m pip install no_such_package",
        ),
        ({"start": "exit"}, RuntimeFault, r"SystemExit: enough"),
        ({"start": "die"}, RuntimeFault, r"(?s)model model.py:Model did not start on \w+: .*Last lines of .*last words"),
        ({"wrong": 1}, RuntimeFault, r"TypeError: .*unexpected keyword argument 'wrong'"),
        ({"target": "model.py:Missing"}, UsageProblem, r"target 'model.py:Missing': model.py has no 'Missing'. Valid names: .*Model, "),
        ({"target": "missing.py:Model"}, UsageProblem, r"missing.py: no such file"),
        ({"target": "model.py:Silent"}, UsageProblem, r"model model.py:Silent has no method predict\(batch\)"),
        ({"target": "broken.py:Model"}, UsageProblem, r"broken.py: cannot be imported: ZeroDivisionError: division by zero \(line 1\)"),
        ({"target": "no_such_module:Model"}, UsageProblem, r"cannot import no_such_module"),
        ({"start": "for the user"}, UsageProblem, r"^model model\.py:Model: there is no GPU\.\nTake the CPU\.$"),
        ({"target": "Model"}, UsageProblem, r"is not of the form"),
    ],
)
@both
def test_a_model_that_does_not_start_says_why(shared_by_engine, directory, options, error, said, engine):
    shared = shared_by_engine[engine]
    (directory / "broken.py").write_text("1 / 0\n")
    with pytest.raises(error, match=said):
        shared.load(model(directory, **options))
    if engine == "tritonserver":
        assert shared.load(model(directory)) and shared.problem() is None  # the server is none the worse for it


def test_a_model_that_takes_too_long_to_start(fresh, directory):
    one = fresh()
    one.start()
    one._triton.settings = dataclasses.replace(one._triton.settings, start_s=1.0)
    with pytest.raises(RuntimeFault, match="it is not ready after 1 s"):
        one.load(model(directory, start="hang"))
    assert not one.running


@both
def test_an_option_that_cannot_travel(shared_by_engine, directory, engine):
    with pytest.raises(UsageProblem, match=r"an option cannot be handed to another process: a value of type builtins.object"):
        shared_by_engine[engine].load(model(directory, note=object()))


# The interpreter.


def test_the_interpreter_has_what_it_takes():
    found = triton_python.look(PYTHON)
    assert found.tritonserver.is_file() and found.stub.is_file() and found.version in {"3.11", "3.12"}


def fake(tmp_path, **facts):
    """A program that says of itself what an interpreter would say."""
    pytriton = next((Path(PYTHON).parents[1] / "lib").glob("python3.*/site-packages/pytriton"))
    told = {
        "version": "3.11",
        "libpython": "libpython3.11.so.1.0",
        "libdir": "/lib",
        "bin": "/bin",
        "pytriton": str(pytriton),
        "numpy": "1.26.4",
        **facts,
    }
    program = tmp_path / "python"
    program.write_text(f"#!/bin/sh\necho '{json.dumps(told)}'\n")
    program.chmod(0o755)
    return str(program)


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({"numpy": "2.1.0"}, r"has numpy 2.1.0; the server's stubs are built for numpy 1 .*\nInstall it:  .*-m pip install 'numpy<2'"),
        ({"numpy": None}, r"has no numpy; "),
        ({"version": "3.7"}, r"is Python 3.7, for which there is no stub of the server. Valid versions: 3.11, 3.12"),
        ({"libdir": None}, r"its libpython3.11.so.1.0 was not found.*\nInstall it \(Debian: apt-get install libpython3.11\)"),
        ({"pytriton": None}, r"has no nvidia-pytriton"),
        ({"pytriton": "/nowhere"}, r"nvidia-pytriton is there, but /nowhere/tritonserver/bin/tritonserver is not"),
    ],
)
def test_an_interpreter_that_does_not_fit(tmp_path, facts, said):
    with pytest.raises(UsageProblem, match=said):
        triton_python.look(fake(tmp_path, **facts))


def test_an_interpreter_that_is_none(tmp_path, fresh):
    with pytest.raises(UsageProblem, match=r"/no/such/python: no such program.\nMake one:  make triton-server"):
        fresh(python="/no/such/python").start()
    with pytest.raises(UsageProblem, match="has no nvidia-pytriton"):
        triton_python.look(sys.executable)
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\necho broken >&2; exit 1\n")
    program.chmod(0o755)
    with pytest.raises(UsageProblem, match="does not run: broken"):
        triton_python.look(str(program))


def test_a_stub_that_cannot_be_loaded_is_noticed_before_the_server_waits_for_it(tmp_path, monkeypatch):
    stub = tmp_path / "stub"
    stub.write_text("#!/bin/sh\necho 'stub: error while loading shared libraries: libthis.so: no such file' >&2; exit 127\n")
    stub.chmod(0o755)
    monkeypatch.setattr(triton_python.Interpreter, "stub", property(lambda _self: stub))
    monkeypatch.setattr(triton_python, "_versions", lambda _found: ["3.11", "3.12"])
    with pytest.raises(UsageProblem, match=r"the server's stub cannot be loaded: stub: error while loading shared libraries: libthis.so: no such file"):
        triton_python.look(fake(tmp_path))


def test_a_stub_that_cannot_be_loaded_does_not_hold_up_the_session(fresh, directory, monkeypatch):
    monkeypatch.setattr(triton_server, "_WITHOUT_STUB_S", 2.0)
    one = fresh()
    one._triton._interpreter = dataclasses.replace(triton_python.look(PYTHON), version="3.8")
    with pytest.raises(RuntimeFault, match=r"(?s)its process ended while .*Probable cause: the stub does not find its libpython.*libpython3.8.so"):
        one.load(model(directory))
    assert one.problem()
    one._triton._interpreter = None
    assert one.load(model(directory)) and one.problem() is None


def test_a_program_that_is_no_server_shows_its_last_words(fresh):
    one = fresh()
    one._triton.settings = dataclasses.replace(one._triton.settings, arguments=["--no-such-option"])
    with pytest.raises(RuntimeFault, match=r"(?s)tritonserver did not start: it ended with exit code 1.*one of the `arguments` is not known"):
        one.start()


def test_the_keys_of_models():
    here, there = TritonModel("m.py:M", Path("/a"), {"x": 1}), TritonModel("m.py:M", Path("/b"), {"x": 1})
    assert here.key == TritonModel("m.py:M", Path("/a"), {"x": 1}).key != there.key and here.slug == "m_py_M"
