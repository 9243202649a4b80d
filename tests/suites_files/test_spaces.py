"""Points of a space of parameters: the same ones everywhere, all different, all within the constraints."""

import builtins
import hashlib
import itertools
import json
import math
import subprocess
import sys
import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_gpueval.errors import MissingExtra, SuiteError
from pytest_gpueval.suites.load import validated
from pytest_gpueval.suites.spaces import MOST_POINTS, SpaceEntry, drawn

METHODS = ["random", "sobol", "halton", "latin"]
MIXED = {
    "lr": {"min": 1e-5, "max": 1e-2, "log": True},
    "batch": {"min": 1, "max": 256, "log": True},
    "dropout": {"min": 0.0, "max": 0.5},
    "width": {"min": 64, "max": 512, "step": 64},
    "model": {"values": ["base", "hc"]},
}


def points(space, where="space"):
    return drawn(space, where).points


def space(parameters, method="grid", **more):
    return validated(SpaceEntry, {"method": method, "parameters": parameters, **more}, "suite.toml")


def problem(call):
    with pytest.raises(SuiteError) as caught:
        call()
    return str(caught.value)


def test_a_grid_is_all_points_the_last_parameter_first():
    found = points(space({"lr": {"values": [1e-3, 1e-4]}, "n": {"min": 1, "max": 2}, "p": {"min": 0.1, "max": 0.35, "step": 0.1}}))
    assert found == [{"lr": lr, "n": n, "p": p} for lr, n, p in itertools.product([1e-3, 1e-4], [1, 2], [0.1, 0.2, 0.3])]
    assert repr(found[1]) == "{'lr': 0.001, 'n': 1, 'p': 0.2}"


def test_a_grid_without_the_points_that_break_a_constraint():
    entry = space({"n_embd": {"values": [64, 96]}, "n_head": {"min": 3, "max": 5}}, constraints=["n_embd % n_head == 0"])
    result = drawn(entry)
    assert result.points == [{"n_embd": 64, "n_head": 4}, {"n_embd": 96, "n_head": 3}, {"n_embd": 96, "n_head": 4}]
    assert (result.refused, result.duplicates, result.note(entry)) == (3, 0, "")
    none = space({"n": {"values": [1, 2]}}, constraints=["n > 2"])
    assert problem(lambda: points(none, "suite.toml: space")) == "suite.toml: space: no point is left: all 2 break a constraint: 'n > 2'"


def test_values_of_every_type():
    values = [1, 1.0, True, "1", [1], {"a": [False]}]
    assert repr([point["a"] for point in points(space({"a": {"values": values}}))]) == repr(values)


@pytest.mark.parametrize("method", METHODS)
def test_samples_lie_in_the_space_and_differ(method):
    found = points(space(MIXED, method, samples=200, seed=3, constraints=["lr * batch <= 0.5", "model == 'hc' or width % 128 == 0"]))
    assert len(found) == 200 == len({repr(point) for point in found})
    for point in found:
        assert list(point) == list(MIXED)
        assert 1e-5 <= point["lr"] <= 1e-2 and isinstance(point["lr"], float)
        assert 1 <= point["batch"] <= 256 and isinstance(point["batch"], int)
        assert 0 <= point["dropout"] <= 0.5
        assert point["width"] in range(64, 513, 64)
        assert point["lr"] * point["batch"] <= 0.5
        assert point["model"] == "hc" or (point["model"] == "base" and point["width"] % 128 == 0)
    assert found != points(space(MIXED, method, samples=200, seed=4, constraints=["lr * batch <= 0.5", "model == 'hc' or width % 128 == 0"]))


# Whoever changes a hash changes the runs of every sweep that is under way.
RECORDED = {"random": "c583091c55151867", "sobol": "54e20c156c7903e8", "halton": "481a4f5ee5b8fc76", "latin": "ac8fc584c97d3bf5"}


@pytest.mark.parametrize("method", METHODS)
def test_the_points_are_those_of_every_other_machine(method):
    found = points(space(MIXED, method, samples=300, seed=7, constraints=["lr * batch <= 0.5"]))
    assert hashlib.sha256(json.dumps(found).encode()).hexdigest()[:16] == RECORDED[method]


def test_few_samples_are_the_first_of_many_except_of_latin():
    for method in ("random", "sobol", "halton"):
        assert points(space(MIXED, method, samples=2000))[:50] == points(space(MIXED, method, samples=50))


