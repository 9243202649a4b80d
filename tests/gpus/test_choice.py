"""Which GPUs a session takes: the judgement, and then the whole over the stand-in."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_gpueval.errors import Conflict, UsageProblem
from pytest_gpueval.gpus.devices import Device
from pytest_gpueval.gpus.leases import Pick, acquire, busy, pick
from pytest_gpueval.gpus.nvml import Process, Reading
from tests import fake_gpus

IDLE = Reading("GPU-0", 3, 80000, 0, 40, 70.0, 0.0, ())
DEVICES = [Device(index, f"GPU-{index}", "H100") for index in range(3)]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, None),
        ({"memory_used_mib": 4000}, None),
        ({"memory_used_mib": 4001}, "4001 of 80000 MiB of memory in use"),
        ({"memory_used_mib": 1024, "memory_total_mib": 8000}, None),
        ({"memory_used_mib": 1025, "memory_total_mib": 8000}, "1025 of 8000 MiB of memory in use"),
        ({"utilization": 19}, None),
        ({"utilization": 20}, "20 % utilisation"),
        ({"utilization": 99, "memory_used_mib": 70000}, "70000 of 80000 MiB of memory in use, 99 % utilisation"),
        ({"processes": (Process(1, 70000),)}, None),
        ({"utilization": None, "memory_used_mib": None, "memory_total_mib": None}, None),
    ],
)
def test_what_counts_as_busy(changes, words):
    assert busy(replace(IDLE, **changes)) == words


def test_a_spike_is_no_use():
    spike = replace(IDLE, utilization=100, memory_used_mib=70000)
    assert busy() is None
    assert busy(spike, spike) is not None
    assert busy(spike, IDLE, spike) is None
    assert busy(replace(IDLE, utilization=50), replace(IDLE, utilization=30)) == "30 % utilisation"


@given(st.lists(st.integers(0, 100), min_size=1), st.lists(st.integers(0, 80000), min_size=1))
def test_the_lowest_read_decides(rates, used):
    reads = [replace(IDLE, utilization=rate) for rate in rates] + [replace(IDLE, utilization=None, memory_used_mib=mib) for mib in used]
    assert (busy(*reads) is None) == (min(rates) < 20 and min([3, *used]) <= 4000)


def reads_of(**rates):
    return {device.uuid: [replace(IDLE, uuid=device.uuid, utilization=rates.get(f"gpu{device.index}", 0))] for device in DEVICES}


def test_auto_passes_over_the_busy_and_the_leased():
    assert pick("auto", DEVICES, reads=reads_of(gpu1=50), leased={"GPU-2": "leased: pid 7"}) == Pick(
        (DEVICES[0],), ((DEVICES[1], "busy: 50 % utilisation"), (DEVICES[2], "leased: pid 7"))
    )
    assert pick("auto", DEVICES, reads=reads_of(gpu1=50), leased={}, shared=True) == Pick(tuple(DEVICES))
    assert pick("auto", [], reads={}, leased={}) == Pick()


def test_auto_where_none_is_free():
    with pytest.raises(Conflict) as caught:
        pick("auto", DEVICES[:2], reads=reads_of(gpu1=50), leased={"GPU-0": "leased: pid 7"})
    assert str(caught.value) == (
        "--gpus auto: no GPU is free.\n  GPU 0 (GPU-0): leased: pid 7\n  GPU 1 (GPU-1): busy: 50 % utilisation\n"
        "Wait with --gpus-wait SECONDS, use busy ones all the same with --gpus-shared, or take CPU lanes with --gpus none."
    )


@pytest.mark.parametrize("spec", ["0,1", "all", "GPU-1"])
def test_a_named_gpu_that_is_busy(spec):
    with pytest.raises(Conflict) as caught:
        pick(spec, DEVICES, reads=reads_of(gpu1=50), leased={})
    assert str(caught.value) == (
        "GPU 1 (GPU-1) is used by somebody without a lease: 50 % utilisation.\n"
        "Choose other GPUs with --gpus, let --gpus auto pass it over, or use it all the same with --gpus-shared."
    )
    assert DEVICES[1] in pick(spec, DEVICES, reads=reads_of(gpu1=50), leased={}, shared=True).chosen


def test_named_gpus_that_are_free_or_leased():
    assert pick("2,0", DEVICES, reads=reads_of(gpu1=50), leased={"GPU-2": "leased: pid 7"}) == Pick((DEVICES[2], DEVICES[0]))
    assert pick("none", DEVICES, reads={}, leased={}) == Pick()
    with pytest.raises(UsageProblem):
        pick("9", DEVICES, reads={}, leased={})


RESERVE = """
    import json, os, sys
    from pytest_gpueval.errors import GpuevalError
    from pytest_gpueval.gpus.leases import holder, reserve
    told = []
    def on_wait(reason):
        told.append(reason)
        if os.environ.get("ON_WAIT"):
            exec(os.environ["ON_WAIT"])
    try:
        with (got := reserve(sys.argv[1], session="mine", on_wait=on_wait, **json.loads(sys.argv[2]))).leases:
            held = [one.label for one in got.devices if holder(one.uuid)]
            print(json.dumps({"devices": held, "passed": [[one.label, why] for one, why in got.passed_over], "guards": len(got.leases.guards), "told": told}))
    except GpuevalError as error:
        print(json.dumps({"error": str(error), "told": told}))
