"""Hosts are asked at once, and none holds up another; what nvidia-smi prints is read."""

import threading
from pathlib import Path

import pytest

from pytest_gpueval.errors import AccessDenied, Unreachable
from pytest_gpueval.hosts.bootstrap.checks import Seen, gpus
from pytest_gpueval.hosts.bootstrap.status import Status, statuses
from pytest_gpueval.hosts.declared import Declared, HostEntry

HOSTS = [Declared(name, None, HostEntry(address="local")) for name in ("silent", "quick", "broken", "closed")]


def test_who_does_not_answer_holds_nobody_up():
    asleep = threading.Event()
    begun = threading.Barrier(len(HOSTS), timeout=60)

    def ask(declared, root, timeout_s):
        begun.wait()  # all are asked before anybody answers
        if declared.name == "silent":
            asleep.wait()
        if declared.name == "broken":
            raise ZeroDivisionError("x")
        if declared.name == "closed":
            raise AccessDenied("no")
        return Status(declared)

    try:
        found = list(statuses(HOSTS, Path(), 3, ask=ask))
    finally:
        asleep.set()
    assert {each.declared.name for each in found[:3]} == {"quick", "broken", "closed"}
    errors = {each.declared.name: each.error for each in found}
    assert errors["quick"] is None and isinstance(errors["closed"], AccessDenied) and "ZeroDivisionError: x" in str(errors["broken"])
    assert isinstance(found[3].error, Unreachable) and "no answer within 3 s (--timeout)" in str(found[3].error)


@pytest.mark.parametrize(("said", "found"), [({"gpus": None, "why": "no nvidia-smi"}, None), ({"gpus": "", "processes": ""}, [])])
def test_no_gpus(said, found):
    assert gpus(said) == found


def test_what_nvidia_smi_prints():
    said = {
        "gpus": "0, GPU-a, NVIDIA H100 80GB HBM3, 512, 81559, 550.54.15\n1, GPU-b, NVIDIA A10, [N/A], 23028, 550.54.15\nsomething else\n",
        "processes": "GPU-a, 4242, 500\nGPU-a, 4243, [N/A]\nNo running processes found\n",
    }
    assert gpus(said) == [
        Seen(0, "GPU-a", "NVIDIA H100 80GB HBM3", 512, 81559, "550.54.15", ((4242, 500), (4243, None))),
        Seen(1, "GPU-b", "NVIDIA A10", None, 23028, "550.54.15", ()),
    ]
