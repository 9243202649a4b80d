"""`--gpus` and CUDA_VISIBLE_DEVICES -> devices."""

import pynvml
import pytest

from pytest_gpueval.errors import RuntimeFault, UsageProblem
from pytest_gpueval.gpus import devices
from pytest_gpueval.gpus.devices import Device, narrowed, select, visible

FOUND = [(f"GPU-{i:08x}-1111-2222-3333-444444444444", "H100") for i in (0xA0, 0xA1, 0xB0, 0xB1, 0xC0, 0xC1, 0xD0, 0xD1)]
EIGHT = narrowed(FOUND, None)


@pytest.mark.parametrize(
    ("spec", "indices"),
    [
        ("0-7", range(8)),
        ("0,2,4", (0, 2, 4)),
        ("1-3,6", (1, 2, 3, 6)),
        ("6,1-3", (6, 1, 2, 3)),
        (" 0 , 1 ", (0, 1)),
        ("5-5", (5,)),
        ("all", range(8)),
        ("auto", range(8)),
        ("none", ()),
        ("GPU-000000a1", (1,)),
        (f"{FOUND[3][0]},0", (3, 0)),
    ],
)
def test_what_a_spec_chooses(spec, indices):
    assert select(spec, EIGHT) == [EIGHT[i] for i in indices]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("3-1", "--gpus 3-1: the range 3-1 runs backwards; write 1-3"),
        ("0,0", "--gpus 0,0: GPU 0 is named twice"),
        ("0-2,1", "--gpus 0-2,1: GPU 1 is named twice"),
        ("0,GPU-000000a0", "--gpus 0,GPU-000000a0: GPU 0 is named twice"),
        ("abc", "--gpus abc: 'abc' is not understood. Valid: 0-7, 0,2,4, a GPU's UUID, all, auto, none."),
        ("", "--gpus : '' is not understood."),
        ("0,", "--gpus 0,: '' is not understood."),
        ("-1", "'-1' is not understood."),
        ("0-", "'0-' is not understood."),
        ("0,all", "'all' is not understood."),
        ("٣", "'٣' is not understood."),
        ("9" * 5000, "is not understood."),
        ("9", "--gpus 9: there is no GPU 9. Visible GPUs: 0 (H100, GPU-000000a0"),
        ("6-9", "--gpus 6-9: there is no GPU 8."),
        ("GPU-000000a", "--gpus GPU-000000a: several GPUs match 'GPU-000000a'."),
        ("GPU-x", "--gpus GPU-x: there is no GPU 'GPU-x'. Visible GPUs: 0 (H100"),
    ],
)
def test_what_a_spec_cannot_be(spec, message):
    with pytest.raises(UsageProblem) as caught:
        select(spec, EIGHT)
    assert message in str(caught.value)


@pytest.mark.parametrize("mask", [None, ""])
@pytest.mark.parametrize("spec", ["all", "0", "0-7"])
def test_without_gpus(monkeypatch, spec, mask):
    if mask is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", mask)
    with pytest.raises(UsageProblem, match=r"this machine shows no NVIDIA GPU(.|\n)*--gpus none for CPU lanes") as caught:
        select(spec, [])
    assert ("CUDA_VISIBLE_DEVICES is empty" in str(caught.value)) == (mask == "")
    assert select("auto", []) == select("none", []) == []


@pytest.mark.parametrize(
    ("mask", "chosen"),
    [
        (None, range(8)),
        ("", ()),
        ("2,0", (2, 0)),
        (" 1 , 3", (1, 3)),
        ("0,9,1", (0,)),
        ("-1", ()),
        ("0,-1,2", (0,)),
        ("1,,2", (1,)),
        ("abc", ()),
        ("0,0", ()),
        ("0,GPU-000000a0", ()),
        ("GPU-000000b1,GPU-000000a0", (3, 0)),
        ("GPU-000000a", ()),
        ("0,GPU-", (0,)),
        ("MIG-0", ()),
        ("٣", ()),
    ],
)
def test_what_a_mask_leaves(mask, chosen):
    left = narrowed(FOUND, mask)
    assert [device.uuid for device in left] == [FOUND[i][0] for i in chosen]
    assert [device.index for device in left] == list(range(len(left)))


class Nvml:
    """Stands in for the driver; counts who is still using it."""

    def __init__(self, monkeypatch, fails_at=""):
        self.users = 0
        self._fails_at = fails_at
        for name in ("nvmlInit", "nvmlShutdown", "nvmlDeviceGetCount", "nvmlDeviceGetHandleByIndex", "nvmlDeviceGetUUID", "nvmlDeviceGetName"):
            monkeypatch.setattr(pynvml, name, lambda *args, name=name: self._call(name, *args))

    def _call(self, name, *args):
        if name == self._fails_at:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_GPU_IS_LOST)
        self.users += {"nvmlInit": 1, "nvmlShutdown": -1}.get(name, 0)
        return (
            {"nvmlDeviceGetCount": len(FOUND), "nvmlDeviceGetHandleByIndex": (*args, 0)[0]}.get(name)
            if not args or "Handle" in name
            else FOUND[args[0]]["UUID" not in name]
        )


def test_what_the_driver_reports(monkeypatch):
    nvml = Nvml(monkeypatch)
    assert visible({}) == EIGHT
    assert visible({"CUDA_VISIBLE_DEVICES": "3"}) == [Device(0, FOUND[3][0], "H100")]
    assert visible({"CUDA_VISIBLE_DEVICES": ""}) == []
    assert nvml.users == 0


def test_no_driver_no_gpus_and_nothing_left_open(monkeypatch):
    nvml = Nvml(monkeypatch, fails_at="nvmlInit")
    assert visible({}) == []
    assert nvml.users == 0


@pytest.mark.parametrize("call", ["nvmlDeviceGetCount", "nvmlDeviceGetHandleByIndex", "nvmlDeviceGetName"])
def test_a_driver_that_breaks_is_a_fault_and_is_closed(monkeypatch, call):
    nvml = Nvml(monkeypatch, fails_at=call)
    with pytest.raises(RuntimeFault, match=r"the NVIDIA driver does not answer: .*\n.*--gpus none"):
        devices.visible({})
    assert nvml.users == 0
