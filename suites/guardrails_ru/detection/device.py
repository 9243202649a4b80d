"""Where the network computes: numpy's functions on the CPU, or CuPy's, which are the same functions on a GPU.

CuPy is imported, and a GPU looked for, only where it was asked for; what is missing then is an error. Nothing here falls back to the CPU.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

DEVICES = ("cpu", "cuda")

# cudaError_t, driver_types.h.
_INSUFFICIENT_DRIVER = 35
_NO_DEVICE = 100
# From this version on, CuPy finds the libraries that NVIDIA's wheels brought.
_FINDS_WHEELS = 14
_OTHERWISE = (
    "The GPU needs an NVIDIA driver and the extra 'cuda':  pip install 'pytest-gpueval[cuda]', in Triton's interpreter  make triton-server CUDA=1\n"
    "Without it, the CPU gives the same answers:  --gpueval-runtime cpu-triton"
)


class DeviceProblem(RuntimeError):
    """The device that was asked for cannot be used. `for_user`: the text is the whole message, and no traceback makes it clearer."""

    for_user = True

    def __init__(self, problem: str) -> None:
        super().__init__(f'device = "cuda": {problem}.\n{_OTHERWISE}')


@dataclass(frozen=True, slots=True)
class Device:
    """A module of array functions, the way from its arrays to numpy's, and what gives the memory of arrays back that are gone."""

    xp: Any
    to_host: Callable[[Any], Any]
    release: Callable[[], None]


CPU = Device(np, np.asarray, lambda: None)


def cuda() -> Device:
    """The first GPU that this process sees. Raises DeviceProblem."""
    try:
        import cupy  # noqa: PLC0415 - where it was asked for
    except ModuleNotFoundError as error:
        raise DeviceProblem(f"the package {error.name or 'cupy'} is not installed where the model runs") from None
    except ImportError as error:
        raise DeviceProblem(f"CuPy cannot be imported: {_first_line(error.__cause__ or error)}") from None
    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        raise DeviceProblem(_why_none(cupy, error)) from None
    if not count:
        raise DeviceProblem(_no_gpu())
    if int(cupy.__version__.partition(".")[0]) < _FINDS_WHEELS:
        _load_libraries()
    # Not TF32, whose products have ten bits, whatever CUPY_TF32 says. There is no public way; `on` in network.py looks at what comes out.
    with suppress(AttributeError):
        cupy._core.set_compute_type(np.float32, cupy._core._routines_linalg.COMPUTE_TYPE_DEFAULT)  # noqa: SLF001
    return Device(cupy, cupy.asnumpy, lambda: _release(cupy))


def cannot_compute(error: Exception) -> DeviceProblem:
    """What to say where a GPU is there, and the first computation on it fails."""
    return DeviceProblem(f"CuPy sees a GPU, but cannot compute on it: {type(error).__name__}: {_first_line(error)}")


def is_out_of_memory(error: Exception) -> bool:
    """Whether the GPU's memory is full: that is no fault of what is installed, and has a name of its own everywhere."""
    return isinstance(error, MemoryError) or "out of memory" in str(error).lower()


def _why_none(cupy: Any, error: Any) -> str:
    """Why CUDA does not start; `error` is a CUDARuntimeError."""
    status = getattr(error, "status", None)
    if status == _NO_DEVICE:
        return _no_gpu()
    if status != _INSUFFICIENT_DRIVER:
        return f"CUDA does not start: {_first_line(error)}"
    driver, needed = cupy.cuda.runtime.driverGetVersion(), cupy.cuda.runtime.runtimeGetVersion()
    if not driver:
        return "no NVIDIA driver is loaded here"
    return f"the NVIDIA driver is too old: it is for CUDA {_version(driver)}, and this CuPy for {_version(needed)}"


def _no_gpu() -> str:
    mask = os.environ.get("CUDA_VISIBLE_DEVICES")
    return "this process sees no GPU" + (f" (CUDA_VISIBLE_DEVICES is {mask!r}; CPU lanes hide all)" if mask is not None else "")


def _version(number: int) -> str:
    """CUDA's 12090 as `12.9`."""
    return f"{number // 1000}.{number % 1000 // 10}"


def _first_line(error: BaseException) -> str:
    """CuPy frames its longer messages in lines of dashes and empty ones."""
    lines = (line.strip(" -=") for line in str(error).splitlines())
    return next((line.rstrip(".") for line in lines if line), "it does not say why")[:300]


def _load_libraries() -> None:
    """Load NVRTC and cuBLAS from NVIDIA's wheels, where they are; else CuPy finds those of the system, or says what it misses."""
    try:
        from cuda.pathfinder import load_nvidia_dynamic_lib  # noqa: PLC0415 - as above
    except ImportError:
        return
    for name in ("nvrtc", "cublas"):
        with suppress(RuntimeError):
            load_nvidia_dynamic_lib(name)


def _release(cupy: Any) -> None:
    cupy.get_default_memory_pool().free_all_blocks()
    cupy.get_default_pinned_memory_pool().free_all_blocks()
