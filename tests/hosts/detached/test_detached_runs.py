"""Runs on this machine, under tmux and without: once only, whatever is cut off; ended wholly; and every end is one state."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from pytest_gpueval.errors import Conflict, GpuevalError, UsageProblem
from pytest_gpueval.hosts.detached import bundle
from pytest_gpueval.hosts.detached.agent.processes import identity, look, send
from pytest_gpueval.hosts.detached.client import Agent
from pytest_gpueval.hosts.detached.states import State
from tests.detached_runs import ROOT, STEPS, carriers, ended, nonce_of, runs_in, what
from tests.waiting import DEADLINE_S, alive, gone, wait_for

HOW = pytest.mark.parametrize("tmux", [True, False], ids=["tmux", "setsid"])


def lines_of(path):
    return path.read_text().splitlines() if path.exists() else []


def pid_in(path):
    """The pid that a program has written down."""
    return int(wait_for(lambda: path.exists() and path.read_text().strip()))


# What a run leaves


@HOW
def test_how_runs_end(agent, tmux):
    ends = {"exit 0": (State.PASSED, "", 0, None), "exit 3": (State.FAILED, "exit code 3", 3, None), "kill -9 $$": (State.FAILED, "signal 9", None, 9)}
    for number, command in enumerate(ends):
        assert not agent.submit(what(command, f"run-{number}"), {}, tmux=tmux).again
    for number, how in enumerate(ends.values()):
        run = ended(agent, f"run-{number}")
        assert (run.state, run.outcome.reason, run.exit_code, run.signal) == how
        assert run.seconds >= 0


SCRIPT = """echo out; echo err >&2; echo "$A|$GPUEVAL_RUN_ID|$1"; pwd
echo RESULT_X loss=0.5 steps=3; printf end
echo '{"ok": true}' > "$GPUEVAL_RUN_DIR/summary.json\"
"""


def test_what_a_run_leaves(agent, root):
    command = ["sh", "-c", SCRIPT, "sh", "{run_dir}/a b"]
    agent.submit(what(command, variables=["A=it's"], directory="/usr"), {})
    run, place = ended(agent), root / "one"
    assert run.results == {"x.loss": 0.5, "x.steps": 3.0}
    assert run.summary == {"ok": True}
    assert place.joinpath("stdout.log").read_text() == f"out\nerr\nit's|one|{place}/a b\n/usr\nRESULT_X loss=0.5 steps=3\nend"
    assert run.tail == place.joinpath("stdout.log").read_text() and run.log_bytes == len(run.tail)
    assert subprocess.run(["sh", place / "command.sh"], capture_output=True, text=True).stdout.endswith(f"|{place}/a b\n/usr\nRESULT_X loss=0.5 steps=3\nend")
    log = place.joinpath("log.md").read_text()
    for told in ("- directory: `/usr`", "`A=it's`", "- log: `", "gpueval runs logs --host local", "ended with exit code 0", "RESULT_X loss=0.5", "- commit: "):
        assert told in log
    assert [path.name for path in sorted(place.iterdir())] == [".gpueval", "command.sh", "log.md", "stdout.log", "summary.json"]


def test_the_commit_is_in_the_log(agent, root):
    agent.submit(what("true", directory=str(ROOT)), {})
    ended(agent)
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout.strip()
    assert head == "" or f"- commit: {head}" in (root / "one/log.md").read_text()


def test_a_command_that_cannot_be_executed(agent, root, tmp_path):
    program = tmp_path / "program"
    program.write_bytes(b"\x7fELF nothing")
    program.chmod(0o755)
    agent.submit(what([str(program)]), {})
    run = ended(agent)
    assert (run.state, run.exit_code) == (State.FAILED, 127)
    assert "gpueval: " in run.tail


@pytest.mark.parametrize(
    ("command", "more", "said"),
    [(["no-such-program"], {}, "no-such-program: there is no such program"), ("true", {"directory": "/no/such"}, "/no/such: there is no such")],
)
def test_what_cannot_begin_is_said_at_once(agent, root, command, more, said):
    with pytest.raises(UsageProblem, match=said):
        agent.submit(what(command, **more), {})
    assert agent.status() == []


# Once


def test_the_same_again_is_the_same_run_and_another_is_a_conflict(agent, tmp_path):
    command = f"echo x >> {tmp_path}/starts; exit 2"
    first = agent.submit(what(command), {})
    again = agent.submit(what(command), {})
    assert again.again and not first.again
    ended(agent)
    assert agent.submit(what(command), {}).again
    with pytest.raises(Conflict, match=r"one was submitted before, for: command sh -c .*\n.*--force"):
        agent.submit(what("true"), {})
    with pytest.raises(Conflict, match="for: environment"):
        agent.submit(what(command, variables=["A=b"]), {})
    assert lines_of(tmp_path / "starts") == ["x"]


def test_force_puts_an_ended_run_aside(agent, root):
    agent.submit(what("echo first"), {})
    ended(agent)
    assert not agent.submit(what("echo second; sleep 60"), {}, force=True).again
    with pytest.raises(Conflict, match="one still runs something else: sh -c 'echo second; sleep 60'\nStop it first"):
        agent.submit(what("echo third"), {}, force=True)
    assert agent.submit(what("echo second; sleep 60"), {}, force=True).again, "a forced submit whose answer was lost"
    assert wait_for(lambda: agent.logs("one").data) == b"second\n"
    (log,) = root.glob("one/stdout.log.bak-*")
    assert log.read_text() == "first\n"
    assert {path.name.partition(".bak-")[0] for path in root.glob("one/*.bak-*")} == {"stdout.log", "command.sh", "log.md"}
    assert len(list(root.glob("one/.gpueval/claim.json.bak-*"))) == 1


def test_a_directory_that_is_no_run_is_left_alone(agent, root):
    (root / "one").mkdir(parents=True)
    (root / "one/stdout.log").write_text("mine")
    with pytest.raises(Conflict, match=r"is there already and no run of ours \(it holds stdout.log\)"):
        agent.submit(what("true"), {})
    assert (root / "one/stdout.log").read_text() == "mine"
    agent.submit(what("true"), {}, force=True)
    (kept,) = root.glob("one/stdout.log.bak-*")
    assert kept.read_text() == "mine"


# With the client its agent may die, as where the host takes what a broken link leaves, or go on.
CUTS = [(step, "both", "tmux" if number % 2 else "setsid") for number, step in enumerate(STEPS)] + [
    ("locked", "client", "tmux"),
    ("spawned", "client", "setsid"),
]


@pytest.mark.parametrize(("step", "both", "tmux"), CUTS)
def test_a_client_killed_at_any_step_submits_again_and_it_starts_once(agent, root, tmp_path, step, both, tmux):
    command = f"echo x >> '{tmp_path}/starts'"
    done = subprocess.run(
        [sys.executable, "-m", "tests.detached_runs", str(root), step, both, tmux, command], cwd=ROOT, capture_output=True, timeout=DEADLINE_S
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    again = agent.submit(what(command), {}, tmux=tmux == "tmux")
    assert again.run.state in (State.RUNNING, State.PASSED)
    assert ended(agent).state is State.PASSED
    assert lines_of(tmp_path / "starts") == ["x"]


def test_of_two_runners_of_one_claim_one_goes_on(agent, tmp_path):
    """The first is spawned, and slow, when its submit is cut off; the next submit finds no trace of it."""
    command, go = f"echo x >> '{tmp_path}/starts'", tmp_path / "go"
    slow = f"        while not os.path.exists({str(go)!r}):\n            time.sleep(0.01)\n"
    source, begin = bundle.source(), "        around = identity(os.getppid())"
    assert source.count(begin) == source.count('step("spawned")') == 1
    cut = source.replace('step("spawned")', 'raise Refused("fault", "cut here")').replace(begin, slow + begin)
    with pytest.raises(GpuevalError, match="cut here"):
        Agent(agent.host, agent.root, source=cut).submit(what(command), {}, tmux=False)
    nonce, answers = nonce_of(agent), []
    assert [run.state for run in agent.status()] == [State.QUEUED]
    second = threading.Thread(target=lambda: answers.append(agent.submit(what(command), {}, tmux=False)))
    second.start()
    wait_for(lambda: len(carriers(nonce)) == 2)
    go.touch()
    second.join()
    assert [answer.again for answer in answers] == [False]
    assert ended(agent).state is State.PASSED
    wait_for(lambda: not carriers(nonce))
    assert lines_of(tmp_path / "starts") == ["x"]


def test_a_run_that_was_claimed_and_not_begun_is_queued_or_cancelled(agent, root, tmp_path):
    command = f"echo x >> '{tmp_path}/starts'"
    done = subprocess.run(
        [sys.executable, "-m", "tests.detached_runs", str(root), "claimed", "both", "tmux", command], cwd=ROOT, capture_output=True, timeout=DEADLINE_S
    )
    assert done.returncode == -signal.SIGKILL
    (run,) = agent.status()
    assert (run.state, run.outcome.reason) == (State.QUEUED, "its submit was cut off; submit it again: it starts once")
    assert agent.stop("one").run.state is State.CANCELLED
    assert agent.submit(what(command), {}).run.state is State.CANCELLED
    assert lines_of(tmp_path / "starts") == []
    agent.submit(what(command), {}, force=True)
    assert ended(agent).state is State.PASSED


def test_many_clients_at_once_start_it_once(agent, tmp_path):
    command, answers = f"echo x >> '{tmp_path}/starts'", []
    threads = [threading.Thread(target=lambda: answers.append(agent.submit(what(command), {}).again)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == [False, True, True, True]
    ended(agent)
    assert lines_of(tmp_path / "starts") == ["x"]


def test_a_runner_killed_before_the_command_starts_it_never(agent, tmp_path):
    command = f"echo x >> '{tmp_path}/starts'"
    fragile = bundle.source().replace('step("runner")', "os.kill(os.getpid(), 9)")
    done = Agent(agent.host, agent.root, source=fragile).submit(what(command), {}, tmux=False)
    assert (done.run.state, done.again) == (State.LOST, False)
    again = agent.submit(what(command), {}, tmux=False)
    assert (again.run.state, again.again) == (State.LOST, True), "nobody knows what it had done: --force is the user's to say"
    assert lines_of(tmp_path / "starts") == []


def test_without_tmux_there_is_no_terminal_and_a_note(agent, tmp_path, monkeypatch):
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, path in (("sh", shutil.which("sh")), ("python3", sys.executable)):
        programs.joinpath(name).symlink_to(path)
    monkeypatch.setenv("PATH", str(programs))
    done = agent.submit(what("exit 0"), {})
    assert done.notes == ("tmux is not there: the run has a session of its own, but no terminal to attach to",)
    assert done.run.tmux is None
    assert ended(agent).state is State.PASSED


# The end


TREE = """
import os, signal, subprocess, sys, time
place = sys.argv[1]
def note(name):
    with open(f"{place}/.{name}", "w") as file:
        file.write(str(os.getpid()))
    os.rename(f"{place}/.{name}", f"{place}/{name}")
