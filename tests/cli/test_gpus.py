"""gpueval gpus, over the stand-in for the driver."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pytest_gpueval.gpus.devices import Device
from pytest_gpueval.gpus.leases import acquire
from tests import fake_gpus

UUID = "GPU-0000000{}-0000-4000-8000-000000000000"


@pytest.fixture(scope="module")
def libraries(tmp_path_factory):
    return fake_gpus.build(tmp_path_factory.mktemp("fake-gpus"))


def gpueval(environment, *argv):
    code = "from pytest_gpueval.cli.main import run; run()"
    return subprocess.run([sys.executable, "-c", code, "gpus", *argv], env=environment, capture_output=True, text=True, timeout=60, check=False)


def test_who_uses_what(libraries):
    environment = fake_gpus.environment(
        libraries, 4, utilization=[0, 97], memory_used_mib=[3, 40000], processes={1: "42:39000,43:1"}, temperature_c=51, power_mw=250400, mig={3: 1}
    )
    with acquire([Device(2, UUID.format(2), "H100")], session="nightly", directory=Path(environment["GPUEVAL_LEASE_DIR"])):
        rows = json.loads(gpueval(environment, "--json").stdout)
        table = gpueval(environment)
    assert [(row["label"], row["state"], row["why"]) for row in rows] == [
        ("0", "free", None),
        ("1", "busy", "40000 of 81559 MiB of memory in use, 97 % utilisation"),
        ("2", "leased", None),
        ("3:0", "free", None),
    ]
    assert (rows[2]["lease"]["pid"], rows[2]["lease"]["session"]) == (os.getpid(), "nightly")
    assert (rows[3]["index"], rows[3]["instance"], rows[3]["parent"]) == (3, 0, UUID.format(3))
    assert rows[1]["processes"] == [{"pid": 42, "memory_mib": 39000}, {"pid": 43, "memory_mib": 1}]

    assert (table.returncode, table.stderr) == (0, "")
    head, free, busy, leased, part = table.stdout.splitlines()
    assert head.split() == ["index", "uuid", "name", "driver", "memory", "utilization", "temperature", "power", "state", "lease", "processes"]
    assert free.split("  ")[0] == "0"
    for cell in (UUID.format(0), "NVIDIA H100 80GB HBM3", "580.82.07", "3 / 81559 MiB", "0 %", "51 °C", "250 W", "free"):
        assert f"  {cell}  " in f"{free}  "
    assert "  busy: 40000 of 81559 MiB of memory in use, 97 % utilisation  " in busy
    assert busy.rstrip().endswith("42 (39000 MiB), 43 (1 MiB)")
    assert re.search(rf"  leased +pid {os.getpid()}, user \S+, session nightly, since 20", leased)
    assert part.startswith("3:0 ")


def test_indices_count_what_is_visible(libraries):
    environment = fake_gpus.environment(libraries, 3) | {"CUDA_VISIBLE_DEVICES": "2,0"}
    rows = json.loads(gpueval(environment, "--pretty").stdout)
    assert [(row["index"], row["uuid"]) for row in rows] == [(0, UUID.format(2)), (1, UUID.format(0))]


@pytest.mark.parametrize(
    ("mask", "line"),
    [
        (None, "This machine shows no NVIDIA GPU; --gpus none and auto take CPU lanes here.\n"),
        ("", "This machine shows no NVIDIA GPU (CUDA_VISIBLE_DEVICES is empty); --gpus none and auto take CPU lanes here.\n"),
    ],
)
def test_no_gpu_is_no_failure(libraries, mask, line):
    environment = fake_gpus.environment(libraries, 1, fail=None if mask == "" else {"nvmlInitWithFlags": 9})
    environment |= {} if mask is None else {"CUDA_VISIBLE_DEVICES": mask}
    done = gpueval(environment)
    assert (done.returncode, done.stdout, done.stderr) == (0, line, "")
    done = gpueval(environment, "--json")
    assert (done.returncode, done.stdout) == (0, "[]\n")


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_a_broken_driver_is_unreachable(libraries, form):
    done = gpueval(fake_gpus.environment(libraries, 1, fail={"nvmlInitWithFlags": 18}), *form)
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.startswith("gpueval: the NVIDIA driver does not answer: ")
    assert done.stderr.count("\n") == 1


def test_a_mask_that_contradicts_itself_is_usage(libraries):
    environment = fake_gpus.environment(libraries, 1, mig={0: 1}) | {"CUDA_VISIBLE_DEVICES": "0,MIG-"}
    done = gpueval(environment)
    assert done.returncode == 2
    assert "is an instance of GPU-00000000" in done.stderr


def test_another_lease_directory_that_is_none(libraries, tmp_path):
    (tmp_path / "file").write_text("")
    environment = fake_gpus.environment(libraries, 1) | {"GPUEVAL_LEASE_DIR": str(tmp_path / "file")}
    assert json.loads(gpueval(environment, "--json").stdout)[0]["state"] == "free"
