"""Plans hold what they promise: every job once, GPUs never shared, near the bound; and the same on every process."""

import itertools
import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pytest_gpueval.planning.dispatch import MOST_PACKED, Dispatcher
from pytest_gpueval.planning.plan import OVERHEAD_S, Estimate, Job, Piece, Slot, Work, bound_s, jobs_of, make, pieces_of
from pytest_gpueval.planning.sharding import LEAST_SHARD_S, MOST_SHARDS_PER_LANE, TOLERANCE, shard_counts
from pytest_gpueval.suites import load


def slots_of(lanes, gpus=(1,)):
    """Slots on (lane, GPU) pairs, and the neighbours that make up each greater number of GPUs."""
    slots = [Slot(name, frozenset((gpu,)) if gpu else frozenset()) for name, gpu in lanes]
    single = [slot for slot in slots if slot.gpus]
    for width in sorted({width for width in gpus if width > 1}):
        for first in range(0, len(single) - width + 1, width):
            together = single[first : first + width]
            slots.append(Slot("+".join(slot.name for slot in together), frozenset().union(*(slot.gpus for slot in together))))
    return slots


seconds = st.floats(0.001, 1000, allow_nan=False).map(lambda value: round(value, 3))


def lanes(count):
    return slots_of([(f"gpu{number}", f"GPU-{number}") for number in range(count)])


def job(id_, length, **changes):
    return Job(id_, changes.pop("group", id_), length, **changes)


def numbered(lengths, **changes):
    return [job(str(number), length, **changes) for number, length in enumerate(lengths)]


@st.composite
def any_jobs(draw):
    """Jobs of several models and widths, of which some wait for others."""
    startups = {model: draw(st.sampled_from([0.0, 1.0, 60.0])) for model in "ABC"}
    jobs = []
    for number in range(draw(st.integers(0, 25))):
        model = draw(st.sampled_from([None, "A", "B", "C"]))
        jobs.append(
            job(
                f"j{number}",
                draw(seconds),
                group=f"g{draw(st.integers(0, 4))}",
                model=model,
                startup_s=startups[model] if model else 0.0,
                gpus=draw(st.sampled_from([1, 1, 1, 2, 4])),
                source=draw(st.sampled_from(["measured", "suite", "default"])),
            )
        )
    shards = [one.id for one in jobs]
    merges = draw(st.lists(st.lists(st.sampled_from(shards), min_size=1, unique=True), max_size=3)) if shards else []
    return jobs + [job(f"merge{number}", 0.2, after=tuple(after)) for number, after in enumerate(merges)]


any_slots = st.builds(
    lambda count, widths: slots_of([(f"gpu{number}", f"GPU-{number}") for number in range(count)], widths),
    st.integers(1, 6),
    st.sampled_from([(1,), (1, 2), (1, 2, 4)]),
)


def is_sound(plan, jobs):
    """Every job once, on a slot that can hold it, after those it waits for, with nobody else on its GPUs."""
    ids = [assignment.job.id for assignment in plan.assignments]
    assert sorted([*ids, *plan.too_wide]) == sorted(one.id for one in jobs)
    ends = {assignment.job.id: assignment.end_s for assignment in plan.assignments}
    for assignment in plan.assignments:
        assert len(assignment.slot.gpus) >= assignment.job.gpus
        assert all(ends[id_] <= assignment.start_s for id_ in assignment.job.after)
    for a, b in itertools.combinations(plan.assignments, 2):
        assert not a.slot.needs & b.slot.needs or a.end_s <= b.start_s or b.end_s <= a.start_s


@settings(deadline=None)
@given(any_jobs(), any_slots)
def test_a_plan_is_sound_and_not_below_its_bound(jobs, slots):
    plan = make(jobs, slots)
    is_sound(plan, jobs)
    assert plan.makespan_s >= plan.bound_s - 1e-6
    assert plan == make(jobs, slots)
    assert json.loads(json.dumps(plan.as_dict())) == plan.as_dict()


