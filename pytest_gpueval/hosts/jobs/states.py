"""From what a cluster says of a Job and its pods to the one state that the run is in. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from pytest_gpueval.hosts.detached.agent.progress import last_percent
from pytest_gpueval.hosts.detached.progress import Progress
from pytest_gpueval.hosts.detached.states import Outcome, State

from .manifest import INDEX

Document = Mapping[str, Any]
_MOST_NAMED = 5


def judge(job: Document, pods: Sequence[Document]) -> Outcome:
    """The state. What the Job says of its own end goes before what can be seen of its pods."""
    count, status = job["spec"]["completions"], job.get("status", {})
    for kind, ended in (("Complete", State.PASSED), ("Failed", State.FAILED)):
        condition = _condition(job, kind)
        if condition is not None:
            return Outcome(ended, "" if ended is State.PASSED else _failed(job, pods, condition))
    if job["metadata"].get("deletionTimestamp"):
        return Outcome(State.RUNNING, "a stop was asked for")
    if job["spec"].get("suspend"):
        return Outcome(State.QUEUED, "its Job is suspended")
    ready, passed = status.get("ready") or 0, status.get("succeeded") or 0
    again = [f"{_index(pod)} ({ending(pod)})" for pod in _newest_last(pods) if phase(pod) == "Failed"]
    if not ready and not passed and not again:
        return _waiting(pods)
    told = [f"{ready} of {count} run"] if count > 1 else []
    told += [f"{passed} passed"] if passed else []
    told += [f"failed so far, by index: {_named(again)}"] if again else []
    return Outcome(State.RUNNING, ", ".join(told))


def progress(job: Document, tail: str) -> Progress | None:
    """Of several shards how many are done; of a single pod what the end of its log shows, if there is one."""
    count, status = job.get("spec", {}).get("completions", 1), job.get("status", {})
    if count > 1:
        passed, failed = status.get("succeeded") or 0, len(indexes(status.get("failedIndexes") or ""))
        return Progress(100 * (passed + failed) // count, passed + failed, count, failed, "shards")
    percent = last_percent(tail.encode())
    return None if percent is None else Progress(percent)


def ending(pod: Document) -> str:
    """Why a pod ended."""
    reason = pod.get("status", {}).get("reason")
    if reason:
        return str(reason)
    state = _terminated(pod)
    if state is None:
        return "nobody knows why"
    reason, code = state.get("reason"), state.get("exitCode")
    return str(reason) if reason not in (None, "Error", "Completed") else f"exit code {code}"


def exit_code(pod: Document) -> int | None:
    """The exit code of a pod's container; None where it has none."""
    state = _terminated(pod)
    return None if state is None else state.get("exitCode")


def phase(pod: Document) -> str:
    """Pending, Running, Succeeded, Failed or Unknown."""
    return str(pod.get("status", {}).get("phase", "Unknown"))


def latest(pods: Sequence[Document]) -> dict[int, Document]:
    """The last pod of each index."""
    return {_index(pod): pod for pod in _newest_last(pods)}


def times(job: Document) -> tuple[float | None, float | None]:
    """When it began and ended, in seconds since the epoch by the cluster's clock."""
    status = job.get("status", {})
    over = _condition(job, "Failed") or _condition(job, "Complete") or {}
    return seconds(status.get("startTime")), seconds(status.get("completionTime") or over.get("lastTransitionTime"))


def seconds(stamp: str | None) -> float | None:
    """A time as the API writes it, since the epoch."""
    return None if stamp is None else datetime.fromisoformat(stamp).timestamp()


def _failed(job: Document, pods: Sequence[Document], condition: Document) -> str:
    last = latest(pods)
    why = [f"{index} ({ending(last[index])})" for index in indexes(job.get("status", {}).get("failedIndexes", "")) if index in last]
    return f"by index: {_named(why)}" if why else str(condition.get("message") or condition.get("reason") or "")


def indexes(ranges: str) -> list[int]:
    """What `1,3-5` names.

    >>> indexes("1,3-5"), indexes("")
    ([1, 3, 4, 5], [])
    """
    found: list[int] = []
    for word in filter(None, ranges.split(",")):
        first, _, last = word.partition("-")
        found += range(int(first), int(last or first) + 1)
    return found


def _waiting(pods: Sequence[Document]) -> Outcome:
    for pod in pods:
        for condition in pod.get("status", {}).get("conditions", []):
            if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
                return Outcome(State.QUEUED, f"no node takes it yet: {condition.get('message') or condition.get('reason')}")
    reasons = sorted({_wait(pod) for pod in pods} - {""})
    if any(reason == "CreateContainerConfigError" for reason in reasons):
        return Outcome(State.STARTING, "its secret is missing: submit it again with the same --run-id and --secret: it starts once")
    return Outcome(State.STARTING if pods else State.QUEUED, ", ".join(reason for reason in reasons if reason != "ContainerCreating"))


def _wait(pod: Document) -> str:
    return next((str(one["state"]["waiting"].get("reason", "")) for one in _containers(pod) if "waiting" in one.get("state", {})), "")


def _terminated(pod: Document) -> Document | None:
    ended = [one["state"]["terminated"] for one in _containers(pod) if "terminated" in one.get("state", {})]
    return next((state for state in ended if state.get("exitCode")), ended[0] if ended else None)


def _containers(pod: Document) -> Sequence[Document]:
    found: Sequence[Document] = pod.get("status", {}).get("containerStatuses") or []
    return found


def _condition(job: Document, kind: str) -> Document | None:
    found = job.get("status", {}).get("conditions") or []
    return next((one for one in found if one["type"] == kind and one["status"] == "True"), None)


def _index(pod: Document) -> int:
    return int(pod["metadata"].get("annotations", {}).get(INDEX) or pod["metadata"].get("labels", {}).get(INDEX) or 0)


def _newest_last(pods: Sequence[Document]) -> list[Document]:
    """The one that has not ended is the newest of an index, whatever the clocks say."""
    return sorted(pods, key=lambda pod: (_index(pod), phase(pod) != "Failed", pod["metadata"].get("creationTimestamp") or "", pod["metadata"]["name"]))


def _named(words: Sequence[str]) -> str:
    more = f" and {len(words) - _MOST_NAMED} more" if len(words) > _MOST_NAMED else ""
    return ", ".join(words[:_MOST_NAMED]) + more