def stay(name):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    note(name)
    while True:
        time.sleep(60)
if os.fork() == 0:                      # in a session of its own
    os.setsid()
    stay("setsid")
if os.fork() == 0:                      # twice forked
    os.setsid()
    if os.fork() == 0:
        stay("daemon")
    os._exit(0)
if len(sys.argv) > 2:                   # its environment says nothing
    bare = "import os, sys, time; open(sys.argv[1], 'w').write(str(os.getpid())); time.sleep(600)"
    subprocess.Popen([sys.executable, "-c", bare, place + "/bare"], env={}, start_new_session=True)
stay("main")
"""


def grown(place, *names):
    return {name: pid_in(place / name) for name in names}


@HOW
def test_stop_ends_the_whole_tree_and_nothing_else(agent, tmp_path, tmux):
    places = {run_id: tmp_path / run_id for run_id in ("a", "b")}
    trees = {}
    for run_id, place in places.items():
        place.mkdir()
        agent.submit(what([sys.executable, "-c", TREE, str(place), "bare"], run_id), {}, tmux=tmux)
    for run_id, place in places.items():
        trees[run_id] = grown(place, "main", "setsid", "daemon", "bare")
    nonce = nonce_of(agent, "a")
    done = agent.stop("a", grace_s=0.2)
    assert (done.run.state, done.ended_before) == (State.CANCELLED, False)
    assert done.killed >= 3, "three of them do not hear TERM"
    assert gone(trees["a"].values()) and wait_for(lambda: not carriers(nonce))
    assert all(map(alive, trees["b"].values())), "its neighbour is whole"
    (b,) = agent.status(["b"])
    assert b.state is State.RUNNING
    assert agent.stop("a").ended_before
    assert agent.submit(what([sys.executable, "-c", TREE, str(places["a"]), "bare"], "a"), {}).run.state is State.CANCELLED, "it is not begun anew"


HYDRA = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
beat, end = os.open(sys.argv[2], os.O_CREAT | os.O_WRONLY | os.O_APPEND), time.monotonic() + 60
open(sys.argv[1], "w").write(str(os.getpid()))
if os.fork():
    time.sleep(float(sys.argv[3]))
    sys.exit()
while time.monotonic() < end:           # another pid, and another session, every few milliseconds
    if os.fork():
        os._exit(0)
    os.setsid()
    os.write(beat, b".")
    time.sleep(0.005)
"""


