"""Rows of a suite under a budget: what always holds, what is best by brute force, and the table that was tuned by hand."""

import itertools
import math

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pytest_gpueval.datasets.budget import STEP, Demand, Limits, propose, seconds
from pytest_gpueval.errors import UsageProblem
from pytest_gpueval.scoring.power import ONE_UNIT_A_ROW, Spread, against_bound

# samples/s on one GPU, rows of the `fast` split that were found by hand for ten minutes, and the least strict F1 of the gate.
BY_HAND = {
    "russian-pii-66k": (40, 4000, 0.75),
    "meddies": (7, 800, 0.67),
    "scanpatch": (38, 1500, 0.74),
    "rubai": (42, 2500, 0.63),
    "kaggle": (35, 800, 0.72),
    "hf-sample-en": (45, 800, 0.73),
    "presidio-test": (40, 800, 0.72),
}


def of_share(name, rate, bound=0.75, binomial=1.0, **more):
    return Demand(name, rate, lambda rows: against_bound(Spread(binomial=binomial), bound, rows), **more)


def largest(demands, rows):
    return max(demand.mde(rows[demand.name]) for demand in demands)


@st.composite
def suites(draw):
    count = draw(st.integers(1, 6))
    return [
        of_share(
            f"d{number}",
            draw(st.floats(0.5, 5000)),
            draw(st.floats(0.1, 0.99)),
            draw(st.floats(0.02, 10)),
            floor=draw(st.integers(1, 400)),
            ceiling=draw(st.none() | st.integers(1, 20_000)),
            gpus=draw(st.sampled_from([1, 1, 1, 2])),
            places=draw(st.sampled_from([None, None, 1, 2])),
        )
        for number in range(count)
    ]


def limits():
    return st.builds(Limits, st.floats(1, 3600), st.integers(2, 16), st.floats(0, 60), st.sampled_from([1, 50, 100]))


def proposed(demands, limit):
    try:
        return propose(demands, limit)
    except UsageProblem:
        assume(False)


@settings(deadline=None)
@given(suites(), limits())
def test_budget_floors_ceilings_and_steps_are_kept(demands, limit):
    rows = proposed(demands, limit)
    assert seconds(demands, rows, limit) <= limit.seconds * (1 + 1e-9)
    for demand in demands:
        number, most = rows[demand.name], demand.ceiling or math.inf
        assert type(number) is int
        assert min(demand.floor, most) <= number <= most
        assert number % limit.step == 0 or number == most


@settings(deadline=None)
@given(suites(), limits())
def test_drops_are_even_to_within_a_step_and_nothing_better_fits(demands, limit):
    rows = proposed(demands, limit)
    assume(largest(demands, rows) < math.inf)
    free = [demand for demand in demands if _grown(demand, rows, limit) is not None]
    level = max((demand.mde(rows[demand.name]) for demand in free), default=0.0)
    for demand in demands:
        fewer = rows[demand.name] - (rows[demand.name] % limit.step or limit.step)
        if fewer >= demand.floor:  # not at its floor: with a step less it would be among the worst
            assert demand.mde(fewer) >= level * (1 - 1e-9)
    if free:
        worst = max(free, key=lambda demand: demand.mde(rows[demand.name]))
        more = {**rows, worst.name: _grown(worst, rows, limit)}
        tied = [demand for demand in free if demand.mde(rows[demand.name]) >= level * (1 - 1e-9)]
        assert seconds(demands, more, limit) > limit.seconds * (1 - 1e-9) or len(tied) > 1


def _grown(demand, rows, limit):
    """One step more, None where there are no more rows, or its own workers cannot do them in time."""
    now = rows[demand.name]
    more = min(now + limit.step - now % limit.step, demand.ceiling or 10**9)
    places = min(demand.places or limit.gpus, limit.gpus // demand.gpus)
    return None if more <= now or limit.startup_s + more / demand.rate / places > limit.seconds else more


@settings(deadline=None)
@given(suites(), limits(), st.floats(1, 4), st.integers(0, 4))
def test_more_minutes_and_gpus_never_raise_the_largest_drop(demands, limit, factor, gpus):
    rows = proposed(demands, limit)
    more_time = propose(demands, Limits(limit.seconds * factor, limit.gpus, limit.startup_s, limit.step))
    assert largest(demands, more_time) <= largest(demands, rows)
    if all(demand.places is None and demand.mde(demand.floor) < math.inf for demand in demands):
        assert all(more_time[name] >= rows[name] for name in rows), "a fast split that is chosen nested in size only grows"
    if all(demand.gpus == 1 and demand.places is None for demand in demands):
        more_gpus = propose(demands, Limits(limit.seconds, limit.gpus + gpus, limit.startup_s, limit.step))
        assert largest(demands, more_gpus) <= largest(demands, rows)


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(5, 50), st.floats(0.3, 0.95), st.floats(0.2, 3)), min_size=1, max_size=3), st.floats(20, 60))
def test_the_largest_drop_is_the_least_of_all_tables_that_fit(given_, budget_s):
    demands = [of_share(str(number), *values, floor=50, ceiling=400) for number, values in enumerate(given_)]
    limit = Limits(budget_s)
    rows = proposed(demands, limit)
    names = [demand.name for demand in demands]
    tables = (dict(zip(names, numbers, strict=True)) for numbers in itertools.product(range(50, 401, 50), repeat=len(names)))
    best = min(largest(demands, table) for table in tables if seconds(demands, table, limit) <= budget_s)
    assert largest(demands, rows) == pytest.approx(best)


