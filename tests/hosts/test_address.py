"""Where hosts are."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_gpueval.errors import UsageProblem
from pytest_gpueval.hosts.address import Kubernetes, KubernetesJobs, Local, Slurm, Ssh, parsed

name = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,8}[A-Za-z0-9_]", fullmatch=True)
host = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,8}[A-Za-z0-9_]", fullmatch=True) | st.ip_addresses().map(str)
ssh = st.builds(Ssh, host, st.none() | name, st.none() | st.integers(1, 65535))
kubernetes = st.builds(Kubernetes, name, name, st.none() | st.just("arn:aws:eks:eu-1:1:cluster/a b"), st.none() | name)
jobs = st.builds(KubernetesJobs, name, st.none() | st.just("arn:aws:eks:eu-1:1:cluster/a b"))
slurm = st.builds(Slurm, st.just("") | name, st.none() | name, st.none() | ssh)


@given(st.just(Local()) | ssh | kubernetes | jobs | slurm)
def test_an_address_is_read_as_it_is_written(address):
    assert parsed(str(address)) == address


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("ssh://GPU-a", Ssh("GPU-a")),
        ("ssh://me@gpu:2222/", Ssh("gpu", "me", 2222)),
        ("ssh://[::1]:22", Ssh("::1", None, 22)),
        ("k8s://ns/pod-0?container=main", Kubernetes("ns", "pod-0", None, "main")),
        ("k8s://ns/?context=c", KubernetesJobs("ns", "c")),
        ("slurm://gpu?login=ssh://me@login:22&account=a", Slurm("gpu", "a", Ssh("login", "me", 22))),
        ("slurm://", Slurm("")),
    ],
)
def test_forms(text, address):
    assert parsed(text) == address


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("ssh://me:secret@gpu", "a password does not belong in an address"),
        ("ssh://gpu:0", "from 1 to 65535"),
        ("ssh://gpu:99999", "not an address: Port out of range"),
        ("ssh://gpu:x", "not an address"),
        ("ssh://-oProxyCommand=id", "not the name of a host"),
        ("ssh://-l@gpu", "not the name of a user"),
        ("ssh://gpu/home/me", "`workdir` in hosts.toml"),
        ("ssh://", "not the name of a host"),
        ("ssh://a b", "not the name of a host"),
        ("ssh://gpu\n", "a space or a control character"),
        ("ssh://gpu#x", "no '#'"),
        ("shh://gpu", "unknown kind 'shh'. Did you mean 'ssh'?"),
        ("gpu", "is not an address"),
        ("k8s:///pod", "a namespace is needed"),
        ("k8s://ns?container=main", "no pod is named"),
        ("k8s://ns/pod?contxt=x", "unknown 'contxt'. Did you mean 'context'?"),
        ("k8s://ns/pod?container=-x", "'-x' is not the name of a container"),
        ("k8s://ns/a/b", "'a/b' is not the name of a pod"),
        ("slurm://gpu?login=k8s://a/b", "the login node is an SSH host"),
        ("slurm://gpu?account=", "'account' needs one value"),
        ("slurm://gpu?account=a&account=b", "'account' needs one value"),
    ],
)
def test_what_is_no_address_says_why(text, said):
    with pytest.raises(UsageProblem) as problem:
        parsed(text, "--host: ")
    assert said in str(problem.value) and str(problem.value).startswith("--host: ") and "Addresses: local, ssh://" in str(problem.value)
    assert "secret" not in str(problem.value)
