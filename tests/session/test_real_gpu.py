"""Real GPUs: the driver's own library and CUDA contexts made by torch. Skipped where there is no GPU."""

from __future__ import annotations

import json

import pytest

from pytest_gpueval.gpus import devices, leases, nvml

pytestmark = pytest.mark.gpu

MODEL = """
import os, torch
class Model:
    def predict(self, batch):
        uuid = str(torch.cuda.get_device_properties(0).uuid).removeprefix("GPU-")
        print("SEES", os.getpid(), torch.cuda.device_count(), uuid, flush=True)
        held = torch.ones(64 << 20, device="cuda")
        if any("POISON" in item["text"] for item in batch):
            torch._assert_async(torch.zeros(1, device="cuda"))
            torch.cuda.synchronize()
        return [[(0, 3, "A", float(held[0]))] for _ in batch]
"""


def seen(toy, run: str) -> list[tuple[str, str, str]]:
    """(pid, number of GPUs, UUID) as torch sees them in a run's process."""
    lines = (toy.session("it") / run / "stdout.log").read_text().splitlines()
    return [tuple(line.split()[1:]) for line in lines if line.startswith("SEES")]


def test_the_driver_tells_what_a_gpu_is_doing():
    (first, *_) = devices.visible()
    reading = nvml.readings([first.uuid])[first.uuid]
    assert reading.memory_total_mib > reading.memory_used_mib >= 0
    assert nvml.driver()
    if first.parent is None:
        assert 0 <= reading.utilization <= 100
        assert reading.power_w > 0


def test_a_worker_sees_one_gpu_the_one_it_was_given(toy):
    pytest.importorskip("torch", reason="makes the CUDA context")
    (first, *_) = devices.visible()
    toy.suite("toy", model=MODEL)
    toy.spawn("--gpueval-suite", "toy", "--gpus", first.label, "--gpueval-session", "it").assert_outcomes(passed=2)
    for run in ("toy-one-fast", "toy-two-fast"):
        assert {(count, uuid) for _, count, uuid in seen(toy, run)} == {("1", first.uuid.removeprefix("GPU-"))}
        assert toy.summary(run, "it")["gpu"]["memory_peak_mib"] > 0
    assert first.uuid in json.loads((toy.session("it") / "session.json").read_text())["gpus"]
    assert leases.holder(first.uuid) is None


def test_a_worker_whose_context_is_lost_is_replaced_before_the_next_item(toy):
    pytest.importorskip("torch", reason="makes the CUDA context")
    (first, *_) = devices.visible()
    toy.suite("toy", model=MODEL)
    toy.split([{"id": f"p-{number}", "text": "POISON", "spans": []} for number in range(100)], "one")  # longer, so it goes first
    toy.spawn("--gpueval-suite", "toy", "--gpus", first.label, "--gpueval-session", "it").assert_outcomes(passed=1, failed=1)
    (poisoned,), healthy = {pid for pid, _, _ in seen(toy, "toy-one-fast")}, {pid for pid, _, _ in seen(toy, "toy-two-fast")}
    runs = [run["run_id"] for run in json.loads((toy.session("it") / "session.json").read_text())["runs"]]
    assert runs == ["toy-one-fast", "toy-two-fast"]
    assert poisoned not in healthy
    assert toy.summary("toy-two-fast", "it")["ok"]
