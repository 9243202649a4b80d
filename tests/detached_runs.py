"""Runs that are submitted to this machine, for tests of what can happen to them."""

import os
import sys
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from pytest_gpueval.hosts.detached import bundle
from pytest_gpueval.hosts.detached.agent.processes import marks
from pytest_gpueval.hosts.detached.client import Agent
from pytest_gpueval.hosts.detached.submission import submission
from pytest_gpueval.hosts.local import LocalHost
from tests.waiting import wait_for

ROOT = Path(__file__).resolve().parent.parent
STEPS = ("made", "locked", "claimed", "spawned", "started")
NO_STEP = 'def step(name: str) -> None:\n    """Where tests cut the work off."""\n'
# The agent alone has no arguments: a runner that died here would take its terminal along.
_STEP = """def step(name):
    if name == {step!r} and "run" not in sys.argv:
        for pid in ({pids}):
            os.kill(pid, 9)
"""


def cut_agent(step, *, both):
    """An agent that kills its client at this step, and itself as well."""
    assert NO_STEP in bundle.source()
    pids = "os.getppid(), os.getpid()" if both else "os.getppid(),"
    return bundle.source().replace(NO_STEP, "import sys\n" + _STEP.format(step=step, pids=pids))


def what(command, run_id="one", **more):
    words = ["sh", "-c", command] if isinstance(command, str) else command
    given = {"directory": "/tmp", "variables": [], "secrets": [], "own": dict(os.environ), **more}
    return submission(words, run_id=run_id, now=datetime.now(UTC), **given)


def carriers(nonce):
    """Pids of all that have a run's marker."""
    return [pid for pid, (_, mark) in marks().items() if mark == nonce]


def nonce_of(agent, run_id="one"):
    return agent.logs(run_id).nonce


def ended(agent, run_id="one"):
    """The run, once it has ended and its runner, which writes log.md last, is gone."""

    def look():
        (run,) = agent.status([run_id], tail_lines=100)
        return run if run.state.ended and not run.processes and not carriers(nonce_of(agent, run_id)) else None

    return wait_for(look)


@contextmanager
def runs_in(root, host=None):
    """An agent for a directory of runs; whatever is left in it is ended, runs whose files a test has bent included."""
    agent = Agent(host or LocalHost(), str(root))
    try:
        yield agent
    finally:
        for place in root.glob("*/.gpueval/*/"):
            if place.joinpath("runner.json").exists() and not (place.joinpath("exit.json").exists() and not carriers(place.name)):
                agent.stop(place.parent.parent.name, grace_s=0)
        nonces = {place.name for place in root.glob("*/.gpueval/*/")}
        assert wait_for(lambda: not any(mark in nonces for _, mark in marks().values()))


def main():
    """`python -m tests.detached_runs ROOT STEP BOTH TMUX COMMAND`: a client that is killed on the way."""
    root, step, both, tmux, command = sys.argv[1:]
    agent = Agent(LocalHost(), root, source=cut_agent(step, both=both == "both"))
    agent.submit(what(command), {}, tmux=tmux == "tmux")


if __name__ == "__main__":
    main()
