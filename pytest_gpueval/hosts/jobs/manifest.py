"""The Job that a run becomes. Pure.

A pod for each shard (Indexed completion). A pod that its node put out (evicted, preempted, drained) is run again and does not count; one that a signal
killed is run again twice; one whose command ended by itself with an exit code is not: the same would come of it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from pytest_gpueval.errors import UsageProblem
from pytest_gpueval.hosts.detached.submission import Submission
from pytest_gpueval.hosts.kubectl import Cluster

from .template import merged

RUN_ID, REQUEST, COMMAND, DIRECTORY = "gpueval/run-id", "gpueval/request", "gpueval/command", "gpueval/directory"
RUN, MANAGER = "gpueval/run", "app.kubernetes.io/managed-by"
INDEX = "batch.kubernetes.io/job-completion-index"
OURS: Final[Mapping[str, str]] = {MANAGER: "gpueval"}
# What a shell, and a kubelet, make of a program that a signal ended: 128 + SIGKILL, and SIGTERM.
_KILLED = [137, 143]
_AGAIN = 2
_MOUNT, _VOLUME = "/mnt", "gpueval"
# A kubelet puts the index here.
_INDEX_THERE = "$(JOB_COMPLETION_INDEX)"


@dataclass(frozen=True, slots=True)
class Settings:
    """What hosts.toml says of a host whose runs are Jobs. `volume` is where `claim` is mounted; `template` is what the user's YAML file holds."""

    image: str | None = None
    shards: int = 1
    gpus_per_pod: int = 0
    claim: str | None = None
    volume: str = _MOUNT
    environment: Mapping[str, str] = field(default_factory=dict)
    template: Mapping[str, Any] = field(default_factory=dict)

    @property
    def container(self) -> str:
        """Whose container ours is laid over: the only one that the template has, or the one that is called as ours."""
        try:
            names = [container["name"] for container in self.template["spec"]["template"]["spec"]["containers"]]
        except (KeyError, TypeError):
            return "gpueval"
        return names[0] if len(names) == 1 else "gpueval"


def job_name(run_id: str) -> str:
    """What the run's Job is called: lower case, and short enough for the names of its pods.

    >>> job_name("Nightly_1")
    'gpueval-nightly-1-f3148000'
    """
    words = re.sub(r"[^a-z0-9]+", "-", run_id.lower())[:30].strip("-")
    return f"gpueval-{words}-{hashlib.sha256(run_id.encode()).hexdigest()[:8]}"


def manifest(cluster: Cluster, what: Submission, settings: Settings, root: str | None) -> dict[str, Any]:
    """The Job of a run. `root` is the directory of runs in its pods. It holds names of secrets, and no values. Raises UsageProblem."""
    _check(cluster, what, settings, root)
    name, count = job_name(what.run_id), settings.shards
    directory = run_directory(what.run_id, settings, root)
    labels = {**OURS, RUN: name}
    rules: list[dict[str, Any]] = [
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
        {"action": "FailIndex", "onExitCodes": {"containerName": settings.container, "operator": "NotIn", "values": _KILLED}},
    ]
    pod = {"restartPolicy": "Never", "containers": [_container(what, settings, directory, name)]}
    spec = {
        "completionMode": "Indexed",
        "completions": count,
        "parallelism": count,
        "backoffLimitPerIndex": _AGAIN,
        "podFailurePolicy": {"rules": rules},
        "template": {"metadata": {"labels": labels}, "spec": pod},
    }
    ours = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name, "namespace": cluster.namespace, "labels": labels}, "spec": spec}
    document = laid_over(settings, ours)
    check_image(cluster, document, settings.container)
    notes = {RUN_ID: what.run_id, COMMAND: json.dumps(list(what.command)), DIRECTORY: directory, REQUEST: digest(document)}
    document["metadata"]["annotations"] = {**document["metadata"].get("annotations", {}), **notes}
    return document


