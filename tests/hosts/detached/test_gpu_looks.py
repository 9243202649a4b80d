"""What nvidia-smi prints, and what it does when it does not."""

import os
import sys
import time

import pytest

from pytest_gpueval.hosts.detached.agent import gpus as there
from pytest_gpueval.hosts.detached.gpus import Gpu, Held, freed, gpus, held, memory
from tests.waiting import gone, wait_for


@pytest.fixture
def smi(tmp_path, monkeypatch):
    """A stand-in for nvidia-smi: a script, before all others on PATH."""
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")

    def write(script):
        place = tmp_path / "nvidia-smi"
        place.write_text(f"#!/bin/sh\n{script}\n")
        place.chmod(0o755)
        return place

    return write


TOLD = """case $1 in
*compute-apps*) printf '4242, GPU-a, 500\\n4243, GPU-a, [N/A]\\n4244, GPU-z, 1\\nNo running processes found\\n';;
*) printf '0, GPU-a, NVIDIA H100 80GB HBM3, 512, 81559, 550.54.15, 97\\n1, GPU-b, NVIDIA A10, [N/A], 23028, 550.54.15, [N/A]\\nsomething else\\n';;
esac"""


def test_what_nvidia_smi_prints(smi):
    smi(TOLD)
    found = gpus(there.GpuLook().answer())
    assert found == (
        Gpu(0, "GPU-a", "NVIDIA H100 80GB HBM3", 512, 81559, "550.54.15", ((4242, 500), (4243, None)), 97),
        Gpu(1, "GPU-b", "NVIDIA A10", None, 23028, "550.54.15", ()),
    )
    assert held(found, {4242, 4243, 1}) == (Held(found[0], 500),)
    assert held(found, {4243}) == (Held(found[0], None),)
    assert held(found, {1}) == ()


def test_where_it_is_although_not_on_path(smi, tmp_path, monkeypatch):
    place = smi(TOLD)
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.setattr(there, "SMI_PLACES", ("/no/such/nvidia-smi",))
    assert there.GpuLook().answer() == {**there.UNASKED, "why": there.NO_SMI}
    monkeypatch.setattr(there, "SMI_PLACES", ("/no/such/nvidia-smi", str(place)))
    assert [gpu["index"] for gpu in there.GpuLook().answer()["gpus"]] == [0, 1]


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("echo 'NVIDIA-SMI has failed: no driver'; exit 9", "nvidia-smi: NVIDIA-SMI has failed: no driver"),
        ("exit 9", "nvidia-smi: it ended with 9"),
        ("case $1 in *compute-apps*) exit 1;; esac", "nvidia-smi: it ended with 1"),
    ],
)
def test_one_that_fails_tells_why(smi, script, why):
    smi(script)
    answer = there.GpuLook().answer()
    assert answer == {**there.UNASKED, "why": why} and gpus(answer) is None


def test_one_that_cannot_be_started(smi):
    smi("").write_bytes(b"\x7fELF nothing")
    assert "nvidia-smi: " in there.GpuLook().answer()["why"]


def test_no_gpus(smi):
    smi("")
    assert gpus(there.GpuLook().answer()) == ()


def test_one_that_hangs_is_left_and_ended(smi, tmp_path):
    smi(f"echo $$ >> {tmp_path}/pids; {sys.executable} -c 'import time; time.sleep(600)'")
    begin = time.monotonic()
    for limit_s in (0.5, 5, 60):  # the first one that lets it begin at all
        answer = there.GpuLook(limit_s).answer()
        assert answer == {**there.UNASKED, "why": f"nvidia-smi: no answer within {limit_s:g} s"}
        if (tmp_path / "pids").exists():
            break
    assert time.monotonic() - begin < 300
    pids = [int(line) for line in (tmp_path / "pids").read_text().split()]
    wait_for(lambda: gone(pids))


def test_it_is_asked_while_others_go_on(smi, tmp_path):
    smi(f"while [ ! -e {tmp_path}/go ]; do sleep 0.01; done\n{TOLD}")
    look = there.GpuLook(60)
    (tmp_path / "go").touch()
    assert len(look.answer()["gpus"]) == 2


def test_who_is_nobody_here(smi, tmp_path):
    """Process 1 is there, and another user's for most."""
    smi(f"case $1 in *compute-apps*) printf '{os.getpid()}, GPU-a, 1\\n1, GPU-a, 2\\n4194305, GPU-a, 3\\n99999999999999999999, GPU-a, 4\\n';; *) {CARD};; esac")
    assert there.GpuLook().answer()["strangers"] == [4194305, 99999999999999999999]


CARD = "printf '0, GPU-a, H100, 5000, 81559, 550, 0\\n'"


def test_memory_that_nobody_here_holds(smi):
    smi(f"case $1 in *compute-apps*) printf '4194305, GPU-a, 4900\\n';; *) {CARD};; esac")
    answer = there.GpuLook().answer()
    assert memory(answer, {7}) == (None, "nvidia-smi shows 5,000 MiB of GPU 0 in use, and not by which of the processes here, as in a container")
    assert memory(answer, {4194305})[0][0].memory_mib == 4900, "whose pid is listed holds it"
    assert memory(answer, ()) == (None, "")
    smi(f"case $1 in *compute-apps*) printf '1, GPU-a, 4900\\n';; *) {CARD};; esac")
    assert memory(there.GpuLook().answer(), {7}) == ((), "")


@pytest.mark.parametrize(
    ("used", "processes", "after", "words"),
    [
        (5010, [[7, 5000]], {"used_mib": 10}, "GPU 0: 5,000 MiB given back"),
        (5010, [[7, 5000]], {"used_mib": 500}, "GPU 0: 5,000 MiB given back"),
        (5010, [[7, 3000], [8, 2000]], {"used_mib": 10}, "GPU 0: 5,000 MiB given back"),
        (9010, [[7, 5000], [9, 4000]], {"used_mib": 4010, "processes": [[9, 4000]]}, "GPU 0: 5,000 MiB given back"),
        (None, [[7, None]], {"used_mib": None}, "GPU 0: memory given back"),
        (5010, [[7, 5000]], {"used_mib": 511}, "GPU 0 has 511 MiB in use, 5,010 before: its memory was not given back, or others took it"),
        (5010, [[7, 5000]], {"used_mib": 10, "processes": [[7, None]]}, "GPU 0: nvidia-smi still lists its pid 7 there, which has ended"),
        (5010, [[7, 5000]], None, "GPU 0: nvidia-smi does not list it any more"),
    ],
)
def test_whether_memory_is_given_back(used, processes, after, words):
    """Of pids 7 and 8, which have ended; 9 is somebody else's."""
    before = {"index": 0, "uuid": "GPU-a", "used_mib": used, "processes": processes}
    now = [] if after is None else [{"uuid": "GPU-a", "processes": [], **after}]
    one = there.compared(before, now, {7, 8})
    assert freed({"gpus": there.UNASKED, "pids": [7, 8], "given_back": {"gpus": [one], "why": ""}}).gpus[0].words == words
    assert one["back"] == words.endswith("given back")
