"""TCP ports of this machine: free ones, and who has the others."""

from __future__ import annotations

import socket

from pytest_gpueval.errors import MissingExtra

LOOPBACK = "127.0.0.1"


def free(count: int) -> list[int]:
    """So many ports that nobody listens on now; whoever is to have them binds them a moment later, and may find that somebody else was faster."""
    sockets = [socket.socket() for _ in range(count)]  # all open at once: the same port is not given twice
    try:
        for one in sockets:
            one.bind((LOOPBACK, 0))
        return [int(one.getsockname()[1]) for one in sockets]
    finally:
        for one in sockets:
            one.close()


def listener(port: int) -> int | None:
    """The pid of whoever listens on a port; 0 if somebody does whom we may not see; None if nobody does."""
    try:
        import psutil
    except ImportError:
        raise MissingExtra("psutil", needed_for="starting a server", extra="triton") from None
    found = [entry for entry in psutil.net_connections("tcp") if entry.status == psutil.CONN_LISTEN and entry.laddr and entry.laddr.port == port]
    return (found[0].pid or 0) if found else None


def owner(port: int) -> str | None:
    """Who listens on a port, in words: `pid 4711 (tritonserver), user ann`; None if nobody does."""
    pid = listener(port)
    if not pid:
        return None if pid is None else "a process of another user"
    import psutil

    try:
        process = psutil.Process(pid)
        return f"pid {pid} ({process.name()}), user {process.username()}"
    except psutil.Error:  # it ends just now
        return f"pid {pid}"
