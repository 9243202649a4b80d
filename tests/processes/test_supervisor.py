"""The supervisor, with real processes: whatever happens, nothing is left.

Each test hands its processes a lifeline, the write end of a pipe. When the supervisor has ended and the read end is at its end,
then nobody who inherited it lives: no look at the table of processes, no race.
"""

import contextlib
import fcntl
import os
import pty
import re
import resource
import select
import signal
import socket
import subprocess
import sys
import time
import uuid
from pathlib import Path

import execnet
import pytest

from pytest_gpueval.hosts.workers import spec_python
from pytest_gpueval.processes import supervisor
from pytest_gpueval.processes.command import SUPERVISOR, supervised
from tests.waiting import DEADLINE_S, alive, wait_for

WORKER = """
import ctypes, os, signal, sys, time
STOPS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())

def deafen():
    for number in STOPS:
        signal.signal(number, signal.SIG_IGN)

def start(*, session=False, orphan=False, deaf=False):
    read, write = os.pipe()
    if os.fork() == 0:
        if orphan and os.fork():
            os._exit(0)
        if session:
            os.setsid()
        deafen() if deaf else [signal.signal(number, signal.SIG_DFL) for number in STOPS]
        os.write(write, b"%d" % os.getpid())
        while True:
            signal.pause()
    return int(os.read(read, 20))
"""


def until_gone(pid):
    with contextlib.suppress(ProcessLookupError):
        handle = os.pidfd_open(pid)
        try:
            assert select.select([handle], [], [], DEADLINE_S)[0], f"{pid} lives"
        finally:
            os.close(handle)


def marked(mark):
    found = []
    for pid in supervisor.pids():
        with contextlib.suppress(OSError):
            if mark.encode() in Path(f"/proc/{pid}/environ").read_bytes():
                found.append(pid)
    return found


class Running:
    """A supervisor and its worker."""

    def __init__(self, command, options, lifeline, **streams):
        read, self.write = os.pipe2(os.O_CLOEXEC)
        self.lifeline = lifeline
        self.read = read
        streams = {"stdin": subprocess.PIPE, **streams}
        argv = [sys.executable, "-I", "-S", str(SUPERVISOR), *map(str, options), "--", *command]
        self.popen = subprocess.Popen(argv, stdout=self.write, stderr=subprocess.PIPE, pass_fds=[self.write, lifeline[1]], **streams)
        os.close(self.write)
        self.pid = self.popen.pid

    def line(self):
        """One line of the worker, without its end; empty at the end of its stdout."""
        text = b""
        while not text.endswith(b"\n"):
            assert select.select([self.read], [], [], DEADLINE_S)[0], f"no line after {text!r}"
            byte = os.read(self.read, 1)
            if not byte:
                break
            text += byte
        return text.decode().strip()

    def number(self):
        return int(self.line())

    def end(self):
        """The exit code, once nothing is left."""
        code = self.popen.wait(DEADLINE_S)
        assert self.nobody_left(), "somebody outlived the supervisor"
        return code

    def nobody_left(self):
        os.close(self.lifeline[1])
        self.lifeline[1] = -1
        return bool(select.select([self.lifeline[0]], [], [], 0)[0])

    def stderr(self):
        return self.popen.stderr.read().decode()


@pytest.fixture
def run():
    """Start a supervisor around Python code, or around `command`."""
    mark = f"GPUEVAL_TEST={uuid.uuid4().hex}"
    started = []

    def start(code="", *options, command=None, grace=DEADLINE_S, **streams):
        lifeline = list(os.pipe2(os.O_CLOEXEC))
        argv = command or [sys.executable, "-I", "-S", "-c", WORKER + code]
        environment = {**os.environ, **dict([mark.split("=")])}
        started.append(Running(argv, ["--grace", grace, *options], lifeline, env=environment, **streams))
        return started[-1]

    yield start
    for one in started:
        one.popen.kill()
        one.popen.wait()
    while found := [pid for pid in marked(mark) if alive(pid)]:
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    for one in started:
        for stream in (one.popen.stdin, one.popen.stderr):
            if stream is not None:
                stream.close()
        for file in (one.read, *one.lifeline):
            if file >= 0:
                os.close(file)


