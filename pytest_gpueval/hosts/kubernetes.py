"""A pod of a Kubernetes cluster as a host."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Self

from pytest_gpueval.errors import GpuevalError, Unreachable, UsageProblem, valid_values

from .address import Kubernetes, parsed
from .host import NOTHING
from .kubectl import Absent, Cluster, plain
from .kubernetes_exchange import Exchange, Lost, Patience
from .remote import RemoteHost, told

# Pods are named in errors; a namespace may have thousands.
_MOST_NAMED = 20


class KubernetesHost(RemoteHost):
    """A container of a pod that runs, by `kubectl exec` for each thing that is asked of it; kubeconfig (and KUBECONFIG) mean what they mean to kubectl.

    What it takes there is a POSIX shell with base64. Words, variables and files go through stdin: neither kubectl's argv, nor the address of the request, which
    servers log, say what is run. A program that exits with 129 to 192 by itself is taken for one that a signal ended.
    Relative paths count from `directory`, or from the home directory of the container's user. Nobody tells a program in a pod that kubectl is gone: those that
    are a worker's are supervised there and end, those of `run` go on.
    """

    def __init__(
        self,
        name: str,
        address: Kubernetes,
        *,
        directory: str | None = None,
        environment: Mapping[str, str] = NOTHING,
        python: str = "python3",
        patience: Patience | None = None,
    ) -> None:
        """`python` runs there."""
        super().__init__(name, directory=directory, environment=environment, python=python)
        self._address, self._patience = address, patience or Patience()
        self._cluster = Cluster(name, address.namespace, address.context)

    @classmethod
    def of(cls, word: str) -> Self:
        """The host that `described` told. Raises UsageProblem."""
        table = told(word)
        address, patience = parsed(table.pop("address")), Patience(**table.pop("patience", {}))
        if not isinstance(address, Kubernetes):
            raise UsageProblem(f"{address} is not a pod")
        return cls(**table, address=address, patience=patience)

    def close(self) -> None:
        """As Host says: there is nothing to give back."""

    def _table(self) -> dict[str, Any]:
        return {"address": str(self._address), "patience": asdict(self._patience)}

    def _begun(
        self,
        argv: Sequence[str],
        *,
        timeout_s: float | None,
        environment: Mapping[str, str],
        directory: str,
        on_stderr: Callable[[bytes], None] | None,
    ) -> Exchange:
        container = [] if self._address.container is None else [f"--container={self._address.container}"]
        command = self._cluster.command("exec", "--stdin", *container, self._address.pod, "--")
        return Exchange(
            command, argv, explain=self._fault, timeout_s=timeout_s, environment=environment, directory=directory, on_stderr=on_stderr, patience=self._patience
        )

    def _fault(self, lost: Lost) -> GpuevalError:
        """Why a program did not begin, or how its link broke: what kubectl said, and what has become of the pod."""
        if lost.silent:
            return Unreachable(f"{self.name}: the cluster does not answer: no program began within {self._patience.connect_s:g} s.")
        problem = self._cluster.fault(lost.done)
        begun = "; nobody knows how the program ended" if lost.begun else ""
        try:
            pod = self._cluster.get("pods", self._address.pod)
        except Absent:
            kind = Unreachable if lost.begun else UsageProblem
            return kind(f"{self.name}: there is no pod {self._address.pod!r} in {self._address.namespace}{begun}. {self._others()}")
        except GpuevalError as error:
            if type(problem) is GpuevalError:
                problem = error
        else:
            problem = self._of(pod) or problem
        if not lost.begun and type(problem) is not Unreachable:
            return problem
        return Unreachable(f"{problem}{begun or '; nobody knows whether the program began'}.")

    def _of(self, pod: Mapping[str, Any]) -> GpuevalError | None:
        """Why nothing can be run in a pod that is there; None where it is not the pod's fault."""
        standing, wanted = _standing(pod), self._address.container
        if standing is not None:
            return Unreachable(f"{self.name}: pod {self._address.pod} does not run: {standing}")
        names = [container["name"] for container in pod["spec"]["containers"]]
        if wanted is not None and wanted not in names:
            return UsageProblem(f"{self.name}: pod {self._address.pod} has no container {wanted!r}. {valid_values(wanted, names, what='containers')}")
        return None

    def _others(self) -> str:
        try:
            found = self._cluster.get("pods", limit=500)["items"]
        except GpuevalError as error:
            return f"Which ones there are cannot be seen: {error}"
        names = sorted(pod["metadata"]["name"] for pod in found if _standing(pod) is None)
        more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
        return valid_values(self._address.pod, names[:_MOST_NAMED], what="pods that run") + more


def _standing(pod: Mapping[str, Any]) -> str | None:
    """Why nothing can be run in a pod; None where it runs."""
    status = pod.get("status", {})
    reason = plain(": ".join(word for word in (status.get("reason"), status.get("message")) if word))
    if pod["metadata"].get("deletionTimestamp"):
        return "it is being deleted"
    if status.get("phase") != "Running":
        return f"{status.get('phase', 'its phase is unknown')}{f' ({reason})' if reason else ''}"
    return None