@settings(deadline=None)
@given(st.lists(seconds, min_size=1, max_size=60), st.integers(1, 9), st.sampled_from([0.0, 30.0]))
@example([5, 5, 4, 4, 3, 3, 3], 3, 0.0)
def test_graham(lengths, count, startup_s):
    """List scheduling ends by total/m + (1 - 1/m) longest, LPT by 4/3 - 1/(3m) of the best (Graham 1969)."""
    plan = make(numbered(lengths, model="A", startup_s=startup_s), lanes(count))
    assert plan.makespan_s <= startup_s + sum(lengths) / count + (1 - 1 / count) * max(lengths) + 1e-6


@pytest.mark.parametrize(
    ("lengths", "count", "makespan"),
    [
        ([5, 5, 4, 4, 3, 3, 3], 3, 11),  # Graham's worst case of LPT; the best is 9
        ([7, 6, 5, 4, 3], 2, 14),
        ([1] * 7, 8, 1),
        ([], 3, 0),
    ],
)
def test_known_plans(lengths, count, makespan):
    plan = make(numbered(lengths), lanes(count))
    assert plan.makespan_s == makespan
    assert plan.bound_s <= makespan


def test_the_longest_goes_first_and_of_equals_the_first():
    plan = make(numbered([1, 3, 2, 3]), lanes(1))
    assert plan.order == ("1", "3", "2", "0")
    assert plan.finish_by_slot == {"gpu0": 9}


def test_budget():
    plan = make(numbered([5, 4, 3]), lanes(1), budget_s=6)
    assert plan.over_budget == ("1", "2")
    assert make(numbered([5]), lanes(1)).over_budget == ()


# Models.


def models_by_slot(plan):
    found = {}
    for assignment in plan.assignments:
        found.setdefault(assignment.slot.name, set()).add(assignment.job.model)
    return found


def test_a_slot_keeps_to_its_model_where_loading_another_costs_time():
    """Longest first alone would load both models on both slots: 60 + 60 + 3 x 10."""
    jobs = [job(f"{model}{number}", 10, model=model, startup_s=60) for number in range(3) for model in "AB"]
    plan = make(jobs, lanes(2))
    assert plan.makespan_s == 90
    assert models_by_slot(plan) in ({"gpu0": {"A"}, "gpu1": {"B"}}, {"gpu0": {"B"}, "gpu1": {"A"}})


def test_a_slot_leaves_its_model_where_keeping_to_it_costs_time():
    """The slot of A would be done after 11 s, and B alone would take 101 s."""
    jobs = [job("a", 10, model="A", startup_s=1), *(job(f"b{number}", 10, model="B", startup_s=1) for number in range(10))]
    plan = make(jobs, lanes(2))
    assert plan.makespan_s <= 62
    assert {"A", "B"} in models_by_slot(plan).values()


@settings(deadline=None)
@given(st.lists(st.tuples(seconds, st.sampled_from("ABC")), min_size=1, max_size=40), st.integers(1, 6), st.sampled_from([1.0, 20.0, 300.0]))
def test_models_never_make_a_plan_worse_than_longest_first_alone(given_jobs, count, startup_s):
    plan = make([job(str(number), length, model=model, startup_s=startup_s) for number, (length, model) in enumerate(given_jobs)], lanes(count))
    ends, warm = [0.0] * count, [set() for _ in range(count)]
    for length, model in sorted(given_jobs, key=lambda pair: -pair[0]):
        slot = ends.index(min(ends))
        ends[slot] += length + (0 if model in warm[slot] else startup_s)
        warm[slot].add(model)
    assert plan.makespan_s <= max(ends) + 1e-6


def test_many_jobs_of_several_models_load_few_of_them():
    chance = random.Random(0)
    jobs = [job(str(number), chance.lognormvariate(1, 1), model="ABCD"[number % 4], startup_s=20) for number in range(4 * MOST_PACKED)]
    plan = make(jobs, lanes(16))
    is_loaded = [assignment for assignment in plan.assignments if assignment.startup_s]
    assert len(is_loaded) <= 32
    assert plan.makespan_s <= 1.1 * plan.bound_s


def test_a_late_slot_waits_where_loading_would_end_later():
    dispatcher = Dispatcher([job("one", 5, model="A", startup_s=60), job("two", 5, model="A", startup_s=60)], lanes(2))
    dispatcher.join("gpu0")
    assert [(start.job.id, start.slot.name, start.cold) for start in dispatcher.next(0)] == [("one", "gpu0", True)]
    dispatcher.join("gpu1")
    assert dispatcher.next(61) == []
    dispatcher.done("one", 5)
    assert [(start.job.id, start.slot.name, start.cold) for start in dispatcher.next(65)] == [("two", "gpu0", False)]


