"""Runs as Indexed Jobs: created once, counted, run again where a node put them out, stopped wholly. kubectl is real, the cluster a stand-in."""

import os
import sys
import threading
from datetime import UTC, datetime

import pytest

from pytest_gpueval.errors import AccessDenied, Conflict, GpuevalError, Unreachable, UsageProblem
from pytest_gpueval.hosts.detached.states import State
from pytest_gpueval.hosts.detached.submission import submission
from pytest_gpueval.hosts.jobs.client import Jobs
from pytest_gpueval.hosts.jobs.manifest import Settings, job_name
from pytest_gpueval.hosts.kubectl import Cluster
from tests.kube.server import CONTEXT, NAMESPACE
from tests.waiting import wait_for

SHARDS = "echo shard {shard_index} of {shard_count} in {run_dir}"


def what(command, run_id="one", **more):
    words = ["sh", "-c", command] if isinstance(command, str) else command
    given = {"directory": "~", "variables": [], "secrets": [], "own": dict(os.environ), **more}
    return submission(words, run_id=run_id, now=datetime.now(UTC), **given)


@pytest.fixture
def jobs(cluster):
    def made(shards=2, index=None, root="/runs", **more):
        return Jobs(Cluster("cluster", NAMESPACE, CONTEXT), Settings(image="eval:1", shards=shards, **more), root, index=index)

    return made


def state(jobs, run_id="one"):
    return jobs.status([run_id])[0].outcome


def ended(jobs, run_id="one"):
    def look():
        (run,) = jobs.status([run_id], tail_lines=100)
        return run if run.state.ended else None

    return wait_for(look)


def pod_of(cluster, index, run_id="one"):
    """The living pod of an index, once its program runs."""

    def look():
        found = [pod for pod in cluster.pods.values() if pod.name.startswith(f"{job_name(run_id)}-{index}-") and pod.phase == "Running"]
        return found[0] if found else None

    return wait_for(look)


def lines_of(path):
    return path.read_text().splitlines() if path.exists() else []


# Ends


def test_each_shard_is_a_pod_that_knows_which_it_is(jobs, cluster):
    assert not jobs().submit(what(SHARDS), {}).again
    run = ended(jobs())
    assert (run.state, run.outcome.reason, run.exit_code) == (State.PASSED, "", 0)
    assert [jobs(index=index).logs("one").data for index in range(2)] == [b"shard 0 of 2 in /runs/one/0\n", b"shard 1 of 2 in /runs/one/1\n"]
    assert jobs(index=1).logs("one").ended and run.command == ("sh", "-c", SHARDS) and run.directory == "/runs/one"
    with pytest.raises(UsageProblem, match="--index 2: the indexes of this run are 0 to 1"):
        jobs(index=2).logs("one")


def test_words_arrive_as_they_are(jobs):
    nasty = ["", "a b", "$HOME", "$(JOB_COMPLETION_INDEX)", "$$", "$", "`id`", "it's", '"', "{x}", "é кот", "$(id)", "{shard_index}"]
    jobs(shards=1, environment={"A": "$(JOB_COMPLETION_INDEX) $$"}).submit(
        what([sys.executable, "-c", "import os, sys; print(sys.argv[1:], os.environ['A'])", *nasty]), {}
    )
    assert ended(jobs()).tail == f"{[*nasty[:-1], '0']} $(JOB_COMPLETION_INDEX) $$\n"


def test_a_shard_that_fails_by_itself_is_not_run_again(jobs, tmp_path):
    jobs().submit(what(f"echo x >> {tmp_path}/starts-{{shard_index}}; exit $(( {{shard_index}} * 3 ))"), {})
    run = ended(jobs())
    assert (run.state, run.outcome.reason, run.exit_code) == (State.FAILED, "by index: 1 (exit code 3)", 3)
    assert [lines_of(tmp_path / f"starts-{index}") for index in range(2)] == [["x"], ["x"]]
    assert jobs().status()[0].state is State.FAILED


