"""Hosts that differ in speed: who chooses first, what a slow one leaves, and how the difference is learned."""

import heapq
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_gpueval.planning.dispatch import Dispatcher, Job, Slot
from pytest_gpueval.planning.pace import Paces


def played(jobs, paces, *, kinds=True, known=False):
    """Seconds until all jobs have ended on slots that take so many times a job's length."""
    slots = [Slot(str(number), frozenset((f"GPU-{number}",)), f"pace {pace}" if kinds else "", pace if known else 1.0) for number, pace in enumerate(paces)]
    dispatcher, now, running, ran = Dispatcher(jobs, slots), 0.0, [], []
    for slot in slots:
        dispatcher.join(slot.name)
    while dispatcher.pending or running:
        for start in dispatcher.next(now):
            seconds = start.job.seconds * paces[int(start.slot.name)]
            heapq.heappush(running, (now + seconds, start.job.id, seconds))
            ran.append(start.job.id)
        assert running, "everybody waits"
        now, id_, seconds = heapq.heappop(running)
        dispatcher.done(id_, seconds)
    assert sorted(ran) == sorted(job.id for job in jobs)
    return now


def bound_s(jobs, paces):
    return max(sum(job.seconds for job in jobs) / sum(1 / pace for pace in paces), max(job.seconds for job in jobs) * min(paces))


def lognormal(count, seed, group="one"):
    source = random.Random(seed)
    return [Job(str(number), group, source.lognormvariate(0, 1), source="measured") for number in range(count)]


@pytest.mark.parametrize(("paces", "most"), [([1.0, 1.0, 4.0, 4.0], 1.08), ([1.0, 1.0, 2.0, 2.0], 1.05), ([1.0] * 4 + [3.0] * 4, 1.08)])
def test_a_slow_host_leaves_the_longest_to_the_others(paces, most):
    plain, learned, known = [], [], []
    for seed in range(50):
        jobs = lognormal(12, seed)
        plain.append(played(jobs, paces, kinds=False) / bound_s(jobs, paces))
        learned.append(played(jobs, paces) / bound_s(jobs, paces))
        known.append(played(jobs, paces, known=True) / bound_s(jobs, paces))
    assert sum(known) < sum(learned) <= sum(plain)
    assert sum(known) / 50 < most < sum(plain) / 50


def test_a_host_that_is_as_fast_as_the_others_changes_nothing():
    for seed in range(5):
        jobs = lognormal(60, seed)
        assert played(jobs, [1.0] * 4) == played(jobs, [1.0] * 4, kinds=False)


def test_the_difference_is_learned_from_jobs_that_were_predicted_well():
    slots = [Slot("a", frozenset("a"), "fast"), Slot("b", frozenset("b"), "slow")]
    dispatcher = Dispatcher([Job(str(number), "one", 10.0) for number in range(9)], slots)
    for slot in slots:
        dispatcher.join(slot.name)
    lengths, now = {"a": 10.0, "b": 30.0}, 0.0
    for _ in range(6):
        for start in dispatcher.next(now):
            dispatcher.done(start.job.id, lengths[start.slot.name])
        now += 40.0
    assert dispatcher.pending == 0
    paces = dispatcher._paces
    assert 2 < paces.of("slow") / paces.of("fast") < 4.5


@given(st.lists(st.floats(0.01, 100), min_size=1, max_size=40), st.lists(st.floats(0.1, 10), min_size=1, max_size=6))
def test_every_job_runs_once_whatever_the_paces(lengths, paces):
    jobs = [Job(str(number), f"group {number % 3}", length, source="measured") for number, length in enumerate(lengths)]
    assert played(jobs, paces) >= bound_s(jobs, paces) * (1 - 1e-9)


def test_paces_are_relative_and_within_reason():
    paces = Paces({"a": 1.0, "b": 1.0})
    assert paces.mixed and paces.of("a") == paces.of("c") == 1.0
    assert Paces({"a": 1.0, "b": 3.0}).of("b") == 3.0, "as is known, until both tell"
    paces.take("a", 10.0, 10.0)
    assert paces.of("a") == 1.0
    paces.take("b", 40.0, 10.0)
    assert paces.of("b") / paces.of("a") == pytest.approx(4.0)
    paces.take("b", 1e9, 1e-9)
    assert paces.of("a") == pytest.approx(1 / 50)
    one = Paces({"a": 1.0})
    one.take("a", 10.0, 1.0)
    assert not one.mixed and one.of("a") == 1.0
