"""Runs of this machine, for all tests of them."""

import os
import sys
from pathlib import Path

import pytest

from tests.detached_runs import runs_in


@pytest.fixture(autouse=True)
def python_first(monkeypatch):
    """`python3` is this interpreter: what stands before others may take its time."""
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")


@pytest.fixture
def root(tmp_path):
    return tmp_path / "runs of 'mine';"


@pytest.fixture
def agent(root):
    with runs_in(root) as agent:
        yield agent
