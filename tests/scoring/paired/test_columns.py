"""Columns that are filled a step at a time are those of all samples together."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_gpueval.scoring.paired import over_steps, ratios, taken
from pytest_gpueval.scoring.terms import Ratio

from .made import TASKS, metrics_of, runs


def steps_of(parts, cuts):
    """Steps that hold each score once, however often it occurs in them."""
    for start, stop in zip([0, *cuts], [*cuts, len(parts)], strict=True):
        different = []
        places = []
        for one in parts[start:stop]:
            if one not in different:
                different.append(one)
            places.append(different.index(one))
        yield different, np.array(places, dtype=np.int64)


def same(found, expected):
    assert found.keys() == expected.keys()
    shared = {}
    for key, ratio in expected.items():
        for mine, theirs in zip(found[key], ratio, strict=True):
            for column, other in zip(mine, theirs, strict=True):
                assert column.tobytes() == other.tobytes(), key
                assert shared.setdefault(id(other), id(column)) == id(column), "what metrics share they still share"


@pytest.mark.parametrize("name", TASKS)
@given(seeds=st.lists(st.integers(0, 30), min_size=1, max_size=12), data=st.data())
@settings(max_examples=15, deadline=None)
def test_steps_give_the_same_columns(name, seeds, data):
    task, parts, _ = runs(name, seeds)
    parts = [{**one, **({"extra": {"size": float(at)}} if at % 3 == 2 else {})} for at, one in enumerate(parts)]
    keys = {*metrics_of(task, parts), ("size", None), ("absent", None)}
    cuts = sorted(data.draw(st.sets(st.integers(1, len(parts)).filter(lambda cut: cut < len(parts)), max_size=3))) if len(parts) > 1 else []
    expected = ratios(task, parts, keys)
    for expectation in (0, len(parts), 1000):
        same(over_steps(task, steps_of(parts, cuts), expectation, keys), expected)
    places = np.array(data.draw(st.lists(st.integers(0, len(parts) - 1), max_size=8)), dtype=np.int64)
    whole = {key: Ratio(*(tuple(column[places] for column in side) for side in ratio)) for key, ratio in expected.items()}
    for key, ratio in taken(expected, places).items():
        for mine, theirs in zip(ratio, whole[key], strict=True):
            assert all((one == other).all() for one, other in zip(mine, theirs, strict=True))


def test_a_task_whose_columns_are_others_in_each_step_is_looked_at_whole():
    class Odd:
        def terms(self, parts, wanted):
            column = np.ones(len(parts))
            return {("x", None): Ratio((column,), (column if parts[0]["even"] else column.copy(),))}

    assert over_steps(Odd(), steps_of([{"even": True}, {"even": False}], [1]), 2, {("x", None)}) is None
    assert over_steps(Odd(), steps_of([{"even": True}, {"even": True}], [1]), 2, {("x", None)}) is not None
