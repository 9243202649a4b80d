"""Which GPUs a server leases, and that sessions and servers mean the same by a lease. nvidia-smi's list is a text."""

import json
import os
from pathlib import Path

import pytest

from pytest_gpueval.gpus.devices import Device
from pytest_gpueval.gpus.leases import Leased, acquire, holder
from pytest_gpueval.gpus.lock_files import take_lock
from pytest_gpueval.hosts.detached.agent import leases as there
from pytest_gpueval.hosts.detached.agent.files import Run
from pytest_gpueval.hosts.detached.agent.processes import Refused

LIST = b"""GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-0aaa-1)
GPU 1: NVIDIA H100 80GB HBM3 (UUID: GPU-0bbb-2)
  MIG 1g.10gb     Device  0: (UUID: MIG-c0ffee)
  MIG 1g.10gb     Device  1: (UUID: MIG-c0de)
GPU 10: NVIDIA A10 (UUID: GPU-0ccc-3)
"""
CARDS = there.listed(LIST)
WHOLE, SECOND = Device(1, "GPU-0bbb-2", "H100"), Device(1, "MIG-c0de", "H100 MIG", "GPU-0bbb-2", 1)


@pytest.fixture(autouse=True)
def directory(tmp_path, monkeypatch):
    monkeypatch.setenv("GPUEVAL_LEASE_DIR", str(tmp_path / "leases"))
    return tmp_path / "leases"


@pytest.fixture
def taken(tmp_path):
    """What a server of these cards would do, and give back."""
    run, claim, held = Run(str(tmp_path), "vllm"), {"nonce": "n", "request": {}}, []
    Path(run.place(claim)).mkdir(parents=True)

    def take(*uuids):
        there.write_leases(run, claim, [card for card in CARDS if card["uuid"] in uuids])
        held.extend(there.take_leases(run, claim))
        return held

    yield take
    for descriptor in held:
        os.close(descriptor)


@pytest.mark.parametrize(
    ("spec", "uuids"),
    [
        (None, ["GPU-0aaa-1", "GPU-0bbb-2", "GPU-0ccc-3"]),
        ("0", ["GPU-0aaa-1"]),
        ("1,0", ["GPU-0bbb-2", "GPU-0aaa-1"]),
        ("10", ["GPU-0ccc-3"]),
        (" GPU-0ccc-3 ", ["GPU-0ccc-3"]),
        ("GPU-0c", ["GPU-0ccc-3"]),
        ("GPU-0", []),  # which of them?
        ("MIG-c0de,MIG-c0ffee", ["MIG-c0de", "MIG-c0ffee"]),
        ("0,-1,1", ["GPU-0aaa-1"]),
        ("0,0,1", ["GPU-0aaa-1"]),
        ("7", []),
        ("", []),
        ("NoDevFiles", []),
    ],
)
def test_what_cuda_visible_devices_names(spec, uuids):
    assert [card["uuid"] for card in there.chosen(spec, CARDS)] == uuids


def test_what_is_no_list():
    assert there.listed("No devices found.\n  MIG 1g Device 0: (UUID: MIG-x)\n\xff".encode("latin-1")) == []


def test_an_instance_is_leased_beside_its_siblings_but_not_beside_the_whole_gpu(taken):
    taken("MIG-c0ffee")
    assert holder("MIG-c0ffee").session == "server vllm" and holder("MIG-c0ffee").parent == "GPU-0bbb-2"
    acquire([SECOND], session="s").release()
    with pytest.raises(Leased, match=r"GPU 1 \(GPU-0bbb-2\) is in use as MIG instances: pid \d+, user .*, session server vllm"):
        acquire([WHOLE], session="s")


def test_an_instance_of_a_gpu_that_is_leased_whole(taken):
    (whole,) = (card for card in CARDS if card["uuid"] == "GPU-0bbb-2")
    with acquire([WHOLE], session="nightly"):
        assert "session nightly" in there.holder(next(card for card in CARDS if card["uuid"] == "MIG-c0de"))
        assert "session nightly" in there.holder(whole)
        with pytest.raises(Refused, match=r"GPU 1, a MIG instance, \(MIG-c0de\) is in use: pid .* session nightly\.\nWait"):
            taken("MIG-c0de")
        assert holder("MIG-c0de") is None, "all or none"
    assert there.holder(whole) is None


def test_workers_that_outlive_their_session_keep_servers_away(taken, directory):
    acquire([Device(0, "GPU-0aaa-1", "H100")], session="s").release()
    guard = take_lock(str(directory / "GPU-0aaa-1.workers"), exclusive=False)
    try:
        with pytest.raises(Refused, match=r"GPU 0 \(GPU-0aaa-1\) is in use: workers of a session that has ended\."):
            taken("GPU-0aaa-1")
        assert holder("GPU-0aaa-1") is None
    finally:
        os.close(guard)
    assert len(taken("GPU-0aaa-1")) == 1


@pytest.mark.parametrize("record", [b"", b"\xff", b"[]", b"{}", b"3", b"[" * 5000, json.dumps({"pid": 0, "user": None}).encode()])
def test_an_owner_that_says_nothing_is_unknown(record):
    assert there.owner_words(record) == "an unknown process"


def test_an_owner_s_words_are_kept_short():
    assert there.owner_words(json.dumps({"pid": 7, "user": "u" * 3000, "session": ["x"]}).encode()) == f"pid 7, user {'u' * 200}, session ['x']"
