"""Runs that a real Slurm starts: once only, whatever is cut off; through requeues; and every end is one state."""

import sys

import pytest

from pytest_gpueval.hosts.detached.states import State
from pytest_gpueval.hosts.detached.submission import JobRequest
from pytest_gpueval.hosts.local import LocalHost
from pytest_gpueval.hosts.slurm import SlurmHost
from pytest_gpueval.hosts.slurm_options import JobOptions
from tests.detached_runs import ended, runs_in, what
from tests.waiting import wait_for

PLAIN = JobOptions("gpu")


def job(options=PLAIN, **more):
    return JobRequest(tuple(options.words()), sys.executable, **more)


def to_slurm(command, run_id="one", options=PLAIN, requeue=True, **more):
    from dataclasses import replace

    return replace(what(command, run_id, **more), job=job(options, requeue=requeue))


@pytest.fixture
def agent(slurm, root):
    host = SlurmHost("cluster", LocalHost("cluster", environment=slurm.environment), PLAIN, environment=slurm.environment)
    with runs_in(root, host) as agent:
        yield agent
        for name in slurm.jobs():
            slurm("scancel", f"--name={name}")
        wait_for(lambda: not slurm.jobs())


def states(agent, run_id="one"):
    (run,) = agent.status([run_id])
    return run.state, run.outcome.reason


def is_running(agent, run_id="one"):
    return wait_for(lambda: states(agent, run_id)[0] is State.RUNNING)


def test_how_runs_end(agent, root):
    for number, command in enumerate(("echo out; echo RESULT_X loss=0.5", "exit 3", "kill -9 $$")):
        done = agent.submit(to_slurm(command, f"run-{number}"), {})
        assert not done.again and done.run.state is State.QUEUED and done.run.job
    passed, failed, killed = (ended(agent, f"run-{number}") for number in range(3))
    assert (passed.state, passed.outcome.reason, passed.exit_code, passed.results) == (State.PASSED, "", 0, {"x.loss": 0.5})
    assert (failed.state, failed.outcome.reason, failed.exit_code) == (State.FAILED, f"exit code 3; job {failed.job}", 3)
    assert (killed.state, killed.outcome.reason, killed.signal) == (State.FAILED, f"signal 9; job {killed.job}", 9)
    assert (root / "run-0/stdout.log").read_text() == "out\nRESULT_X loss=0.5\n"
