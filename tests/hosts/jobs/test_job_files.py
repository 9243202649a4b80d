"""Files of Jobs come here through a pod of ours that mounts their volume, and that is gone afterwards. kubectl is real, the cluster a stand-in."""

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from pytest_gpueval.errors import AccessDenied, Conflict, GpuevalError, Unreachable, UsageProblem
from pytest_gpueval.hosts.detached import fetch as fetching
from pytest_gpueval.hosts.jobs import reader
from pytest_gpueval.hosts.jobs.client import Jobs
from pytest_gpueval.hosts.jobs.manifest import Settings, job_name
from pytest_gpueval.hosts.kubectl import Cluster
from tests.job_runs import ended, pod_of, what
from tests.kube.server import CONTEXT, NAMESPACE
from tests.waiting import DEADLINE_S, wait_for

CLUSTER = Cluster("cluster", NAMESPACE, CONTEXT)
WRITE = "mkdir -p {run_dir}/sub && echo shard {shard_index} >{run_dir}/results.jsonl && echo x >{run_dir}/sub/x"


@pytest.fixture
def disk(tmp_path):
    """What the claim `disk` is; pods of the stand-in see this machine's files."""
    (tmp_path / "the disk").mkdir()
    return tmp_path / "the disk"


@pytest.fixture
def jobs(cluster, disk, monkeypatch):
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")  # `python3`, in pods too

    def made(shards=2, **more):
        return Jobs(CLUSTER, Settings(**{"image": "eval:1", "shards": shards, "claim": "disk", "volume": str(disk), **more}), None)

    return made


def quoted(command):
    return command.replace("{run_dir}", '"$GPUEVAL_RUN_DIR"')


def fetch(jobs, to, run_id="one"):
    told = []
    with jobs.files(run_id, ended=False, tell=told.append) as agent:
        done = fetching.fetch(agent, run_id, to, most_bytes=1 << 30, most_files=100)
    assert not told
    return {entry.name for entry in done.files}, done


def nothing_is_left(cluster, *, jobs=1):
    wait_for(lambda: len(cluster.jobs) == jobs and not cluster.living())


def test_the_shards_files_come_when_their_pods_have_ended(jobs, cluster, disk, tmp_path):
    jobs().submit(what(quoted(WRITE)), {})
    ended(jobs())
    names, _ = fetch(jobs(), tmp_path / "to")
    assert names == {f"{index}/{name}" for index in range(2) for name in ("results.jsonl", "sub/x")}
    assert [(tmp_path / f"to/one/{index}/results.jsonl").read_text() for index in range(2)] == ["shard 0\n", "shard 1\n"]
    nothing_is_left(cluster)
    (disk / "gpueval-runs/one/1/results.jsonl").write_text("other\n")
    again, done = fetch(jobs(), tmp_path / "to")
    assert again == {"1/results.jsonl"} and len(done.unchanged) == 3
    cluster.forget_job(job_name("one"))  # the Job is gone, and what it left is not
    (disk / "gpueval-runs/one/0/late").write_text("late")
    assert fetch(jobs(), tmp_path / "to")[0] == {"0/late"}
    nothing_is_left(cluster, jobs=0)


def test_files_come_while_pods_run(jobs, cluster, tmp_path):
    jobs(shards=1).submit(what(quoted("mkdir -p {run_dir}; echo first >{run_dir}/log; exec sleep 1000")), {})
    pod_of(cluster, 0)
    wait_for((tmp_path / "the disk/gpueval-runs/one/log").exists)
    assert fetch(jobs(), tmp_path / "to")[0] == {"log"}
    wait_for(lambda: len(cluster.jobs) == 1)
    (run,) = jobs().status(["one"])
    assert run.state.value == "running" and run.processes == 1


def test_hostile_files_stay_there(jobs, cluster, disk, tmp_path):
    (tmp_path / "secret").write_text("mine")
    jobs(shards=1).submit(what(quoted("mkdir -p {run_dir}; true")), {})
    ended(jobs())
    place = disk / "gpueval-runs/one"
    (place / "link").symlink_to(tmp_path / "secret")
    os.mkfifo(place / "pipe")
    (place / "new\nline").write_text("x")
    (place / "plain").write_text("x")
    names, done = fetch(jobs(), tmp_path / "to")
    assert names == {"plain"} and set(done.refused) == {"link", "pipe", "new\nline"}
    place.rename(disk / "elsewhere")
    place.symlink_to("/etc")
    with pytest.raises(UsageProblem, match="one has left nothing: there is no directory"):
        fetch(jobs(), tmp_path / "to")
    nothing_is_left(cluster)


