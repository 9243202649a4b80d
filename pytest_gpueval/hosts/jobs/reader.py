"""A pod of ours that mounts what the pods of a run mount, for as long as files are brought from there: in pods that have ended nothing can be run.

It is a Job's, since that ends it (`activeDeadlineSeconds`) and removes it (`ttlSecondsAfterFinished`) where whoever asked for it was killed.
"""

from __future__ import annotations

import posixpath
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from secrets import token_hex
from typing import Any, Final

from pytest_gpueval.errors import AccessDenied, GpuevalError, Unreachable, UsageProblem
from pytest_gpueval.hosts.address import Kubernetes
from pytest_gpueval.hosts.kubectl import Absent, Cluster
from pytest_gpueval.hosts.kubernetes import KubernetesHost

from . import states
from .manifest import OURS, RUN, Settings, check_image, job_name, laid_over, run_directory

Document = Mapping[str, Any]
# The label of a pod that reads files: not RUN, it is none of the run's own pods.
FILES: Final = "gpueval/files-of"
# It lives no longer than this, whatever becomes of us; a fetch that takes longer is asked for again, and goes on.
_MOST_S: Final = 7200
_REMOVED_S: Final = 60
# Until its container runs: a node has to be found, an image to be pulled, a volume to be attached.
_START_S: Final = 300.0
_AGAIN_S: Final = 1.0
# Who waits longer is told for what.
_PATIENT_S: Final = 5.0
# What becomes of a pod's own disk when it ends.
_PASSING: Final = {"emptyDir", "configMap", "secret", "downwardAPI", "projected", "ephemeral", "image"}
# Of the user's pod: where it may run, by which account, and what pulls its image. GPUs, secrets and what else runs in it are left out.
_OF_POD: Final = (
    "affinity",
    "imagePullSecrets",
    "nodeSelector",
    "priorityClassName",
    "runtimeClassName",
    "schedulerName",
    "securityContext",
    "serviceAccountName",
    "tolerations",
)
_OF_CONTAINER: Final = ("name", "image", "imagePullPolicy", "securityContext")
_SIZE: Final = {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"cpu": "1", "memory": "512Mi"}}


def lasting(job: Document, settings: Settings, root: str | None) -> bool:
    """Whether what a Job writes to its run's directory is there when its pods are gone. Pure."""
    directory = run_directory("run", settings, root)
    return any(_below(directory, mount["mountPath"]) for mount in _mounts(job, settings))


def document(cluster: Cluster, run_id: str, settings: Settings, root: str | None, *, mark: str) -> dict[str, Any]:
    """The Job whose pod reads the files of a run; `mark` tells it from others. Raises UsageProblem where nothing of a run is kept. Pure."""
    theirs = laid_over(settings, {"metadata": {"namespace": cluster.namespace}})
    if not lasting(theirs, settings, root):
        raise UsageProblem(
            f"{cluster.name}: nothing that its Jobs write to {run_directory(run_id, settings, root)} outlives their pods: no volume is mounted there. "
            'Say volume_claim = "..." in hosts.toml, the name of a PersistentVolumeClaim (`kubectl get pvc`), before a run is submitted; '
            "of earlier runs the logs alone are left."
        )
    check_image(cluster, theirs, settings.container)
    pod, container = theirs["spec"]["template"]["spec"], _container(theirs, settings)
    mounts = _mounts(theirs, settings)
    used = {mount["name"] for mount in mounts}
    name = f"{job_name(run_id)}-files-{mark}"
    labels = {**OURS, FILES: job_name(run_id)}
    near = {"labelSelector": {"matchLabels": {RUN: job_name(run_id)}}, "topologyKey": "kubernetes.io/hostname"}
    affinity = dict(pod.get("affinity", {}))
    # A volume that one node alone may have (ReadWriteOnce) is where the run's pods are, while they run.
    preferred = [*affinity.get("podAffinity", {}).get("preferredDuringSchedulingIgnoredDuringExecution", []), {"weight": 100, "podAffinityTerm": near}]
    affinity["podAffinity"] = {**affinity.get("podAffinity", {}), "preferredDuringSchedulingIgnoredDuringExecution": preferred}
    spec = {
        **{key: pod[key] for key in _OF_POD if key in pod},
        "affinity": affinity,
        "automountServiceAccountToken": False,
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 1,
        "containers": [
            {
                **{key: container[key] for key in _OF_CONTAINER if key in container},
                "command": ["sleep", str(_MOST_S)],
                "resources": _SIZE,
                "volumeMounts": mounts,
            }
        ],
        "volumes": [volume for volume in pod["volumes"] if volume["name"] in used],
    }
    job = {"completions": 1, "parallelism": 1, "backoffLimit": 0, "activeDeadlineSeconds": _MOST_S, "ttlSecondsAfterFinished": _REMOVED_S}
    template = {"metadata": {"labels": {**_labels(theirs["spec"]["template"]), **labels}}, "spec": spec}
    about = {"name": name, "namespace": cluster.namespace, "labels": {**_labels(theirs), **labels}}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": about, "spec": {**job, "template": template}}