@pytest.mark.parametrize("method", ["sobol", "latin"])
def test_each_sixteenth_of_a_range_has_one_of_sixteen_points(method):
    found = points(space({"a": {"min": 0.0, "max": 16.0}, "b": {"min": 1.0, "max": 2.0**16, "log": True}}, method, samples=16, seed=5))
    assert sorted(int(point["a"]) for point in found) == list(range(16))
    assert sorted(int(math.log2(point["b"])) for point in found) == list(range(16))


def test_whole_numbers_on_a_logarithmic_scale_have_their_share():
    found = [point["n"] for point in points(space({"n": {"min": 1, "max": 1000, "log": True}, "x": {"min": 0.0, "max": 1.0}}, "random", samples=3000))]
    assert min(found) == 1 and max(found) > 900
    below = sum(number <= 31 for number in found) / len(found)
    assert 0.5 < below < 0.6  # log(31.5 / 0.5) / log(1000.5 / 0.5) is 0.545


def test_a_space_that_has_no_more_points_gives_them_all_and_says_so():
    entry = space({"a": {"values": [1, 2, 3]}, "b": {"values": [True, False]}}, "random", samples=100, constraints=["a > 1"])
    result = drawn(entry)
    assert sorted(map(repr, result.points)) == sorted(repr({"a": a, "b": b}) for a in (2, 3) for b in (True, False))
    assert result.note(entry) == "4 points and not 100: the space has no more that differ"


@pytest.mark.parametrize("method", METHODS)
def test_a_space_whose_points_run_out_under_constraints_gives_them_all(method):
    entry = space({"a": {"min": 1, "max": 200}, "b": {"values": [1, 2]}}, method, samples=60, constraints=["a <= 20"])
    result = drawn(entry)
    assert len(result.points) == 40 == len({repr(point) for point in result.points})
    assert result.note(entry) == "40 points and not 60: the space has no more that differ"


@pytest.mark.parametrize("method", METHODS)
def test_duplicates_are_drawn_anew(method):
    result = drawn(space({"a": {"min": 1, "max": 10}, "b": {"min": 1, "max": 10}}, method, samples=80))
    assert len({repr(point) for point in result.points}) == 80


def test_constraints_that_leave_too_little_are_one_message():
    entry = space({"lr": {"min": 0.0, "max": 1.0}, "n": {"min": 1, "max": 2}}, "random", samples=5, constraints=["lr < 1e-9", "n == 1"])
    text = problem(lambda: points(entry, "suite.toml: space"))
    assert text == (
        "suite.toml: space: found 0 of 5 points in 10,000 draws: 10,000 break a constraint; most break 'lr < 1e-9'; 0 were there already. "
        "Ask for fewer samples, loosen the constraints, or choose method 'grid'."
    )


def test_numbers_are_short_and_narrow_ranges_have_the_digits_they_need():
    found = points(space({"a": {"min": 1.0, "max": 1.00001}, "b": {"min": 0.0, "max": 1.0}}, "random", samples=50))
    assert len({point["a"] for point in found}) == 50
    assert all(1 <= point["a"] <= 1.00001 for point in found)
    assert all(len(repr(point["b"])) <= 12 for point in found)


def test_a_range_of_one_value():
    assert points(space({"a": {"min": 0.5, "max": 0.5}, "b": {"min": 1, "max": 4}}, "random", samples=4)).count({"a": 0.5, "b": 1}) == 1