def test_a_slot_does_not_wait_for_one_that_is_long_overdue():
    dispatcher = Dispatcher([job("one", 5, model="A", startup_s=60), job("two", 5, model="A", startup_s=60)], lanes(2))
    dispatcher.join("gpu0")
    dispatcher.next(0)
    dispatcher.join("gpu1")
    assert dispatcher.next(61) == []
    assert [start.slot.name for start in dispatcher.next(300)] == ["gpu1"]


# Wide jobs.


def test_wide_jobs_go_first_and_merges_need_no_wide_slot():
    slots = slots_of([(f"gpu{number}", f"GPU-{number}") for number in range(4)], (1, 2))
    assert [slot.name for slot in slots] == ["gpu0", "gpu1", "gpu2", "gpu3", "gpu0+gpu1", "gpu2+gpu3"]
    jobs = [*numbered([9] * 4), job("wide", 1, gpus=2), job("merge", 0.1, after=("wide",))]
    plan = make(jobs, slots)
    assert plan.order[0] == "wide"
    (merge,) = [assignment for assignment in plan.assignments if assignment.job.id == "merge"]
    assert (merge.start_s, merge.slot.name) == (1, "gpu0")


def test_narrow_jobs_do_not_starve_a_wide_one():
    """The wide job comes when both GPUs are busy: only what ends before it can start goes on beside it."""
    slots = slots_of([("gpu0", "a"), ("gpu1", "b")], (1, 2))
    jobs = [job("long", 10), job("short", 2), job("fits", 7), job("second", 9), job("wide", 5, gpus=2)]
    dispatcher = Dispatcher(jobs, slots)
    dispatcher.join("gpu0")
    dispatcher.join("gpu1")
    assert {start.job.id for start in dispatcher.next(0)} == {"long", "second"}
    dispatcher.join("gpu0+gpu1")
    dispatcher.done("second")
    assert [start.job.id for start in dispatcher.next(2.5)] == ["fits"]
    dispatcher.done("fits")
    assert dispatcher.next(9.5) == []  # two seconds do not fit in what is left
    dispatcher.done("long")
    assert [start.job.id for start in dispatcher.next(10)] == ["wide"]


def test_a_lent_gpu_comes_back_empty():
    slots = slots_of([("gpu0", "a"), ("gpu1", "b")], (1, 2))
    dispatcher = Dispatcher([job("one", 5, model="A", startup_s=9), job("wide", 1, gpus=2), job("two", 5, model="A", startup_s=9)], slots)
    dispatcher.join("gpu0")
    dispatcher.next(0)
    dispatcher.join("gpu0+gpu1")
    dispatcher.done("one")
    assert [start.job.id for start in dispatcher.next(14)] == ["wide"]
    dispatcher.done("wide")
    assert [(start.job.id, start.cold) for start in dispatcher.next(15)] == [("two", True)]


def test_what_no_slot_can_hold_is_said():
    jobs = [job("wide", 5, gpus=3), job("merge", 1, after=("wide",)), job("fits", 2), job("loop", 1, after=("loop",))]
    plan = make(jobs, slots_of([("gpu0", "a"), ("gpu1", "b")], (1, 3)))
    assert plan.too_wide == ("wide", "merge", "loop")
    assert plan.order == ("fits",)
    assert (plan.total_s, plan.bound_s) == (2, 2)
    assert make(jobs, []).order == ()


def test_cpu_lanes():
    plan = make(numbered([3, 2, 1]), slots_of([("cpu0", None), ("cpu1", None)]))
    assert plan.makespan_s == 3
    assert plan.as_dict()["slots"] == [{"name": "cpu0", "gpus": [], "finish_s": 3.0}, {"name": "cpu1", "gpus": [], "finish_s": 3.0}]


# What the session tells.


def session(jobs, count=1):
    dispatcher = Dispatcher(jobs, lanes(count))
    for number in range(count):
        dispatcher.join(f"gpu{number}")
    return dispatcher


