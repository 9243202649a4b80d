"""Sockets that are files: whoever may not enter their folder cannot reach whom they belong to."""

from __future__ import annotations

import http.client
import socket
import tempfile
from pathlib import Path

from pytest_gpueval.processes.identity import own_name

PREFIX = "unix:"
# Characters of a socket's path, sockaddr_un.sun_path.
_LONGEST = 107


def folder(room: int) -> Path:
    """A folder of this process's own, not made, below which paths of sockets may have `room` more characters. Make it with mode 700."""
    own = own_name()
    places = [Path(tempfile.gettempdir()) / own, Path("/tmp") / own]
    return next((place for place in places if len(str(place)) + room <= _LONGEST), places[-1])


class HttpConnection(http.client.HTTPConnection):
    """HTTP at `host:port`, or at `unix:/path`."""

    def __init__(self, address: str, timeout: float) -> None:
        path = address.removeprefix(PREFIX)
        super().__init__("localhost" if path != address else address, timeout=timeout)
        self._path = path if path != address else None

    def connect(self) -> None:
        """Raises OSError."""
        if self._path is None:
            super().connect()
            return
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)
