"""A look at this process's CUDA contexts, over a stand-in for the driver."""

import pytest

from pytest_gpueval.gpus import health
from tests import fake_gpus

LOOK = """
    import ctypes, sys
    if "unloaded" not in sys.argv:
        cuda = ctypes.CDLL("libcuda.so.1")
    from pytest_gpueval.gpus.health import poisoned
    print(poisoned(), poisoned(), sep="\\n")
    maps = open("/proc/self/maps").read()
    assert ("libcuda" in maps) == ("unloaded" not in sys.argv)
    assert "unloaded" in sys.argv or cuda.fakeCudaLeft() == 0
    assert "torch" not in sys.modules
"""


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({}, None),
        ({"cuda_sticky": 700}, "the CUDA context is broken: cuMemAlloc_v2 gives CUDA_ERROR_ILLEGAL_ADDRESS"),
        ({"cuda_sticky": 12345}, "the CUDA context is broken: cuMemAlloc_v2 gives error 12345"),
        ({"cuda_oom": 1}, None),
        ({"cuda_initialized": 0, "cuda_sticky": 700}, None),
        ({"cuda_active": {0: 0}, "cuda_sticky": 700}, None),
        ({"cuda_active": {0: 0, 1: 1}, "cuda_sticky": 700}, "the CUDA context is broken: cuMemAlloc_v2 gives CUDA_ERROR_ILLEGAL_ADDRESS"),
        ({"cuda_fail": {"cuDeviceGetCount": 999}}, "the CUDA context is broken: cuDeviceGetCount gives error 999"),
        ({"cuda_fail": {"cuDevicePrimaryCtxRetain": 719}}, "the CUDA context is broken: cuDevicePrimaryCtxRetain gives error 719"),
        ({"cuda_fail": {"cuCtxPushCurrent_v2": 700}}, "the CUDA context is broken: cuCtxPushCurrent_v2 gives CUDA_ERROR_ILLEGAL_ADDRESS"),
        ({"cuda_fail": {"cuCtxSynchronize": 700}}, "the CUDA context is broken: cuCtxSynchronize gives CUDA_ERROR_ILLEGAL_ADDRESS"),
        ({"cuda_fail": {"cuCtxSynchronize": 700}, "cuda_oom": 1}, "the CUDA context is broken: cuCtxSynchronize gives CUDA_ERROR_ILLEGAL_ADDRESS"),
        ({"cuda_fail": {"cuMemFree_v2": 700}}, "the CUDA context is broken: cuMemFree_v2 gives CUDA_ERROR_ILLEGAL_ADDRESS"),
    ],
)
def test_what_is_poison(libraries, python, values, words):
    assert python(LOOK, fake_gpus.environment(libraries, 2, cuda=True, **values)) == f"{words}\n{words}\n"


def test_a_process_that_never_loaded_the_driver(libraries, python):
    assert python(LOOK, fake_gpus.environment(libraries, 2, cuda=True, cuda_sticky=700), "unloaded") == "None\nNone\n"


def test_without_proc(monkeypatch, tmp_path):
    monkeypatch.setattr(health, "Path", lambda _: tmp_path / "absent")
    assert health.poisoned() is None