def test_out_of_memory_is_tried_again_and_then_told(jobs, cluster, tmp_path):
    jobs(shards=1).submit(what(f"echo x >> {tmp_path}/starts; exec sleep 1000"), {})
    for count in range(1, 4):
        wait_for(lambda count=count: len(lines_of(tmp_path / "starts")) == count)
        cluster.out_of_memory(pod_of(cluster, 0))
    run = ended(jobs())
    assert (run.state, run.outcome.reason) == (State.FAILED, "by index: 0 (OOMKilled)")
    assert lines_of(tmp_path / "starts") == ["x"] * 3


def test_an_evicted_pod_is_run_again_and_does_not_count(jobs, cluster, tmp_path):
    jobs().submit(what(f"echo x >> {tmp_path}/starts-{{shard_index}}; while [ ! -e {tmp_path}/go ]; do sleep 0.02; done"), {})
    for count in range(1, 5):  # more often than a pod that failed would be run again
        pod = pod_of(cluster, 1)
        wait_for(lambda count=count: len(lines_of(tmp_path / "starts-1")) == count)
        cluster.evict(pod)
    outcome = wait_for(lambda: (found := state(jobs())).reason.startswith("2 of 2 run") and found)
    assert outcome.state is State.RUNNING and "failed so far, by index: 1 (Evicted)" in outcome.reason
    (tmp_path / "go").touch()
    assert ended(jobs()).state is State.PASSED
    assert len(lines_of(tmp_path / "starts-1")) == 5 and len(lines_of(tmp_path / "starts-0")) == 1


def test_from_queued_to_running(jobs, cluster, tmp_path):
    cluster.hold_pods()
    jobs().submit(what(f"while [ ! -e {tmp_path}/go ]; do sleep 0.02; done; : {{shard_index}}"), {})
    assert state(jobs()).state is State.STARTING and jobs().logs("one").data == b""
    cluster.let_pods_run()
    wait_for(lambda: state(jobs()).reason == "2 of 2 run")
    (tmp_path / "go").touch()
    assert ended(jobs()).state is State.PASSED


# Once


def test_the_same_again_is_the_same_run_and_another_is_a_conflict(jobs, tmp_path):
    command = f"echo x >> {tmp_path}/starts; exit 2"
    one = jobs(shards=1)
    assert not one.submit(what(command), {}).again and one.submit(what(command), {}).again
    ended(one)
    assert one.submit(what(command), {}).again
    for other in (what("true"), what(command, variables=["A=b"])):
        with pytest.raises(Conflict, match=r"one was submitted before, for something else: .*\n--force"):
            one.submit(other, {})
    assert lines_of(tmp_path / "starts") == ["x"]
    assert not one.submit(what(f"echo y >> {tmp_path}/starts"), {}, force=True).again
    assert ended(one).state is State.PASSED and lines_of(tmp_path / "starts") == ["x", "y"]


def test_a_running_one_is_not_forced_away(jobs):
    one = jobs(shards=1)
    one.submit(what("exec sleep 1000"), {})
    with pytest.raises(Conflict, match="Stop it first"):
        one.submit(what("true"), {}, force=True)


def test_an_answer_that_is_lost_costs_nothing(jobs, cluster, tmp_path):
    command = f"echo x >> {tmp_path}/starts"
    cluster.lose_answer("/jobs", method="POST")
    with pytest.raises(GpuevalError, match=r"nobody knows whether its Job was created. Submit it again with --run-id one: it starts once"):
        jobs(shards=1).submit(what(command), {})
    assert jobs(shards=1).submit(what(command), {}).again
    assert ended(jobs(shards=1)).state is State.PASSED and lines_of(tmp_path / "starts") == ["x"]


def test_many_at_once_create_it_once(jobs, tmp_path):
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(jobs(shards=1).submit(what(f"echo x >> {tmp_path}/starts"), {}).again)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == [False, True, True, True]
    ended(jobs())
    assert lines_of(tmp_path / "starts") == ["x"]


def test_a_job_that_is_not_ours_is_left_alone(jobs, cluster):
    other = {"metadata": {"name": job_name("one")}, "spec": {"completions": 0, "parallelism": 0, "template": {"metadata": {}, "spec": {"containers": []}}}}
    Cluster("cluster", NAMESPACE, CONTEXT).create("jobs", other)
    with pytest.raises(Conflict, match="that is not ours"):
        jobs(shards=1).submit(what("true"), {})


# Secrets


