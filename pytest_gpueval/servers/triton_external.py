"""A model on a Triton server that somebody else runs: it is asked, waited for, and never started or stopped."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pytest_gpueval.errors import Unreachable, UsageProblem
from pytest_gpueval.runtimes.triton import ANSWERS, ROWS, client_library

_LOOK_S = 5.0
_POLL_S = 0.2
# For one that is not there at all: a wrong address shows soon.
_START_S = 15.0


class ExternalTriton:
    """`runtimes.triton.TritonEndpoint` of `host:port`, a gRPC address, or `unix:/path`. The model has the tensors of `servers/triton_model.py`.

    A server that does not answer is given `patience_s` seconds to come back.
    """

    def __init__(self, url: str, model: str, *, patience_s: float = 120.0) -> None:
        """Raises UsageProblem for what is neither."""
        host, _, port = url.rpartition(":")
        if not url.startswith("unix:/") and (not host or not port.isdecimal() or "/" in url):
            raise UsageProblem(f"Triton's address {url!r} is not of the form host:port, the server's gRPC address (its default port is 8001)")
        self.url = url
        self.name = model
        self.generation = 1
        self.most_rows = 1
        self._patience_s = patience_s
        self._lock = threading.Lock()

    def __str__(self) -> str:
        return f"model {self.name} on the Triton server {self.url}"

    def prepare(self) -> None:
        """See that the model is there, with the right tensors. Raises Unreachable, UsageProblem."""
        self._wait("", min(_START_S, self._patience_s))
        with self._client() as (client, error):
            try:
                about = client.get_model_metadata(self.name, as_json=True, client_timeout=_LOOK_S)
                config = client.get_model_config(self.name, as_json=True, client_timeout=_LOOK_S)["config"]
            except error as problem:
                raise Unreachable(f"{self}: {problem.message()}") from None
        for kind, name in (("inputs", ROWS), ("outputs", ANSWERS)):
            tensors = about.get(kind, [])
            if [(tensor["name"], tensor["datatype"]) for tensor in tensors] != [(name, "BYTES")]:
                have = ", ".join(f"{tensor['name']} {tensor['datatype']} {tensor.get('shape')}" for tensor in tensors) or "none"
                raise UsageProblem(f"{self} has the {kind} {have}; it needs {name} BYTES [-1, 1], as servers/triton_model.py describes them.")
        self.most_rows = max(1, int(config.get("max_batch_size", 1)))

    def recover(self, generation: int, problem: str) -> None:
        """Return once the model is ready. Raises Unreachable after `patience_s`."""
        with self._lock:
            if generation == self.generation:
                self._wait(problem, self._patience_s)
                self.generation += 1

    def _wait(self, problem: str, patience_s: float) -> None:
        limit = time.monotonic() + patience_s
        while (last := self._look()) is not None:
            if time.monotonic() > limit:
                raise Unreachable(
                    f"{self} is not ready after {patience_s:g} s: {last}{f' (first: {problem})' if problem else ''}.\n"
                    "Is it running, is this its gRPC port, and is the model loaded?"
                )
            time.sleep(_POLL_S)  # nothing announces it

    def _look(self) -> str | None:
        """None if the model is ready, else what is not."""
        with self._client() as (client, error):
            try:
                if client.is_model_ready(self.name, client_timeout=_LOOK_S):
                    return None
            except error as problem:
                return str(problem.message())
            return f"it has no model {self.name!r} that is ready"

    @contextmanager
    def _client(self) -> Iterator[tuple[Any, Any]]:
        """A client of its own for one look, and its error. Raises MissingExtra."""
        library, _ = client_library()
        client = library.InferenceServerClient(self.url)
        try:
            yield client, library.InferenceServerException
        finally:
            client.close()
