"""Runs as Indexed Jobs: created once, counted, run again where a node put them out, stopped wholly. kubectl is real, the cluster a stand-in."""

import os
import sys
import threading

import pytest

from pytest_gpueval.errors import AccessDenied, Conflict, GpuevalError, Unreachable, UsageProblem
from pytest_gpueval.hosts.detached.states import Outcome, State
from pytest_gpueval.hosts.jobs.client import Jobs
from pytest_gpueval.hosts.jobs.manifest import Settings, job_name
from pytest_gpueval.hosts.kubectl import Cluster
from tests.job_runs import ended, pod_of, what
from tests.kube.server import CONTEXT, NAMESPACE
from tests.waiting import wait_for

GONE = "its Job has vanished: deleted by somebody else, or by its time to live before anybody saw how it ended"
SHARDS = "echo shard {shard_index} of {shard_count} in {run_dir}"


@pytest.fixture
def jobs(cluster):
    def made(shards=2, index=None, root="/runs", **more):
        return Jobs(Cluster("cluster", NAMESPACE, CONTEXT), Settings(image="eval:1", shards=shards, **more), root, index=index)

    return made


def state(jobs, run_id="one"):
    return jobs.status([run_id])[0].outcome


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
    assert jobs().stop("one").ended_before and state(jobs()) == Outcome(State.CANCELLED, "a stop was asked for; its Job is deleted")
    with pytest.raises(UsageProblem, match=r"there is no run 'on' in evals. Did you mean 'one'"):
        jobs().stop("on")


def test_what_has_ended_is_kept(jobs, cluster):
    jobs(shards=1).submit(what("true"), {})
    ended(jobs())
    assert jobs().stop("one").ended_before and cluster.jobs


def test_a_job_that_vanishes_is_lost_where_pods_are_left(jobs, cluster):
    jobs(shards=1).submit(what("exec sleep 1000"), {})
    pod_of(cluster, 0)
    job = cluster.jobs.pop((NAMESPACE, job_name("one")))  # deleted with --cascade=orphan
    (run,) = jobs().status(["one"])
    assert (run.state, run.outcome.reason) == (State.LOST, f"{GONE}, and pods of it are left")
    cluster.jobs[NAMESPACE, job_name("one")] = job


def test_a_job_that_vanishes_is_lost_and_starts_again_by_force_alone(jobs, cluster, tmp_path):
    command = f"echo x >> {tmp_path}/starts; exec sleep 1000"
    jobs(shards=1).submit(what(command), {})
    pod_of(cluster, 0)
    wait_for(lambda: lines_of(tmp_path / "starts") == ["x"])
    cluster.forget_job(job_name("one"))
    assert state(jobs()) == Outcome(State.LOST, GONE)
    (run,) = jobs().look().runs
    assert (run.run_id, run.state, run.command, run.directory) == ("one", State.LOST, ("sh", "-c", command), "/runs/one")
    assert run.submitted_at and jobs().logs("one").ended
    again = jobs(shards=1).submit(what(command), {})
    assert again.again and again.run.state is State.LOST and lines_of(tmp_path / "starts") == ["x"]
    with pytest.raises(Conflict, match="--force runs it again"):
        jobs(shards=1).submit(what("true"), {})
    assert not jobs(shards=1).submit(what(command), {}, force=True).again
    pod_of(cluster, 0)
    wait_for(lambda: lines_of(tmp_path / "starts") == ["x", "x"])
    assert state(jobs()).state is State.RUNNING


@pytest.mark.parametrize(("command", "outcome"), [("true", Outcome(State.PASSED)), ("exit 3", Outcome(State.FAILED, "by index: 0 (exit code 3)"))])
def test_an_end_that_was_seen_is_known_when_the_job_has_gone(jobs, cluster, command, outcome):
    jobs(shards=1).submit(what(command), {})
    before = ended(jobs())
    cluster.forget_job(job_name("one"))
    (run,) = jobs().status(["one"])
    assert run.outcome == outcome and (run.seconds, run.exit_code) == (before.seconds, before.exit_code)
    assert jobs().look().runs == [run]
    assert jobs(shards=1).submit(what(command), {}).run.outcome == outcome


def test_a_submit_that_was_killed_before_its_job(jobs, cluster, tmp_path):
    command = f"echo x >> {tmp_path}/starts"
    cluster.fail("/jobs", 503, method="POST")
    with pytest.raises(Unreachable, match="nobody knows whether its Job was created"):
        jobs(shards=1).submit(what(command), {})
    cluster.heal()
    assert state(jobs()) == Outcome(State.QUEUED, "its submit was cut off, and no Job of it is there; submit it again: it starts once")
    assert not jobs(shards=1).submit(what(command), {}).again
    assert ended(jobs()).state is State.PASSED and lines_of(tmp_path / "starts") == ["x"]
    cluster.fail("/jobs", 503, method="POST")
    with pytest.raises(Unreachable):
        jobs(shards=1).submit(what(command, "two"), {})
    cluster.heal()
    stopped = jobs().stop("two")
    assert not stopped.ended_before and stopped.run.state is State.CANCELLED and state(jobs(), "two").state is State.CANCELLED


def test_a_lost_answer_is_settled_by_the_first_look(jobs, cluster):
    cluster.lose_answer("/jobs", method="POST")
    with pytest.raises(GpuevalError):
        jobs(shards=1).submit(what("exec sleep 1000"), {})
    pod_of(cluster, 0)
    assert state(jobs()).state is State.RUNNING
    cluster.forget_job(job_name("one"))
    assert state(jobs()) == Outcome(State.LOST, GONE)


@pytest.mark.parametrize("method", [None, "PUT"])
def test_an_account_that_may_have_no_records_runs_all_the_same(jobs, cluster, method):
    cluster.fail("/configmaps", 403, method=method, message='configmaps is forbidden: User "me" cannot do that')
    done = jobs(shards=1).submit(what("true"), {})
    assert done.notes[-1].startswith("a run whose Job vanishes will not be known any more")
    assert ended(jobs()).state is State.PASSED and [run.state for run in jobs().look().runs] == [State.PASSED]
    assert jobs().stop("one").ended_before


@pytest.mark.parametrize("run_ids", [None, ["one"]])
def test_one_that_is_submitted_between_two_looks_has_not_vanished(jobs, monkeypatch, run_ids):
    looking = jobs(shards=1)
    name = "every" if run_ids is None else "of"
    look = getattr(looking._records, name)

    def late(*words):
        monkeypatch.setattr(looking._records, name, look)
        jobs(shards=1).submit(what("exec sleep 1000"), {})
        return look(*words)

    monkeypatch.setattr(looking._records, name, late)
    (run,) = looking.look(run_ids).runs
    assert not run.state.ended and jobs(shards=1).submit(what("exec sleep 1000"), {}).again


def test_many_looks_at_once_write_one_record(jobs, cluster):
    jobs(shards=1).submit(what("true"), {})
    wait_for(lambda: cluster.jobs[NAMESPACE, job_name("one")].document["status"].get("conditions"))
    found = []
    threads = [threading.Thread(target=lambda: found.append(state(jobs()).state)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [State.PASSED] * 4 and len(cluster.config_maps) == 1


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