@pytest.mark.parametrize("code", [0, 3, 70, 255])
def test_exit_code_is_the_workers(run, code):
    assert run(f"sys.exit({code})").end() == code


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM, signal.SIGPIPE, signal.SIGRTMIN])
def test_a_death_by_signal_is_passed_on(run, tmp_path, number):
    code = f"signal.signal({int(number)}, signal.SIG_DFL) if {int(number)} != 9 else None; os.kill(os.getpid(), {int(number)})"
    assert run(code, cwd=tmp_path).end() == -number


def test_the_supervisor_leaves_no_core_of_its_own(tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
    here = Path.cwd()
    os.chdir(tmp_path)
    resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))
    try:
        worker = "import os, resource; resource.setrlimit(resource.RLIMIT_CORE, (0, 0)); os.abort()"
        pid = os.posix_spawn(sys.executable, [sys.executable, "-I", "-S", str(SUPERVISOR), "--", sys.executable, "-c", worker], os.environ)
    finally:
        resource.setrlimit(resource.RLIMIT_CORE, (soft, hard))
        os.chdir(here)
    status = os.waitpid(pid, 0)[1]
    assert os.WTERMSIG(status) == signal.SIGABRT
    assert not os.WCOREDUMP(status)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("deaf", [False, True])
def test_all_descendants_are_gone_before_the_supervisor(run, deaf):
    kinds = [f"start(session={s}, orphan={o}, deaf={deaf})" for s in (True, False) for o in (True, False)]
    one = run(f"say({', '.join(kinds)}); sys.exit(4)")
    pids = [int(word) for word in one.line().split()]
    assert len(pids) == 4
    assert one.end() == 4
    assert not any(alive(pid) for pid in pids)


def test_a_stopped_descendant_hears_term_too(run, tmp_path):
    file = tmp_path / "heard"
    one = run(f"""
def note(*_):
    open({str(file)!r}, "w").close()
    os._exit(0)
read, write = os.pipe()
if os.fork() == 0:
    signal.signal(signal.SIGTERM, note)
    os.write(write, b"x")
    os.kill(os.getpid(), signal.SIGSTOP)
    while True: signal.pause()
os.read(read, 1)
""")
    assert one.end() == 0
    assert file.exists()


def test_stdout_ends_only_after_a_grandchild_that_holds_it(run):
    one = run("say(start(session=True, orphan=True, deaf=True)); os.kill(os.getpid(), 9)")
    pid = one.number()
    assert one.line() == ""
    assert not alive(pid)
    assert one.end() == -signal.SIGKILL


def test_streams_belong_to_the_worker(run):
    one = run("data = sys.stdin.buffer.read(); os.write(2, b'err'); say(len(data)); sys.exit(0)")
    one.popen.stdin.write(bytes(range(256)) * 1000)
    one.popen.stdin.close()
    assert one.number() == 256_000
    assert one.end() == 0
    assert one.stderr() == "err"


FINALIZER = "try:\n    {body}\nfinally:\n    open({file!r}, 'w').close()\n    sys.exit(5)"


def test_on_hang_up_a_worker_that_ends_in_time_is_left_alone(run, tmp_path):
    file = tmp_path / "finalized"
    one = run(FINALIZER.format(body="say(start(session=True)); sys.stdin.read()", file=str(file)))
    one.number()
    one.popen.stdin.close()
    assert one.end() == 5
    assert file.exists()


def test_on_hang_up_a_worker_that_does_not_notice_is_interrupted(run, tmp_path):
    file = tmp_path / "finalized"
    one = run(FINALIZER.format(body="say(start(session=True)); time.sleep(1000)", file=str(file)), grace=8)
    one.number()
    began = time.monotonic()
    one.popen.stdin.close()
    assert one.end() == 5
    assert file.exists()
    assert time.monotonic() - began > 8 * supervisor.INTERRUPT_AT - 0.1


def test_on_hang_up_at_once_is_what_a_signal_is(run, tmp_path):
    file = tmp_path / "finalized"
    one = run("start(session=True)\n" + FINALIZER.format(body="say('up'); time.sleep(1000)", file=str(file)), "--at-once", grace=1000)
    assert one.line() == "up"
    one.popen.stdin.close()
    assert one.end() == 5
    assert file.exists()