def test_a_fetch_goes_on_when_its_pod_is_evicted_in_the_middle(jobs, cluster, disk, tmp_path):
    jobs(shards=1).submit(what(quoted("mkdir -p {run_dir}; head -c 3000000 /dev/urandom >{run_dir}/a; head -c 3000 /dev/urandom >{run_dir}/b")), {})
    ended(jobs())
    before = {}

    def evicting(host, source, target, **more):
        if source.endswith("/b"):
            (pod,) = (pod for pod in cluster.pods.values() if "-files-" in pod.name)
            cluster.evict(pod)
        before[source[-1]] = get(host, source, target, **more)
        return before[source[-1]]

    with jobs().files("one", ended=False, tell=pytest.fail) as agent:
        get = type(agent.host).get
        agent.host.get = lambda source, target, **more: evicting(agent.host, source, target, **more)
        with pytest.raises((Unreachable, GpuevalError)):
            fetching.fetch(agent, "one", tmp_path / "to", most_bytes=1 << 30, most_files=100)
    assert before == {"a": 3_000_000}
    assert fetch(jobs(), tmp_path / "to")[0] == {"b"}
    assert all((tmp_path / "to/one" / name).read_bytes() == (disk / "gpueval-runs/one" / name).read_bytes() for name in "ab")
    nothing_is_left(cluster)


def test_what_a_run_left_elsewhere_is_archived_once_it_has_ended(jobs, cluster, disk):
    jobs(shards=1).submit(what(quoted("mkdir -p {run_dir}; exec sleep 1000"), "live"), {})
    jobs(shards=1).submit(what(quoted("mkdir -p {run_dir}; true")), {})
    ended(jobs())
    (disk / "eval_1").mkdir()
    (disk / "eval_1/x").write_text("x")
    with jobs().files("one", ended=True, tell=pytest.fail) as agent:
        assert agent.archive("one", [f"{disk}/eval_*"]) == [(f"{disk}/eval_1", f"{disk}/gpueval-runs/one/archived/eval_1")]
    assert (disk / "gpueval-runs/one/archived/eval_1/x").read_text() == "x"
    with (
        pytest.raises(Conflict, match=r"live is (running|starting); what it writes is archived once it has ended"),
        jobs().files("live", ended=True, tell=print),
    ):
        pass
    wait_for(lambda: len(cluster.jobs) == 2)


@pytest.mark.parametrize("more", [{"claim": None}, {"claim": None, "template": {"spec": {"template": {"spec": {"volumes": [{"name": "v", "emptyDir": {}}]}}}}}])
def test_where_nothing_is_kept_that_is_said_and_nothing_is_made(jobs, cluster, more):
    jobs(shards=1, **more).submit(what("true"), {})
    with pytest.raises(UsageProblem, match=r'outlives their pods: no volume is mounted there\. Say volume_claim = "\.\.\." in hosts\.toml'):
        fetch(jobs(**more), "nowhere")
    assert len(cluster.jobs) == 1


def test_a_run_in_a_directory_of_its_own_is_found_there(jobs, cluster, disk, tmp_path):
    Jobs(CLUSTER, jobs(shards=1).settings, f"{disk}/mine").submit(what(quoted("mkdir -p {run_dir}; echo x >{run_dir}/log")), {})
    ended(jobs())
    assert fetch(jobs(), tmp_path / "to")[0] == {"log"} and (disk / "mine/one/log").exists()


def test_a_pod_that_may_not_be_made(jobs, cluster, tmp_path):
    jobs(shards=1).submit(what("true"), {})
    ended(jobs())
    cluster.fail("/jobs", 403, method="POST", message='jobs.batch is forbidden: User "me" cannot create resource "jobs"')
    with pytest.raises(AccessDenied, match="cannot create resource"):
        fetch(jobs(), tmp_path)


def test_what_a_pod_waits_for_is_told(jobs, cluster, monkeypatch):
    jobs(shards=1).submit(what(quoted("mkdir -p {run_dir}; true")), {})
    ended(jobs())
    cluster.hold_pods()
    monkeypatch.setattr(reader, "_PATIENT_S", 0.1)
    told = []

    def tell(text):
        told.append(text)
        cluster.let_pods_run()

    with jobs().files("one", ended=False, tell=tell):
        pass
    assert told == ["cluster: waiting for the pod that is to read files: starting"]


