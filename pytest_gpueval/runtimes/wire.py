r"""Rows and answers as JSON that comes back as it was: tuples, NaN, lone surrogates, numpy's scalars and keys that are no text included.

Servers' models read it too, in other interpreters, where this package is not installed: it imports the standard library, orjson where that is there, and is
linked beside them.
What JSON has no word for is an object with one key that begins with NUL, such as `{"\u0000tuple": [1, 2]}`.
"""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Callable, Mapping
from typing import Any

try:
    import orjson
except ImportError:  # in a model's interpreter
    orjson = None  # type: ignore[assignment]

_PLAIN = frozenset({str, int, float, bool, type(None)})
_TUPLE, _DICT, _BYTES, _SCALAR, _ARRAY = (f"\0{name}" for name in ("tuple", "dict", "bytes", "scalar", "array"))
_NULL = b"null"
# Kinds of numpy dtypes whose items are Python numbers or texts.
_NUMPY_KINDS = "biufU"


class NotSendable(TypeError):
    """A value has no place in a message; the text names its type."""


def encode(value: Any) -> bytes:
    """The value as UTF-8; lone surrogates pass. Raises NotSendable, ValueError for a number of too many digits, RecursionError."""
    packed = pack(value)
    if orjson is not None:
        try:
            data = orjson.dumps(packed)
        except TypeError:  # a lone surrogate, a large number, great depth: the other writer knows what to do
            data = _NULL
        if _NULL not in data:  # which NaN may have become
            return data
    return _write(packed).encode("utf-8", "surrogatepass")


def decode(data: bytes) -> Any:
    """What `encode` was given. Raises ValueError for anything that is not JSON."""
    text = data.decode("utf-8", "surrogatepass")
    try:
        value, end = _read.raw_decode(text)
    except ValueError:
        end = -1
    return value if end == len(text) else _read.decode(text)  # which takes longer, knows of space around it, and says what is wrong


def pack(value: Any) -> Any:
    """The value in JSON's own types. Raises NotSendable."""
    kind = type(value)
    if kind in _PLAIN:
        return value
    if kind is list:
        return [item if type(item) in _PLAIN else pack(item) for item in value]
    if kind is tuple:
        return {_TUPLE: [item if type(item) in _PLAIN else pack(item) for item in value]}
    if kind is dict:
        return _pack_mapping(value)
    return _pack_other(value)


def _pack_mapping(value: Mapping[Any, Any]) -> Any:
    packed = {}
    for key, item in value.items():
        if type(key) is not str or key[:1] == "\0":
            return {_DICT: [[pack(key), pack(item)] for key, item in value.items()]}
        packed[key] = item if type(item) in _PLAIN else pack(item)
    return packed


def _pack_other(value: Any) -> Any:
    """Rarer things: numpy's, bytes, and subclasses, which come back as the plain type."""
    numpy = sys.modules.get("numpy")  # not imported: then nothing of it is here
    if numpy is not None and isinstance(value, (numpy.generic, numpy.ndarray)) and value.dtype.kind in _NUMPY_KINDS and value.dtype.itemsize <= _most(value):
        return (
            {_ARRAY: [value.dtype.str, list(value.shape), value.ravel().tolist()]}
            if isinstance(value, numpy.ndarray)
            else {_SCALAR: [value.dtype.str, value.item()]}
        )
    if isinstance(value, (bytes, bytearray)):
        return {_BYTES: base64.b64encode(value).decode("ascii")}
    for base, plain in _BASES:
        if isinstance(value, base):
            return pack(plain(value))
    raise NotSendable(
        f"a value of type {type(value).__module__}.{type(value).__qualname__} cannot be sent; send numbers, texts, lists, tuples or mappings of such"
    )


def _most(value: Any) -> int:
    """Bytes up to which a number is exact as Python's: longdouble is not."""
    return sys.maxsize if value.dtype.kind == "U" else 8


_BASES: tuple[tuple[type, Callable[[Any], Any]], ...] = (
    (str, str.__str__),
    (int, int.__int__),
    (float, float.__float__),
    (tuple, tuple),
    (list, list),
    (Mapping, dict),
)


def _special(found: dict[str, Any]) -> Any:
    """What an object stands for."""
    if len(found) == 1:
        ((key, value),) = found.items()
        reader = _READERS.get(key)
        if reader is not None:
            return reader(value)
    return found


def _scalar(parts: list[Any]) -> Any:
    """A numpy scalar; where there is no numpy, the number."""
    try:
        import numpy as np
    except ImportError:
        return parts[1]
    return np.dtype(parts[0]).type(parts[1])


def _array(parts: list[Any]) -> Any:
    """A numpy array; where there is no numpy, the flat list of its items."""
    try:
        import numpy as np
    except ImportError:
        return parts[2]
    return np.array(parts[2], dtype=parts[0]).reshape(parts[1])


_READERS: Mapping[str, Callable[[Any], Any]] = {
    _TUPLE: tuple,
    _DICT: dict,
    _BYTES: base64.b64decode,
    _SCALAR: _scalar,
    _ARRAY: _array,
}
_write = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), check_circular=False).encode
_read = json.JSONDecoder(object_hook=_special)
