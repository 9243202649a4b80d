"""Endpoints with nobody behind them."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager

from tests.ports import kept


@contextmanager
def refusing() -> Iterator[str]:
    """Where nothing listens: connections are refused at once. The port stays taken."""
    with kept() as port:
        yield f"http://127.0.0.1:{port}"


@contextmanager
def silent() -> Iterator[str]:
    """Where connections are made and nothing ever comes back."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as held:
        yield f"http://127.0.0.1:{held.getsockname()[1]}"
