"""Runs that a real Slurm starts: once only, whatever is cut off; through requeues; and every end is one state."""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path

import pytest

from pytest_gpueval.errors import Conflict, Unreachable, UsageProblem
from pytest_gpueval.hosts.detached import bundle
from pytest_gpueval.hosts.detached import fetch as fetching
from pytest_gpueval.hosts.detached.agent.processes import MARKER, look, send
from pytest_gpueval.hosts.detached.client import Agent
from pytest_gpueval.hosts.detached.states import State
from pytest_gpueval.hosts.detached.submission import JobRequest
from pytest_gpueval.hosts.local import LocalHost
from pytest_gpueval.hosts.slurm import SlurmHost
from pytest_gpueval.hosts.slurm_options import JobOptions
from tests.detached_runs import ROOT, carriers, cut_agent, ended, nonce_of, runs_in, what
from tests.fake_smi import FakeSmi
from tests.slurm import GPUS, Slurm, can_limit_memory, running, words_of
from tests.waiting import DEADLINE_S, alive, gone, wait_for

PLAIN = JobOptions("gpu")


def job(command, run_id="one", *, options=PLAIN, requeue=True, **more):
    return replace(what(command, run_id, **more), job=JobRequest(tuple(options.words()), sys.executable, requeue))


def host(slurm, **more):
    environment = {**slurm.environment, **more}
    return SlurmHost("cluster", LocalHost("cluster", environment=environment), PLAIN, environment=environment)


@pytest.fixture
def agent(slurm, root):
    with runs_in(root, host(slurm)) as agent:
        yield agent
        for name in slurm.jobs():
            slurm("scancel", f"--name={name}")
        wait_for(lambda: not slurm.jobs())


def state(agent, run_id="one"):
    (run,) = agent.status([run_id])
    return run.state


def until(agent, wanted, run_id="one"):
    """The run, once it is in this state."""

    def look_at():
        (run,) = agent.status([run_id], tail_lines=100)
        return run if run.state is wanted else None

    return wait_for(look_at)


def pid_in(path):
    return int(wait_for(lambda: path.exists() and path.read_text().strip()))


def lines_of(path):
    return path.read_text().splitlines() if path.exists() else []


@contextmanager
def full(slurm):
    """A job that has all GPUs."""
    number = slurm("sbatch", "--parsable", f"--gres=gpu:{len(GPUS)}", "--job-name=busy", "--output=/dev/null", "--wrap=exec sleep 1000")
    wait_for(lambda: slurm.state(number) == "RUNNING")
    try:
        yield
    finally:
        slurm("scancel", number)


def soon(slurm, number):
    """A requeued job may begin: else Slurm lets two minutes pass. Not within the second, in which its node still refuses it."""
    wait_for(lambda: slurm.state(number) == "PENDING")
    slurm("scontrol", "update", f"JobId={number}", "StartTime=now+2")


# What becomes of a run


def test_how_runs_end(agent, root):
    for number, command in enumerate(("echo out; echo RESULT_X loss=0.5", "exit 3", "kill -9 $$")):
        done = agent.submit(job(command, f"run-{number}"), {})
        assert not done.again and done.run.state is State.QUEUED and done.run.job
    passed, failed, killed = (ended(agent, f"run-{number}") for number in range(3))
    assert (passed.state, passed.outcome.reason, passed.exit_code, passed.results) == (State.PASSED, "", 0, {"x.loss": 0.5})
    assert (failed.state, failed.outcome.reason, failed.exit_code) == (State.FAILED, f"exit code 3; job {failed.job}", 3)
    assert (killed.state, killed.outcome.reason, killed.signal) == (State.FAILED, f"signal 9; job {killed.job}", 9)
    assert (root / "run-0/stdout.log").read_text() == "out\nRESULT_X loss=0.5\n"


