"""A server that forks supervisors: what it forks keeps every promise of one that is started by its path, also when the server, or its owner, is killed."""

import contextlib
import json
import os
import resource
import select
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from pytest_gpueval.processes import leftovers, serving, supervisor
from pytest_gpueval.processes.identity import Identity
from pytest_gpueval.processes.program import MOST_STDIN, Program
from pytest_gpueval.processes.serving import SupervisorServer
from tests.waiting import DEADLINE_S, gone, wait_for

from .test_program import FAMILY

TELL = "import json, os, sys; json.dump({}, sys.stdout)"


@pytest.fixture
def server():
    with SupervisorServer() as one:
        yield one


@pytest.fixture
def log(tmp_path):
    return tmp_path / "log"


def start(server, log, *argv, **options):
    with log.open("ab") as output:
        return Program(argv, output=output.fileno(), **{"environment": os.environ, "server": server, **options})


def ended(program):
    assert program.wait(DEADLINE_S)
    return program.stop()


def told(server, log, expression, *arguments, **options):
    """What a served program says of itself."""
    log.unlink(missing_ok=True)
    assert ended(start(server, log, sys.executable, "-I", "-S", "-c", TELL.format(expression), *arguments, **options)) == 0, log.read_text()
    return json.loads(log.read_text())


def family(server, log, *words, **options):
    """A program and two children, one of which left its session: what all of them say are their pids."""
    program = start(server, log, sys.executable, "-c", FAMILY, *words, **{"grace_s": 0.2, **options})
    wait_for(lambda: len(log.read_text().split()) == 3)
    return program, [int(word) for word in log.read_text().split()]