def test_a_secret_reaches_the_program_and_no_argv(jobs, cluster, tmp_path):
    values = {"HF_TOKEN": "canary-7f3a91"}
    run = what('printf %s "$HF_TOKEN" | rev', secrets=["HF_TOKEN"], own={**os.environ, **values})
    jobs(shards=1).submit(run, values)
    assert ended(jobs()).tail == "19a3f7-yranac"
    assert "7f3a91" not in str(jobs(shards=1).manifest(run)) + "".join(request.path for request in cluster.requests)
    ((_, kept),) = cluster.secrets.items()
    (job,) = cluster.jobs.values()
    assert kept["metadata"]["ownerReferences"][0]["uid"] == job.uid
    cluster.forget_job(job_name("one"))
    assert not cluster.secrets


def test_a_job_whose_secret_was_not_created_waits_for_it(jobs, cluster, tmp_path):
    values = {"HF_TOKEN": "canary-7f3a91"}
    run = what(f"echo x >> {tmp_path}/starts", secrets=["HF_TOKEN"], own={**os.environ, **values})
    cluster.fail("/secrets", 503)
    with pytest.raises(Unreachable, match=r"its Job waits for its secret\. Submit it again with --run-id one"):
        jobs(shards=1).submit(run, values)
    assert "its secret is missing" in wait_for(lambda: state(jobs()).reason)
    cluster.heal()
    assert jobs(shards=1).submit(run, values).again
    assert ended(jobs()).state is State.PASSED and lines_of(tmp_path / "starts") == ["x"]


# Its end


def test_stopped_is_stopped(jobs, cluster, tmp_path):
    jobs().submit(what(f"setsid sleep 1000 & trap 'echo x >> {tmp_path}/asked; exit 1' TERM; echo {{shard_index}} >> {tmp_path}/began; wait"), {})
    wait_for(lambda: sorted(lines_of(tmp_path / "began")) == ["0", "1"])
    done = jobs().stop("one")
    assert (done.ended_before, done.asked, done.run.state) == (False, 2, State.CANCELLED)
    assert not cluster.living() and not cluster.jobs and not cluster.pods, "waited for"
    assert lines_of(tmp_path / "asked") == ["x", "x"]
    with pytest.raises(UsageProblem, match=r"there is no run 'one' in evals; one that was stopped is gone. There are no run ids"):
        jobs().stop("one")


def test_what_has_ended_is_kept(jobs, cluster):
    jobs(shards=1).submit(what("true"), {})
    ended(jobs())
    assert jobs().stop("one").ended_before and cluster.jobs


def test_a_job_that_vanishes_is_lost_where_pods_are_left(jobs, cluster):
    jobs(shards=1).submit(what("exec sleep 1000"), {})
    pod_of(cluster, 0)
    job = cluster.jobs.pop((NAMESPACE, job_name("one")))  # deleted with --cascade=orphan
    (run,) = jobs().status(["one"])
    assert (run.state, run.outcome.reason) == (State.LOST, "its Job has vanished, and pods of it are left")
    cluster.jobs[NAMESPACE, job_name("one")] = job


def test_a_log_is_followed_through_an_eviction_to_the_end(jobs, cluster, tmp_path):
    one = jobs(shards=1)
    one.submit(what(f"echo first; while [ ! -e {tmp_path}/go ]; do sleep 0.02; done; echo last"), {})
    piece = wait_for(lambda: (found := one.logs("one")).data and found)
    assert piece.data == b"first\n"
    cluster.evict(pod_of(cluster, 0))
    again = wait_for(lambda: (found := one.logs("one", after=piece, wait_s=1)).nonce != piece.nonce and found.data and found)
    assert again.data == b"first\n"
    (tmp_path / "go").touch()
    rest = wait_for(lambda: (found := one.logs("one", after=again, wait_s=1)).data and found)
    assert rest.data == b"last\n"
    assert wait_for(lambda: one.logs("one", after=rest, wait_s=1).ended)


# Who may not


def test_an_account_that_may_not_create_jobs(jobs, cluster):
    cluster.fail("/jobs", 403, method="POST", message='jobs.batch is forbidden: User "me" cannot create resource "jobs"')
    with pytest.raises(AccessDenied, match="cannot create resource"):
        jobs(shards=1).submit(what("true"), {})
