"""Which state the files of a run and Slurm's word on its job mean: every combination, and each rule by an example."""

import itertools
from dataclasses import replace

import pytest

from pytest_gpueval.hosts.detached.agent.slurm import OVER, open_end, rank
from pytest_gpueval.hosts.detached.jobs import Job, judge_job
from pytest_gpueval.hosts.detached.states import Exit, Facts, Outcome, State
from pytest_gpueval.processes.identity import Identity

RUNNER = Identity(100, 5000, "boot-of-the-node")
FACTS = Facts("boot-here", "login", "login", Identity(90, 4000, "boot-here"), None, RUNNER, None, started=True, stop_asked=False, exit=None, processes=0)
JOB = Job("12", "RUNNING", "None", "node-3", submitted=True, attempt=1)
ACTIVE = ("PENDING", "CONFIGURING", "RUNNING", "COMPLETING", "SUSPENDED", "REQUEUED", "SPECIAL_EXIT", "STAGE_OUT")
EXITS = (None, Exit("exit", 0), Exit("exit", 3), Exit("exit", None, 9), Exit("exit", None, 15), Exit("stop"), Exit("signal"), Exit("error", error="disk"))


def everything():
    for how, runner, started, stop, processes, state, submitted, attempt in itertools.product(
        EXITS, (None, RUNNER), (False, True), (False, True), (0, 2), ("", *ACTIVE, *OVER), (False, True), (1, 2)
    ):
        facts = replace(FACTS, exit=how, runner=runner, started=started, stop_asked=stop, processes=processes)
        yield facts, Job("12" if state or submitted else None, state, "Priority", "node-3", submitted=submitted, attempt=attempt)


def test_every_combination_is_one_state_that_keeps_the_rules():
    seen = set()
    for facts, job in everything():
        outcome, how = judge_job(facts, job), facts.exit
        seen.add(outcome.state)
        assert isinstance(outcome, Outcome)
        if outcome.state is State.PASSED:
            assert how is not None and (how.cause, how.code) == ("exit", 0), "only its runner can say so"
        if how is None or how.cause == "signal":
            if job.state in OVER:
                assert outcome.state.ended, "Slurm is done with it"
            elif job.state:
                assert not outcome.state.ended, "Slurm is not done with it"
        assert outcome.reason or outcome.state is State.PASSED
        assert ("2 of its processes live" in outcome.reason) == (facts.processes > 0 and outcome.state.ended)
    assert seen == set(State)


