"""Waiting for what nothing announces, and the processes that tests wait for."""

import select
import time

from pytest_gpueval.processes.supervisor import look

# For a machine under load; nothing here waits that long when all is well.
DEADLINE_S = 90
SESSION_S = 180


def wait_for(condition, deadline_s=DEADLINE_S):
    """What the condition returns, once it is true."""
    end = time.monotonic() + deadline_s
    while not (value := condition()):
        assert time.monotonic() < end, f"waited {deadline_s} s in vain"
        select.select([], [], [], 0.01)
    return value


def alive(pid):
    process = look(pid)
    return process is not None and not process.dead


def gone(pids):
    return not any(map(alive, pids))
