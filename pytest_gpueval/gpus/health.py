"""Whether this process can still use its GPU."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from pathlib import Path

_OUT_OF_MEMORY = 2
_NOT_INITIALIZED = 3
_PROBE_BYTES = 4096


class _BrokenError(Exception):
    """A call of the driver failed with this code."""

    def __init__(self, call: str, code: int) -> None:
        super().__init__(call, code)
        self.call = call
        self.code = code


def poisoned() -> str | None:
    """Words if a CUDA context of this process can no longer be used, as after an illegal address; None if all is well or it has none.

    Such an error is sticky: it ends only with the process. Asks the driver API (CUDA Driver API reference, "Primary Context Management" and
    "Memory Management") for 4 KiB in each primary context that is active, and waits for the work queued there: call it between items, not
    beside kernels. Makes no context, loads no library; being out of memory is no poison.
    """
    if not _driver_is_loaded():
        return None
    cuda = ctypes.CDLL("libcuda.so.1")
    try:
        for device in _active(cuda):
            _probe(cuda, device)
    except _BrokenError as error:
        if error.code == _NOT_INITIALIZED:  # loaded, never used
            return None
        return f"the CUDA context is broken: {error.call} gives {_name(cuda, error.code)}"
    return None


def _driver_is_loaded() -> bool:
    try:
        return "/libcuda.so" in Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False


def _call(cuda: ctypes.CDLL, name: str, *arguments: object) -> None:
    code = getattr(cuda, name)(*arguments)
    if code:
        raise _BrokenError(name, code)


def _active(cuda: ctypes.CDLL) -> Iterator[ctypes.c_int]:
    """The devices whose primary context is active: taking hold of another's would make it."""
    count = ctypes.c_int()
    _call(cuda, "cuDeviceGetCount", ctypes.byref(count))
    for ordinal in range(count.value):
        device, flags, active = ctypes.c_int(), ctypes.c_uint(), ctypes.c_int()
        _call(cuda, "cuDeviceGet", ctypes.byref(device), ctypes.c_int(ordinal))
        _call(cuda, "cuDevicePrimaryCtxGetState", device, ctypes.byref(flags), ctypes.byref(active))
        if active.value:
            yield device


def _probe(cuda: ctypes.CDLL, device: ctypes.c_int) -> None:
    context, popped = ctypes.c_void_p(), ctypes.c_void_p()
    _call(cuda, "cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
    try:
        _call(cuda, "cuCtxPushCurrent_v2", context)
        try:
            _allocate(cuda)
        finally:
            cuda.cuCtxPopCurrent_v2(ctypes.byref(popped))
    finally:
        cuda.cuDevicePrimaryCtxRelease_v2(device)


def _allocate(cuda: ctypes.CDLL) -> None:
    memory = ctypes.c_uint64()
    code = cuda.cuMemAlloc_v2(ctypes.byref(memory), ctypes.c_size_t(_PROBE_BYTES))
    if code not in (0, _OUT_OF_MEMORY):
        raise _BrokenError("cuMemAlloc_v2", code)
    try:
        synchronized = cuda.cuCtxSynchronize()
    finally:
        freed = cuda.cuMemFree_v2(memory) if code == 0 else 0
    for name, failed in (("cuCtxSynchronize", synchronized), ("cuMemFree_v2", freed)):
        if failed not in (0, _OUT_OF_MEMORY):
            raise _BrokenError(name, failed)


def _name(cuda: ctypes.CDLL, code: int) -> str:
    text = ctypes.c_char_p()
    known = cuda.cuGetErrorName(ctypes.c_int(code), ctypes.byref(text)) == 0 and text.value
    return text.value.decode("ascii", "replace") if known and text.value else f"error {code}"