def test_stop_meets_what_forks_all_the_time(agent, tmp_path):
    """No look at all processes is sure to meet it: whether it lives, it says itself, by its beat."""
    beat = tmp_path / "beat"
    agent.submit(what([sys.executable, "-c", HYDRA, str(tmp_path / "pid"), str(beat), "60"]), {})
    wait_for(lambda: beat.exists() and beat.stat().st_size > 20)
    assert agent.stop("one", grace_s=0).run.state is State.CANCELLED
    assert is_silent(beat)


def test_what_forks_all_the_time_is_met_by_no_look_and_ends_with_its_run(agent, tmp_path):
    """The runner becomes the parent of each new one, and that is enough: here it finds nobody by looking."""
    beat = tmp_path / "beat"
    assert "LOOKS = 4" in bundle.source()
    agent = Agent(agent.host, agent.root, source=bundle.source().replace("LOOKS = 4", "LOOKS = 0"))
    agent.submit(what([sys.executable, "-c", HYDRA, str(tmp_path / "pid"), str(beat), "0.2"]), {})
    assert ended(agent).state is State.PASSED and beat.stat().st_size > 0
    assert is_silent(beat)


def is_silent(beat):
    size = beat.stat().st_size
    time.sleep(1.0)  # two hundred beats
    return beat.stat().st_size == size


