"""A stand-in for CuPy where there is no GPU: arrays that are numpy's inside, and refuse what CuPy's arrays refuse, or compute in a way that CuPy does not.

They mix with numbers and with each other alone; nothing makes a numpy array of them but `asnumpy`. Products of matrices are TF32's under CUPY_TF32=1 until
`set_compute_type` says otherwise. FAKE_CUPY asks for trouble: see `_trouble`. What was done is in `done`.
"""

import operator
import os

import numpy as np

__version__ = os.environ.get("FAKE_CUPY_VERSION", "13.6.0")

# How many arrays went to the device and came back, the largest one that went, the types of all that were there.
done = {"to_device": 0, "to_host": 0, "largest": 0, "dtypes": set(), "freed": 0, "pathfinder": 0}


def _trouble(kind):
    return os.environ.get("FAKE_CUPY") == kind


if _trouble("broken"):
    raise ImportError("\n====\nFailed to import CuPy.\n====\n") from ImportError("libcudart.so.12: cannot open shared object file")


class ndarray:
    __array_priority__ = 100

    def __init__(self, inside):
        assert type(inside) is np.ndarray
        done["dtypes"].add(inside.dtype.name)
        self._inside = inside

    def __array__(self, *_, **__):
        raise TypeError("Implicit conversion to a NumPy array is not allowed. Please use `.get()` to construct a NumPy array explicitly.")

    def __array_ufunc__(self, ufunc, *_, **__):
        raise TypeError(f"a function of numpy on an array of the device: {ufunc}")

    def __array_function__(self, function, *_, **__):
        raise TypeError(f"a function of numpy on an array of the device: {function}")

    def __bool__(self):
        raise TypeError("the device would have to be waited for")

    def __iter__(self):
        raise TypeError("the device would have to be waited for")

    __float__ = __int__ = __index__ = __bool__

    shape = property(lambda self: self._inside.shape)
    dtype = property(lambda self: self._inside.dtype)

    def __len__(self):
        return len(self._inside)

    def get(self):
        done["to_host"] += 1
        return self._inside.copy()

    def astype(self, dtype):
        return ndarray(self._inside.astype(dtype))

    def reshape(self, *shape):
        return ndarray(self._inside.reshape(*shape))

    def __getitem__(self, key):
        return ndarray(np.asarray(self._inside[_key(key)]))

    def __setitem__(self, key, value):
        self._inside[_key(key)] = _operand(value)

    def __matmul__(self, other):
        if _trouble("no_blas"):
            raise ImportError("libcublas.so.12: cannot open shared object file: No such file or directory")
        if _trouble("full"):
            raise cuda.memory.OutOfMemoryError("Out of memory allocating 1,048,576 bytes (allocated so far: 0 bytes).")
        one, two = self._inside, _operand(other)
        if _trouble("other_order"):  # the sums of another library
            order = np.random.default_rng(1).permutation(len(two))
            return ndarray(one[:, order] @ two[order])
        if _trouble("inexact") or _core.compute_type == _core.TF32:
            return ndarray(_tf32(one) @ _tf32(two))
        return ndarray(one @ two)

    def __rmatmul__(self, other):
        return ndarray(_operand(other) @ self._inside)


def _binary(name):
    function = getattr(operator, name)

    def forward(self, other):
        return ndarray(np.asarray(function(self._inside, _operand(other))))

    def backward(self, other):
        return ndarray(np.asarray(function(_operand(other), self._inside)))

    def in_place(self, other):
        self._inside = getattr(operator, f"i{name}")(self._inside, _operand(other))
        return self

    return forward, backward, in_place


for _name in ("add", "sub", "mul", "truediv"):
    for _form, _method in zip(("", "r", "i"), _binary(_name), strict=True):
        setattr(ndarray, f"__{_form}{_name}__", _method)


def _operand(value):
    """What may meet an array of the device: another one, or a number."""
    if isinstance(value, ndarray):
        return value._inside
    if isinstance(value, (bool, int, float, np.number, np.bool_)):
        return value
    raise TypeError(f"Unsupported type {type(value)}")


def _key(key):
    if isinstance(key, tuple):
        return tuple(map(_key, key))
    if isinstance(key, ndarray):
        assert key.dtype.kind in "iub"
        assert key.dtype.kind != "b", "a mask makes CuPy wait for the device"
        return key._inside
    if key is None or key is Ellipsis or isinstance(key, (slice, int)):
        return key
    raise TypeError(f"Unsupported index {type(key)}")


def _tf32(array):
    bits = np.ascontiguousarray(array, dtype=np.float32).view(np.uint32).astype(np.uint64)
    return ((bits + 0x1000) & 0xFFFFE000).astype(np.uint32).view(np.float32)


def asarray(value):
    if isinstance(value, ndarray):
        return value
    assert type(value) is np.ndarray
    done["to_device"] += 1
    done["largest"] = max(done["largest"], value.size)
    return ndarray(value.copy())


def asnumpy(value):
    return value.get()


def zeros(shape, dtype=float):
    return ndarray(np.zeros(shape, dtype))


def concatenate(arrays, axis=0):
    if not all(isinstance(array, ndarray) for array in arrays):
        raise TypeError("Only cupy arrays can be concatenated")
    return ndarray(np.concatenate([array._inside for array in arrays], axis))


def maximum(one, two, out=None):
    if not isinstance(one, ndarray) or not (out is None or isinstance(out, ndarray)):
        raise TypeError("Unsupported type")
    found = np.maximum(one._inside, _operand(two), out=None if out is None else out._inside)
    return ndarray(found) if out is None else out


class _Pool:
    def free_all_blocks(self):
        done["freed"] += 1


def get_default_memory_pool():
    return _Pool()


get_default_pinned_memory_pool = get_default_memory_pool


class _CUDARuntimeError(RuntimeError):
    def __init__(self, status, text):
        super().__init__(text)
        self.status = status


class cuda:
    class memory:
        class OutOfMemoryError(MemoryError):
            pass

    class runtime:
        CUDARuntimeError = _CUDARuntimeError

        @staticmethod
        def getDeviceCount():
            if _trouble("no_driver") or _trouble("old_driver"):
                raise _CUDARuntimeError(35, "cudaErrorInsufficientDriver: CUDA driver version is insufficient for CUDA runtime version")
            if _trouble("no_gpu"):
                raise _CUDARuntimeError(100, "cudaErrorNoDevice: no CUDA-capable device is detected")
            if _trouble("mismatch"):
                raise _CUDARuntimeError(803, "cudaErrorSystemDriverMismatch: system has unsupported display driver / cuda driver combination")
            return 0 if _trouble("none") else 1

        @staticmethod
        def driverGetVersion():
            return 11040 if _trouble("old_driver") else 0

        @staticmethod
        def runtimeGetVersion():
            return 12090


class _core:
    DEFAULT, TF32 = 1, 7
    compute_type = TF32 if os.environ.get("CUPY_TF32") == "1" else DEFAULT

    class _routines_linalg:
        COMPUTE_TYPE_DEFAULT = 1

    @classmethod
    def set_compute_type(cls, dtype, compute_type):
        assert np.dtype(dtype) == np.float32
        cls.compute_type = compute_type