def next_id(dispatcher, now_s=0.0):
    (start,) = dispatcher.next(now_s)
    return start.job.id


def test_a_measurement_corrects_the_rest_of_its_group():
    dispatcher = session([job("a1", 10, group="a", source="measured"), job("a2", 9, group="a", source="measured"), job("b", 8, source="measured")])
    assert next_id(dispatcher) == "a1"
    dispatcher.done("a1", 5)
    assert next_id(dispatcher) == "b"  # a2 is expected to take 4.5 s now
    assert dispatcher.predicted_s(job("a2", 9, group="a")) == 4.5


def test_a_measurement_corrects_other_defaults_of_its_model_alone():
    jobs = [job("a", 10, model="A"), job("b", 1, model="A"), job("c", 2, model="B"), job("d", 3, model="A", source="suite")]
    dispatcher = session(jobs)
    assert next_id(dispatcher) == "a"
    dispatcher.done("a", 50)
    assert [dispatcher.predicted_s(one) for one in jobs[1:]] == [5, 2, 3]
    assert next_id(dispatcher) == "b"
    dispatcher.done("b", 0.5)  # a measured group follows its own; the others the ratio of sums
    dispatcher.back("b")
    assert dispatcher.predicted_s(jobs[1]) == 0.5


def test_a_reused_run_and_a_merge_correct_nothing():
    jobs = [job("a1", 10, group="a"), job("a2", 9, group="a"), job("merge", 1, group="a", after=("a1",))]
    dispatcher = session(jobs)
    next_id(dispatcher)
    dispatcher.done("a1")
    assert next_id(dispatcher) == "merge"
    dispatcher.done("merge", 100)
    assert dispatcher.predicted_s(jobs[1]) == 9


def test_no_measurement_pushes_all_others_aside():
    dispatcher = session([job("a1", 1, group="a"), job("a2", 1, group="a")])
    next_id(dispatcher)
    dispatcher.done("a1", 1e9)
    assert dispatcher.predicted_s(job("a2", 1, group="a")) == 50
    dispatcher.done("a2", 0)
    assert dispatcher.pending == 0


def test_a_worker_that_dies():
    dispatcher = session([job("a", 10), job("b", 5), job("merge", 1, after=("a", "b"))], 2)
    assert len(dispatcher.next(0)) == 2
    assert dispatcher.leave("gpu0").id == "a"
    dispatcher.done("b")
    assert dispatcher.next(5) == []  # the merge waits for what will become of a
    dispatcher.back("a")
    assert [(start.job.id, start.slot.name) for start in dispatcher.next(6)] == [("a", "gpu1")]
    dispatcher.join("gpu0")
    dispatcher.leave("gpu1")
    dispatcher.lost("a")
    assert [(start.job.id, start.slot.name) for start in dispatcher.next(7)] == [("merge", "gpu0")]
    dispatcher.done("merge")
    assert (dispatcher.pending, dispatcher.running) == (0, {})


def test_a_merge_waits_again_for_a_shard_that_is_run_again():
    dispatcher = session([job("a", 10), job("merge", 1, after=("a",))])
    next_id(dispatcher)
    dispatcher.done("a")
    dispatcher.back("a")
    assert next_id(dispatcher) == "a"
    dispatcher.done("a")
    assert next_id(dispatcher) == "merge"


def test_what_is_told_twice_changes_nothing():
    dispatcher = session([job("a", 1), job("b", 1)])
    next_id(dispatcher)
    dispatcher.done("a")
    dispatcher.done("a")
    dispatcher.back("b")
    assert dispatcher.pending == 1
    assert dispatcher.leave("gpu0") is None
    assert dispatcher.next(1) == []
    with pytest.raises(KeyError):
        dispatcher.join("gpu7")