def test_a_run_is_queued_then_runs_with_its_gpus_where_it_was_told(agent, slurm, tmp_path):
    with full(slurm):
        done = agent.submit(job("echo $CUDA_VISIBLE_DEVICES $A; pwd; exec sleep 600", options=PLAIN.sized(2), variables=["A=b c"], directory="/usr"), {})
        run = until(agent, State.QUEUED)
        assert wait_for(lambda: agent.status(["one"])[0].outcome.reason == f"Resources; job {done.run.job}")
        piece = agent.logs("one", wait_s=0.1)
        assert (piece.data, piece.ended) == (b"", False)
    run = until(agent, State.RUNNING)
    assert (run.job, run.node, run.attempt, run.exit_code) == (done.run.job, slurm.node, 1, None)
    gpus, place = wait_for(lambda: (text := agent.logs("one").data.decode().splitlines())[1:] and text)
    assert len(gpus.split()[0].split(",")) == 2 and gpus.endswith(" b c") and place == "/usr"
    assert agent.stop("one").job == run.job


def test_it_tells_how_far_it_is_and_what_it_holds_of_gpus(slurm, root, tmp_path):
    smi = FakeSmi(tmp_path / "bin")
    with runs_in(root, host(slurm, PATH=f"{smi.path}{os.pathsep}{os.environ['PATH']}")) as agent:
        agent.submit(job(f'echo \'{{"done": 3, "total": 4}}\' > $GPUEVAL_RUN_DIR/progress.json; echo $$ > {tmp_path}/pid; exec sleep 600'), {})
        pid = pid_in(tmp_path / "pid")
        smi.set(held=[(pid, 1, 5000)])
        (run,) = agent.look(["one"], gpus=True).runs
        assert (run.progress.done, run.progress.total) == (3, 4)
        assert [(one.gpu.index, one.memory_mib) for one in run.gpus] == [(1, 5000)], "its node is this machine"
        runner = root / "one/.gpueval" / nonce_of(agent) / "runner.json"
        here = runner.read_text()
        runner.write_text(json.dumps({**json.loads(here), "boot": "of another machine"}))
        there = Agent(agent.host, agent.root, source=bundle.source().replace(f'MARKER = "{MARKER}"', 'MARKER = "NOBODYS"'))
        assert there.look(["one"], gpus=True).runs[0].gpus is None, "nothing of it is on this machine"
        runner.write_text(here)
        assert [one.words for one in agent.stop("one").memory.gpus] == ["GPU 1: 5,000 MiB given back"]


def test_from_within_a_job_it_is_a_job_of_its_own(agent, slurm, monkeypatch):
    for name, value in {"SLURM_JOB_ID": "999", "SLURM_RESTART_COUNT": "3", "SLURM_NTASKS": "8"}.items():
        monkeypatch.setenv(name, value)
    agent.submit(job("echo $GPUEVAL_ATTEMPT $SLURM_NTASKS"), {})
    run = ended(agent)
    assert (run.state, run.attempt, run.tail) == (State.PASSED, 1, "1 1\n")


def test_what_it_left_is_fetched_and_archived(agent, tmp_path):
    agent.submit(job(f"echo x > $GPUEVAL_RUN_DIR/out; echo y > {tmp_path}/elsewhere; exec sleep 600"), {})
    until(agent, State.RUNNING)
    wait_for((tmp_path / "elsewhere").exists)
    with pytest.raises(Conflict, match="one still runs"):
        agent.archive("one", [f"{tmp_path}/elsewhere"])
    agent.stop("one")
    assert len(agent.archive("one", [f"{tmp_path}/elsewhere"])) == 1
    done = fetching.fetch(agent, "one", tmp_path / "here", most_bytes=1 << 20, most_files=100)
    assert {entry.name for entry in done.files} == {"archived/elsewhere", "command.sh", "log.md", "out", "stdout.log"}


# Once