@pytest.mark.parametrize(
    ("argv", "code"),
    [
        (["true"], 0),
        ([sys.executable, "-c", "import sys; sys.exit(7)"], 7),
        ([sys.executable, "-c", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"], -signal.SIGKILL),
        ([sys.executable, "-c", "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"], -signal.SIGSEGV),
        (["/no/such/program"], 127),
        ([str(Path(__file__))], 126),
    ],
)
def test_it_is_known_how_it_ended(server, log, argv, code):
    """As by a supervisor of its own, byte by byte of what it says."""
    seen = []
    for one in (server, None):
        log.write_bytes(b"")
        program = start(one, log, *argv)
        assert program.wait(DEADLINE_S)
        assert program.exit_code == program.stop() == program.stop() == code
        seen.append(log.read_text())
    assert seen[0] == seen[1]


def test_one_server_forks_them_all(server, log):
    assert server.pid is None
    pids = set()
    for _ in range(3):
        program = start(server, log, "true")
        pids.add(server.pid)
        assert ended(program) == 0
    assert len(pids) == 1
    assert os.getsid(server.pid) == server.pid  # a Ctrl-C of the terminal is not for it
    wait_for(lambda: not children(server.pid))
    server.close()
    assert gone(pids)
    assert ended(start(server, log, "true")) == 0


def children(pid):
    return [process for process in map(supervisor.look, supervisor.pids()) if process is not None and process.parent == pid]


def test_a_program_gets_what_it_is_given_and_nothing_else(server, log, tmp_path):
    """Words and variables that are no text, a folder, and three descriptors: none of the server's, or of another supervisor."""
    other = start(server, tmp_path / "other", sys.executable, "-c", "import time; time.sleep(1000)")
    odd = os.fsdecode(b"\xff\n'\"\\u0000")
    environment = {"ODD": odd, "PATH": os.environ["PATH"], "EMPTY": ""}
    expression = "[sys.argv[1:], dict(os.environ), os.getcwd(), sorted(os.listdir('/proc/self/fd'))]"
    words, variables, folder, files = told(server, log, expression, odd, "", environment=environment, directory=tmp_path)
    assert words == [odd, ""]
    marker = variables.pop(leftovers.MARKER)
    variables.pop("LC_CTYPE", None)  # Python's own
    assert variables == environment
    assert Identity.parse(marker) is not None
    assert folder == str(tmp_path)
    assert files == ["0", "1", "2", "3"]  # the last is that of the listing
    held = [str(file.readlink()) for file in Path(f"/proc/{other._supervisor.pid}/fd").iterdir()]
    assert len([target for target in held if target.startswith("socket:")]) == 1, "it holds more than what it tells its end through"
    assert not any("pidfd" in target for target in held)
    other.stop()


def test_relative_folders_are_ours_and_not_the_servers(server, log, tmp_path, monkeypatch):
    (tmp_path / "one").mkdir()
    assert ended(start(server, log, "true")) == 0
    monkeypatch.chdir(tmp_path)
    assert told(server, log, "os.getcwd()") == str(tmp_path)
    assert told(server, log, "os.getcwd()", directory=Path("one")) == str(tmp_path / "one")
    with pytest.raises(FileNotFoundError):
        start(server, log, "true", directory=tmp_path / "none")


def test_the_marker_is_the_identity_of_its_own_supervisor(server, log, tmp_path):
    first, _ = family(server, log)
    second, pids = family(server, tmp_path / "other")
    for program in (first, second):
        marks = {leftovers._marker(process.pid) for process in program.processes()}
        assert len(marks) == 1
        found = Identity.parse(marks.pop())
        assert found.pid == program._supervisor.pid != server.pid
        assert found.lives()
    assert sorted(process.pid for process in second.processes()) == sorted(pids)
    first.stop()
    assert not gone(pids)
    second.stop()


def test_it_reads_what_it_is_told(server, log):
    told_it = b"x" * (MOST_STDIN - 1) + b"\n"
    program = start(server, log, sys.executable, "-c", "import sys; print(len(sys.stdin.buffer.readline()))", stdin=told_it)
    assert ended(program) == 0
    assert log.read_text() == f"{MOST_STDIN}\n"


def test_very_many_variables_arrive(server, log):
    """More than a socket takes at once."""
    environment = {f"NAME_{number}": "x" * 1000 for number in range(1000)}
    assert told(server, log, "sum(map(len, os.environ.values()))", environment=environment) > 1_000_000


@pytest.mark.parametrize("words", [(), ("deaf",)])
def test_stop_ends_all_that_it_started(server, log, words):
    program, pids = family(server, log, *words)
    assert program.exit_code is None
    assert not program.wait(0)
    code = program.stop()
    assert gone(pids)
    assert code == program.exit_code == program.stop() != 0
    assert program.processes() == []


@pytest.mark.parametrize("ask", ["INT", "TERM"])
def test_it_is_asked_by_the_signal_that_it_knows(server, log, ask):
    source = f"import os, signal; signal.signal(signal.SIG{ask}, lambda *_: os._exit(5)); os.write(1, b'up'); signal.pause()"
    program = start(server, log, sys.executable, "-c", source, ask=ask, grace_s=DEADLINE_S)
    wait_for(lambda: log.read_text() == "up")
    program.ask()
    assert ended(program) == 5


def test_it_ends_with_whoever_started_it(log):
    """SIGKILL of the process that has the server: the program, the supervisor and the server are gone."""
    source = f"""
        import os, time
        from pytest_gpueval.processes.program import Program
        from pytest_gpueval.processes.serving import SupervisorServer
        server = SupervisorServer()
        with open({str(log)!r}, "wb") as output:
            program = Program([{sys.executable!r}, "-c", {FAMILY!r}, "deaf"], output=output.fileno(), environment=os.environ, grace_s=0.2, server=server)
        print(server.pid, program._supervisor.pid, flush=True)
        time.sleep(1000)
    """
    with subprocess.Popen([sys.executable, "-c", textwrap.dedent(source)], stdout=subprocess.PIPE) as parent:
        pids = [int(word) for word in parent.stdout.readline().split()]
        wait_for(lambda: len(log.read_text().split()) == 3)
        parent.kill()
    wait_for(lambda: gone([*pids, *map(int, log.read_text().split())]))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_server_that_dies_takes_nobody_with_it(server, log, tmp_path, number):
    """The program that runs is still supervised, told apart and ended; the next one starts another server."""
    program, pids = family(server, log, "deaf")
    quick = start(server, tmp_path / "quick", sys.executable, "-c", "import sys; sys.stdin.readline(); sys.exit(9)")
    before = server.pid
    os.kill(before, number)
    wait_for(lambda: supervisor.look(before) is None or supervisor.look(before).dead)
    assert not gone(pids)
    assert program.exit_code is None
    quick._stdin.write(b"go\n")
    assert ended(quick) == 9
    following = start(server, tmp_path / "following", sys.executable, "-c", "import sys; sys.exit(3)")
    assert server.pid not in (before, None)
    assert ended(following) == 3
    program.stop()
    assert gone(pids)


def test_a_program_whose_server_is_gone_ends_with_whoever_started_it(server, log, tmp_path):
    program, pids = family(server, log, "deaf")
    os.kill(server.pid, signal.SIGKILL)
    program._stdin.close()
    wait_for(lambda: gone(pids))
    assert program.wait(DEADLINE_S)


def test_a_killed_supervisor_is_told_as_such(server, log):
    """Its own child is killed with it, and what that one started is found by its marker: nothing else vouches for it."""
    program, pids = family(server, log, "deaf")  # a session of another test may ask them to end, too
    os.kill(program._supervisor.pid, signal.SIGKILL)
    assert program.wait(DEADLINE_S)
    assert program.exit_code == program.stop() == -signal.SIGKILL

    def left():
        return [process for process in leftovers.processes() if process.pid in pids]

    wait_for(lambda: len(left()) == 2)
    for process in left():
        supervisor.send(process, signal.SIGKILL)


def test_a_server_that_does_not_answer_is_replaced_and_its_program_never_begins(server, log, tmp_path):
    """Once it goes on it may fork what it was asked for: nothing may run twice."""
    assert ended(start(server, log, "true")) == 0
    server._stream.settimeout(0.3)  # of this one alone: another may take longer to start
    stopped = server.pid
    os.kill(stopped, signal.SIGSTOP)
    program = start(server, log, "/bin/sh", "-c", f"echo once >> {tmp_path / 'count'}")
    assert server.pid not in (stopped, None)
    assert ended(program) == 0
    with contextlib.suppress(ProcessLookupError):
        os.kill(stopped, signal.SIGCONT)
    wait_for(lambda: gone([stopped]))
    assert (tmp_path / "count").read_text() == "once\n"


def test_what_nobody_says_go_to_does_not_begin(log, tmp_path):
    """Whoever asked is gone before it heard the answer."""
    ours, theirs = serving.socket.socketpair()
    argv = [sys.executable, "-I", "-S", str(serving._PROGRAM), str(theirs.fileno())]
    process = subprocess.Popen(argv, pass_fds=[theirs.fileno()])
    theirs.close()
    told_ours, told_theirs = serving.socket.socketpair()
    place = os.open(".", os.O_PATH)
    reader, writer = os.pipe()
    request = serving._encoded(["--at-once", "--", "touch", str(tmp_path / "ran")], os.environ)
    pid, (handle,) = serving._asked(ours, request, serving.Files(reader, 2, 2, place, told_theirs.fileno()))
    told_theirs.close()
    assert pid > 0
    assert not select.select([handle], [], [], 0.2)[0], "it did not wait for the word"
    told_ours.close()
    assert select.select([handle], [], [], DEADLINE_S)[0]
    assert not (tmp_path / "ran").exists()
    ours.close()
    assert process.wait(DEADLINE_S) == 0
    for file in (place, reader, writer, handle):
        os.close(file)


def test_what_a_program_inherits_is_what_we_have_now(server, log):
    """A suite may change it between two rows."""
    assert told(server, log, "os.umask(0)") == current_umask()
    before = os.umask(0o077)
    soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
    try:
        assert told(server, log, "os.umask(0)") == 0o077
        kept = server.pid
        assert told(server, log, "os.umask(0)") == 0o077
        assert server.pid == kept
        resource.setrlimit(resource.RLIMIT_CORE, (0, hard))
        assert told(server, log, "__import__('resource').getrlimit(4)[0]") == 0
    finally:
        os.umask(before)
        resource.setrlimit(resource.RLIMIT_CORE, (soft, hard))


def current_umask():
    found = os.umask(0)
    os.umask(found)
    return found


def test_in_a_fork_it_starts_a_server_of_its_own(server, log, tmp_path):
    """The connection is the parent's: two who ask through it would take each other's answers."""
    assert ended(start(server, log, "true")) == 0
    parents = server.pid
    child = os.fork()
    if child == 0:
        code = 1
        try:
            program = start(server, tmp_path / "child", "true")
            code = 0 if ended(program) == 0 and server.pid != parents else 2
            server.close()
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert not gone([parents])
    assert ended(start(server, log, "true")) == 0
    assert server.pid == parents


def test_without_pidfds_each_has_a_supervisor_of_its_own(server, log, monkeypatch):
    monkeypatch.setattr(serving, "_has_pidfds", lambda: False)
    program = start(server, log, sys.executable, "-c", "import sys; sys.exit(4)")
    assert server.pid is None
    assert ended(program) == 4


def test_a_server_that_may_open_no_more_says_so(server, log):
    """As subprocess.Popen does; and serves on."""
    assert ended(start(server, log, "true")) == 0
    with pytest.raises(OSError, match="no supervisor can be started: Too many open files"):
        _too_many(server)
    assert ended(start(server, log, "true")) == 0


def _too_many(server):
    """Ask a server that may open no more."""
    before = resource.prlimit(server.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (6, before[1]))
    place = os.open(".", os.O_PATH)
    try:
        server._forked(server._stream, serving._encoded(["--", "true"], {}), serving.Files(0, 1, 2, place, -1))
    finally:
        os.close(place)
        resource.prlimit(server.pid, resource.RLIMIT_NOFILE, before)


@pytest.mark.parametrize(("argv", "environment"), [(["true", "a\0b"], {}), (["true"], {"A": "a\0b"}), (["true"], {"A=B": "c"})])
def test_what_cannot_be_handed_over_is_refused(server, log, argv, environment):
    for one in (server, None):
        with pytest.raises(ValueError, match=r"null byte|illegal environment"):
            start(one, log, *argv, environment=environment)
    assert server.pid is None


def test_nobody_is_left_unreaped(server, log):
    """The dead would use up pids."""
    for _ in range(5):
        assert ended(start(server, log, "true")) == 0
    wait_for(lambda: not children(server.pid))