@settings(max_examples=60, deadline=None)
@given(any_jobs(), any_slots, st.randoms(use_true_random=False))
def test_a_session_with_mishaps_ends(jobs, slots, chance):
    """Workers join late, die and come back, items take other times than predicted: every item still ends, and no GPU is ever shared."""
    dispatcher = Dispatcher(jobs, slots)
    away, ended, begun, now_s, mishaps = {slot.name for slot in slots}, set(), set(), 0.0, 0
    by_name, by_id = {slot.name: slot for slot in slots}, {one.id: one for one in jobs}
    for _ in range(10_000):
        if away and (chance.random() < 0.3 or not dispatcher.running):
            name = chance.choice(sorted(away))
            away.remove(name)
            dispatcher.join(name)
        for start in dispatcher.next(now_s):
            assert start.job.id not in begun - ended
            assert start.slot.name not in away
            assert all(id_ in ended for id_ in start.job.after)
            begun.add(start.job.id)
            ended.discard(start.job.id)
        used = [need for name in dispatcher.running for need in by_name[name].needs]
        assert len(used) == len(set(used))
        now_s += chance.random() * 100
        if dispatcher.running:
            name = chance.choice(sorted(dispatcher.running))
            one = dispatcher.running[name]
            ended.add(one.id)
            if chance.random() < 0.1 and mishaps < 20:
                mishaps += 1
                away.add(name)
                assert dispatcher.leave(name) == one
                if chance.random() < 0.5:
                    ended.discard(one.id)
                    begun.discard(one.id)
                    dispatcher.back(one.id)
                else:
                    dispatcher.lost(one.id)
            else:
                dispatcher.done(one.id, chance.choice([None, one.seconds * chance.lognormvariate(0, 1)]))
        elif not dispatcher.pending:
            break
    assert ended == by_id.keys() - dispatcher.never


# Shards.


pieces = st.lists(
    st.builds(
        Piece,
        group=st.uuids().map(str),
        rows=st.integers(0, 5000),
        seconds=seconds,
        startup_s=st.sampled_from([0.0, 30.0]),
        shards=st.one_of(st.just("auto"), st.just("auto"), st.integers(1, 12)),
        gpus=st.sampled_from([1, 1, 1, 2]),
    ),
    max_size=30,
    unique_by=lambda piece: piece.group,
)


