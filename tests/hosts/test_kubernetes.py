"""Pods as hosts: what can go wrong with them, and what is said then. kubectl is real, the cluster a stand-in."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import execnet
import pytest

from pytest_gpueval.errors import AccessDenied, GpuevalError, Unreachable, UsageProblem
from pytest_gpueval.hosts import kubectl
from pytest_gpueval.hosts.address import Kubernetes
from pytest_gpueval.hosts.host import Done
from pytest_gpueval.hosts.kubectl import Absent, Busy, Cluster, Exists
from pytest_gpueval.hosts.kubernetes import KubernetesHost
from pytest_gpueval.hosts.kubernetes_exchange import Patience
from pytest_gpueval.hosts.relay import UNKNOWN
from pytest_gpueval.hosts.workers import spec_python
from tests.bad_links import bad_link
from tests.hosts.test_relay import PARENT, finish, pids, start
from tests.kube.fixtures import host_of
from tests.kube.server import CONTEXT, NAMESPACE
from tests.waiting import alive, gone, wait_for


def refused(host, kind=UsageProblem, **more):
    with pytest.raises(kind) as problem:
        host.run(["true"], **more)
    assert type(problem.value) is kind and str(problem.value).startswith("pod: ") and "\x1b" not in str(problem.value)
    return str(problem.value)


def children(pid):
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True)
    return [int(word) for word in found.stdout.split()]


def words(pid):
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:  # ps itself, for one
        return []


# Who is not there


def test_a_pod_that_is_not_there_is_told_with_those_that_are(cluster):
    cluster.pod("trainer-0")
    cluster.pod("trainer-1", phase="Pending")
    cluster.pod("elsewhere", namespace="other")
    said = refused(host_of("trainer-O"))
    assert "there is no pod 'trainer-O' in evals. Did you mean 'trainer-0'? Valid pods that run: trainer-0." in said


def test_a_pod_that_does_not_run_says_why(cluster):
    cluster.pod("waiting", phase="Pending")
    cluster.pod("evicted", phase="Failed", reason="Evicted", message="The node was low on \x1b[31mmemory.")
    assert "pod waiting does not run: Pending" in refused(host_of("waiting"), Unreachable)
    assert "pod evicted does not run: Failed (Evicted: The node was low on" in refused(host_of("evicted"), Unreachable)


def test_containers(kube):
    assert host_of(container="main").run(["true"]).code == 0
    assert "pod box has no container 'mian'. Did you mean 'main'? Valid containers: main, side." in refused(host_of(container="mian"))


def test_a_context_that_kubeconfig_does_not_know(kube):
    said = refused(KubernetesHost("pod", Kubernetes(NAMESPACE, "box", "tset")))
    assert "context" in said and "Did you mean 'test'? Valid contexts: test." in said


def test_without_kubectl(kube, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    assert "kubectl is not on PATH" in refused(host_of())


def test_a_container_without_a_shell(cluster):
    cluster.pod("bare", shell=False)
    assert "/bin/sh" in refused(host_of("bare"), GpuevalError)


def test_nobody_listens(cluster, tmp_path, monkeypatch):
    cluster.pod("box")
    monkeypatch.setenv("KUBECONFIG", str(cluster.write_kubeconfig(tmp_path / "dead", 1)))
    monkeypatch.setattr(kubectl, "_AGAIN_S", (0.01,))
    assert "the cluster cannot be reached" in refused(host_of(), Unreachable)


def test_a_wrong_token(cluster, tmp_path, monkeypatch):
    cluster.pod("box")
    monkeypatch.setenv("KUBECONFIG", str(cluster.write_kubeconfig(tmp_path / "wrong", cluster.port, token="wrong-token")))
    said = refused(host_of(), AccessDenied)
    assert "the cluster refuses this account" in said and "wrong-token" not in said and AccessDenied.exit_code == 4


def test_an_account_that_may_not(cluster):
    cluster.pod("box")
    cluster.fail("/exec", 403, message='pods "box" is forbidden: User "me" cannot create resource "pods/exec"')
    assert 'User "me" cannot create resource "pods/exec"' in refused(host_of(), AccessDenied)


def test_a_server_that_is_not_who_it_should_be(cluster, tmp_path, monkeypatch):
    cluster.pod("box")
    text = cluster.kubeconfig.read_text().replace("certificate-authority-data", "no-data")
    (tmp_path / "distrustful").write_text(text)
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "distrustful"))
    assert "x509" in refused(host_of(), AccessDenied)


# A server that cannot answer


def test_reads_are_asked_again_and_nothing_else_is(cluster, monkeypatch):
    monkeypatch.setattr(kubectl, "_AGAIN_S", (0.01, 0.01))
    cluster.pod("box")
    here = Cluster("pod", NAMESPACE, CONTEXT)
    cluster.fail("/pods/box", 500, times=2)
    assert here.get("pods", "box")["metadata"]["name"] == "box"
    cluster.fail("/pods/box", 503, times=3)
    with pytest.raises(Busy):
        here.get("pods", "box")
    cluster.fail("/jobs", 500, method="POST")
    before = len(cluster.requests)
    with pytest.raises(Busy):
        here.create("jobs", {"metadata": {"name": "x"}})
    assert [request.method for request in cluster.requests[before:] if "/jobs" in request.path] == ["POST"]
    with pytest.raises(Absent):
        here.get("pods", "nobody")


def test_a_program_is_not_asked_for_again(cluster):
    cluster.pod("box")
    cluster.fail("/exec", 500)
    refused(host_of(), Busy)
    # kubectl's own two: by WebSocket, then as older servers want it.
    assert [request.method for request in cluster.requests if "/exec" in request.path] == ["GET", "POST"]


# A link that breaks


@pytest.mark.parametrize("how", ["connection", "server", "kubectl"])
def test_a_link_that_breaks_is_no_end_of_the_program(cluster, tmp_path, how, monkeypatch):
    monkeypatch.setattr(kubectl, "_AGAIN_S", (0.01,))
    cluster.pod("box")
    began, problems = tmp_path / "began", []

    def ask():
        try:
            problems.append(host_of().run(["sh", "-c", f"echo $$ > {began}; exec sleep 1000"]))
        except GpuevalError as error:
            problems.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    pid = int(wait_for(lambda: began.exists() and began.read_text().strip()))
    if how == "server":
        cluster.stop_serving()
    if how != "kubectl":
        cluster.cut()
    else:
        (client,) = (child for child in children(os.getpid()) if words(child)[:1] == [b"kubectl"])
        os.kill(client, signal.SIGKILL)
    thread.join()
    assert type(problems[0]) is Unreachable and "nobody knows " in str(problems[0])
    assert alive(pid), "a kubelet does not end what it was asked to run"


@pytest.mark.parametrize("how", ["evicted", "deleted"])
def test_a_pod_that_goes_while_a_program_runs(cluster, tmp_path, how):
    pod, began, problems = cluster.pod("box"), tmp_path / "began", []

    def ask():
        try:
            problems.append(host_of().run(["sh", "-c", f"echo $$ > {began}; exec sleep 1000"]))
        except GpuevalError as error:
            problems.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    wait_for(began.exists)
    cluster.evict(pod) if how == "evicted" else cluster.delete_pod("box")
    thread.join()
    said = "Failed (Evicted: The node was low on resource: memory.)" if how == "evicted" else "there is no pod 'box' in evals"
    assert type(problems[0]) is Unreachable and said in str(problems[0])


def test_a_link_that_falls_silent(cluster, tmp_path, monkeypatch):
    cluster.pod("box")
    with bad_link(cluster.port) as link:
        monkeypatch.setenv("KUBECONFIG", str(cluster.write_kubeconfig(tmp_path / "bad", link.port)))
        assert host_of().run(["true"]).code == 0
        link.stall()
        assert "no program began within 2 s" in refused(host_of(patience=Patience(connect_s=2)), Unreachable)
        assert host_of().run(["true"], timeout_s=1) == Done(None, b"", "true took longer than 1 s")


def test_files_over_a_link_that_is_cut(cluster, tmp_path, monkeypatch):
    monkeypatch.setattr(kubectl, "_AGAIN_S", (0.01,))
    cluster.pod("box")
    there, back = tmp_path / "new" / "there", tmp_path / "back"
    there.parent.mkdir()
    there.write_bytes(os.urandom(8_000_000))
    with bad_link(cluster.port) as link:
        monkeypatch.setenv("KUBECONFIG", str(cluster.write_kubeconfig(tmp_path / "bad", link.port)))
        assert host_of().run(["true"]).code == 0
        link.cut_after(3_000_000)
        with pytest.raises(Unreachable, match="nobody knows"):
            host_of().get(str(there), back)
        came = back.stat().st_size
        assert 0 < came < 8_000_000 and there.read_bytes().startswith(back.read_bytes()), "what came stays"
        assert host_of().get(str(there), back, offset=came) == 8_000_000 - came and back.read_bytes() == there.read_bytes()
        back.write_bytes(os.urandom(30_000_000))
        problems, sent = [], link.sent

        def put():
            try:
                problems.append(host_of().put(back, str(there)))
            except GpuevalError as error:
                problems.append(error)

        thread = threading.Thread(target=put)
        thread.start()
        wait_for(lambda: link.sent > sent + 3_000_000)
        link.cut()
        thread.join()
        assert type(problems[0]) is Unreachable
    wait_for(lambda: [path.name for path in there.parent.iterdir()] == ["there"])
    assert there.stat().st_size == 8_000_000, "all of it, or nothing"


# In-band


def test_kubectl_own_exit_code_is_not_the_programs(kube):
    assert host_of().run(["sh", "-c", "echo 'error: unable to upgrade connection: Forbidden' >&2; exit 1"]).code == 1
    assert host_of().run(["sh", "-c", "exit 137"]).code == -9, "a shell tells no difference"


def test_what_is_run_and_with_what_is_in_no_argv_and_no_request(cluster):
    cluster.pod("box")
    done = host_of(environment={"A": "variable-of-it"}).run(["echo", "word-of-it"], stdin=b"stdin-of-it")
    assert done.output == b"word-of-it\n"
    assert not [request.path for request in cluster.requests if "of-it" in request.path]


def test_relative_paths_count_from_the_directory(cluster, tmp_path):
    pod = cluster.pod("box")
    (pod.directory / "below").mkdir()
    assert host_of().run(["pwd"]).output.decode() == f"{pod.directory}\n"
    assert host_of(directory="below").run(["pwd"]).output.decode() == f"{pod.directory}/below\n"
    (tmp_path / "file").write_bytes(b"x")
    host_of(directory="~/below").put(tmp_path / "file", "new/file")
    assert (pod.directory / "below/new/file").read_bytes() == b"x"


def test_only_what_was_meant_is_deleted(cluster):
    here = Cluster("pod", NAMESPACE, CONTEXT)
    job = {"spec": {"completions": 0, "parallelism": 0, "template": {"metadata": {}, "spec": {"containers": []}}}}
    here.create("jobs", {**job, "metadata": {"name": "x"}})
    uid = here.get("jobs", "x")["metadata"]["uid"]
    with pytest.raises(Exists):
        here.delete("jobs", "x", uid="another")
    assert here.get("jobs", "x")["metadata"]["uid"] == uid and not here.gone("jobs", "x", uid=uid, timeout_s=0.5)
    here.delete("jobs", "x", uid=uid)
    assert here.gone("jobs", "x", uid=uid, timeout_s=60)


# Workers


def test_a_gateway_of_execnet_goes_through_it(kube):
    group = execnet.Group()
    try:
        gateway = group.makegateway(f"popen//python={spec_python(host_of().worker_command([sys.executable]))}")
        channel = gateway.remote_exec("import os; channel.send(os.getpid())\nfor item in channel: channel.send(item[::-1])")
        pid, data = channel.receive(), os.urandom(1_000_000)
        for size in (0, 1, 5_000, 1_000_000):
            channel.send(data[:size])
            assert channel.receive() == data[:size][::-1]
    finally:
        group.terminate(timeout=60)
    wait_for(lambda: not alive(pid))


def test_a_worker_ends_with_its_stdin(kube):
    process = start(host_of(), "python3", "-c", PARENT)
    there = pids(process)
    assert finish(process) == (0, "") and gone(there)


@pytest.mark.parametrize("who", ["relay", "kubectl", "server"])
def test_whoever_is_killed_on_the_way_nothing_is_left_there(cluster, who):
    cluster.pod("box")
    process = start(host_of(), "python3", "-c", PARENT)
    there = pids(process)
    assert len(there) == 2 and not gone(there)
    if who == "relay":
        process.kill()
    elif who == "kubectl":
        (child,) = children(process.pid)
        os.kill(child, signal.SIGKILL)
    else:
        cluster.cut()
    code, said = finish(process)
    assert who == "relay" or (code == UNKNOWN and "gpueval relay: pod: " in said and "Traceback" not in said)
    wait_for(lambda: gone(there))
    wait_for(lambda: not cluster.living())


@pytest.mark.parametrize("name", ["TERM", "KILL"])
def test_a_worker_ends_by_the_signal_that_ended_the_program(kube, name):
    process = start(host_of(), "sh", "-c", f"kill -{name} $$")
    assert finish(process)[0] == -signal.Signals[f"SIG{name}"]


def test_a_worker_in_a_pod_that_is_not_there(kube):
    code, said = finish(start(host_of("nobody"), "true"))
    assert code == UNKNOWN and said.startswith("gpueval relay: pod: there is no pod 'nobody' in evals")


def test_it_can_be_told_to_another_process(kube):
    host = host_of(container="main", directory="/usr", environment={"A": "b"}, python=sys.executable)
    again = KubernetesHost.of(host.described())
    assert again.described() == host.described() and again.run(["sh", "-c", "pwd; echo $A"]).output == b"/usr\nb\n"
