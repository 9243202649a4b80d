"""The real nvidia-ml-py over a stand-in for the driver's library."""

import fnmatch
import json
import subprocess
import sys

import pynvml
import pytest

from pytest_gpueval.gpus import devices, nvml
from tests import fake_gpus
from tests.fake_gpus import change

SEE = """
    import json, os, sys
    from dataclasses import asdict
    from pytest_gpueval.errors import GpuevalError
    from pytest_gpueval.gpus import devices, nvml
    try:
        seen = devices.visible(os.environ)
        reads = nvml.readings([device.uuid for device in seen])
        print(json.dumps({"devices": [asdict(one) for one in seen], "driver": nvml.driver(), "reads": [asdict(one) for one in reads.values()]}))
    except GpuevalError as error:
        print(json.dumps({"error": f"{type(error).__name__}: {error}"}))
    import ctypes
    from contextlib import suppress
    with suppress(OSError):
        assert ctypes.CDLL("libnvidia-ml.so.1").fakeNvmlUsers() == 0
"""


def test_what_the_driver_reports(libraries, python):
    environment = fake_gpus.environment(
        libraries, 2, utilization=[5, 97], memory_used_mib=[3, 40000], power_mw=250500, energy_mj=[1500, 0], processes={1: "42:39000"}
    )
    seen = json.loads(python(SEE, environment))
    assert [(one["index"], one["name"], one["parent"]) for one in seen["devices"]] == [(0, "NVIDIA H100 80GB HBM3", None), (1, "NVIDIA H100 80GB HBM3", None)]
    assert seen["driver"] == "580.82.07"
    first, second = seen["reads"]
    assert first == {
        "uuid": seen["devices"][0]["uuid"], "memory_used_mib": 3, "memory_total_mib": 81559, "utilization": 5, "temperature_c": 40, "power_w": 250.5,
        "energy_j": 1.5, "processes": [],
    }  # fmt: skip
    assert (second["utilization"], second["memory_used_mib"], second["processes"]) == (97, 40000, [{"pid": 42, "memory_mib": 39000}])


def test_a_mask_narrows(libraries, python):
    environment = fake_gpus.environment(libraries, 3)
    seen = json.loads(python(SEE, {**environment, "CUDA_VISIBLE_DEVICES": "2,GPU-00000000"}))
    assert [one["uuid"][:12] for one in seen["devices"]] == ["GPU-00000002", "GPU-00000000"]


def test_instances_tell_less(libraries, python):
    seen = json.loads(python(SEE, fake_gpus.environment(libraries, 3, mig={1: 2, 2: 0}, memory_used_mib={"1:1": 700})))
    assert [(one["index"], one["instance"], one["uuid"][:4]) for one in seen["devices"]] == [(0, None, "GPU-"), (1, 0, "MIG-"), (1, 1, "MIG-")]
    assert seen["devices"][1]["parent"].startswith("GPU-00000001")
    assert seen["devices"][1]["name"].endswith("MIG 1g.10gb")
    part = seen["reads"][2]
    assert (part["memory_used_mib"], part["memory_total_mib"]) == (700, 9984)
    assert [part[key] for key in ("utilization", "temperature_c", "power_w", "energy_j")] == [None] * 4


def test_an_older_driver_tells_less(libraries, python):
    missing = dict.fromkeys(("nvmlDeviceGetMemoryInfo_v2", "nvmlDeviceGetMigMode", "nvmlDeviceGetComputeRunningProcesses_v3"), 13)
    (read,) = json.loads(python(SEE, fake_gpus.environment(libraries, 1, memory_used_mib=3, fail=missing)))["reads"]
    assert (read["memory_used_mib"], read["processes"]) == (503, None)


def test_a_driver_that_does_not_tell_memory(libraries, python):
    silent = {"nvmlDeviceGetMemoryInfo_v2": 3, "nvmlDeviceGetMemoryInfo": 3}
    (read,) = json.loads(python(SEE, fake_gpus.environment(libraries, 1, fail=silent)))["reads"]
    assert (read["memory_used_mib"], read["memory_total_mib"]) == (None, None)


@pytest.mark.parametrize("code", [9, 12, 28])
def test_no_driver_no_gpus(libraries, python, code):
    assert json.loads(python(SEE, fake_gpus.environment(libraries, 2, fail={"nvmlInitWithFlags": code}))) == {"devices": [], "driver": None, "reads": []}


def test_no_library_no_gpus(monkeypatch):
    def absent(name):
        raise OSError(name)

    monkeypatch.setattr(pynvml, "nvmlLib", None)
    monkeypatch.setattr(pynvml, "CDLL", absent)
    assert (devices.visible({}), nvml.driver()) == ([], None)


@pytest.mark.parametrize(
    ("function", "code", "message"),
    [
        (
            "nvmlInitWithFlags",
            18,
            "the NVIDIA driver does not answer: *mismatch. The driver was updated while it was loaded: reboot, or reload its kernel modules. ",
        ),
        (
            "nvmlInitWithFlags",
            999,
            "the NVIDIA driver does not answer: Unknown Error. See what `nvidia-smi` says; restart the container, or reload the driver. ",
        ),
        ("nvmlDeviceGetCount_v2", 15, "the NVIDIA driver does not answer: GPU is lost. It fell off the bus: reboot the machine. "),
        ("nvmlDeviceGetHandleByIndex_v2", 15, "the NVIDIA driver does not answer about GPU 0: GPU is lost. It fell off the bus: reboot the machine. "),
        ("nvmlDeviceGetMigMode", 999, "the NVIDIA driver does not answer about GPU 0: Unknown Error. "),
        ("nvmlDeviceGetMigDeviceHandleByIndex", 999, "the NVIDIA driver does not answer about GPU 0: Unknown Error. "),
        ("nvmlDeviceGetUtilizationRates", 15, "the NVIDIA driver does not answer about GPU MIG-*: GPU is lost. "),
        ("nvmlDeviceGetHandleByUUID", 6, "the NVIDIA driver does not answer about GPU MIG-*: Not Found (it is gone: removed, or its MIG layout changed). "),
    ],
)
def test_a_broken_driver_is_one_clear_line(libraries, python, function, code, message):
    told = json.loads(python(SEE, fake_gpus.environment(libraries, 1, mig={0: 1}, fail={function: code})))["error"]
    assert fnmatch.fnmatchcase(told, f"RuntimeFault: {message}*`--gpus none` works without GPUs.")
    assert "\n" not in told
    assert ".." not in told


def test_a_driver_unloaded_between_two_calls(libraries, python):
    code = """
        from pytest_gpueval.errors import RuntimeFault
        from pytest_gpueval.gpus import nvml
        try:
            nvml.readings(["GPU-1"])
        except RuntimeFault as fault:
            print(fault)
    """
    told = python(code, fake_gpus.environment(libraries, 1, fail={"nvmlInitWithFlags": 9}))
    assert told == "GPU GPU-1 cannot be read: no NVIDIA driver is loaded any more. See what `nvidia-smi` says.\n"


def test_values_change_while_a_process_runs(libraries):
    environment = fake_gpus.environment(libraries, 1, utilization=1)
    code = "from pytest_gpueval.gpus import nvml\nwhile True:\n    uuid = input()\n    print(nvml.readings([uuid])[uuid].utilization, flush=True)"
    with subprocess.Popen([sys.executable, "-c", code], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        for percent in (1, 50, 100):
            change(environment, utilization=percent)
            process.stdin.write("GPU-00000000-0000-4000-8000-000000000000\n")
            process.stdin.flush()
            assert process.stdout.readline() == f"{percent}\n"
        process.kill()