def test_on_hang_up_a_worker_that_does_not_end_is_killed(run):
    one = run("deafen(); say(start(deaf=True)); time.sleep(1000)", grace=0.2)
    one.number()
    one.popen.stdin.close()
    assert one.end() == -signal.SIGKILL


@pytest.mark.parametrize("kind", ["half-closed socket", "closed socket", "terminal"])
def test_other_kinds_of_stdin_hang_up_too(run, kind):
    ours, theirs = pty.openpty() if kind == "terminal" else (end.detach() for end in socket.socketpair())
    one = run("say('up'); time.sleep(1000)", grace=0.2, stdin=theirs)
    os.close(theirs)
    assert one.line() == "up"
    if kind == "half-closed socket":
        with socket.socket(fileno=ours) as end:
            end.shutdown(socket.SHUT_WR)
            assert one.end() in {-signal.SIGINT, -signal.SIGTERM}
    else:
        os.close(ours)
        assert one.end() in {-signal.SIGINT, -signal.SIGTERM}


def test_a_stdin_that_cannot_hang_up_is_no_hang_up(run):
    assert run("sys.exit(6)", stdin=subprocess.DEVNULL).end() == 6
    script = 'exec "$@" <&-'
    done = subprocess.run(["/bin/sh", "-c", script, "sh", *supervised([sys.executable], grace_s=0), "-c", "print('whole')"], capture_output=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"whole\n", b"")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_interrupts_the_worker_at_once(run, tmp_path, number):
    file = tmp_path / "finalized"
    one = run("start(session=True)\n" + FINALIZER.format(body="say('up'); time.sleep(1000)", file=str(file)), grace=1000)
    assert one.line() == "up"
    one.popen.send_signal(number)
    assert one.end() == 5
    assert file.exists()


def test_an_interrupt_reaches_a_worker_of_a_background_job(run):
    ignoring = [sys.executable, "-I", "-S", "-c", "import os, signal, sys; signal.signal(2, signal.SIG_IGN); os.execv(sys.argv[1], sys.argv[1:])"]
    inner = [sys.executable, "-I", "-S", str(SUPERVISOR), "--", sys.executable, "-I", "-S", "-c", WORKER + "say(signal.getsignal(2) == signal.SIG_IGN)"]
    assert run(command=[*ignoring, *inner]).line() == "False"


def test_a_second_signal_cuts_the_grace_short(run):
    one = run("start(); signal.signal(2, lambda *_: say('interrupted'))\nsay('up')\nwhile True: time.sleep(1000)", grace=1000)
    assert one.line() == "up"
    one.popen.terminate()
    assert one.line() == "interrupted"
    one.popen.terminate()
    assert one.end() == -signal.SIGTERM


def test_killing_the_supervisor_kills_the_worker(run):
    one = run("deafen(); say(os.getpid()); time.sleep(1000)")
    pid = one.number()
    one.popen.kill()
    assert one.popen.wait() == -signal.SIGKILL
    until_gone(pid)


def test_nothing_is_in_the_session_of_who_started_it(run):
    one = run("say(os.getpid(), os.getsid(0), os.getppid()); sys.stdin.read()")
    pid, session, parent = map(int, one.line().split())
    assert session == pid
    assert parent == one.pid == os.getsid(one.pid)


def test_the_worker_is_marked(run):
    one = run("print(os.environ['SESSION'], os.environ['GPUEVAL_SUPERVISOR'], flush=True); sys.stdin.read()", "--marker", "SESSION=a=b")
    session, identity = one.line().split()
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert session == "a=b"
    assert identity == f"{one.pid}:{supervisor.look(one.pid).started}:{boot}"


def lockable(path):
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def test_a_lease_is_shared_and_held_until_all_is_over(run, tmp_path):
    lease = tmp_path / "gpu0"
    first, second = (run("start(deaf=True); say('up'); sys.stdin.read()", "--lease", lease) for _ in range(2))
    assert first.line() == second.line() == "up"
    assert not lockable(lease)
    first.popen.stdin.close()
    first.end()
    assert not lockable(lease)
    second.popen.stdin.close()
    second.end()
    assert lockable(lease)


def waiting_for(lease):
    """Somebody waits for a lock on the file."""
    inode = f":{lease.stat().st_ino} "
    return any("->" in line and inode in line for line in Path("/proc/locks").read_text().splitlines())