@pytest.mark.parametrize(
    ("facts", "job", "state", "reason"),
    [
        ({}, {}, State.RUNNING, "job 12"),
        ({"started": False}, {}, State.STARTING, "job 12"),
        ({"runner": None}, {}, State.STARTING, "job 12"),
        ({"stop_asked": True}, {}, State.RUNNING, "a stop was asked for; job 12"),
        ({}, {"state": "SUSPENDED"}, State.RUNNING, "suspended by Slurm; job 12"),
        ({}, {"state": "COMPLETING"}, State.RUNNING, "its job is ending; job 12"),
        ({"runner": None}, {"state": "PENDING", "reason": "Priority"}, State.QUEUED, "Priority; job 12"),
        ({}, {"state": "PENDING", "reason": "BeginTime"}, State.QUEUED, "it was put back into the queue: BeginTime; job 12"),
        ({"exit": Exit("signal")}, {"state": "PENDING", "reason": "None"}, State.QUEUED, "it was put back into the queue; job 12"),
        ({}, {"attempt": 2}, State.RUNNING, "job 12, attempt 2"),
        ({"exit": Exit("exit", 0)}, {"state": "COMPLETING"}, State.PASSED, ""),
        ({"exit": Exit("exit", 0)}, {"state": "TIMEOUT"}, State.PASSED, ""),
        ({"exit": Exit("exit", 3)}, {"state": "FAILED"}, State.FAILED, "exit code 3; job 12"),
        ({"exit": Exit("exit", None, 9)}, {"state": "FAILED"}, State.FAILED, "signal 9; job 12"),
        ({"exit": Exit("exit", None, 9)}, {"state": "COMPLETING"}, State.RUNNING, "its job is ending; job 12"),
        ({"exit": Exit("exit", None, 9)}, {"state": "OUT_OF_MEMORY"}, State.FAILED, "out of memory: more than its job was given (--mem); job 12"),
        ({"exit": Exit("exit", None, 11)}, {"state": "OUT_OF_MEMORY"}, State.FAILED, "signal 11; job 12"),
        ({"exit": Exit("exit", 137)}, {"state": "OUT_OF_MEMORY"}, State.FAILED, "out of memory: more than its job was given (--mem); job 12"),
        ({"exit": Exit("exit", 137)}, {"state": "FAILED"}, State.FAILED, "exit code 137; job 12"),
        ({}, {"state": "OUT_OF_MEMORY"}, State.FAILED, "out of memory: more than its job was given (--mem); job 12"),
        ({"exit": Exit("exit", None, 15)}, {"state": "CANCELLED"}, State.CANCELLED, "its job was cancelled in Slurm; job 12"),
        ({"exit": Exit("signal")}, {"state": "TIMEOUT"}, State.FAILED, "its time limit was over (--time-limit); job 12"),
        ({"exit": Exit("signal", slurm="TIMEOUT")}, {"state": ""}, State.FAILED, "its time limit was over (--time-limit); job 12"),
        ({"exit": Exit("signal")}, {"state": ""}, State.CANCELLED, "its runner was asked to end by a signal; job 12"),
        ({}, {"state": "NODE_FAIL"}, State.LOST, "its node failed; job 12"),
        ({}, {"state": "PREEMPTED"}, State.LOST, "its job had to make room for another; job 12"),
        ({"stop_asked": True}, {"state": "CANCELLED"}, State.CANCELLED, "a stop was asked for; job 12"),
        ({}, {"state": "FAILED"}, State.LOST, "its runner ended without a word: killed, perhaps for want of memory; job 12"),
        (
            {"runner": None},
            {"state": "FAILED", "reason": "JobLaunchFailure"},
            State.FAILED,
            "its runner could not begin on node-3 (JobLaunchFailure): see slurm.out in its directory's .gpueval; job 12",
        ),
        ({}, {"state": ""}, State.LOST, "its runner said nothing about its end, and Slurm has forgotten its job; job 12"),
        ({"runner": None}, {"state": ""}, State.LOST, "Slurm has forgotten its job, which never began; job 12"),
        ({"runner": None, "launcher_now": 4000}, {"state": "", "submitted": False, "id": None}, State.QUEUED, "it is being submitted"),
        ({"runner": None}, {"state": "", "submitted": False, "id": None}, State.QUEUED, "its submit was cut off; submit it again: it starts once"),
    ],
)
def test_states(facts, job, state, reason):
    assert judge_job(replace(FACTS, **facts), replace(JOB, **job)) == Outcome(state, reason)


def test_of_two_jobs_of_a_name_the_one_that_lives_counts_then_the_later():
    lines = ["9|x|COMPLETED|None|n", "8|x|RUNNING|None|n", "10|x|CANCELLED|None|n"]
    assert [line.partition("|")[0] for line in sorted(lines, key=rank)] == ["9", "10", "8"]


def test_which_ends_slurm_knows_more_about():
    known = (("exit", None, 11), ("exit", 0, None), ("exit", 3, None), ("stop", None, None), ("error", None, None))
    unknown = (("signal", None, None), ("exit", None, 9), ("exit", None, 15), ("exit", 137, None), ("exit", 143, None))
    for cause, code, number in (*known, *unknown):
        assert open_end({"cause": cause, "code": code, "signal": number}) == ((cause, code, number) in unknown)