def test_what_a_command_leaves_ends_with_it(agent, tmp_path):
    agent.submit(what(f"(setsid sh -c 'echo $$ > {tmp_path}/left; exec sleep 600' &) ; while [ ! -s {tmp_path}/left ]; do sleep 0.01; done"), {})
    left = pid_in(tmp_path / "left")
    assert ended(agent).state is State.PASSED
    assert gone([left])


def impatient():
    """An agent whose runner does not wait long for what does not hear TERM."""
    assert "GRACE_S = 10.0" in bundle.source()
    return bundle.source().replace("GRACE_S = 10.0", "GRACE_S = 0.2")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_tmux_server_that_is_ended_takes_its_run_along(agent, tmp_path, number):
    agent = Agent(agent.host, agent.root, source=impatient())
    agent.submit(what([sys.executable, "-c", TREE, str(tmp_path)]), {})
    tree, nonce = grown(tmp_path, "main", "setsid", "daemon"), nonce_of(agent)
    (run,) = agent.status()
    if number == signal.SIGTERM:
        subprocess.run(["tmux", "-L", run.tmux, "kill-server"], check=True)
    else:
        server = look(pid_of_runner(agent)).parent
        os.kill(server, number)
    run = ended(agent)
    assert (run.state, run.outcome.reason) == (State.LOST, "its tmux server was ended, and it with it")
    assert gone(tree.values()) and wait_for(lambda: not carriers(nonce))


def state_file(agent, name, run_id="one"):
    return Path(agent.root) / run_id / ".gpueval" / nonce_of(agent, run_id) / f"{name}.json"


def pid_of_runner(agent):
    return json.loads(state_file(agent, "runner").read_text())["pid"]


