"""NVIDIA's libraries as stand-ins, compiled once; see tests/fake_gpus.py."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

from tests import fake_gpus


@pytest.fixture(scope="session")
def libraries(tmp_path_factory):
    return fake_gpus.build(tmp_path_factory.mktemp("fake-gpus"))


@pytest.fixture
def python():
    """Run code in a process of its own; its output. A failure there is one here."""

    def run(code, environment, *arguments):
        done = subprocess.run([sys.executable, "-c", textwrap.dedent(code), *arguments], env=environment, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run