def test_the_same_again_is_the_same_run_and_another_is_a_conflict(agent, slurm, tmp_path):
    command = f"echo x >> {tmp_path}/starts; exec sleep 600"
    first = agent.submit(job(command), {})
    again = agent.submit(job(command), {})
    assert (first.again, again.again, again.run.job) == (False, True, first.run.job)
    with pytest.raises(Conflict, match="one still runs something else"):
        agent.submit(job("true"), {}, force=True)
    with pytest.raises(Conflict, match="one still runs something else"):
        agent.submit(job(command, options=PLAIN.sized(2)), {})
    until(agent, State.RUNNING)
    agent.stop("one")
    with pytest.raises(Conflict, match="for: slurm"):
        agent.submit(job(command, options=PLAIN.sized(2)), {})
    assert not agent.submit(job("true"), {}, force=True).again
    assert ended(agent).state is State.PASSED
    assert lines_of(tmp_path / "starts") == ["x"] and len(set(slurm.named("gpueval-"))) >= 2


CUTS = [("claimed", "both"), ("answered", "both"), ("answered", "client"), ("submitted", "both"), ("started", "both")]


@pytest.mark.parametrize(("step", "both"), CUTS)
def test_a_client_killed_at_any_step_submits_again_and_it_is_one_job(agent, slurm, root, tmp_path, step, both):
    """`answered`: the agent dies before it has written down what sbatch answered."""
    command = f"echo x >> '{tmp_path}/starts'"
    done = subprocess.run(
        [sys.executable, "-m", "tests.hosts.detached.test_slurm_runs", str(slurm.place), str(root), step, both, command],
        cwd=ROOT,
        capture_output=True,
        timeout=DEADLINE_S,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    agent.submit(job(command), {})
    assert ended(agent).state is State.PASSED
    assert lines_of(tmp_path / "starts") == ["x"]
    assert len(slurm.named(f"gpueval-{nonce_of(agent)}")) == 1


def test_many_clients_at_once_make_one_job(agent, slurm, tmp_path):
    command, answers = f"echo x >> '{tmp_path}/starts'", []
    threads = [threading.Thread(target=lambda: answers.append(agent.submit(job(command), {}).again)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == [False, True, True, True]
    ended(agent)
    assert lines_of(tmp_path / "starts") == ["x"] and len(slurm.named(f"gpueval-{nonce_of(agent)}")) == 1


def test_of_two_jobs_of_one_claim_one_goes_on(agent, slurm, root, tmp_path):
    """As where Slurm takes a job whose submit it had called lost."""
    agent.submit(job(f"echo x >> '{tmp_path}/starts'; while [ ! -e '{tmp_path}/go' ]; do sleep 0.05; done"), {})
    until(agent, State.RUNNING)
    place = root / "one/.gpueval" / nonce_of(agent)
    second = slurm(
        "sbatch",
        "--parsable",
        "--gres=gpu:1",
        f"--job-name=gpueval-{place.name}",
        "--output=/dev/null",
        f"--wrap={shlex.join([sys.executable, str(place / 'agent.py'), 'run'])}",
    )
    wait_for(lambda: slurm.state(second) in {"COMPLETED", "FAILED"})
    assert state(agent) is State.RUNNING
    (tmp_path / "go").touch()
    assert ended(agent).state is State.PASSED and lines_of(tmp_path / "starts") == ["x"]


# Requeued


# Where its sleep meets the signal first, the shell says so on stderr.
ATTEMPTS = """
exec 2>/dev/null
echo attempt $GPUEVAL_ATTEMPT; printf x >> '{place}/starts'; echo $$ > '{place}/pid'
while [ ! -e '{place}/go' ]; do sleep 0.05; done
echo RESULT_X attempt=$GPUEVAL_ATTEMPT
"""


@pytest.mark.parametrize("how", ["requeue", "node"])
def test_a_requeued_run_goes_on_as_another_attempt_in_the_same_log(agent, slurm, tmp_path, how):
    agent.submit(job(ATTEMPTS.format(place=tmp_path)), {})
    first = until(agent, State.RUNNING)
    pid = pid_in(tmp_path / "pid")
    wait_for(lambda: agent.logs("one").data)  # what its runner has not read yet goes with it
    if how == "requeue":
        slurm("scontrol", "requeue", first.job)
    else:
        slurm("scontrol", "update", f"NodeName={slurm.node}", "State=DOWN", "Reason=test")
    wait_for(lambda: slurm.state(first.job) == "PENDING")
    again = until(agent, State.QUEUED)
    assert again.outcome.reason.startswith("it was put back into the queue") and again.job == first.job
    assert wait_for(lambda: gone([pid]))
    slurm.resume()
    soon(slurm, first.job)
    wait_for(lambda: (tmp_path / "starts").read_text() == "xx")
    second = until(agent, State.RUNNING)
    assert (second.attempt, second.job) == (2, first.job)
    (tmp_path / "go").touch()
    last = ended(agent)
    assert (last.state, last.attempt, last.results) == (State.PASSED, 2, {"x.attempt": 2.0})
    assert last.tail.split() == f"attempt 1 gpueval: attempt 2, on {slurm.node} attempt 2 RESULT_X attempt=2".split()


def test_a_node_that_fails_without_a_requeue_is_a_lost_run(agent, slurm, tmp_path):
    agent.submit(job(f"echo $$ > '{tmp_path}/pid'; exec sleep 600", requeue=False), {})
    until(agent, State.RUNNING)
    pid = pid_in(tmp_path / "pid")
    slurm("scontrol", "update", f"NodeName={slurm.node}", "State=DOWN", "Reason=test")
    run = until(agent, State.LOST)
    assert run.outcome.reason.startswith("its node failed; job ")
    slurm.resume()
    assert wait_for(lambda: gone([pid]))
    assert state(agent) is State.LOST


# The end


TREE = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        open(sys.argv[1] + "/daemon", "w").write(str(os.getpid()))
        time.sleep(600)
    os._exit(0)
open(sys.argv[1] + "/main", "w").write(str(os.getpid()))
time.sleep(600)
"""


def test_stop_ends_the_whole_tree_and_nothing_else(agent, slurm, tmp_path):
    trees = {}
    for run_id in ("a", "b"):
        (tmp_path / run_id).mkdir()
        agent.submit(job([sys.executable, "-c", TREE, str(tmp_path / run_id)], run_id), {})
    for run_id in ("a", "b"):
        trees[run_id] = [pid_in(tmp_path / run_id / name) for name in ("main", "daemon")]
    nonce = nonce_of(agent, "a")
    done = agent.stop("a", grace_s=0.2)
    assert (done.run.state, done.ended_before, done.killed, done.job) == (State.CANCELLED, False, 2, done.run.job)
    assert gone(trees["a"]) and not carriers(nonce) and slurm.state(done.job) not in {"RUNNING", "PENDING"}
    assert all(map(alive, trees["b"])) and state(agent, "b") is State.RUNNING
    assert agent.stop("a").ended_before
    assert agent.submit(job([sys.executable, "-c", TREE, str(tmp_path / "a")], "a"), {}).run.state is State.CANCELLED


def test_a_run_that_waits_is_stopped(agent, slurm, tmp_path):
    with full(slurm):
        agent.submit(job(f"touch '{tmp_path}/begun'"), {})
        done = agent.stop("one")
        assert done.run.state is State.CANCELLED and slurm.state(done.job) == "CANCELLED"
    assert not (tmp_path / "begun").exists()


@pytest.mark.parametrize("waits", [True, False])
def test_a_job_that_somebody_else_cancels(agent, slurm, tmp_path, waits):
    with full(slurm) if waits else nullcontext():
        agent.submit(job(f"echo $$ > '{tmp_path}/pid'; exec sleep 600"), {})
        until(agent, State.QUEUED if waits else State.RUNNING)
        pid = None if waits else pid_in(tmp_path / "pid")
        (run,) = agent.status()
        slurm("scancel", run.job)
        run = until(agent, State.CANCELLED)
    assert run.outcome.reason.endswith(f"job {run.job}") and "stop" not in run.outcome.reason
    assert pid is None or wait_for(lambda: gone([pid]))


def test_a_runner_that_is_killed_leaves_a_lost_run(agent, root, tmp_path):
    agent.submit(job(f"echo $$ > '{tmp_path}/pid'; exec sleep 600"), {})
    until(agent, State.RUNNING)
    pid = pid_in(tmp_path / "pid")
    send(look(json.loads((root / "one/.gpueval" / nonce_of(agent) / "runner.json").read_text())["pid"]), signal.SIGKILL)
    run = until(agent, State.LOST)
    assert run.outcome.reason.startswith("its runner ended without a word")
    assert wait_for(lambda: gone([pid]))


def test_a_time_limit_is_told(agent, slurm, tmp_path):
    agent.submit(job(f"echo $$ > '{tmp_path}/pid'; exec sleep 600", options=PLAIN.sized(time_limit="01:00:00")), {})
    run = until(agent, State.RUNNING)
    pid = pid_in(tmp_path / "pid")
    slurm("scontrol", "update", f"JobId={run.job}", "EndTime=now")
    run = until(agent, State.FAILED)
    assert run.outcome.reason == f"its time limit was over (--time-limit); job {run.job}"
    assert wait_for(lambda: gone([pid]))


def test_a_run_that_is_out_of_memory_says_so(root):
    if not can_limit_memory():
        pytest.skip("there are no control groups here that Slurm can use without systemd")
    with running(memory_limits=True) as slurm, runs_in(root, host(slurm)) as agent:
        agent.submit(job([sys.executable, "-c", "x = bytearray(400 << 20)"], options=replace(PLAIN, more=("--mem=100M",))), {})
        run = until(agent, State.FAILED)
        assert run.outcome.reason == f"out of memory: more than its job was given (--mem); job {run.job}"
        slurm.stop("slurmctld")
        (again,) = agent.status(["one"])
        assert again.outcome == run.outcome, "what was seen once is written down"
        slurm.start("slurmctld")
        wait_for(slurm.ready)


# Slurm away, and what it refuses


def test_a_controller_that_is_away_is_said_and_the_run_goes_on(agent, slurm, tmp_path):
    agent.submit(job(f"echo $$ > '{tmp_path}/pid'; while [ ! -e '{tmp_path}/go' ]; do sleep 0.05; done"), {})
    agent.submit(job("true", "over"), {})
    until(agent, State.RUNNING)
    assert ended(agent, "over").state is State.PASSED
    pid = pid_in(tmp_path / "pid")
    hasty = Agent(host(slurm.hasty()), agent.root)
    slurm.stop("slurmctld")
    try:
        for ask in (lambda: hasty.status(["one"]), lambda: hasty.submit(job("true", "two"), {})):
            with pytest.raises(Unreachable, match="Slurm does not answer: "):
                ask()
        assert state(agent, "over") is State.PASSED, "what its files say needs no controller"
        assert alive(pid)
    finally:
        slurm.start("slurmctld")
        wait_for(slurm.ready)
    assert state(agent) is State.RUNNING
    (tmp_path / "go").touch()
    assert ended(agent).state is State.PASSED
    agent.submit(job("true", "two"), {})
    assert ended(agent, "two").state is State.PASSED


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (JobOptions("nope"), "invalid partition specified: nope"),
        (JobOptions("gpu", gres="gpu:99"), "Requested node configuration is not available"),
        (JobOptions("gpu", more=("--reservation=none",)), "eservation"),
    ],
)
def test_what_slurm_refuses_is_said_in_its_words_and_no_claim(agent, options, said):
    with pytest.raises(UsageProblem, match=f"cluster: sbatch: (?s:.*){said}") as problem:
        agent.submit(job("true", options=options), {})
    assert "Traceback" not in str(problem.value)
    assert agent.status() == []
    agent.submit(job("true"), {})
    assert ended(agent).state is State.PASSED


def test_without_slurms_programs(agent, root, tmp_path, monkeypatch):
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, path in (("sh", shutil.which("sh")), ("true", shutil.which("true")), ("python3", sys.executable)):
        programs.joinpath(name).symlink_to(path)
    with monkeypatch.context() as patch:
        patch.setenv("PATH", str(programs))
        with pytest.raises(UsageProblem, match=r"is not there on .*: Slurm's client programs are needed on the login node"):
            agent.submit(job("true"), {})
    agent.submit(job("true"), {})
    assert ended(agent).state is State.PASSED


# Secrets


CANARY = "canary-7f3a91/+ß"
LENGTH = len(CANARY.encode())  # as sh counts


@pytest.mark.parametrize("requeue", [True, False])
def test_a_secret_reaches_the_command_alone(agent, slurm, root, tmp_path, monkeypatch, requeue):
    monkeypatch.setenv("MY_TOKEN", CANARY)  # the client's own environment is the login node's here
    own = {**os.environ}
    command = f"echo ${{#MY_TOKEN}} $MY_TOKEN; while [ ! -e '{tmp_path}/go' ]; do sleep 0.05; done"
    agent.submit(job(command, secrets=["MY_TOKEN"], own=own, requeue=requeue), own)
    run = until(agent, State.RUNNING)
    wait_for(lambda: agent.logs("one").data)
    kept = list(root.rglob("secrets.json"))
    assert len(kept) == requeue and all(path.stat().st_mode & 0o777 == 0o600 and path.parent.stat().st_mode & 0o777 == 0o700 for path in kept)
    told = slurm("scontrol", "show", "job", "-dd", run.job) + slurm("scontrol", "write", "batch_script", run.job, "-")
    lines = [b" ".join(words_of(pid, "cmdline")) for pid in carriers(nonce_of(agent))]
    state_of_slurm = [path.read_bytes() for path in slurm.place.rglob("*") if path.is_file() and path.stat().st_size < 1 << 24]
    (tmp_path / "go").touch()
    run = ended(agent)
    assert run.state is State.PASSED and run.tail == f"{LENGTH} <redacted>\n"
    files = [path.read_bytes() for path in root.rglob("*") if path.is_file()]
    assert len(files) > 6 and len(lines) >= 2 and len(state_of_slurm) > 6
    for data in (*lines, *files, *state_of_slurm, told.encode(), repr(run).encode()):
        assert b"7f3a91" not in data


def test_secrets_are_there_again_after_a_requeue_and_gone_after_the_end(agent, slurm, root, tmp_path):
    own = {**os.environ, "MY_TOKEN": CANARY}
    agent.submit(job(f"echo ${{#MY_TOKEN}} >> '{tmp_path}/lengths'; exec sleep 600", secrets=["MY_TOKEN"], own=own), own)
    run = until(agent, State.RUNNING)
    wait_for(lambda: lines_of(tmp_path / "lengths"))
    slurm("scontrol", "requeue", run.job)
    soon(slurm, run.job)
    wait_for(lambda: len(lines_of(tmp_path / "lengths")) == 2)
    assert set(lines_of(tmp_path / "lengths")) == {str(LENGTH)}
    slurm("scancel", run.job)
    until(agent, State.CANCELLED)
    assert not list(root.rglob("secrets.json"))


def main():
    """`python -m tests.hosts.detached.test_slurm_runs SLURM ROOT STEP BOTH COMMAND`: a client that is killed on the way."""
    place, root, step, both, command = sys.argv[1:]
    source = cut_agent(step, both=both == "both")
    begin = 'found = {"id": said.splitlines()'
    assert source.count(begin) == 1
    Agent(host(Slurm(Path(place))), root, source=source.replace(begin, f'step("answered")\n        {begin}')).submit(job(command), {})


if __name__ == "__main__":
    main()