def test_a_pod_that_never_starts(jobs, cluster, tmp_path, monkeypatch):
    jobs(shards=1).submit(what("true"), {})
    ended(jobs())
    cluster.hold_pods()
    monkeypatch.setattr(reader, "_START_S", 1.0)
    with pytest.raises(Unreachable, match="did not start within 1 s"):
        fetch(jobs(), tmp_path)
    nothing_is_left(cluster)


def test_one_that_cannot_be_deleted_is_named_and_ends_by_itself(jobs, cluster):
    jobs(shards=1).submit(what(quoted("mkdir -p {run_dir}; true")), {})
    ended(jobs())
    cluster.fail("/jobs", 503, method="DELETE")
    told = []
    with jobs().files("one", ended=False, tell=told.append):
        pass
    assert "could not be deleted, and ends by itself within 2 h" in told[0]


THEIRS = {
    "spec": {
        "template": {
            "metadata": {"labels": {"team": "x"}},
            "spec": {
                "tolerations": [{"key": "gpu"}],
                "imagePullSecrets": [{"name": "pull"}],
                "initContainers": [{"name": "init", "image": "x"}],
                "volumes": [{"name": "shm", "emptyDir": {"medium": "Memory"}}, {"name": "key", "secret": {"secretName": "k"}}, {"name": "nfs", "nfs": {}}],
                "containers": [
                    {
                        "name": "eval",
                        "image": "theirs",
                        "env": [{"name": "A", "value": "b"}],
                        "resources": {"limits": {"nvidia.com/gpu": 8}},
                        "volumeMounts": [{"name": name, "mountPath": f"/{name}"} for name in ("shm", "key", "nfs")],
                    }
                ],
            },
        }
    }
}


def test_what_the_pod_is():
    document = reader.document(CLUSTER, "one", Settings(template=THEIRS, gpus_per_pod=8), "/nfs/runs", mark="m")
    spec, pod = document["spec"], document["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert (spec["activeDeadlineSeconds"], spec["ttlSecondsAfterFinished"], spec["backoffLimit"]) == (7200, 60, 0)
    assert (container["name"], container["image"], container["volumeMounts"]) == ("eval", "theirs", [{"name": "nfs", "mountPath": "/nfs"}])
    assert pod["volumes"] == [{"name": "nfs", "nfs": {}}] and pod["tolerations"] == [{"key": "gpu"}] and pod["imagePullSecrets"] == [{"name": "pull"}]
    assert "env" not in container and "nvidia.com/gpu" not in str(document) and "initContainers" not in pod and pod["automountServiceAccountToken"] is False
    labels = spec["template"]["metadata"]["labels"]
    assert labels["app.kubernetes.io/managed-by"] == "gpueval" and labels["team"] == "x" and "gpueval/run" not in labels
    (near,) = pod["affinity"]["podAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"]
    assert near["podAffinityTerm"]["labelSelector"]["matchLabels"] == {"gpueval/run": job_name("one")}
    with pytest.raises(UsageProblem, match="no volume is mounted there"):
        reader.document(CLUSTER, "one", Settings(template=THEIRS), "/shm/runs", mark="m")
    with pytest.raises(UsageProblem, match="which image"):
        reader.document(CLUSTER, "one", replace(Settings(), claim="disk"), None, mark="m")


def test_a_fetch_that_is_interrupted_leaves_no_pod(jobs, cluster, disk, tmp_path):
    jobs(shards=1).submit(what(quoted("mkdir -p {run_dir}; true")), {})
    ended(jobs())
    (tmp_path / "hosts.toml").write_text(f'[hosts.cluster]\naddress = "k8s://evals?context=test"\nimage = "eval:1"\nvolume_claim = "disk"\nvolume = "{disk}"\n')
    cluster.hold_pods()
    code = "from pytest_gpueval.cli.main import run; run()"
    words = [sys.executable, "-c", code, "runs", "fetch", "--host", "cluster", "--run-id", "one"]
    with subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True) as client:
        wait_for(lambda: len(cluster.jobs) == 2)
        os.killpg(client.pid, signal.SIGINT)  # as a terminal does, to kubectl too
        _, said = client.communicate(timeout=DEADLINE_S)
    assert client.returncode == 130 and "Traceback" not in said, said
    nothing_is_left(cluster)
