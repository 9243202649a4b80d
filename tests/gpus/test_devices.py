"""`--gpus` and CUDA_VISIBLE_DEVICES -> devices."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_gpueval.errors import UsageProblem
from pytest_gpueval.gpus.devices import Device, narrowed, select
from pytest_gpueval.gpus.nvml import Gpu

FOUND = [Gpu(f"GPU-{i:08x}-1111-2222-3333-444444444444", "H100") for i in (0xA0, 0xA1, 0xB0, 0xB1, 0xC0, 0xC1, 0xD0, 0xD1)]
EIGHT = narrowed(FOUND, None)

# GPU 1 holds two MIG instances, GPU 2 is in MIG mode without any.
MIXED = [
    Gpu("GPU-a0", "A100"),
    Gpu("GPU-b0", "A100", (("MIG-b1", "A100 MIG 1g.5gb"), ("MIG-b2", "A100 MIG 1g.5gb"))),
    Gpu("GPU-c0", "A100", ()),
    Gpu("GPU-d0", "A100", (("MIG-d1", "A100 MIG 7g.40gb"),)),
]
PARTS = narrowed(MIXED, None)


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
        (f"{FOUND[3].uuid},0", (3, 0)),
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
        ("abc", "--gpus abc: 'abc' is not understood. Valid: 0-7, 0,2,4, a GPU's UUID, a MIG instance's UUID, all, auto, none."),
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


@pytest.mark.parametrize(
    ("environment", "why"),
    [
        ({}, ""),
        ({"CUDA_VISIBLE_DEVICES": ""}, " (CUDA_VISIBLE_DEVICES is empty)"),
        ({"CUDA_VISIBLE_DEVICES": "GPU-gone"}, " (CUDA_VISIBLE_DEVICES is 'GPU-gone')"),
    ],
)
@pytest.mark.parametrize("spec", ["all", "0", "0-7", "GPU-000000a0", "MIG-1", "0:1"])
def test_without_gpus(monkeypatch, spec, environment, why):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "not what was asked")
    with pytest.raises(UsageProblem) as caught:
        select(spec, [], environment)
    assert str(caught.value) == (
        f"--gpus {spec}: this machine shows no NVIDIA GPU{why}.\nUse --gpus none for CPU lanes, or --gpus auto for GPUs where there are some."
    )
    assert select("auto", [], environment) == select("none", [], environment) == []


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
    assert [device.uuid for device in left] == [FOUND[i].uuid for i in chosen]
    assert [device.index for device in left] == list(range(len(left)))


@pytest.mark.parametrize(
    ("spec", "labels"),
    [
        ("all", ["0", "1:0", "1:1", "3:0"]),
        ("auto", ["0", "1:0", "1:1", "3:0"]),
        ("0", ["0"]),
        ("MIG-b2,0", ["1:1", "0"]),
        ("1:0,1:1", ["1:0", "1:1"]),
        ("3:00", ["3:0"]),
    ],
)
def test_instances_of_a_gpu_in_mig_mode(spec, labels):
    assert [device.label for device in select(spec, PARTS, {})] == labels


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("1", "--gpus 1: GPU 1 is in MIG mode; name its instances alone: MIG-b1, MIG-b2"),
        ("0-1", "--gpus 0-1: GPU 1 is in MIG mode; name its instances alone: MIG-b1, MIG-b2"),
        ("GPU-b0", "--gpus GPU-b0: GPU 1 is in MIG mode; name its instances alone: MIG-b1, MIG-b2"),
        ("3", "--gpus 3: GPU 3 is in MIG mode; name its instances alone: MIG-d1"),
        ("MIG-b1,1", "--gpus MIG-b1,1: GPU 1 is in MIG mode; name its instances alone: MIG-b1, MIG-b2"),
        ("GPU-b0,MIG-b1", "--gpus GPU-b0,MIG-b1: GPU 1 is in MIG mode; name its instances alone: MIG-b1, MIG-b2"),
        ("2", "--gpus 2: GPU 2 is in MIG mode and has no instance; make one with `nvidia-smi mig`."),
        ("MIG-b1,1:0", "--gpus MIG-b1,1:0: GPU 1:0 is named twice"),
        ("MIG-b", "--gpus MIG-b: several GPUs match 'MIG-b'."),
        ("GPU-", "--gpus GPU-: several GPUs match 'GPU-'."),
        ("MIG-x", "--gpus MIG-x: there is no GPU 'MIG-x'. Visible GPUs: 0 (A100, GPU-a0), 1:0 (A100 MIG 1g.5gb, MIG-b1), "),
        ("1:2", "--gpus 1:2: there is no MIG instance 1:2. Visible GPUs: 0"),
        ("0:0", "--gpus 0:0: there is no MIG instance 0:0."),
        ("4", "--gpus 4: there is no GPU 4."),
    ],
)
def test_what_mig_mode_forbids(spec, message):
    with pytest.raises(UsageProblem) as caught:
        select(spec, PARTS, {})
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_a_mask_of_instances_gives_them_indices():
    seen = narrowed(MIXED, "MIG-b2,MIG-d1,0")
    assert seen == [
        Device(0, "MIG-b2", "A100 MIG 1g.5gb", "GPU-b0"),
        Device(1, "MIG-d1", "A100 MIG 7g.40gb", "GPU-d0"),
        Device(2, "GPU-a0", "A100"),
    ]
    assert select("0-1", seen, {}) == seen[:2]
    assert [device.label for device in seen] == ["0", "1", "2"]
    with pytest.raises(UsageProblem, match="GPU GPU-b0 is in MIG mode; name its instances alone: MIG-b2"):
        select("GPU-b0", seen, {})


@pytest.mark.parametrize("mask", ["1", "GPU-b"])
def test_a_mask_of_a_gpu_in_mig_mode_shows_its_instances(mask):
    assert narrowed(MIXED, mask) == [
        Device(0, "MIG-b1", "A100 MIG 1g.5gb", "GPU-b0", 0),
        Device(0, "MIG-b2", "A100 MIG 1g.5gb", "GPU-b0", 1),
    ]


@pytest.mark.parametrize("mask", ["1,MIG-b2", "MIG-b2,GPU-b0"])
def test_a_mask_of_a_gpu_and_its_instance(mask):
    with pytest.raises(UsageProblem) as caught:
        narrowed(MIXED, mask)
    assert str(caught.value) == f"CUDA_VISIBLE_DEVICES={mask}: MIG-b2 is an instance of GPU-b0, which is named too; name the instances alone."


@given(st.text(alphabet="0123456789,-:GPUMIabcd ", max_size=12), st.sampled_from([EIGHT, PARTS, []]))
def test_any_spec_gives_devices_once_each_or_one_message(spec, devices):
    try:
        chosen = select(spec, devices, {})
    except UsageProblem:
        return
    assert len(set(chosen)) == len(chosen)
    assert set(chosen) <= set(devices)


@given(st.text(alphabet="0123456789,-:GPUMIabcd ", max_size=12))
def test_any_mask_gives_labels_once_each(mask):
    try:
        seen = narrowed(MIXED, mask)
    except UsageProblem:
        return
    assert len({device.label for device in seen}) == len(seen) == len({device.uuid for device in seen})
