"""Endpoints with nobody behind them."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def refusing() -> Iterator[str]:
    """Where nothing listens: connections are refused at once. The port stays taken."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{held.getsockname()[1]}"


@contextmanager
def silent() -> Iterator[str]:
    """Where connections are made and nothing ever comes back."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as held:
        yield f"http://127.0.0.1:{held.getsockname()[1]}"
