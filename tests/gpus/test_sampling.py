"""Sums of a run, curves of a session, and the thread that feeds them."""

import json
import math
import threading
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_gpueval.gpus import nvml
from pytest_gpueval.gpus.nvml import Reading
from pytest_gpueval.gpus.sampling import Sampler, Series, Usage, _Track
from tests import fake_gpus

SILENT = Reading("GPU-0", None, None, None, None, None, None, None)


def reading(uuid="GPU-0", **values):
    return replace(SILENT, uuid=uuid, **values)


def test_a_run_on_one_gpu():
    usage = Usage()
    for at, (memory, rate, power, energy) in enumerate([(100, 0, 100.0, 1000.0), (300, 100, 300.0, 1150.0), (200, 50, 300.0, 1490.0)]):
        usage.add("GPU-0", 10.0 + at, reading(memory_used_mib=memory, utilization=rate, power_w=power, energy_j=energy))
    assert usage.as_dict() == {
        "memory_peak_mib": 300, "utilization_mean": 50, "utilization_peak": 100, "power_mean_w": 250, "energy_j": 490, "samples": 3,
    }  # fmt: skip
    usage.reset()
    assert usage.as_dict() is None


def test_energy_without_a_counter_is_the_integral_of_the_power():
    usage = Usage()
    for at, power in [(0.0, 100.0), (1.0, 300.0), (3.0, 300.0)]:
        usage.add("GPU-0", at, reading(power_w=power))
    assert usage.as_dict() == {"power_mean_w": 800 / 3, "energy_j": 800, "samples": 3}


def test_a_counter_that_starts_again_is_not_believed():
    usage = Usage()
    for at, energy in enumerate([5000.0, 10.0, 20.0]):
        usage.add("GPU-0", at, reading(power_w=100.0, energy_j=energy))
    assert usage.as_dict()["energy_j"] == 200


def test_one_moment_has_no_energy():
    usage = Usage()
    usage.add("GPU-0", 5.0, reading(power_w=100.0, energy_j=7.0))
    assert usage.as_dict() == {"power_mean_w": 100, "samples": 1}


def test_the_peak_is_that_of_the_sum_at_one_moment():
    usage = Usage()
    for at, (first, second) in enumerate([(10, 90), (90, 5), (50, 45)]):
        usage.add("GPU-1", at, reading("GPU-1", memory_used_mib=second))
        usage.add("GPU-0", at, reading("GPU-0", memory_used_mib=first))
    assert usage.as_dict() == {"memory_peak_mib": 100, "samples": 6}


def test_gpus_that_do_not_tell_are_not_summed():
    usage = Usage()
    for at in (0.0, 1.0):
        usage.add("GPU-0", at, reading(power_w=100.0))
        usage.add("MIG-0", at, reading("MIG-0", memory_used_mib=5))
    assert usage.as_dict() == {"memory_peak_mib": 5, "samples": 4}


MOMENTS = st.lists(
    st.tuples(st.floats(0.001, 100), st.lists(st.tuples(st.integers(0, 80000), st.integers(0, 100), st.floats(0, 1000)), min_size=3, max_size=3)), min_size=1
)


@settings(deadline=None)
@given(MOMENTS, st.permutations(range(3)))
def test_sums_are_those_of_plain_arithmetic(moments, order):
    usage, at, times = Usage(), 0.0, []
    for step, gpus in moments:
        at += step
        times.append(at)
        for number in order:
            memory, rate, power = gpus[number]
            usage.add(f"GPU-{number}", at, reading(f"GPU-{number}", memory_used_mib=memory, utilization=rate, power_w=power))
    found = usage.as_dict()
    rates = [rate for _, gpus in moments for _, rate, _ in gpus]
    assert found["memory_peak_mib"] == max(sum(memory for memory, _, _ in gpus) for _, gpus in moments)
    assert math.isclose(found["utilization_mean"], sum(rates) / len(rates))
    assert found["utilization_peak"] == max(rates)
    assert found["samples"] == 3 * len(moments)
    powers = [math.fsum(power for _, _, power in gpus) for _, gpus in moments]
    if len(moments) > 1:
        energy = math.fsum((after - before) * (powers[i] + powers[i + 1]) / 2 for i, (before, after) in enumerate(pairwise(times)))
        assert math.isclose(found["energy_j"], energy, rel_tol=1e-6, abs_tol=1e-6)
        assert math.isclose(found["power_mean_w"], energy / (times[-1] - times[0]), rel_tol=1e-6, abs_tol=1e-6)
        assert min(powers) - 1e-6 <= found["power_mean_w"] <= max(powers) + 1e-6
    else:
        assert "energy_j" not in found