@pytest.mark.parametrize(
    ("toml", "message"),
    [
        ("[parameters.a]\nmin = 1", "parameters.a: needs 'values', or 'min' and 'max'"),
        ("[parameters.a]\nvalues = [1]\nmax = 2", "parameters.a: has 'values', and so neither min, max, log, step nor kind"),
        ("[parameters.a]\nvalues = []", "parameters.a.values: expected at least one entry"),
        ("[parameters.a]\nvalues = [1, 2, 1]", "parameters.a: 1 is there twice"),
        ("[parameters.a]\nvalues = [nan]", "parameters.a: nan is no finite number"),
        ("[parameters.a]\nvalues = [1979-05-27]", "parameters.a: 1979-05-27 is no number, text, true, false, array or table"),
        ("[parameters.a]\nmin = 2\nmax = 1", "parameters.a: 'min' 2 is above 'max' 1"),
        ("[parameters.a]\nmin = 0\nmax = 1\nlog = true", "parameters.a: 'log' needs a 'min' above 0, found 0"),
        ("[parameters.a]\nmin = 1\nmax = 2\nstep = 1\nlog = true", "parameters.a: 'log' and 'step' do not go together: name the 'values'"),
        ("[parameters.a]\nmin = 1\nmax = 2\nstep = 0", "parameters.a: 'step' must be above 0, found 0"),
        ("[parameters.a]\nmin = 0.5\nmax = 2\nkind = 'int'", "parameters.a: kind 'int' needs 'min', 'max' and 'step' without a point"),
        ("[parameters.a]\nmin = 1.0\nmax = 1e300\nstep = 1e-300", "parameters.a: has more than 9,007,199,254,740,992 values"),
        ("[parameters.a]\nmin = -1e308\nmax = 1e308", "parameters.a: 'min' and 'max' are beyond 1e300"),
        ("[parameters.a]\nmin = true\nmax = 2", "parameters.a.min"),
        ("[parameters.a]\nmin = 1\nmax = 2\nlgo = true", "parameters.a.lgo: unknown key. Did you mean 'log'?"),
        ("[parameters]", "parameters: expected at least one entry"),
        ("[parameters.a]\nmin = 0.0\nmax = 1.0", "method 'grid' cannot take all values of 'a'. Give it 'values' or a 'step'"),
        ("[parameters.a]\nmin = 0\nmax = 1\nkind = 'float'", "method 'grid' cannot take all values of 'a'"),
        ("[parameters.a]\nmin = 1\nmax = 9\nlog = true", "method 'grid' takes all values of 'a', and so no 'log'"),
        ("[parameters.a]\nmin = 1\nmax = 100_001", "the grid has 100,001 points, and 100,000 are the most"),
        ("samples = 5\n[parameters.a]\nvalues = [1]", "method 'grid' takes all points, and so neither 'samples' nor 'seed'"),
        ("method = 'random'\n[parameters.a]\nvalues = [1]", "method 'random' needs 'samples'"),
        ("method = 'random'\nsamples = 100_001\n[parameters.a]\nvalues = [1]", "samples"),
        ("method = 'sobl'\nsamples = 1\n[parameters.a]\nvalues = [1]", "method: unknown 'sobl'. Did you mean 'sobol'?"),
        ("constraints = ['b > 1']\n[parameters.a]\nvalues = [1]", "constraint 'b > 1': unknown parameter 'b'. Valid parameters: a."),
    ],
)
def test_a_space_that_is_wrong_is_refused_when_it_is_read(toml, message):
    text = problem(lambda: validated(SpaceEntry, tomllib.loads(toml), "suite.toml"))
    assert text.startswith("suite.toml: ")
    assert message in text


def test_a_hundred_thousand_points_are_allowed():
    assert len(points(space({"a": {"min": 1, "max": MOST_POINTS}}))) == MOST_POINTS


def test_only_sobol_and_halton_need_scipy(monkeypatch):
    real = builtins.__import__

    def without(name, *arguments, **options):
        if name.partition(".")[0] == "scipy":
            raise ImportError(name)
        return real(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    for method in ("random", "latin"):
        assert len(points(space(MIXED, method, samples=3))) == 3
    for method in ("sobol", "halton"):
        with pytest.raises(MissingExtra, match=r"the method sobol or halton needs the package 'scipy'(.|\n)*pytest-gpueval\[sweeps\]"):
            points(space(MIXED, method, samples=3))


def test_a_space_is_read_without_scipy_numpy_and_simpleeval():
    code = """
import sys
from pytest_gpueval.suites import arguments, constraints, run_ids, spaces, sweep_csv
spaces.drawn(spaces.SpaceEntry.model_validate({"parameters": {"a": {"min": 1, "max": 3}}}))
print(sorted({"scipy", "numpy", "simpleeval", "pytest"} & set(sys.modules)))
"""
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout == "[]\n"


@given(
    st.integers(-50, 50),
    st.integers(0, 60),
    st.one_of(st.none(), st.integers(1, 9)),
    st.sampled_from(METHODS),
    st.integers(0, 2**70),
)
def test_any_range_of_whole_numbers_is_met_from_end_to_end(low, width, step, method, seed):
    entry = {"min": low, "max": low + width} | ({"step": step} if step else {})
    every = list(range(low, low + width + 1, step or 1))
    found = [point["n"] for point in points(space({"n": entry}, method, samples=len(every), seed=seed))]
    assert sorted(found) == every


@given(st.floats(-1e299, 1e299), st.floats(-1e299, 1e299), st.sampled_from(METHODS), st.booleans())
def test_numbers_of_any_range_lie_in_it(one, other, method, log):
    low, high = min(one, other), max(one, other)
    entry = {"min": low, "max": high} | ({"log": True} if log and low > 0 else {})
    result = drawn(space({"x": entry, "n": {"min": 1, "max": 4}}, method, samples=4))
    assert all(low <= point["x"] <= high for point in result.points)