def test_a_lease_that_somebody_has_alone_is_waited_for(run, tmp_path):
    lease = tmp_path / "gpu0"
    with lease.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        one = run("say('up'); sys.stdin.read()", "--lease", tmp_path / "other", "--lease", lease)
        wait_for(lambda: waiting_for(lease))
        assert not lockable(tmp_path / "other")
        assert select.select([one.read], [], [], 0)[0] == []
    assert one.line() == "up"
    assert not lockable(lease)
    one.popen.stdin.close()
    assert one.end() == 0


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGHUP, "hang-up"])
def test_waiting_for_a_lease_can_be_ended(run, tmp_path, how):
    lease = tmp_path / "gpu0"
    with lease.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        one = run("say('up')", "--lease", lease)
        wait_for(lambda: waiting_for(lease))
        if how == "hang-up":
            one.popen.stdin.close()
        else:
            one.popen.send_signal(how)
        assert one.end() == -(signal.SIGHUP if how == "hang-up" else how)
        assert one.line() == ""
        assert not waiting_for(lease)


def test_a_lease_that_cannot_be_opened_is_named(run, tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "target")
    for lease in (tmp_path / "nowhere" / "gpu0", tmp_path / "link"):
        one = run("say('up')", "--lease", lease)
        assert one.end() == 73
        assert re.fullmatch(rf"gpueval supervisor: --lease {lease}: [^\n]+\n", one.stderr())
    assert not (tmp_path / "target").exists()


# Each ends by itself after a while, should the supervisor not manage.
STORMS = {
    "wide": """
for _ in range(150):
    if os.fork() == 0:
        while time.monotonic() < end:
            if os.fork() == 0:
                time.sleep(0.05)
                os._exit(0)
            time.sleep(0.02)
            try:
                while os.waitpid(-1, os.WNOHANG)[0]: pass
            except ChildProcessError: pass
        os._exit(0)
""",
    "chain": """
if os.fork() == 0:
    while time.monotonic() < end:
        if os.fork(): os._exit(0)
""",
    "chain of sessions": """
if os.fork() == 0:
    while time.monotonic() < end:
        if os.fork(): os._exit(0)
        os.setsid()
""",
    "tree": """
if os.fork() == 0:
    for _ in range(8):
        os.fork()
    while time.monotonic() < end: time.sleep(1)
""",
}


@pytest.mark.parametrize("storm", STORMS)
def test_those_who_fork_faster_than_a_look_are_ended(run, storm):
    one = run(f"deafen(); end = time.monotonic() + {DEADLINE_S}\n{STORMS[storm]}\nsay('up'); os._exit(7)")
    assert one.line() == "up"
    assert one.end() == 7
    assert one.stderr() == ""


def test_what_cannot_be_ended_is_named(run):
    """The supervisor here has no time at all; the one around it, as around every worker of these tests, ends what it leaves."""
    hasty = "import sys; sys.path.insert(0, sys.argv.pop(1)); from pytest_gpueval.processes import supervisor as s; "
    hasty += "s.SETTLE_S = s.TERM_S = 0; sys.exit(s.main(sys.argv[1:]))"
    worker = [sys.executable, "-I", "-S", "-c", WORKER + "say(start(deaf=True)); sys.exit(3)"]
    one = run(command=[sys.executable, "-I", "-c", hasty, str(SUPERVISOR.parents[2]), "--", *worker])
    pid = one.number()
    assert one.end() == 70
    assert re.fullmatch(rf"gpueval supervisor: could not be ended in 0 s: {pid} \(python[^\n]*\)\n", one.stderr())
    assert not alive(pid)


def test_a_command_that_cannot_be_started(run, tmp_path):
    (tmp_path / "data").touch()
    for command, code in ((["no-such-program"], 127), ([str(tmp_path / "nowhere" / "python")], 127), ([str(tmp_path / "data")], 126)):
        one = run(command=command)
        assert one.end() == code
        assert re.fullmatch(rf"gpueval supervisor: {command[0]}: [^\n]+\n", one.stderr())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--leases", "x", "--", "true"], "'--leases' is not understood"),
        (["true"], "'true' is not understood"),
        (["--lease"], "--lease needs a value"),
        ([], "a command is missing"),
        (["--"], "a command is missing"),
        (["--grace", "soon", "--", "true"], "--grace 'soon' is not"),
        (["--grace", "nan", "--", "true"], "--grace 'nan' is not"),
        (["--grace", "-1", "--", "true"], "--grace '-1' is not"),
        (["--marker", "NAME", "--", "true"], "--marker 'NAME' is not NAME=VALUE"),
        (["--marker", "=x", "--", "true"], "--marker '=x' is not NAME=VALUE"),
    ],
)
def test_wrong_options_are_one_line(options, said):
    done = subprocess.run([sys.executable, "-I", "-S", SUPERVISOR, *options], capture_output=True, text=True, timeout=DEADLINE_S)
    assert done.returncode == 64
    assert done.stderr.startswith(f"gpueval supervisor: {said}")
    assert done.stderr.count("\n") == 1


