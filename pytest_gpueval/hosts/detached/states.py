"""From what is known of a run to the one state it is in. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from pytest_gpueval.processes.identity import Identity


class State(StrEnum):
    """Where a run is."""

    QUEUED = "queued"
    STARTING = "starting"
    RUNNING = "running"
    PASSED = "passed"
    FAILED = "failed"
    LOST = "lost"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        """Whether nothing more will come of it."""
        return self in (State.PASSED, State.FAILED, State.LOST, State.CANCELLED)


@dataclass(frozen=True, slots=True)
class Exit:
    """How a run ended. `cause`: exit (of itself), stop (asked for), signal (its runner got one), hangup (its terminal ended), error (it could not begin)."""

    cause: str
    code: int | None = None
    signal: int | None = None
    error: str = ""
    at: float | None = None
    # What Slurm said of the job when its runner got a signal.
    slurm: str = ""


@dataclass(frozen=True, slots=True)
class Facts:
    """What a host says of a run. `*_now` is the start of whoever has that pid now, None if nobody lives who has."""

    boot: str
    host: str
    claimed_on: str
    launcher: Identity
    launcher_now: int | None
    runner: Identity | None
    runner_now: int | None
    started: bool
    stop_asked: bool
    exit: Exit | None
    # That carry its marker, its runner not among them.
    processes: int

    @classmethod
    def of(cls, answer: Mapping[str, Any], run: Mapping[str, Any]) -> Facts:
        """Of an agent's answer, and the run in it."""
        how = run["exit"]
        end = Exit(how["cause"], how["code"], how["signal"], how.get("error", ""), how["at"], how.get("slurm", "")) if how else None
        return cls(
            boot=answer["boot"],
            host=answer["hostname"],
            claimed_on=run["host"],
            launcher=_who(run["launcher"]),
            launcher_now=run["launcher_now"],
            runner=_who(run["runner"]) if run["runner"] else None,
            runner_now=run["runner_now"],
            started=run["started"] is not None,
            stop_asked=run["stop"] is not None,
            exit=end,
            processes=run["processes"],
        )


@dataclass(frozen=True, slots=True)
class Outcome:
    """A state, and why: empty where the state says it all."""

    state: State
    reason: str = ""


def judge(facts: Facts) -> Outcome:
    """The state. What a run wrote about its own end goes before everything that can be seen from outside."""
    if facts.exit is not None:
        outcome = ended(facts.exit)
    elif facts.runner is None:
        outcome = _not_begun(facts)
    elif lives(facts, facts.runner, facts.runner_now):
        reason = "a stop was asked for" if facts.stop_asked else ""
        return Outcome(State.RUNNING if facts.started else State.STARTING, reason)
    else:
        outcome = _gone(facts, facts.runner)
    return with_living(outcome, facts)


def with_living(outcome: Outcome, facts: Facts) -> Outcome:
    """The same, and what lives of a run that has ended."""
    if facts.processes and outcome.state.ended:
        left = f"{facts.processes} of its processes live: gpueval runs stop ends them"
        return Outcome(outcome.state, f"{outcome.reason}; {left}" if outcome.reason else left)
    return outcome


def ended(how: Exit) -> Outcome:
    """What a runner wrote about the end."""
    if how.cause == "stop":
        return Outcome(State.CANCELLED, "a stop was asked for")
    if how.cause == "signal":
        return Outcome(State.CANCELLED, "its runner was asked to end by a signal")
    if how.cause == "hangup":
        return Outcome(State.LOST, "its tmux server was ended, and it with it")
    if how.cause == "error":
        return Outcome(State.FAILED, f"it could not be run: {how.error}")
    if how.signal:
        return Outcome(State.FAILED, f"signal {how.signal}")
    return Outcome(State.PASSED) if how.code == 0 else Outcome(State.FAILED, f"exit code {how.code}")


def _not_begun(facts: Facts) -> Outcome:
    if facts.stop_asked:
        return Outcome(State.CANCELLED, "a stop was asked for before it began")
    if lives(facts, facts.launcher, facts.launcher_now):
        return Outcome(State.QUEUED, "it is being launched")
    if facts.boot != facts.launcher.boot:
        return Outcome(State.LOST, f"{_restarted(facts)} before it began; submit it again: it starts once")
    return Outcome(State.QUEUED, "its submit was cut off; submit it again: it starts once")


def _gone(facts: Facts, runner: Identity) -> Outcome:
    """The runner said nothing about its end, and does not live."""
    if facts.stop_asked and not facts.processes:
        return Outcome(State.CANCELLED, "a stop was asked for")
    if facts.boot != runner.boot:
        return Outcome(State.LOST, f"{_restarted(facts)} while it ran")
    if facts.runner_now is not None:
        return Outcome(State.LOST, f"its runner ended without a word, and another process has its pid {runner.pid}")
    return Outcome(State.LOST, "its runner ended without a word: killed, perhaps for want of memory, or with its tmux server")


def _restarted(facts: Facts) -> str:
    if facts.claimed_on != facts.host:
        return f"it was submitted on {facts.claimed_on}, this is {facts.host}: that host ended or was restarted, or still has it,"
    return "the host was restarted"


def lives(facts: Facts, who: Identity, now: int | None) -> bool:
    """Whether this very process is there, of a look at whoever has its pid now."""
    return who.boot == facts.boot and who.started == now


def _who(record: Mapping[str, Any]) -> Identity:
    return Identity(record["pid"], record["started"], record["boot"])
