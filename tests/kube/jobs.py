"""The Job controller of the stand-in: Indexed completion, backoffLimitPerIndex and podFailurePolicy, over pods that are real processes."""

from __future__ import annotations

import asyncio
import os
import re
import signal
from secrets import token_hex
from typing import TYPE_CHECKING, Any

from tests.kube.pods import Pod

if TYPE_CHECKING:
    from tests.kube.server import FakeCluster

INDEX = "batch.kubernetes.io/job-completion-index"


class Job:
    """A Job and the pods it has."""

    def __init__(self, cluster: FakeCluster, document: dict[str, Any]) -> None:
        self.cluster, self.document = cluster, document
        self.name, self.namespace = document["metadata"]["name"], document["metadata"]["namespace"]
        self.uid = document["metadata"]["uid"]
        spec = document["spec"]
        self.completions, self.parallelism = spec["completions"], spec["parallelism"]
        self.failures: dict[int, int] = dict.fromkeys(range(self.completions), 0)
        self.succeeded: set[int] = set()
        self.failed: set[int] = set()
        self.pods: list[Pod] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self.deleting = False

    def reconcile(self) -> None:
        """Start what is to run now."""
        if self.deleting:
            return
        running = {int(pod.annotations[INDEX]) for pod in self.pods if pod.phase in {"Pending", "Running"}}
        for index in range(self.completions):
            if len(running) < self.parallelism and index not in running | self.succeeded | self.failed:
                running.add(index)
                self._launch(index)
        self._show()

    def _launch(self, index: int) -> None:
        name = f"{self.name}-{index}-{token_hex(3)[:5]}"
        container = self.document["spec"]["template"]["spec"]["containers"][0]
        owner = {"apiVersion": "batch/v1", "kind": "Job", "name": self.name, "uid": self.uid, "controller": True}
        labels = {
            **self.document["spec"]["template"]["metadata"].get("labels", {}),
            "job-name": self.name,
            "batch.kubernetes.io/job-name": self.name,
            INDEX: str(index),
        }
        pod = self.cluster.new_pod(name, self.namespace, containers=[container["name"]], phase="Pending", labels=labels, owner=owner)
        pod.annotations = {INDEX: str(index)}
        self.pods.append(pod)
        task = asyncio.get_running_loop().create_task(self._run(pod, index, container))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, pod: Pod, index: int, container: dict[str, Any]) -> None:
        while (variables := self._variables(container, index)) is None:  # as a kubelet: tried again until the Secret is there
            pod.waiting = "CreateContainerConfigError"
            await self.cluster.changed()
            if pod.deleting or self.deleting:
                return
        while not self.cluster.may_run.is_set():
            await self.cluster.changed()
            if pod.deleting or self.deleting:
                return
        pod.waiting, pod.environment = "", pod.environment | variables
        words = [expanded(word, pod.environment) for word in container["command"] + container.get("args", [])]
        with pod.log.open("wb") as log:
            try:
                pod.process = await asyncio.create_subprocess_exec(
                    *words,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    cwd=container.get("workingDir") or pod.directory,
                    env=pod.variables(),
                    start_new_session=True,
                )
            except OSError as error:
                pod.phase, pod.exit_code, pod.ended_by, pod.message = "Failed", 127, "StartError", str(error)
                self._ended(pod, index)
                return
            pod.phase = "Running"
            self._show()
            code = await pod.process.wait()
        await pod.kill()
        if pod.phase == "Running":
            pod.exit_code = code if code >= 0 else 128 - code
            pod.ended_by = pod.ended_by or ("Completed" if code == 0 else "Error")
            pod.phase = "Succeeded" if code == 0 else "Failed"
        self._ended(pod, index)

    def _variables(self, container: dict[str, Any], index: int) -> dict[str, str] | None:
        """None while a Secret is missing."""
        found = {"JOB_COMPLETION_INDEX": str(index)}
        for variable in container.get("env", []):
            if "valueFrom" in variable:
                reference = variable["valueFrom"]["secretKeyRef"]
                secret = self.cluster.secrets.get((self.namespace, reference["name"]))
                if secret is None:
                    return None
                found[variable["name"]] = self.cluster.secret_value(secret, reference["key"])
            else:
                found[variable["name"]] = expanded(variable.get("value", ""), found)
        return found

    def _ended(self, pod: Pod, index: int) -> None:
        if pod.phase == "Succeeded":
            self.succeeded.add(index)
        elif not pod.deleting and not self.deleting:
            action = self._action(pod)
            self.failures[index] += action == "Count"
            if action == "FailIndex" or self.failures[index] > self.document["spec"].get("backoffLimitPerIndex", 6):
                self.failed.add(index)
        self.reconcile()
        self.cluster.notify()

    def _action(self, pod: Pod) -> str:
        for rule in self.document["spec"].get("podFailurePolicy", {}).get("rules", []):
            conditions = {condition["type"] for condition in pod.conditions if condition["status"] == "True"}
            if any(wanted["type"] in conditions for wanted in rule.get("onPodConditions", [])):
                return rule["action"]
            codes = rule.get("onExitCodes")
            if codes and pod.exit_code not in (None, 0) and (pod.exit_code in codes["values"]) == (codes["operator"] == "In"):
                return rule["action"]
        return "Count"

    def _show(self) -> None:
        active = [pod for pod in self.pods if pod.phase in {"Pending", "Running"} and not pod.deleting]
        status: dict[str, Any] = {"active": len(active), "ready": sum(pod.phase == "Running" for pod in active), "succeeded": len(self.succeeded)}
        status |= {"failed": sum(pod.phase == "Failed" for pod in self.pods), "startTime": self.document["metadata"]["creationTimestamp"]}
        status |= {"completedIndexes": _ranges(self.succeeded), "failedIndexes": _ranges(self.failed)}
        if len(self.succeeded | self.failed) == self.completions:
            kind, reason = ("Failed", "FailedIndexes") if self.failed else ("Complete", "CompletionsReached")
            status["conditions"] = [{"type": kind, "status": "True", "reason": reason, "lastTransitionTime": self.cluster.now()}]
            status |= {"completionTime": self.cluster.now()} if kind == "Complete" else {}
        before = self.document.get("status")
        self.document["status"] = status
        if before != status:
            self.cluster.touch(self)

    async def delete(self) -> None:
        """Foreground: its pods first, then itself."""
        self.deleting = True
        self.document["metadata"] |= {"deletionTimestamp": self.cluster.now(), "finalizers": ["foregroundDeletion"]}
        self.cluster.touch(self)
        await asyncio.gather(*(self.cluster.end_pod(pod) for pod in self.pods))
        self.pods = []
        self.cluster.notify()
        for task in list(self._tasks):
            await task


def expanded(text: str, variables: dict[str, str]) -> str:
    """`$(NAME)` as a kubelet expands it: `$$` is one `$`, a name that nothing has stays."""
    return re.sub(r"\$\$|\$\(([A-Za-z_][A-Za-z0-9_]*)\)", lambda match: "$" if match[0] == "$$" else variables.get(match[1], match[0]), text)


def stop(pod: Pod) -> None:
    """TERM to a container's first process."""
    if pod.process is not None and pod.process.returncode is None:
        os.kill(pod.process.pid, signal.SIGTERM)


def _ranges(indexes: set[int]) -> str:
    words: list[str] = []
    for index in sorted(indexes):
        if index - 1 in indexes and words:
            words[-1] = f"{words[-1].partition('-')[0]}-{index}"
        else:
            words.append(str(index))
    return ",".join(words)
