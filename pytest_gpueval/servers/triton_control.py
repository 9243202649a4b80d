"""What a running Triton server is told over HTTP: which models to load and unload, and whether it is there. Standard library alone.

Protocol: KServe's predict API version 2 with Triton's model repository extension
(github.com/triton-inference-server/server, docs/protocol/extension_model_repository.md).
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping
from typing import Any

from .sockets import HttpConnection

_LOOK_S = 1.0


class Refused(Exception):
    """The server said no; the text is its reason."""


class Control:
    """One server of this machine, by its HTTP address: `host:port`, or `unix:/path`. Each call is a connection of its own: nothing is left open."""

    def __init__(self, address: str) -> None:
        self._address = address

    def answers_as(self, identity: str) -> bool:
        """Whether it is the server of that identity that listens there, and it is ready. Another one may have taken a port."""
        try:
            about = self._ask("GET", "/v2", None, _LOOK_S)
            return about.get("name") == identity and self._status("GET", "/v2/health/ready", None, _LOOK_S)[0] == http.client.OK
        except (OSError, http.client.HTTPException, Refused):
            return False

    def load(self, name: str, config: Mapping[str, Any], seconds: float) -> None:
        """Load a model, or load it anew. Raises Refused, OSError when the server goes away or takes longer."""
        self._ask("POST", f"/v2/repository/models/{name}/load", {"parameters": {"config": json.dumps(config)}}, seconds)

    def unload(self, name: str, seconds: float) -> None:
        """Begin to unload a model. Raises Refused, OSError."""
        self._ask("POST", f"/v2/repository/models/{name}/unload", {}, seconds)

    def states(self) -> dict[str, str]:
        """Models -> READY, LOADING, UNLOADING or UNAVAILABLE. Raises Refused, OSError."""
        found = self._ask("POST", "/v2/repository/index", {}, _LOOK_S)
        return {entry["name"]: entry.get("state", "UNAVAILABLE") for entry in found}

    def ping(self, name: str, seconds: float) -> None:
        """One inference, which the model answers without its class. Raises Refused, OSError."""
        body = {"inputs": [{"name": "rows", "shape": [1, 1], "datatype": "BYTES", "data": ["null"]}]}
        answer = self._ask("POST", f"/v2/models/{name}/infer", body, seconds)
        if answer["outputs"][0]["data"] != ['{"value":null}']:
            raise Refused(f"an inference came back as {json.dumps(answer)[:300]}")

    def _ask(self, method: str, path: str, body: Any, seconds: float) -> Any:
        status, text = self._status(method, path, body, seconds)
        try:
            said = json.loads(text) if text else {}
        except ValueError:
            raise Refused(f"{method} {path}: status {status}, and no JSON: {text[:200]}") from None
        if status != http.client.OK:
            raise Refused(said.get("error", text) if isinstance(said, dict) else text)
        return said

    def _status(self, method: str, path: str, body: Any, seconds: float) -> tuple[int, str]:
        connection = HttpConnection(self._address, seconds)
        try:
            connection.request(method, path, None if body is None else json.dumps(body), {"Content-Type": "application/json"})
            response = connection.getresponse()
            return response.status, response.read().decode("utf-8", "replace")
        except http.client.HTTPException as error:  # it ended in the middle of an answer
            raise ConnectionError(f"{method} {path}: {type(error).__name__}") from None
        finally:
            connection.close()