def test_a_runner_that_is_killed_leaves_a_lost_run_that_can_be_stopped(agent, tmp_path):
    agent.submit(what([sys.executable, "-c", TREE, str(tmp_path)]), {}, tmux=False)
    tree, nonce = grown(tmp_path, "main", "setsid", "daemon"), nonce_of(agent)
    send(look(pid_of_runner(agent)), signal.SIGKILL)
    wait_for(lambda: gone([tree["main"]]))
    (run,) = agent.status()
    assert run.state is State.LOST
    assert run.outcome.reason.startswith("its runner ended without a word") and run.outcome.reason.endswith(
        "2 of its processes live: gpueval runs stop ends them"
    )
    assert agent.stop("one", grace_s=0).killed == 2
    assert gone(tree.values()) and not carriers(nonce)


def test_a_run_can_be_attached_to_and_leaves_no_socket(agent, tmp_path):
    agent.submit(what(f"echo on the screen; echo TMUX=$TMUX; while [ ! -e {tmp_path}/go ]; do sleep 0.02; done"), {})
    (run,) = agent.status()
    tmux = ["tmux", "-L", run.tmux]
    shown = wait_for(
        lambda: (text := subprocess.run([*tmux, "capture-pane", "-p"], capture_output=True, text=True, check=True).stdout) and "TMUX=" in text and text
    )
    assert shown.startswith("on the screen\nTMUX=\n")
    socket = Path(subprocess.run([*tmux, "display-message", "-p", "#{socket_path}"], capture_output=True, text=True, check=True).stdout.strip())
    assert socket.is_socket()
    (tmp_path / "go").touch()
    ended(agent)
    assert wait_for(lambda: not socket.exists())


def test_a_signal_to_the_runner_cancels(agent, tmp_path):
    agent.submit(what(f"echo $$ > {tmp_path}/pid; exec sleep 600"), {}, tmux=False)
    child = pid_in(tmp_path / "pid")
    send(look(pid_of_runner(agent)), signal.SIGTERM)
    assert ended(agent).state is State.CANCELLED
    assert gone([child])


@pytest.fixture
def innocent():
    with subprocess.Popen(["sleep", "600"]) as process:
        yield process
        assert process.poll() is None, "nobody ended what is not ours"
        process.kill()


def bent(agent, **changes):
    """A run whose runner is dead and whose record of it says something else."""
    agent.submit(what("exec sleep 600"), {}, tmux=False)
    file, nonce = state_file(agent, "runner"), nonce_of(agent)
    send(look(pid_of_runner(agent)), signal.SIGKILL)
    wait_for(lambda: not carriers(nonce))
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))
    (run,) = agent.status()
    return run


def test_a_pid_that_an_innocent_process_has_now(agent, innocent):
    run = bent(agent, pid=innocent.pid)
    assert (run.state, run.outcome.reason) == (State.LOST, f"its runner ended without a word, and another process has its pid {innocent.pid}")
    assert agent.stop("one", grace_s=0).asked == 0


def test_a_restart_of_the_host(agent, innocent):
    run = bent(agent, **{**identity(innocent.pid), "boot": "before"})
    assert (run.state, run.outcome.reason) == (State.LOST, "the host was restarted while it ran")
    assert agent.stop("one", grace_s=0).asked == 0


def test_an_exit_status_that_outlives_everything(agent):
    agent.submit(what("exit 0"), {})
    ended(agent)
    file = state_file(agent, "runner")
    file.write_text(json.dumps({**json.loads(file.read_text()), "boot": "before"}))
    assert [run.state for run in agent.status()] == [State.PASSED]


def test_a_full_disk_costs_output_and_not_the_run(tmp_path):
    place = tmp_path / "small"
    place.mkdir()
    if shutil.which("mount") is None or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400k", "none", place], capture_output=True).returncode:
        pytest.skip("a small file system cannot be mounted here")
    try:
        with runs_in(place) as agent:
            agent.submit(what("head -c 1000000 /dev/zero | tr '\\0' x; exit 4"), {}, tmux=False)
            run = ended(agent)
            assert (run.state, run.outcome.reason) == (State.FAILED, "exit code 4")
            assert run.lost_bytes > 500_000 and run.log_bytes + run.lost_bytes == 1_000_000
            with pytest.raises(GpuevalError, match="No space left on device"):
                agent.submit(what("true", "two"), {})
    finally:
        subprocess.run(["umount", "-l", place], check=True)