"""


@pytest.fixture
def reserve(python):
    return lambda environment, spec, **options: json.loads(python(RESERVE, environment, spec, json.dumps(options)))


def leased_here(environment, index):
    device = Device(index, f"GPU-{index:08x}-0000-4000-8000-000000000000", "H100")
    return acquire([device], session="other", directory=Path(environment["GPUEVAL_LEASE_DIR"]))


def test_reserving_what_is_free(libraries, reserve):
    environment = fake_gpus.environment(libraries, 4, utilization={1: 97}, mig={3: 1})
    with leased_here(environment, 2):
        got = reserve(environment, "auto")
    assert (got["devices"], got["guards"]) == (["0", "3:0"], 2)
    assert [label for label, _ in got["passed"]] == ["1", "2"]
    assert got["passed"][0][1] == "busy: 97 % utilisation"
    assert got["passed"][1][1].startswith(f"leased: pid {os.getpid()}, user ")


def test_reserving_named_gpus(libraries, reserve):
    environment = fake_gpus.environment(libraries, 3, memory_used_mib=[0, 0, 30000])
    assert reserve(environment, "0-1")["devices"] == ["0", "1"]
    assert reserve(environment, "0,2")["error"].startswith("GPU 2 (GPU-00000002-0000-4000-8000-000000000000) is used by somebody without a lease: 30000 of ")
    assert reserve(environment, "0,2", shared=True)["devices"] == ["0", "2"]
    with leased_here(environment, 1):
        for shared in (False, True):  # sharing is with those who hold no lease
            assert "is in use: pid" in reserve(environment, "0-1", shared=shared)["error"]


def test_reserving_without_gpus(libraries, reserve):
    environment = fake_gpus.environment(libraries, 0)
    nothing = {"devices": [], "passed": [], "guards": 0, "told": []}
    assert reserve(environment, "auto") == reserve(environment, "none") == nothing
    assert "shows no NVIDIA GPU (CUDA_VISIBLE_DEVICES is empty)" in reserve({**environment, "CUDA_VISIBLE_DEVICES": ""}, "all")["error"]
    broken = fake_gpus.environment(libraries, 1, fail={"nvmlInitWithFlags": 999})
    assert reserve(broken, "none") == nothing
    assert "does not answer" in reserve(broken, "auto")["error"]


def test_auto_waits_until_one_is_free(libraries, reserve):
    environment = fake_gpus.environment(libraries, 1, utilization=97)
    environment["ON_WAIT"] = "from tests.fake_gpus import change; change(os.environ, utilization=0)"
    got = reserve({**environment, "PYTHONPATH": str(Path(__file__).parents[2])}, "auto", wait_s=30)
    assert got["devices"] == ["0"]
    assert got["told"] == ["--gpus auto: no GPU is free.\n  GPU 0 (GPU-00000000-0000-4000-8000-000000000000): busy: 97 % utilisation"]


def test_auto_waits_in_vain(libraries, reserve):
    environment = fake_gpus.environment(libraries, 1, utilization=97)
    got = reserve(environment, "auto", wait_s=2)
    assert "no GPU is free" in got["error"]
    assert len(got["told"]) == 1


def test_many_sessions_at_once_share_nothing(libraries):
    environment = fake_gpus.environment(libraries, 4)
    code = (
        "import sys\nfrom pytest_gpueval.gpus.leases import reserve\n"
        "got = reserve('auto', session='s')\nprint([one.label for one in got.devices], flush=True)\nsys.stdin.read()"
    )
    started = [
        subprocess.Popen([sys.executable, "-c", code], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        for _ in range(4)
    ]
    try:
        taken = [label for process in started for label in json.loads(process.stdout.readline().replace("'", '"') or "[]")]
    finally:
        for process in started:
            process.communicate()
    assert sorted(taken) == ["0", "1", "2", "3"]