@settings(deadline=None)
@given(pieces, st.integers(1, 64))
def test_shard_counts_keep_their_limits(given_pieces, count):
    counts = shard_counts(given_pieces, count, OVERHEAD_S)
    assert counts == shard_counts(given_pieces, count, OVERHEAD_S)
    assert list(counts) == [piece.group for piece in given_pieces]
    for piece in given_pieces:
        shards = counts[piece.group]
        assert 1 <= shards <= max(piece.rows, 1)
        if piece.shards != "auto":
            assert shards == min(piece.shards, max(piece.rows, 1))
        elif shards > 1:
            assert shards <= MOST_SHARDS_PER_LANE * (count // piece.gpus)
            assert -(-piece.rows // shards) * piece.seconds / piece.rows >= max(LEAST_SHARD_S, piece.startup_s / 4) - 1e-9


@settings(deadline=None)
@given(st.lists(seconds.map(lambda value: value + 100), min_size=1, max_size=20), st.integers(2, 16))
def test_shards_bring_the_plan_near_its_bound(lengths, count):
    """Datasets that may be cut as finely as is good end within the tolerance."""
    given_pieces = [Piece(str(number), 1_000_000, length) for number, length in enumerate(lengths)]
    counts = shard_counts(given_pieces, count)
    jobs = [job(f"{piece.group}-{part}", piece.seconds / counts[piece.group]) for piece in given_pieces for part in range(counts[piece.group])]
    plan = make(jobs, lanes(count))
    assert plan.makespan_s <= (1 + TOLERANCE) * plan.bound_s * 1.001


@pytest.mark.parametrize(
    ("given_pieces", "count", "expected"),
    [
        ([Piece("a", 1000, 80)], 8, [8]),
        ([Piece("a", 1000, 80)], 1, [1]),
        ([Piece("a", 1000, 80, shards=1)], 8, [1]),
        ([Piece("a", 1000, 80, shards=3)], 1, [3]),
        ([Piece("a", 3, 80, shards=5)], 8, [3]),
        ([Piece("a", 1000, 1)], 8, [5]),  # shards of 0.2 s
        ([Piece("a", 1000, 80, startup_s=200)], 8, [1]),  # a lane would load for 200 s to work for less than 50 s
        ([Piece("a", 1000, 80, gpus=2)], 8, [4]),
        ([Piece("a", 1000, 80, gpus=16)], 8, [1]),
        ([Piece("a", 5, 80)], 8, [5]),
        ([Piece("a", 0, 0)], 8, [1]),
        ([Piece("a", 1000, 100), Piece("b", 1000, 10, shards=1)], 2, [9, 1]),  # 5 and 4 of 9, and b
        ([Piece("a", 1000, 100, shards=1), Piece("b", 1000, 10)], 8, [1, 1]),  # nothing ends before a does
        ([Piece(str(number), 1000, 10) for number in range(8)], 8, [1] * 8),
    ],
)
def test_known_shard_counts(given_pieces, count, expected):
    assert list(shard_counts(given_pieces, count).values()) == expected


def test_shard_counts_are_the_same_on_every_process():
    """Whatever the seed of hashes: workers that cut otherwise would collect other items."""
    source = (
        "import random; from pytest_gpueval.planning.plan import Piece, make, Job, Slot;"
        "from pytest_gpueval.planning.sharding import shard_counts; chance = random.Random(7);"
        "pieces = [Piece(f'd{i}', chance.randrange(1, 9999), chance.lognormvariate(3, 1), 9.5, 'auto', f'm{i % 3}') for i in range(40)];"
        "jobs = [Job(p.group, p.group, p.seconds, p.startup_s, p.model) for p in pieces];"
        "print(shard_counts(pieces, 8, 0.02), make(jobs, [Slot(f's{i}', frozenset({f'g{i}'})) for i in range(8)]).as_dict())"
    )
    said = {
        subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True, env={**os.environ, "PYTHONHASHSEED": seed}).stdout
        for seed in ("1", "2", "3")
    }
    assert len(said) == 1


# From cases to jobs.


def works(rows=100, rate=10.0, **changes):
    suite = load.read(Path(__file__).parents[2] / "suites/guardrails_ru/suite.toml")
    case = suite.cases()[1]
    return [Work("suites/guardrails_ru/suite.toml::test_eval", case, rows, Estimate(rate, changes.get("startup_s", 3.0), "measured"))]


def test_a_case_that_is_not_cut():
    (only,) = jobs_of(works(), {})
    assert only == Job(
        "suites/guardrails_ru/suite.toml::test_eval[meddies-fast]",
        "suites/guardrails_ru/suite.toml::test_eval[meddies-fast]",
        10.02,
        3.0,
        "guardrails_ru/cpu",
        1,
        "measured",
    )


def test_a_case_that_is_cut_has_shards_and_the_item_that_joins_them():
    (piece,) = pieces_of(works())
    assert piece == Piece("suites/guardrails_ru/suite.toml::test_eval[meddies-fast]", 100, 10.0, 3.0, "auto", "guardrails_ru/cpu", 1)
    jobs = jobs_of(works(), {piece.group: 3}, 0.0)
    assert [one.id.partition("::")[2] for one in jobs] == [
        "test_eval[meddies-fast-1of3]",
        "test_eval[meddies-fast-2of3]",
        "test_eval[meddies-fast-3of3]",
        "test_eval[meddies-fast]",
    ]
    assert [one.seconds for one in jobs[:3]] == [3.3, 3.3, 3.4]
    merge = jobs[-1]
    assert (merge.id, merge.model, merge.startup_s) == (piece.group, None, 0.0)
    assert merge.after == tuple(one.id for one in jobs[:3])
    assert make(jobs, lanes(2)).order[-1] == merge.id


def test_jobs_that_were_deselected_are_not_waited_for():
    jobs = jobs_of(works(), {works()[0].nodeid: 2})
    plan = make([one for one in jobs if "2of2" not in one.id], lanes(1))
    assert [id_.rpartition("[")[2] for id_ in plan.order] == ["meddies-fast-1of2]", "meddies-fast]"]


def test_the_bound():
    slots = lanes(2)
    assert bound_s([], slots) == 0
    assert bound_s(numbered([4, 4]), slots) == 4
    assert bound_s(numbered([4, 4], model="A", startup_s=10), slots) == 14  # on one slot 18
    assert bound_s([job("a", 1, model="A", startup_s=10), job("b", 1, model="B", startup_s=30)], slots) == 31
    assert bound_s([job("a", 3), job("merge", 1, after=("a",))], slots) == 4
    assert bound_s([job("a", 3, gpus=2), job("b", 1)], slots) == 3.5
