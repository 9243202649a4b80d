"""Runs that are submitted to a stand-in for a cluster, for tests of what can happen to them."""

import os
from datetime import UTC, datetime

from pytest_gpueval.hosts.detached.submission import submission
from pytest_gpueval.hosts.jobs.manifest import job_name
from tests.waiting import wait_for


def what(command, run_id="one", **more):
    words = ["sh", "-c", command] if isinstance(command, str) else command
    given = {"directory": "~", "variables": [], "secrets": [], "own": dict(os.environ), **more}
    return submission(words, run_id=run_id, now=datetime.now(UTC), **given)


def ended(jobs, run_id="one"):
    def look():
        (run,) = jobs.status([run_id], tail_lines=100)
        return run if run.state.ended else None

    return wait_for(look)


def pod_of(cluster, index, run_id="one"):
    """The living pod of an index, once its program runs."""

    def look():
        found = [pod for pod in cluster.pods.values() if pod.name.startswith(f"{job_name(run_id)}-{index}-") and pod.phase == "Running"]
        return found[0] if found else None

    return wait_for(look)