def laid_over(settings: Settings, ours: Mapping[str, Any]) -> dict[str, Any]:
    """A Job with the user's template below it, and the image and volume of hosts.toml in the run's container."""
    container: dict[str, Any] = {"name": settings.container}
    if settings.image:
        container["image"] = settings.image
    if settings.claim:
        container["volumeMounts"] = [{"name": _VOLUME, "mountPath": settings.volume}]
    pod: dict[str, Any] = {"containers": [container]}
    if settings.claim:
        pod["volumes"] = [{"name": _VOLUME, "persistentVolumeClaim": {"claimName": settings.claim}}]
    document: dict[str, Any] = merged(merged(dict(settings.template), {"spec": {"template": {"spec": pod}}}), ours)
    return document


def digest(document: Mapping[str, Any]) -> str:
    """What two requests have in common if they ask for the same."""
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


def secret(job: Mapping[str, Any], values: Mapping[str, str]) -> dict[str, Any]:
    """The Secret that goes with a Job that has been created, and goes when it goes."""
    about = job["metadata"]
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": about["name"], "uid": about["uid"], "controller": True, "blockOwnerDeletion": True}
    metadata = {"name": about["name"], "namespace": about["namespace"], "labels": {**OURS, RUN: about["name"]}, "ownerReferences": [owner]}
    return {"apiVersion": "v1", "kind": "Secret", "type": "Opaque", "immutable": True, "metadata": metadata, "stringData": dict(values)}


def run_directory(run_id: str, settings: Settings, root: str | None) -> str:
    """The directory of a run in its pods; with several shards each pod has one below, named by its index."""
    place = root or (f"{settings.volume}/gpueval-runs" if settings.claim else "/tmp/gpueval-runs")  # noqa: S108 - of a container of its own
    return f"{place}/{run_id}"


def _container(what: Submission, settings: Settings, directory: str, job: str) -> dict[str, Any]:
    run_dir = _literal(directory) if settings.shards == 1 else f"{_literal(directory)}/{_INDEX_THERE}"
    words = {"{run_dir}": run_dir, "{run_id}": _literal(what.run_id), "{shard_index}": _INDEX_THERE, "{shard_count}": str(settings.shards)}
    plain = {**settings.environment, **what.environment}
    environment: list[dict[str, Any]] = [{"name": key, "value": _literal(value)} for key, value in plain.items()]
    environment += [{"name": "GPUEVAL_RUN_ID", "value": what.run_id}, {"name": "GPUEVAL_RUN_DIR", "value": run_dir}]
    environment += [{"name": key, "valueFrom": {"secretKeyRef": {"name": job, "key": key}}} for key in what.secrets]
    container: dict[str, Any] = {"name": settings.container, "command": [_filled(word, words) for word in what.command], "env": environment}
    if what.directory != "~":
        container["workingDir"] = what.directory
    if settings.gpus_per_pod:
        container["resources"] = {"limits": {"nvidia.com/gpu": settings.gpus_per_pod}}
    return container


def _filled(word: str, words: Mapping[str, str]) -> str:
    """A word of the command; what a kubelet would take for a variable arrives as it is."""
    parts = re.split("|".join(f"({re.escape(key)})" for key in words), word)
    return "".join(words.get(part, _literal(part)) for part in parts if part)


def _literal(text: str) -> str:
    """A kubelet makes one `$` of `$$`, and `$(NAME)` is nobody's variable then."""
    return text.replace("$", "$$")


def _check(cluster: Cluster, what: Submission, settings: Settings, root: str | None) -> None:
    if what.directory != "~" and not what.directory.startswith("/"):
        raise UsageProblem(f"{cluster.name}: {what.directory}: the directory in which a Job's command runs begins with /")
    if root is not None and not root.startswith("/"):
        raise UsageProblem(f"{cluster.name}: --remote-outputs-dir {root}: a directory in a Job's pods begins with /")
    if settings.shards > 1 and not any("{shard_index}" in word for word in what.command):
        raise UsageProblem(
            f"{cluster.name}: its Jobs have {settings.shards} shards, and the command does not say which is which; "
            "add: --gpueval-shard-index {shard_index} --gpueval-shard-count {shard_count}"
        )


def check_image(cluster: Cluster, document: Mapping[str, Any], name: str) -> None:
    """Raise UsageProblem where nobody has said which image the container of this name runs."""
    for container in document["spec"]["template"]["spec"]["containers"]:
        if container["name"] == name and not container.get("image"):
            raise UsageProblem(f'{cluster.name}: which image do its pods run? Say image = "..." in hosts.toml, or in the YAML file that `job` names.')
