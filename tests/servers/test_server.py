"""The life of a server, with a real one of a few lines: up, ready, gone, back, stopped, and why when it fails."""

import dataclasses
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import urllib.request
from pathlib import Path

import pytest

from pytest_gpueval.errors import Conflict, RuntimeFault
from pytest_gpueval.runs.redact import MARK, Redactor
from pytest_gpueval.servers import ports
from pytest_gpueval.servers.server import Launch, Server, Together
from tests.waiting import DEADLINE_S, gone, wait_for

SECRET = "very-secret-value"

PROGRAM = """
import http.server, os, sys, time
print("starting with", os.environ.get("SECRET"), flush=True)
exec(os.environ.get("FIRST", ""))
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(str(os.getpid()).encode())
    def log_message(self, *_): pass
if os.fork() == 0:
    os.setsid()
    time.sleep(1000)
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


class Toy:
    """A kind of server."""

    name = "toyserver"

    def __init__(self, tmp_path, port=None, first="", start_s=60.0):
        self.port, self.first, self.start_s, self.stop_s = port, first, start_s, 0.3
        self.files = Path(tempfile.mkdtemp(dir=tmp_path))
        self.launches = 0
        self.causes = {"no such weights": "the model is not where it is said to be. Download it.", "never": "never"}

    def launch(self):
        self.launches += 1
        made = self.files / str(self.launches)
        made.touch()
        port = self.port or ports.free(1)[0]
        environment = {**os.environ, "SECRET": SECRET, "FIRST": self.first}
        return Launch([sys.executable, "-c", PROGRAM, str(port)], environment, {"http": port}, fixed=self.port is not None, made=(made,))

    def ready(self, launch, program):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{launch.ports['http']}/", timeout=1) as answer:
                return int(answer.read()) in {process.pid for process in program.processes()}
        except (OSError, ValueError):
            return False

    def clean(self, launch):
        for file in launch.made:
            file.unlink()


@pytest.fixture
def server(tmp_path):
    servers = []

    def make(**options):
        one = Server(Toy(tmp_path, **options), tmp_path / "logs/toy.log", Redactor([SECRET]), most_restarts=2)
        servers.append(one)
        return one

    yield make
    for one in servers:
        one.stop()


class Watching:
    """What a server asks of its watch, and when."""

    def __init__(self, *words):
        self.words, self.calls = words, []
        self.server = None

    def before(self):
        self.calls.append(("before", self.server.running))

    def after(self, *, hurry):
        self.calls.append(("after", self.server.running, hurry))
        return self.words


def pids(server):
    return [process.pid for process in server._program.processes()]


def test_from_start_to_stop_nothing_is_left(server):
    one = server()
    descriptors = len(list(Path("/proc/self/fd").iterdir()))
    one.start()
    one.start()
    family, port = pids(one), one.launch.ports["http"]
    assert len(family) == 2
    assert (one.problem(), one.running, one.generation) == (None, True, 1)
    assert ports.owner(port).startswith("pid ")
    one.stop()
    one.stop()
    assert gone(family)
    assert ports.owner(port) is None
    assert not list(one.kind.files.iterdir())
    assert len(list(Path("/proc/self/fd").iterdir())) <= descriptors  # earlier tests' may be closed meanwhile
    assert one.problem() == "it was not started"
    with pytest.raises(RuntimeFault, match="toyserver was not started"):
        _ = one.launch


def test_its_words_are_in_the_log_without_secrets(server):
    one = server()
    one.start()
    one.stop()
    assert one.log.read_text().startswith(f"starting with {MARK}\n")
    assert SECRET not in one.log.read_text()


@pytest.fixture
def watched(tmp_path, server):
    def make(*words, **options):
        watch = Watching(*words)
        watch.server = server(**options)
        watch.server._watch = watch
        return watch.server, watch

    return make


def test_what_it_used_is_looked_at_before_it_starts_and_after_it_has_ended(watched):
    one, watch = watched()
    one.start()
    one.start()
    family = pids(one)
    one.restart()
    assert gone(family)
    one.stop(hurry=True)
    one.stop()
    assert watch.calls == [("before", False), ("after", False, False), ("before", False), ("after", False, True)]
    assert one.notes == []


def test_what_it_has_not_given_back_is_told_and_no_error(watched):
    one, _ = watched("GPU 0 has 812 MiB more in use")
    one.start()
    one.stop()
    assert one.notes == ["toyserver has ended; GPU 0 has 812 MiB more in use"]
    assert one.log.read_text().splitlines()[-1] == "gpueval: toyserver has ended; GPU 0 has 812 MiB more in use"


def test_a_start_that_failed_must_give_it_back_too(watched):
    one, watch = watched("GPU 0 has 812 MiB more in use", first="sys.exit(3)")
    with pytest.raises(RuntimeFault, match=r"did not start: it ended with exit code 3"):
        one.start()
    assert [call[0] for call in watch.calls] == ["before", "after"] and len(one.notes) == 1


def test_one_whose_program_cannot_be_run_must_give_it_back_too(watched, tmp_path):
    one, watch = watched()
    launch = one.kind.launch
    one.kind.launch = lambda: dataclasses.replace(launch(), directory=tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError):
        one.start()
    assert [call[0] for call in watch.calls] == ["before", "after"]


def test_servers_side_by_side_are_looked_at_before_the_first_and_after_the_last(server):
    watch = Watching("GPU 0 has 812 MiB more in use")
    together = Together(watch)
    one, other = server(), server()
    watch.server = one
    for each in (one, other):
        each._watch = together
        each.start()
    other.restart()
    one.stop()
    assert [call[0] for call in watch.calls] == ["before"] and one.notes == []
    other.stop(hurry=True)
    assert watch.calls[1:] == [("after", False, True)] and other.notes == ["toyserver has ended; GPU 0 has 812 MiB more in use"]
    one.start()
    assert watch.calls[2:] == [("before", False)]


def test_who_finds_it_gone_has_it_restarted_once(server):
    one = server()
    one.start()
    os.kill(pids(one)[0], signal.SIGKILL)
    one._program.wait(60)
    assert one.problem() == "it was ended by signal 9"
    callers = [threading.Thread(target=one.recover, args=(1, "connection reset")) for _ in range(5)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert (one.generation, one.kind.launches, one.problem()) == (2, 2, None)
    assert one.log.read_text().count("gpueval: toyserver restarted: connection reset") == 1


def test_it_is_not_restarted_for_ever(server):
    one = server()
    one.start()
    one.recover(1, "gone")
    one.recover(2, "gone")
    with pytest.raises(RuntimeFault, match=r"(?s)toyserver: restarted 2 times already, and again: it hangs\nLast lines of .*starting with"):
        one.recover(3, "it hangs")


def test_one_that_does_not_come_back_is_not_tried_by_each_who_waits(server):
    one = server()
    one.start()
    one.kind.first = "print('no such weights'); sys.exit(3)"
    for _ in range(3):
        with pytest.raises(RuntimeFault, match=r"(?s)toyserver did not start: .*no such weights.*Before: connection reset"):
            one.recover(1, "connection reset")
    assert one.kind.launches == 2


@pytest.mark.parametrize("hurry", [True, False])
def test_a_restart_under_way_is_given_up_for_a_stop(server, hurry):
    """Somebody presses Ctrl-C while it comes back: nobody waits until it is ready."""
    one = server()
    one.start()
    one.kind.first, one.kind.start_s = "print('again', flush=True); time.sleep(1000)", 1000.0
    faults = []

    def recover():
        try:
            one.recover(1, "connection reset")
        except RuntimeFault as fault:
            faults.append(str(fault))

    restart = threading.Thread(target=recover, daemon=True)
    restart.start()
    wait_for(lambda: "again" in one.log.read_text())
    stop = threading.Thread(target=one.stop, kwargs={"hurry": hurry}, daemon=True)
    stop.start()
    stop.join(DEADLINE_S)
    restart.join(DEADLINE_S)
    assert not stop.is_alive() and not restart.is_alive()
    assert not one.running and not list(one.kind.files.iterdir()) and "it is to be stopped" in faults[0]
    one.kind.first = ""
    one.start()
    assert one.problem() is None, "it can be started again"


def test_why_it_does_not_start(server, tmp_path):
    one = server(first="print('x' * 100); print('no such weights'); sys.exit(3)")
    with pytest.raises(RuntimeFault) as caught:
        one.start()
    text = str(caught.value)
    assert text.startswith("toyserver did not start: it ended with exit code 3.\nProbable cause: the model is not where it is said to be. Download it.\n")
    assert f"Last lines of {tmp_path}/logs/toy.log:" in text
    assert "  no such weights" in text
    assert SECRET not in text
    assert not list(one.kind.files.iterdir())


def test_of_a_long_log_the_last_thirty_lines_are_shown(server):
    with pytest.raises(RuntimeFault) as caught:
        server(first="[print('line', number) for number in range(100)]; sys.exit(1)").start()
    assert [line.strip() for line in str(caught.value).splitlines()[2:]] == [f"line {number}" for number in range(70, 100)]


def test_one_that_does_not_become_ready_is_ended(server):
    one = server(first="time.sleep(1000)", start_s=0.5)
    with pytest.raises(RuntimeFault, match=r"toyserver did not start: it is not ready after 0.5 s\."):
        one.start()
    assert not one.running


def test_a_fixed_port_in_use_names_who_has_it(server):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(Conflict, match=rf"toyserver: the http port {port} is in use by pid {os.getpid()} \(.+\), user .+\.\nEnd it, or leave the port out"):
            server(port=port).start()


def test_a_free_port_that_somebody_took_meanwhile_is_exchanged(server, tmp_path, monkeypatch):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        one, free = server(), ports.free
        monkeypatch.setattr(ports, "free", lambda count: [taken.getsockname()[1]] if one.kind.launches < 3 else free(count))
        one.start()
        assert (one.kind.launches, one.problem()) == (3, None)


def test_a_stranger_that_answers_on_the_port_is_not_taken_for_it(server):
    """The port is another process's: that one answers as ready."""
    stranger, port = server(), ports.free(1)[0]
    stranger.kind.port = port
    stranger.start()
    second = Toy.__new__(Toy)
    assert stranger.kind.ready(stranger.launch, stranger._program)
    second.__dict__.update(stranger.kind.__dict__)
    other = Server(second, stranger.log, Redactor())
    with pytest.raises(Conflict, match="is in use by pid"):
        other.start()


def test_it_ends_with_a_killed_session(tmp_path):
    source = """
        import sys, time
        from pathlib import Path
        from pytest_gpueval.runs.redact import Redactor
        from pytest_gpueval.servers.server import Server
        from tests.servers.test_server import Toy, pids
        place = Path(sys.argv[1])
        server = Server(Toy(place), place / "log", Redactor())
        server.start()
        print(server.launch.ports["http"], *pids(server), flush=True)
        time.sleep(1000)
    """
    code = "\n".join(line.strip() for line in source.splitlines())
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, cwd=Path(__file__).parents[2], text=True) as session:
        port, *family = map(int, session.stdout.readline().split())
        session.kill()
    wait_for(lambda: gone(family) and ports.owner(port) is None)
