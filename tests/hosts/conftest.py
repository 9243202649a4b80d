"""Servers that the tests of hosts share."""

import pytest

from tests import slurm as slurms
from tests.bad_links import bad_link
from tests.kube.fixtures import cluster, kube, shared_cluster  # noqa: F401
from tests.sshd import running


@pytest.fixture(scope="session")
def sshd(tmp_path_factory):
    """One for all tests that only ask; its accounts' profiles print things, and its paths have blanks."""
    with running(tmp_path_factory.mktemp("sshd") / "a b") as server:
        yield server


@pytest.fixture(scope="session")
def slurm():
    """One for all tests of a process."""
    with slurms.running() as server:
        yield server


@pytest.fixture
def link(sshd):
    """A proxy in front of sshd that cuts, stalls and slows."""
    with bad_link(sshd.port) as made:
        sshd.know(sshd.port, made.port)
        yield made
        sshd.know()