def test_a_name_may_hold_anything():
    rest = b"S 1 2 3 0 -1 4194304 0 0 0 0 0 0 0 0 20 0 1 0 4711 0 0"
    process = supervisor.Process(12, b"12 (a) R 9 (b c) " + rest)
    assert (process.name, process.parent, process.identity, process.dead) == ("a) R 9 (b c", 1, (12, 4711), False)


def test_a_recycled_pid_is_never_signalled():
    with subprocess.Popen([sys.executable, "-I", "-S", "-c", "input()"], stdin=subprocess.PIPE, start_new_session=True) as popen:
        process = supervisor.look(popen.pid)
        process.started -= 1
        supervisor.send(process, signal.SIGKILL)
        supervisor.send(process, signal.SIGKILL, group=True)
        popen.communicate(b"\n", timeout=DEADLINE_S)
    assert popen.returncode == 0


@pytest.fixture
def group():
    made = execnet.Group()
    yield made
    made.terminate(timeout=DEADLINE_S)


REMOTE = WORKER + "channel.send((os.getpid(), os.getppid(), start(session=True, orphan=True, deaf=True)))\n"


def test_an_execnet_worker_ends_for_its_channel_once_all_is_gone(group):
    gateway = group.makegateway(f"popen//id=gpu0//python={spec_python(supervised([sys.executable]))}//env:A=b")
    channel = gateway.remote_exec(REMOTE + "channel.send(os.environ['A'])\nchannel.receive()")
    worker, parent, grandchild = channel.receive(DEADLINE_S)
    assert channel.receive(DEADLINE_S) == "b"
    assert parent == gateway._io.popen.pid
    os.kill(worker, signal.SIGKILL)
    with pytest.raises(EOFError):
        channel.receive(DEADLINE_S)
    assert not alive(grandchild)
    assert gateway._io.popen.wait(DEADLINE_S) == -signal.SIGKILL


def test_an_execnet_worker_ends_well(group):
    gateway = group.makegateway(f"popen//python={spec_python(supervised([sys.executable]))}")
    channel = gateway.remote_exec(REMOTE)
    grandchild = channel.receive(DEADLINE_S)[2]
    channel.waitclose(DEADLINE_S)
    group.terminate(timeout=DEADLINE_S)
    assert gateway._io.popen.wait(DEADLINE_S) == 0
    assert not alive(grandchild)


CONTROLLER = """
import sys, execnet
gateway = execnet.makegateway(f"popen//python={sys.argv[1]}")
channel = gateway.remote_exec(sys.argv[2])
print(*channel.receive(), flush=True)
channel.receive()
print(channel.receive())
"""


@pytest.mark.parametrize(
    "busy",
    [
        pytest.param("time.sleep(1000)", id="sleeping"),
        pytest.param("while True: pass", id="computing"),
        pytest.param("ctypes.PyDLL(None).sleep(1000)", id="holding-the-GIL"),
    ],
)
def test_a_killed_controller_leaves_nothing(busy):
    argv = [sys.executable, "-c", CONTROLLER, spec_python(supervised([sys.executable], grace_s=0.5)), f"{REMOTE}channel.send(1)\n{busy}\n"]
    pids = []
    try:
        with subprocess.Popen(argv, stdout=subprocess.PIPE, start_new_session=True) as controller:
            pids = [int(word) for word in controller.stdout.readline().split()]
            assert len(pids) == 3
            os.killpg(controller.pid, signal.SIGKILL)
        until_gone(pids[1])
        assert not alive(pids[0])
        assert not alive(pids[2])
    finally:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
