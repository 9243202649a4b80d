"""Small questions to a server that is starting: does it listen, what does it serve, does it survive a request."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import urllib.parse
from typing import Any, Literal

from pytest_gpueval.errors import RuntimeFault

_LOOK_S = 1.0
_MOST_BYTES = 1 << 20
# How often a first request may be answered with an error of the server's own before it is believed.
_CHANCES = 3


class Probe:
    """Asks one base URL. Without proxies: whoever means the machine itself is not to be sent elsewhere."""

    def __init__(self, url: str, key: str | None) -> None:
        self._parts = urllib.parse.urlsplit(url)
        self._key = key

    def accepts_connections(self) -> bool:
        """Whether anybody listens."""
        try:
            socket.create_connection((self._parts.hostname or "", self._port), _LOOK_S).close()
        except OSError:
            return False
        return True

    def models(self, timeout_s: float = _LOOK_S) -> list[str] | None:
        """The models it lists; None if it does not answer as it should, yet."""
        try:
            status, data = self.ask("GET", "/models", None, timeout_s)
            listed = json.loads(data)["data"] if status == 200 else None
            return None if listed is None else [str(entry["id"]) for entry in listed]
        except (OSError, http.client.HTTPException, ValueError, LookupError, TypeError):
            return None

    def ask(self, method: str, path: str, body: dict[str, Any] | None, timeout_s: float) -> tuple[int, bytes]:
        """Status and body. Raises OSError, http.client.HTTPException."""
        secure = self._parts.scheme == "https"
        connect = http.client.HTTPSConnection if secure else http.client.HTTPConnection
        connection = connect(self._parts.hostname or "", self._port, timeout=timeout_s)
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {self._key}"} if self._key else {})
        try:
            connection.request(method, f"{self._parts.path}{path}", body=None if body is None else json.dumps(body), headers=headers)
            response = connection.getresponse()
            return response.status, response.read(_MOST_BYTES)
        finally:
            connection.close()

    @property
    def _port(self) -> int:
        return self._parts.port or (443 if self._parts.scheme == "https" else 80)


class First:
    """The first request of a start, on its way in a thread: with a large model it takes longer than a look may."""

    def __init__(self, probe: Probe, endpoint: Literal["chat", "completions"], model: str, timeout_s: float) -> None:
        self._probe = probe
        asked: dict[str, Any] = {"prompt": "Hello"} if endpoint == "completions" else {"messages": [{"role": "user", "content": "Hello"}]}
        self._body = {"model": model, "max_tokens": 1, "temperature": 0, **asked}
        self._path = "/completions" if endpoint == "completions" else "/chat/completions"
        self._timeout_s = timeout_s
        self._failures = 0
        self._answer: tuple[int, bytes] | None = None
        self._done = False
        self._thread: threading.Thread | None = None

    def answered(self) -> bool:
        """Whether it was answered well; else it is sent again, after a short wait. Raises RuntimeFault if it is refused."""
        if self._done:
            return True
        if self._thread is None:
            self._thread = threading.Thread(target=self._send, name="gpueval-first-request", daemon=True)
            self._thread.start()
        self._thread.join(_LOOK_S / 4)
        if self._thread.is_alive():
            return False
        self._thread = None
        if self._answer is None:  # broken off: the server is ending, perhaps
            return False
        status, data = self._answer
        if status == 200:
            self._done = True
        elif status not in {429, 503}:
            self._failures += 1
            if status < 500 or self._failures >= _CHANCES:
                said = " ".join(data[:500].decode("utf-8", "replace").split())
                raise RuntimeFault(f"the server is ready, but refuses a first request to {self._path}: HTTP {status}: {said}")
        return self._done

    def _send(self) -> None:
        self._answer = None
        try:
            self._answer = self._probe.ask("POST", self._path, self._body, self._timeout_s)
        except (OSError, http.client.HTTPException):
            return
