"""kubectl, the only way we talk to a cluster: it knows the user's kubeconfig, credentials and plugins. Its words are read here and nowhere else."""

from __future__ import annotations

import json
import math
import re
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlencode

from pytest_gpueval.errors import AccessDenied, GpuevalError, Unreachable, UsageProblem, valid_values

from . import local
from .host import Done

# Of one request; kubectl itself would wait for ever.
_REQUEST_S: Final = 30.0
# Between attempts of a read that the server could not answer.
_AGAIN_S: Final = (0.3, 1.0, 2.0)
_PRINTED = re.compile(r"[^\x20-\x7e\u00a0-\U0010ffff]+")
_STATUS = re.compile(r"Error from server(?: \((\w+)\))?: (.*)")
_SAME = re.compile(r"(?:^[IWE]\d{4} .*$|Defaulted container .*)\n?", re.MULTILINE)


class Absent(UsageProblem):
    """The server has no such object."""


class Exists(GpuevalError):
    """The server has an object of that name already, or one that is another than we thought."""


class Busy(Unreachable):
    """The server answers, and could not do it now."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """A namespace of a cluster, as kubeconfig knows it: `context` None is its current one."""

    name: str
    namespace: str
    context: str | None = None
    request_s: float = _REQUEST_S

    def command(self, *words: str) -> list[str]:
        """A command of kubectl for this namespace. Raises UsageProblem where there is no kubectl."""
        if shutil.which("kubectl") is None:
            raise UsageProblem(f"{self.name}: kubectl is not on PATH, and a cluster is reached through it. Install it: https://kubernetes.io/docs/tasks/tools/")
        context = [] if self.context is None else [f"--context={self.context}"]
        return ["kubectl", *context, f"--namespace={self.namespace}", *words]

    def path(self, kind: str, name: str = "", **query: str | int) -> str:
        """Where the server has something: `pods`, `pods/log`, `secrets`, `configmaps` or `jobs`."""
        plural, _, below = kind.partition("/")
        group = "apis/batch/v1" if plural == "jobs" else "api/v1"
        words = [group, "namespaces", self.namespace, plural, *([name] if name else []), *([below] if below else [])]
        return "/" + "/".join(quote(word, safe="") if word != group else word for word in words) + (f"?{urlencode(query)}" if query else "")

    def get(self, kind: str, name: str = "", **query: str | int) -> dict[str, Any]:
        """An object, or a list of them. Asked again where the server could not answer. Raises Absent, Unreachable, AccessDenied, UsageProblem."""
        found = json.loads(self.read(kind, name, **query))
        if not isinstance(found, dict):
            raise GpuevalError(f"{self.name}: what the server answered is no object: {str(found)[:200]}")
        return found

    def read(self, kind: str, name: str = "", **query: str | int) -> bytes:
        """The same as bytes. Raises what `get` raises."""
        for pause_s in (*_AGAIN_S, None):
            try:
                return self._asked(["get", "--raw", self.path(kind, name, **query)])
            except (Busy, Unreachable):
                if pause_s is None:
                    raise
                time.sleep(pause_s)
        raise AssertionError

    def create(self, kind: str, document: Mapping[str, Any]) -> dict[str, Any]:
        """Make an object, once: a lost answer is not asked for again. It goes through stdin. Raises Exists, Unreachable, AccessDenied, UsageProblem."""
        made: dict[str, Any] = json.loads(self._asked(["create", "--raw", self.path(kind), "-f", "-"], stdin=json.dumps(document).encode()))
        return made

    def replace(self, kind: str, name: str, document: Mapping[str, Any]) -> None:
        """Put an object in the place of the one that was read. Raises Exists where that has been changed meanwhile, Absent, AccessDenied, Unreachable."""
        self._asked(["replace", "--raw", self.path(kind, name), "-f", "-"], stdin=json.dumps(document).encode())

    def delete(self, kind: str, name: str, *, uid: str | None = None) -> None:
        """Ask for the end of an object and all that it owns, which goes first. Raises Absent; with `uid` Exists where it is another one by now."""
        options = {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Foreground", **({"preconditions": {"uid": uid}} if uid else {})}
        self._asked(["delete", "--raw", self.path(kind, name), "-f", "-"], stdin=json.dumps(options).encode())

    def gone(self, kind: str, name: str, *, uid: str, timeout_s: float) -> bool:
        """Wait until the object is gone. False where the time was over first. Raises what `get` raises."""
        end = time.monotonic() + timeout_s
        while (left_s := end - time.monotonic()) > 0:
            try:
                now = self.get(kind, name)
            except Absent:
                return True
            if now["metadata"]["uid"] != uid:
                return True
            self.event(kind, now, timeout_s=left_s)
        return False

    def event(self, kind: str, document: Mapping[str, Any], *, timeout_s: float) -> None:
        """Wait until something has happened to an object since it was read, or the time is over, or the connection: whoever waits looks anew."""
        about = document["metadata"]
        query = {"fieldSelector": f"metadata.name={about['name']}", "resourceVersion": about["resourceVersion"], "timeoutSeconds": math.ceil(timeout_s)}
        began = time.monotonic()
        with local.Lines(self.command("get", "--raw", self.path(kind, watch="true", **query)), timeout_s=timeout_s) as lines:
            happened = any(True for _ in lines)
        if not happened and time.monotonic() - began < min(timeout_s, _AGAIN_S[0]):
            time.sleep(_AGAIN_S[0])  # a server that refuses to tell must not be asked without a pause

    def contexts(self) -> list[str]:
        """What kubeconfig knows."""
        done = local.call(["kubectl", "config", "get-contexts", "--output=name"], Path.cwd(), self.request_s)
        return done.output.decode("utf-8", "replace").split()

    def _asked(self, words: Sequence[str], stdin: bytes = b"") -> bytes:
        done = local.call(self.command(*words, f"--request-timeout={self.request_s:g}s"), Path.cwd(), self.request_s + 10, stdin=stdin)
        if done.code != 0:
            raise self.fault(done)
        return done.output

    def fault(self, done: Done) -> GpuevalError:
        """What went wrong, from what kubectl said."""
        if done.code is None:
            return Unreachable(f"{self.name}: the cluster does not answer: {done.said}")
        if done.code < 0:
            return Unreachable(f"{self.name}: kubectl was ended by signal {-done.code}")
        problem = judged(self.name, done.said)
        if isinstance(problem, UsageProblem) and self.context is not None and "does not exist" in str(problem) and "context" in str(problem):
            return UsageProblem(f"{problem}\n{valid_values(self.context, self.contexts(), what='contexts')}")
        return problem


# What a server's reason means, and what kubectl's own words do.
_REASONS: Final[Mapping[str, type[GpuevalError]]] = {
    "NotFound": Absent,
    "AlreadyExists": Exists,
    "Conflict": Exists,
    "Forbidden": AccessDenied,
    "Unauthorized": AccessDenied,
    "BadRequest": UsageProblem,
    "Invalid": UsageProblem,
    **dict.fromkeys(("InternalError", "ServiceUnavailable", "ServerTimeout", "Timeout", "TooManyRequests", "BadGateway"), Busy),
}
_WORDS: Final[Mapping[str, type[GpuevalError]]] = {
    **dict.fromkeys(("must be logged in to the server", "Unauthorized", "client to provide credentials", "getting credentials", "x509:"), AccessDenied),
    **dict.fromkeys(("an error on the server", "currently unable to handle the request"), Busy),
    **dict.fromkeys(
        ("Unable to connect", "The connection to the server", "connection refused", "i/o timeout", "no such host", "reset by peer", "EOF"), Unreachable
    ),
}
_MESSAGES: Final[Mapping[type[GpuevalError], str]] = {
    AccessDenied: (
        "{name}: the cluster refuses this account: {text}\nSee `kubectl auth whoami` and `kubectl auth can-i --list`; the account is what kubeconfig says."
    ),
    Busy: "{name}: the cluster could not answer: {text}",
    Unreachable: "{name}: the cluster cannot be reached: {text}",
    GpuevalError: "{name}: kubectl failed: {text}",
}


def judged(name: str, said: str) -> GpuevalError:
    """What kubectl's words mean. Pure.

    >>> type(judged("k", "Error from server (NotFound): pods x not found")).__name__
    'Absent'
    """
    text = plain(said)
    status = _STATUS.search(text)
    kind = _REASONS.get((status[1] or "") if status else "")
    if kind is None:
        kind = next((meant for words, meant in _WORDS.items() if words in text), GpuevalError)
    if kind is GpuevalError and "context" in text and "does not exist" in text:
        kind = UsageProblem
    return kind(_MESSAGES.get(kind, "{name}: {text}").format(name=name, text=text or "it said nothing"))


def plain(said: str) -> str:
    """What kubectl said, on one line, without its own log and without what steers a terminal."""
    return _PRINTED.sub(" ", _SAME.sub("", said)).strip()[-2000:]
