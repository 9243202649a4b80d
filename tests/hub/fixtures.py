"""Fixtures for tests that need a hub: import them into a conftest.py.

from tests.hub.fixtures import client, hub  # noqa: F401
"""

from __future__ import annotations

import pytest

from tests.hub.client import run
from tests.hub.server import FakeHub


@pytest.fixture
def hub(tmp_path):
    with FakeHub(tmp_path / "hub") as running:
        yield running


@pytest.fixture
def client(hub, tmp_path):
    """Runs code in a process whose Hugging Face clients talk to `hub`; caches are kept apart by `home`."""

    def ask(source, token=None, *, home="home", timeout_s=240.0, **changes):
        return run(source, {**hub.environment(token, home=tmp_path / home), **changes}, timeout_s=timeout_s)

    return ask
