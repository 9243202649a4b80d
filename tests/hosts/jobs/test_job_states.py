"""What a cluster says of a Job, as one state."""

import pytest

from pytest_gpueval.hosts.detached.progress import Progress
from pytest_gpueval.hosts.detached.states import Outcome, State
from pytest_gpueval.hosts.jobs.states import ending, judge, progress, times


def job(*, conditions=(), deleting=False, suspend=False, completions=4, **status):
    metadata = {"name": "x", **({"deletionTimestamp": "2026-01-01T00:00:00Z"} if deleting else {})}
    told = [{"type": kind, "status": "True", **more} for kind, more in conditions]
    return {"metadata": metadata, "spec": {"completions": completions, "suspend": suspend}, "status": {**status, **({"conditions": told} if told else {})}}


def pod(index=0, phase="Running", *, state=None, reason=None, conditions=(), name="p"):
    status = {"phase": phase, "conditions": list(conditions), **({"reason": reason} if reason else {})}
    status |= {"containerStatuses": [{"state": state}]} if state else {}
    return {"metadata": {"name": name, "annotations": {"batch.kubernetes.io/job-completion-index": str(index)}}, "status": status}


def terminated(code, reason="Error"):
    return {"terminated": {"exitCode": code, "reason": reason}}


UNSCHEDULABLE = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes: Insufficient nvidia.com/gpu."}


@pytest.mark.parametrize(
    ("seen", "pods", "outcome"),
    [
        (job(), [], Outcome(State.QUEUED)),
        (job(suspend=True), [], Outcome(State.QUEUED, "its Job is suspended")),
        (job(active=1), [pod(phase="Pending", conditions=[UNSCHEDULABLE])], Outcome(State.QUEUED, f"no node takes it yet: {UNSCHEDULABLE['message']}")),
        (job(active=1), [pod(phase="Pending", state={"waiting": {"reason": "ContainerCreating"}})], Outcome(State.STARTING)),
        (job(active=1), [pod(phase="Pending", state={"waiting": {"reason": "ImagePullBackOff"}})], Outcome(State.STARTING, "ImagePullBackOff")),
        (job(active=4, ready=3, succeeded=1), [pod()], Outcome(State.RUNNING, "3 of 4 run, 1 passed")),
        (job(ready=1, completions=1), [pod()], Outcome(State.RUNNING)),
        (job(deleting=True, ready=1), [pod()], Outcome(State.RUNNING, "a stop was asked for")),
        (job(conditions=[("Complete", {})]), [], Outcome(State.PASSED)),
        (job(conditions=[("Failed", {"reason": "DeadlineExceeded", "message": "Job was active longer"})]), [], Outcome(State.FAILED, "Job was active longer")),
        (
            job(conditions=[("Failed", {"reason": "FailedIndexes"})], failedIndexes="0,2-3"),
            [
                pod(0, "Failed", state=terminated(3)),
                pod(1, "Succeeded", state=terminated(0, "Completed")),
                pod(2, "Failed", state=terminated(137, "OOMKilled")),
                pod(3, "Failed", reason="Evicted"),
            ],
            Outcome(State.FAILED, "by index: 0 (exit code 3), 2 (OOMKilled), 3 (Evicted)"),
        ),
        (
            job(ready=1),
            [pod(0, "Failed", reason="Evicted", name="a"), pod(0, name="b")],
            Outcome(State.RUNNING, "1 of 4 run, failed so far, by index: 0 (Evicted)"),
        ),
    ],
)
def test_states(seen, pods, outcome):
    assert judge(seen, pods) == outcome


def test_endings():
    assert ending(pod(phase="Failed")) == "nobody knows why"
    assert ending(pod(phase="Failed", state=terminated(143))) == "exit code 143"


def test_times():
    assert times(job()) == (None, None)
    assert times(job(startTime="1970-01-01T00:00:10Z", completionTime="1970-01-01T00:00:40Z")) == (10.0, 40.0)
    assert times(job(startTime="1970-01-01T00:00:10Z", conditions=[("Failed", {"lastTransitionTime": "1970-01-01T00:00:20Z"})])) == (10.0, 20.0)


@pytest.mark.parametrize(
    ("seen", "tail", "found"),
    [
        (job(), " 45%|", Progress(0, 0, 4, 0, "shards")),
        (job(succeeded=2, failedIndexes="3"), "", Progress(75, 3, 4, 1, "shards")),
        (job(completions=1), "a\n 45%|####", Progress(45)),
        (job(completions=1), "", None),
        ({"metadata": {}}, "", None),
    ],
)
def test_how_far(seen, tail, found):
    assert progress(seen, tail) == found
