"""A server that runs elsewhere: neither started nor stopped, only waited for."""

from __future__ import annotations

import http.client
import os
import threading
import time
import urllib.parse
from collections.abc import Mapping

from pytest_gpueval.errors import RuntimeFault, Unreachable, UsageProblem

from .openai_probe import Probe

# In this order.
URL_VARIABLES = ("VLLM_BASE_URL", "OPENAI_API_BASE")
KEY_VARIABLE = "OPENAI_API_KEY"

_FIRST_S = 0.25
# For one that is not there at all: a wrong URL shows soon.
_START_S = 15.0
_LONGEST_S = 15.0
_LOOK_S = 5.0


class External:
    """The server at a base URL, such as `http://gpu7:8000/v1`; `/v1` is added where there is no path."""

    def __init__(self, url: str, *, key: str | None = None, key_name: str = KEY_VARIABLE, wait_s: float = 300.0) -> None:
        """Raises UsageProblem for what is no such URL. `wait_s` is how long it may be away."""
        self.url = base_url(url)
        self.key = key
        self.key_name = key_name
        # Counts its absences.
        self.generation = 1
        self._wait_s = wait_s
        self._lock = threading.Lock()
        self._probe = Probe(self.url, key)

    @classmethod
    def of(cls, url: str | None = None, environment: Mapping[str, str] = os.environ, wait_s: float = 300.0) -> External:
        """By `url`, or else as the environment says. Raises UsageProblem if neither does."""
        found = url or next((environment[name] for name in URL_VARIABLES if environment.get(name)), None)
        if found is None:
            raise UsageProblem(f"where is the server? Set server.url, or one of {' and '.join(URL_VARIABLES)}, as in http://127.0.0.1:8000/v1.")
        return cls(found, key=environment.get(KEY_VARIABLE) or None, wait_s=wait_s)

    def reach(self) -> None:
        """See that it is there, before anything is asked of it. Raises Unreachable."""
        self._wait("", min(_START_S, self._wait_s))

    def recover(self, generation: int, problem: str) -> None:
        """Wait until it answers again, asking ever more rarely. Raises Unreachable if it does not."""
        with self._lock:
            if generation == self.generation:
                self._wait(f": {problem}", self._wait_s)
                self.generation += 1

    def _wait(self, problem: str, patience_s: float) -> None:
        begin = time.monotonic()
        pause_s = _FIRST_S
        while not self._answers():
            left_s = begin + patience_s - time.monotonic()
            if left_s <= 0:
                raise Unreachable(f"{self.url} does not answer, for {patience_s:g} s now{problem}.\nIt was not started here: see whether it runs.")
            time.sleep(min(pause_s, left_s))
            pause_s = min(2 * pause_s, _LONGEST_S)

    def _answers(self) -> bool:
        """Any answer short of an error of its own will do: a server need not list models, and says itself what it thinks of our key."""
        try:
            status, _ = self._probe.ask("GET", "/models", None, min(_LOOK_S, self._wait_s))
        except OSError:
            return False
        except http.client.HTTPException as error:
            raise RuntimeFault(f"{self.url} does not speak HTTP: {type(error).__name__}: {error}") from None
        return status < 500


def base_url(url: str) -> str:
    """The URL without a slash at its end. Raises UsageProblem."""
    try:
        parts = urllib.parse.urlsplit(url)
        _ = parts.port
    except ValueError as error:
        raise UsageProblem(f"server.url: {error}") from None
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise UsageProblem(f"server.url: {parts.scheme}://{parts.hostname or ''} is no base URL; one looks like http://127.0.0.1:8000/v1")
    if parts.username is not None or parts.password is not None:
        raise UsageProblem(f"server.url: no names and passwords in a URL, which is written down; the key comes from {KEY_VARIABLE}")
    if parts.query or parts.fragment:
        raise UsageProblem("server.url: a base URL has neither ? nor #")
    path = parts.path.rstrip("/") or "/v1"
    return urllib.parse.urlunsplit((parts.scheme, parts.netloc, path, "", ""))
