"""Whether a program that has ended gave its GPU memory back: the arithmetic, and the waiting over a stand-in for the driver."""

import json
import subprocess
import sys

import pytest

from pytest_gpueval.gpus.memory import surplus_mib
from pytest_gpueval.gpus.nvml import Process, Reading
from tests import fake_gpus

ME, OTHER, OLD, DEAD = 1, 2, 3, 4

WATCH = """
    import json, subprocess, sys, time
    from pytest_gpueval.gpus import devices
    from pytest_gpueval.gpus.memory import MemoryWatch
    from tests.fake_gpus import change
    import os
    patience, linger_ms, more, hurry = float(sys.argv[1]), int(sys.argv[2]), json.loads(sys.argv[3]), sys.argv[4] == "hurry"
    watch = MemoryWatch([device.uuid for device in devices.visible()], patience)
    watch.before()
    with subprocess.Popen(["sleep", "1000"]) as program:
        change(os.environ, tenants={1: f"{program.pid}:5000:{linger_ms}"})
        program.kill()
    change(os.environ, **more)
    begin = time.monotonic()
    print(json.dumps([watch.after(hurry=hurry), time.monotonic() - begin]))
"""


def reading(used, **processes):
    names = {"me": ME, "other": OTHER, "old": OLD, "dead": DEAD}
    return Reading("GPU-0", used, 80000, 0, 40, 70.0, 1.0, tuple(Process(names[name], mib) for name, mib in processes.items()))


@pytest.mark.parametrize(
    ("before", "after", "surplus"),
    [
        (reading(500), reading(500), 0),
        (reading(500), reading(5500), 5000),
        (reading(500), reading(5500, other=5000), 0),
        (reading(500), reading(5500, dead=5000), 5000),
        (reading(500, me=500), reading(1500, me=1500), 0),
        (reading(700, old=200), reading(900, old=400), 0),
        (reading(700, old=200), reading(500), 0),
        (reading(700, old=200), reading(700), 200),
        (reading(5500, old=5000), reading(5500, other=5000), 0),
        (reading(500, old=None), reading(5500, old=None), 5000),
        (reading(None), reading(5500), 0),
        (reading(500), reading(None), 0),
    ],
)
def test_what_others_took_is_theirs(before, after, surplus):
    assert surplus_mib(before, after, lambda pid: pid in (ME, OTHER)) == surplus


def test_a_driver_that_lists_no_processes():
    silent = Reading("GPU-0", 500, 80000, 0, 40, 70.0, 1.0, None)
    assert surplus_mib(silent, reading(600), lambda _: True) == 100
    assert surplus_mib(reading(600), silent, lambda _: True) == -100


@pytest.fixture
def watched(libraries, python):
    def run(*, patience_s=60.0, linger_ms=0, more=None, hurry=False, **values):
        environment = fake_gpus.environment(libraries, 2, memory_used_mib=300, **values)
        said = python(WATCH, environment, str(patience_s), str(linger_ms), json.dumps(more or {}), "hurry" if hurry else "")
        return json.loads(said)

    return run


@pytest.mark.parametrize("hidden", [0, 1])
def test_memory_that_comes_back_late_is_waited_for(watched, hidden):
    words, waited = watched(linger_ms=700, hidden=hidden)
    assert words == []
    assert 0.6 < waited < 30


def test_memory_that_is_back_is_not_waited_for(watched):
    words, waited = watched(patience_s=1000.0)
    assert words == [] and waited < 10


@pytest.mark.parametrize("hurry", [False, True])
def test_memory_that_does_not_come_back_is_told(watched, hurry):
    ((words,), waited) = watched(patience_s=1000.0 if hurry else 0.3, linger_ms=-1, hurry=hurry)
    assert "later GPU GPU-00000001-0000-4000-8000-000000000000 has 5,000 MiB more in use than before, by no process that the driver shows;" in words
    assert "`gpueval gpus` says who uses it" in words
    assert waited < 100


def test_a_little_more_is_no_news(watched):
    assert watched(more={"memory_used_mib": 364})[0] == []


def test_what_others_take_meanwhile_is_not_held_against_it(watched):
    with subprocess.Popen(["sleep", "1000"]) as other:
        assert watched(more={"memory_used_mib": 20300, "processes": f"{other.pid}:20000"})[0] == []
        other.kill()


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_driver_that_does_not_answer_is_told(watched, when):
    fails = {"nvmlDeviceGetHandleByUUID": 15}
    words, _ = watched(**({"fail": fails} if when == "before" else {"more": {"fail": fails}}))
    assert len(words) == 1
    assert words[0].startswith("whether it gave its GPU memory back cannot be told: the NVIDIA driver does not answer about GPU GPU-0000000")


def test_without_a_gpu_nothing_is_asked():
    code = """if True:
        import sys
        from pytest_gpueval.gpus.memory import MemoryWatch
        watch = MemoryWatch([])
        watch.before()
        assert watch.after() == []
        assert "pynvml" not in sys.modules
    """
    subprocess.run([sys.executable, "-c", code], check=True)
