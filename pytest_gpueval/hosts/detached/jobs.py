"""The state of a run that Slurm starts: from its own files, and what Slurm says of its job. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from .states import Facts, Outcome, State, ended, lives, with_living

_WAITING: Final = ("PENDING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "RESV_DEL_HOLD", "SPECIAL_EXIT")
# States of a job that is over, where its runner did not say how it ended.
_OVER: Final[Mapping[str, Outcome]] = {
    "BOOT_FAIL": Outcome(State.LOST, "its node did not start"),
    "CANCELLED": Outcome(State.CANCELLED, "its job was cancelled in Slurm"),
    "DEADLINE": Outcome(State.FAILED, "its job's deadline was over"),
    "NODE_FAIL": Outcome(State.LOST, "its node failed"),
    "OUT_OF_MEMORY": Outcome(State.FAILED, "out of memory: more than its job was given (--mem)"),
    "PREEMPTED": Outcome(State.LOST, "its job had to make room for another"),
    "REVOKED": Outcome(State.CANCELLED, "its job runs in another cluster"),
    "TIMEOUT": Outcome(State.FAILED, "its time limit was over (--time-limit)"),
}
# Signals that Slurm sends to all processes of a job, and the codes that a shell makes of them: it knows why.
_SIGNALS: Final = (9, 15)
_CODES: Final = (137, 143)
# Over of itself, as Slurm sees it.
_WORDLESS: Final = ("COMPLETED", "FAILED")


@dataclass(frozen=True, slots=True)
class Job:
    """A job as squeue told, or as it was told when it was over; `state` is empty where Slurm knows it no more, or never did."""

    id: str | None
    state: str
    reason: str
    node: str
    # Whether sbatch had accepted it.
    submitted: bool
    attempt: int

    @classmethod
    def of(cls, run: Mapping[str, Any]) -> Job | None:
        """Of a run in an agent's answer; None where it is none of Slurm's."""
        if "slurm" not in run["request"]:
            return None
        job, submitted = run["job"] or {}, run["submitted"] or {}
        return cls(job.get("id") or submitted.get("id"), job.get("state", ""), job.get("reason", ""), job.get("node", ""), bool(submitted), run["attempt"])


def judge_job(facts: Facts, job: Job) -> Outcome:
    """The state. What its runner wrote about an end of the command's own goes first; of an end by a signal Slurm knows why."""
    return with_living(_named(_judge(facts, job), job), facts)


def _judge(facts: Facts, job: Job) -> Outcome:
    how = facts.exit
    if job.state in _WAITING and (how is None or how.cause != "stop"):
        return _waits(facts, job)
    if how is not None and how.cause != "signal" and not (how.cause == "exit" and (how.signal in _SIGNALS or how.code in _CODES)):
        return ended(how)
    if job.state and job.state not in _OVER and job.state not in _WORDLESS:
        return _runs(facts, job)
    if facts.stop_asked:
        return Outcome(State.CANCELLED, "a stop was asked for")
    return _over(facts, job)


def _over(facts: Facts, job: Job) -> Outcome:
    """Slurm is done with it, or knows it no more."""
    if job.state in _WORDLESS:
        return _wordless(facts, job)
    return _OVER[job.state] if job.state else _unknown(facts, job)


def _waits(facts: Facts, job: Job) -> Outcome:
    before = "it was put back into the queue: " if facts.runner is not None else ""
    return Outcome(State.QUEUED, f"{before}{job.reason}" if job.reason not in {"", "None"} else before.rstrip(": "))


def _runs(facts: Facts, job: Job) -> Outcome:
    """A job on its node."""
    if facts.exit is not None or job.state == "COMPLETING":
        return Outcome(State.RUNNING, "its job is ending")
    reason = "a stop was asked for" if facts.stop_asked else "suspended by Slurm" if job.state in {"SUSPENDED", "STOPPED"} else ""
    return Outcome(State.RUNNING if facts.runner is not None and facts.started else State.STARTING, reason)


def _wordless(facts: Facts, job: Job) -> Outcome:
    """Over of itself, as Slurm sees it."""
    if facts.exit is not None:
        return ended(facts.exit)
    if facts.runner is None:
        return Outcome(State.FAILED, f"its runner could not begin on {job.node or 'its node'} ({job.reason}): see slurm.out in its directory's .gpueval")
    return Outcome(State.LOST, "its runner ended without a word: killed, perhaps for want of memory")


def _unknown(facts: Facts, job: Job) -> Outcome:
    """Slurm does not know it: it forgets a job some minutes after its end."""
    if facts.exit is not None:
        return _OVER.get(facts.exit.slurm, ended(facts.exit))
    if facts.runner is not None:
        return Outcome(State.LOST, "its runner said nothing about its end, and Slurm has forgotten its job")
    if job.submitted:
        return Outcome(State.LOST, "Slurm has forgotten its job, which never began")
    if lives(facts, facts.launcher, facts.launcher_now):
        return Outcome(State.QUEUED, "it is being submitted")
    return Outcome(State.QUEUED, "its submit was cut off; submit it again: it starts once")


def _named(outcome: Outcome, job: Job) -> Outcome:
    """With the job's id, where there is something to look up."""
    if job.id is None or outcome.state is State.PASSED:
        return outcome
    which = f"job {job.id}" + (f", attempt {job.attempt}" if job.attempt > 1 else "")
    return Outcome(outcome.state, f"{outcome.reason}; {which}" if outcome.reason else which)
