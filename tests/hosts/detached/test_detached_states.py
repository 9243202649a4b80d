"""Which state facts mean: every combination, and each rule by an example."""

import itertools
from dataclasses import replace

import pytest

from pytest_gpueval.hosts.detached.states import Exit, Facts, Outcome, State, judge
from pytest_gpueval.processes.identity import Identity

NOW, BEFORE = "boot-now", "boot-before"
RUNNER, LAUNCHER = Identity(100, 5000, NOW), Identity(90, 4000, NOW)
PLAIN = Facts(
    boot=NOW,
    host="gpu-a",
    claimed_on="gpu-a",
    launcher=LAUNCHER,
    launcher_now=None,
    runner=RUNNER,
    runner_now=5000,
    started=True,
    stop_asked=False,
    exit=None,
    processes=0,
)
EXITS = (
    None,
    Exit("exit", 0),
    Exit("exit", 3),
    Exit("exit", None, 9),
    Exit("stop"),
    Exit("stop", 0),
    Exit("signal"),
    Exit("hangup", None, 1),
    Exit("error", error="disk"),
)
# Who is recorded, and when whoever has that pid now was started.
RUNNERS = ((None, None), (RUNNER, 5000), (RUNNER, None), (RUNNER, 7777), (replace(RUNNER, boot=BEFORE), 5000), (replace(RUNNER, boot=BEFORE), None))
LAUNCHERS = ((LAUNCHER, 4000), (LAUNCHER, None), (LAUNCHER, 7777), (replace(LAUNCHER, boot=BEFORE), 4000))


def everything():
    for how, (runner, runner_now), (launcher, launcher_now), started, stop, processes, claimed_on in itertools.product(
        EXITS, RUNNERS, LAUNCHERS, (False, True), (False, True), (0, 2), ("gpu-a", "gpu-b")
    ):
        yield Facts(NOW, "gpu-a", claimed_on, launcher, launcher_now, runner, runner_now, started, stop, how, processes)


def test_every_combination_is_one_state_that_keeps_the_rules():
    seen = set()
    for facts in everything():
        outcome = judge(facts)
        seen.add(outcome.state)
        lives = facts.runner is not None and facts.runner.boot == NOW and facts.runner.started == facts.runner_now
        assert isinstance(outcome, Outcome)
        if facts.exit is not None:
            alone = judge(replace(PLAIN, exit=facts.exit, runner_now=None))
            assert outcome.state == alone.state, "how it ended is what it wrote, whatever can be seen from outside"
        else:
            assert outcome.state not in (State.PASSED, State.FAILED), "nobody said how it ended"
            assert (outcome.state in (State.STARTING, State.RUNNING)) == lives
            assert (outcome.state is State.QUEUED) == (facts.runner is None and not facts.stop_asked and (facts.launcher.boot == NOW)), (
                "claimed in this boot, and not begun"
            )
        assert outcome.reason or outcome.state in (State.PASSED, State.STARTING, State.RUNNING)
        assert ("2 of its processes live" in outcome.reason) == (facts.processes > 0 and outcome.state.ended)
    assert seen == set(State)


@pytest.mark.parametrize(
    ("facts", "state", "reason"),
    [
        (PLAIN, State.RUNNING, ""),
        (replace(PLAIN, stop_asked=True), State.RUNNING, "a stop was asked for"),
        (replace(PLAIN, started=False), State.STARTING, ""),
        (replace(PLAIN, runner=None, launcher_now=4000), State.QUEUED, "it is being launched"),
        (replace(PLAIN, runner=None), State.QUEUED, "its submit was cut off; submit it again: it starts once"),
        (replace(PLAIN, runner=None, stop_asked=True), State.CANCELLED, "a stop was asked for before it began"),
        (replace(PLAIN, runner=None, boot="later"), State.LOST, "the host was restarted before it began; submit it again: it starts once"),
        (replace(PLAIN, boot="later"), State.LOST, "the host was restarted while it ran"),
        (replace(PLAIN, boot="later", exit=Exit("exit", 0)), State.PASSED, ""),
        (replace(PLAIN, runner_now=6000), State.LOST, "its runner ended without a word, and another process has its pid 100"),
        (replace(PLAIN, runner_now=6000, exit=Exit("exit", 2)), State.FAILED, "exit code 2"),
        (replace(PLAIN, runner_now=None), State.LOST, "its runner ended without a word: killed, perhaps for want of memory, or with its tmux server"),
        (replace(PLAIN, runner_now=None, stop_asked=True), State.CANCELLED, "a stop was asked for"),
        (replace(PLAIN, exit=Exit("hangup", None, 15)), State.LOST, "its tmux server was ended, and it with it"),
        (replace(PLAIN, exit=Exit("exit", None, 9)), State.FAILED, "signal 9"),
        (replace(PLAIN, exit=Exit("exit", 0), processes=1), State.PASSED, "1 of its processes live: gpueval runs stop ends them"),
    ],
)
def test_states(facts, state, reason):
    assert judge(facts) == Outcome(state, reason)


def test_a_run_of_another_host():
    outcome = judge(replace(PLAIN, boot="other", host="gpu-b"))
    assert outcome.state is State.LOST
    assert "submitted on gpu-a, this is gpu-b" in outcome.reason