def test_the_table_that_was_tuned_by_hand():
    """In the time that the hand-tuned rows take, and in the ten minutes that they were meant for, smaller drops show."""
    demands = [of_share(name, rate, bound) for name, (rate, _, bound) in BY_HAND.items()]
    by_hand = {name: rows for name, (_, rows, _) in BY_HAND.items()}
    needed_s = seconds(demands, by_hand, Limits(600))
    assert needed_s == pytest.approx(374, abs=1)
    for budget_s in (needed_s, 600):
        rows = propose(demands, Limits(budget_s))
        assert seconds(demands, rows, Limits(budget_s)) <= budget_s
        assert largest(demands, rows) < 0.85 * largest(demands, by_hand)
        drops = [demand.mde(rows[demand.name]) for demand in demands]
        assert max(drops) < 1.05 * min(drops)  # by hand: 2.3 times
    assert seconds(demands, rows, Limits(600)) > 580


def test_eight_gpus_have_eight_times_the_rows():
    demands = [of_share(name, rate, bound) for name, (rate, _, bound) in BY_HAND.items()]
    one, eight = propose(demands, Limits(600)), propose(demands, Limits(600, gpus=8))
    assert sum(eight.values()) == pytest.approx(8 * sum(one.values()), rel=0.02)


def test_start_up_is_paid_once_by_all_gpus_side_by_side():
    demands = [of_share("a", 10)]
    assert propose(demands, Limits(70, startup_s=20)) == {"a": 500}
    assert propose(demands, Limits(70, gpus=4, startup_s=20)) == {"a": 2000}


def test_a_dataset_that_is_not_cut_has_one_worker():
    demands = [of_share("whole", 10, places=1, floor=1), of_share("cut", 10, floor=1)]
    rows = propose(demands, Limits(100, gpus=4))
    assert rows == {"whole": 1000, "cut": 3000}


def test_a_pair_of_gpus_counts_twice():
    assert propose([of_share("pair", 10, gpus=2)], Limits(100, gpus=2)) == {"pair": 1000}
    rows = propose([of_share("pair", 10, gpus=2), of_share("one", 10)], Limits(100, gpus=2))
    assert rows["pair"] * 2 + rows["one"] <= 2000
    assert abs(rows["pair"] - rows["one"]) <= STEP


def test_all_there_are_is_enough():
    assert propose([of_share("a", 100, ceiling=130), of_share("b", 100, ceiling=777)], Limits(600)) == {"a": 130, "b": 777}
    assert propose([], Limits(600)) == {}


def test_what_shows_nothing_more_gets_nothing_more():
    still, never = Demand("still", 10, lambda rows: 0.0), Demand("never", 10, lambda rows: math.inf)
    assert propose([still, never, of_share("a", 10, floor=50)], Limits(100)) == {"still": 200, "never": 200, "a": 600}


def test_a_bound_near_0_needs_rows_before_it_shows_any_drop():
    rare = of_share("rare", 100, bound=0.01)
    assert rare.mde(200) == math.inf
    rows = propose([rare, of_share("a", 100)], Limits(60))
    assert rare.mde(rows["rare"]) < 0.01


def test_what_can_show_nothing_in_the_time_takes_none_of_it():
    hopeless = of_share("hopeless", 1, bound=0.001)
    rows = propose([hopeless, of_share("a", 100)], Limits(600))
    assert hopeless.mde(600) == math.inf and hopeless.mde(10_000) < math.inf
    assert rows == {"hopeless": 200, "a": 40_000}


def test_floors_that_do_not_fit():
    demands = [of_share(name, rate, bound) for name, (rate, _, bound) in BY_HAND.items()]
    with pytest.raises(UsageProblem) as caught:
        propose(demands, Limits(30, startup_s=5))
    assert str(caught.value) == (
        "0.5 minutes on 1 GPU are 34 s too short for the fewest rows that datasets may have.\n"
        "meddies costs most: 200 rows at 7/s are 29 s of the 59 s of GPU time that all need, after 5 s of start-up and other overhead.\n"
        "Give it --minutes 1.1, more --gpus, or a lower --floor."
    )
    propose(demands, Limits(66, startup_s=5))


def test_thousands_of_rows_a_second_are_no_longer_to_size():
    demands = [of_share(f"d{number}", 10 ** (3 + number % 4), 0.5 + number / 100, binomial=0.001 * (number + 1)) for number in range(40)]
    calls = []
    counted = [Demand(demand.name, demand.rate, lambda rows, mde=demand.mde: calls.append(1) or mde(rows)) for demand in demands]
    rows = propose(counted, Limits(3600, gpus=8))
    assert max(rows.values()) > 1_000_000
    assert len(calls) < 100_000


def test_the_default_is_one_unit_a_row():
    assert of_share("a", 1).mde(800) == against_bound(ONE_UNIT_A_ROW, 0.75, 800)
