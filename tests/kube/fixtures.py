"""Fixtures for tests that need a cluster: import them into a conftest.py."""

from __future__ import annotations

import pytest

from pytest_gpueval.hosts.address import Kubernetes
from pytest_gpueval.hosts.kubernetes import KubernetesHost
from tests.kube.server import CONTEXT, NAMESPACE, FakeCluster


@pytest.fixture(scope="session")
def shared_cluster(tmp_path_factory):
    """One for all tests that only ask; its pod is `box`."""
    with FakeCluster(tmp_path_factory.mktemp("cluster") / "a b") as running:
        running.pod("box", containers=["side", "main"])
        yield running


@pytest.fixture
def kube(shared_cluster, monkeypatch):
    """The same, and a kubectl that knows it."""
    for name, value in shared_cluster.environment().items():
        monkeypatch.setenv(name, value)
    return shared_cluster


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """One of a test's own, to which something happens."""
    with FakeCluster(tmp_path / "cluster") as running:
        for name, value in running.environment().items():
            monkeypatch.setenv(name, value)
        yield running


def host_of(name="box", *, container=None, **more):
    return KubernetesHost(more.pop("label", "pod"), Kubernetes(NAMESPACE, name, CONTEXT, container), **more)