@settings(deadline=None)
@given(st.integers(0, 3000), st.sampled_from([2, 3, 10, 600]))
def test_curves_stay_short_and_true(count, most):
    series = Series(most)
    for at in range(count):
        series.append("GPU-0", float(at), reading(utilization=at % 101, memory_used_mib=7, power_w=None))
    if not count:
        assert series.as_dict() == {}
        return
    curves = series.as_dict()["GPU-0"]
    times = curves["t_s"]
    assert {len(curve) for curve in curves.values()} == {len(times)}
    assert len(times) <= most
    assert len(times) >= min(count, most // 2 // 2)
    assert times == sorted(set(times))
    assert 0 <= times[0] <= times[-1] <= count - 1
    assert set(curves["memory_mib"]) == {7}
    assert set(curves["power_w"]) == {None}
    # All points but the last cover the same number of samples, so their mean is that of what they cover.
    stride = round(2 * times[0]) + 1
    whole = len(times) - 1
    assert math.isclose(sum(curves["utilization"][:whole]) * stride, sum(at % 101 for at in range(whole * stride)), abs_tol=1e-6)


def test_a_reading_that_comes_while_a_run_ends(monkeypatch):
    """The first one of another GPU waits until the sums are taken."""
    usage = Usage()
    usage.add("GPU-0", 0.0, reading(power_w=5.0))
    other = threading.Thread(target=usage.add, args=("GPU-1", 1.0, reading("GPU-1", power_w=7.0)))
    mean = _Track.power_mean_w

    def slow(track):
        if other.ident is None:
            other.start()
            other.join(0.2)
        return mean(track)

    monkeypatch.setattr(_Track, "power_mean_w", slow)
    assert usage.as_dict()["power_mean_w"] == 5.0
    other.join()
    assert usage.as_dict()["power_mean_w"] == 12.0


def test_curves_of_several_gpus_are_their_own():
    series = Series()
    for at in range(1200):
        series.append("GPU-0", at, reading(utilization=1))
        if at % 100 == 0:
            series.append("GPU-1", at, reading("GPU-1", power_w=5.0))
    curves = series.as_dict()
    assert (len(curves["GPU-0"]["t_s"]), curves["GPU-0"]["t_s"][:2]) == (600, [0.5, 2.5])
    assert (len(curves["GPU-1"]["t_s"]), curves["GPU-1"]["power_w"]) == (12, [5.0] * 12)
    json.dumps(curves, allow_nan=False)


def test_gaps_in_what_is_told_are_not_zeros():
    series = Series(2)
    for at, rate in enumerate([None, 50, None]):
        series.append("GPU-0", at, reading(utilization=rate))
    assert series.as_dict()["GPU-0"]["utilization"] == [50, None]


SAMPLE = """
    import ctypes, os, sys, threading
    sys.path.insert(0, os.environ["ROOT"])
    from pytest_gpueval.gpus.sampling import Sampler
    from tests.fake_gpus import change
    seen, some = [], threading.Semaphore(0)
    def on_sample(readings):
        seen.append([one.utilization for one in readings])
        some.release()
    sampler = Sampler([f"GPU-0000000{i}-0000-4000-8000-000000000000" for i in range(2)], on_sample, interval_s=0.01)
    def users():
        return ctypes.CDLL("libnvidia-ml.so.1").fakeNvmlUsers()
"""


def test_the_thread_reads_what_happens(libraries, python, pytestconfig):
    environment = fake_gpus.environment(libraries, 2, utilization=[1, 2]) | {"ROOT": str(pytestconfig.rootpath)}
    code = """
    sampler.stop()
    for turn in (1, 2):
        sampler.start(), sampler.start()
        assert sum(one.name == "gpueval-sampler" for one in threading.enumerate()) == 1
        for _ in range(3):
            assert some.acquire(timeout=20)
        assert users() == 1
        change(os.environ, utilization=[5, 6])
        while seen[-1] != [5, 6]:
            assert some.acquire(timeout=20)
        sampler.stop(), sampler.stop()
        assert users() == 0
        count = len(seen)
    assert seen[0] == [1, 2]
    assert sampler.error is None
    """
    python(SAMPLE + code, environment)


def test_a_driver_that_breaks_ends_the_sampling_not_the_session(libraries, python, pytestconfig):
    environment = fake_gpus.environment(libraries, 2) | {"ROOT": str(pytestconfig.rootpath)}
    code = """
    sampler.start()
    assert some.acquire(timeout=20)
    change(os.environ, fail={"nvmlDeviceGetUtilizationRates": 15})
    (thread,) = [one for one in threading.enumerate() if one.name == "gpueval-sampler"]
    thread.join(20)
    assert not thread.is_alive() and users() == 0
    print(sampler.error)
    sampler.stop()
    """
    assert "about GPU GPU-00000000-0000-4000-8000-000000000000: GPU is lost." in python(SAMPLE + code, environment)


@pytest.fixture
def no_driver(monkeypatch):
    monkeypatch.setattr(nvml, "read", lambda _library, uuids: {uuid: reading(uuid) for uuid in uuids})


def test_a_callback_that_breaks_is_told(no_driver):
    called = threading.Event()

    def on_sample(_):
        called.set()
        raise ZeroDivisionError

    sampler = Sampler(["GPU-0"], on_sample)
    sampler.start()
    assert called.wait(60)
    sampler.stop()
    assert sampler.error == "ZeroDivisionError"


def test_a_callback_may_stop_the_sampling(no_driver):
    stopped = threading.Event()
    sampler = Sampler(["GPU-0"], lambda _: (sampler.stop(), stopped.set()), interval_s=1000)
    sampler.start()
    assert stopped.wait(20)
    sampler.stop()
    assert sampler.error is None
