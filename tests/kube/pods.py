"""Pods of the stand-in: real processes of this machine, found by a mark in their environment."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pytest_gpueval.processes.supervisor import pids

MARK = "GPUEVAL_TEST_POD"


@dataclass
class Pod:
    """`environment` and `command` are its container's; a pod without a command only waits to be told what to run."""

    name: str
    namespace: str
    uid: str
    directory: Path
    containers: list[str]
    environment: dict[str, str]
    phase: str = "Running"
    reason: str = ""
    message: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    annotations: dict[str, str] = field(default_factory=dict)
    owner: dict[str, Any] | None = None
    waiting: str = ""
    # Of its command: what ended it, as a kubelet tells it.
    exit_code: int | None = None
    ended_by: str = ""
    conditions: list[dict[str, str]] = field(default_factory=list)
    deleting: bool = False
    shell: bool = True
    process: asyncio.subprocess.Process | None = None

    @property
    def log(self) -> Path:
        return self.directory / "log of its container"

    def document(self) -> dict[str, Any]:
        """As the API shows it."""
        if self.waiting:
            state: dict[str, Any] = {"waiting": {"reason": self.waiting}}
        elif self.exit_code is not None:
            state = {"terminated": {"exitCode": self.exit_code, "reason": self.ended_by}}
        elif self.phase == "Running":
            state = {"running": {"startedAt": "2026-01-01T00:00:00Z"}}
        else:
            state = {"waiting": {"reason": "ContainerCreating"}}
        metadata: dict[str, Any] = {"name": self.name, "namespace": self.namespace, "uid": self.uid, "creationTimestamp": "2026-01-01T00:00:00Z"}
        metadata |= {"labels": self.labels, "annotations": self.annotations, "resourceVersion": "1"}
        metadata |= {"ownerReferences": [self.owner]} if self.owner else {}
        metadata |= {"deletionTimestamp": "2026-01-01T00:00:00Z"} if self.deleting else {}
        statuses = [
            {"name": name, "ready": self.phase == "Running", "restartCount": 0, "image": "x", "imageID": "x", "state": state} for name in self.containers
        ]
        status: dict[str, Any] = {"phase": self.phase, "containerStatuses": statuses, "conditions": self.conditions}
        status |= {"reason": self.reason} if self.reason else {}
        status |= {"message": self.message} if self.message else {}
        spec = {"nodeName": "node-0", "containers": [{"name": name, "image": "x"} for name in self.containers]}
        return {"kind": "Pod", "apiVersion": "v1", "metadata": metadata, "spec": spec, "status": status}

    def variables(self) -> dict[str, str]:
        return {**self.environment, MARK: self.uid}

    async def kill(self) -> None:
        """The end of a pod's namespace: nothing in it lives on, whatever its session or parent."""
        while found := carriers(self.uid):
            for number in (signal.SIGSTOP, signal.SIGKILL):  # at one stroke, as the kernel does: nobody sees another one's end
                for pid in found:
                    with suppress(ProcessLookupError):
                        os.kill(pid, number)
            await asyncio.sleep(0.01)


def carriers(uid: str) -> list[int]:
    """Pids of all that have a pod's mark and live."""
    wanted, found = f"{MARK}={uid}".encode(), []
    for pid in pids():
        with suppress(OSError):
            if wanted in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                found.append(pid)
    return found