@contextmanager
def opened(cluster: Cluster, job: Document, *, tell: Callable[[str], None]) -> Iterator[KubernetesHost]:
    """The pod of a Job that `document` made, as a host; it is deleted at the end, whatever that is. Raises Unreachable, AccessDenied, UsageProblem."""
    (container,) = job["spec"]["template"]["spec"]["containers"]
    try:
        cluster.create("jobs", job)
    except (AccessDenied, UsageProblem):
        raise
    except BaseException:  # perhaps it was created all the same
        _delete(cluster, job, tell)
        raise
    try:
        pod = _running(cluster, job["metadata"]["name"], tell)
        yield KubernetesHost(cluster.name, Kubernetes(cluster.namespace, pod["metadata"]["name"], cluster.context, container["name"]))
    finally:
        _delete(cluster, job, tell)


def mark() -> str:
    """What tells two of them apart."""
    return token_hex(4)


def _delete(cluster: Cluster, job: Document, tell: Callable[[str], None]) -> None:
    name = job["metadata"]["name"]
    try:
        cluster.delete("jobs", name)
    except Absent:
        return
    except GpuevalError as error:
        tell(f"the Job {name} could not be deleted, and ends by itself within {_MOST_S // 3600} h: {error}")


def _running(cluster: Cluster, name: str, tell: Callable[[str], None]) -> Document:
    """The pod, once its container runs; `tell` hears what takes long. Raises Unreachable where that takes too long, UsageProblem where it never will."""
    begun, told = time.monotonic(), ""
    while True:
        job = cluster.get("jobs", name)
        pods: Sequence[Document] = cluster.get("pods", labelSelector=f"batch.kubernetes.io/job-name={name}")["items"]
        for pod in pods:
            if states.phase(pod) == "Running" and not pod["metadata"].get("deletionTimestamp"):
                return pod
        outcome = states.judge(job, pods)
        if outcome.state.ended or "Image" in outcome.reason:
            raise UsageProblem(f"{cluster.name}: the pod that is to read files does not start: {outcome.reason}")
        waited_s, why = time.monotonic() - begun, outcome.reason or str(outcome.state)
        if waited_s > _START_S:
            raise Unreachable(f"{cluster.name}: the pod that is to read files did not start within {_START_S:g} s: {why}")
        if waited_s > _PATIENT_S and why != told:
            tell(f"{cluster.name}: waiting for the pod that is to read files: {why}")
            told = why
        cluster.event("jobs", job, timeout_s=_AGAIN_S)  # that an image cannot be pulled is no event of the Job's


def _container(job: Document, settings: Settings) -> Document:
    containers: Sequence[Document] = job["spec"]["template"]["spec"]["containers"]
    return next(one for one in containers if one["name"] == settings.container)


def _mounts(job: Document, settings: Settings) -> list[dict[str, Any]]:
    """What the run's container mounts that outlives its pod."""
    pod = job["spec"]["template"]["spec"]
    kept = {volume["name"] for volume in pod.get("volumes", []) if not _PASSING & volume.keys()}
    return [mount for mount in _container(job, settings).get("volumeMounts", []) if mount["name"] in kept]


def _below(path: str, folder: str) -> bool:
    return posixpath.commonpath([posixpath.normpath(path), posixpath.normpath(folder)]) == posixpath.normpath(folder)


def _labels(document: Document) -> Mapping[str, str]:
    found: Mapping[str, str] = document.get("metadata", {}).get("labels", {})
    return found
