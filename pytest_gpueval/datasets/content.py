"""The content of a row as bytes: what tells rows apart where they have no ids.

The bytes depend on the values alone, not on how they are stored: not on the order of columns or fields, the width of numbers, dictionary encoding,
chunks, or pyarrow's version. A column or field that is null is as one that is not there.

    null             n
    true, false      T, F
    whole number     i<decimal>;
    float            f<float.hex() of Python>;  or fnan;
    decimal          q<decimal, without trailing zeros>;
    text, bytes      s<bytes>:<UTF-8>  b<bytes>:<bytes>
    date             d<days since 1970-01-01>;
    time of day, duration, time stamp, time stamp with a zone
                     c, u, t, z<nanoseconds, since midnight or since 1970-01-01T00:00 (UTC)>;
    list             l<items>:<items one after another>
    struct, row      m<fields that are not null>:<name as text, value; by name>
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from decimal import Decimal
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from pytest_gpueval.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

_NANOSECONDS = {"s": 1_000_000_000, "ms": 1_000_000, "us": 1000, "ns": 1}
_DAY_MS = 86_400_000


def row_contents(batch: pa.RecordBatch) -> list[bytes]:
    """The content of each row of a batch. Raises DataError for a column whose values have no such form."""
    columns = []
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        try:
            columns.append((name, _values(column)))
        except _NoForm as problem:
            raise DataError(f"column {name!r} holds {problem}, which has no content to tell rows apart by: name a column with unique keys") from None
    return list(_mappings(columns, batch.num_rows))


class _NoForm(TypeError):
    """A type that the table above does not have."""


def _values(array: Any) -> list[bytes]:
    """The bytes of each value. Raises _NoForm."""
    import pyarrow as pa

    if isinstance(array, pa.ExtensionArray):
        array = array.storage
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    return _nested(array) if pa.types.is_nested(array.type) else _plain(array)


def _nested(array: Any) -> list[bytes]:
    """The bytes of each list or struct. Raises _NoForm."""
    import pyarrow as pa
    import pyarrow.compute as pc

    types, of = pa.types, array.type
    there = array.is_valid().to_pylist()
    if types.is_struct(of):
        fields = [(of.field(at).name, _values(field)) for at, field in enumerate(array.flatten())]
        return [found if valid else b"n" for found, valid in zip(_mappings(fields, len(array)), there, strict=True)]
    if not (types.is_list(of) or types.is_large_list(of) or types.is_fixed_size_list(of)):
        raise _NoForm(str(of))
    items = iter(_values(pc.list_flatten(array)))
    lengths = pc.list_value_length(array).to_pylist()
    return [b"l%d:%b" % (length, b"".join([next(items) for _ in range(length)])) if valid else b"n" for length, valid in zip(lengths, there, strict=True)]


def _mappings(fields: Iterable[tuple[str, Sequence[bytes]]], rows: int) -> Iterator[bytes]:
    """One mapping for each row out of its fields."""
    named = [(_text(name.encode()), values) for name, values in sorted(fields, key=itemgetter(0))]
    for row in range(rows):
        parts = [name + values[row] for name, values in named if values[row] != b"n"]
        yield b"m%d:%b" % (len(parts), b"".join(parts))


def _plain(array: Any) -> list[bytes]:
    """The bytes of each value that has no parts. Raises _NoForm."""
    import pyarrow as pa

    types, of = pa.types, array.type
    form: Callable[[Any], bytes] = _text
    if types.is_string(of) or types.is_large_string(of) or types.is_string_view(of):
        array = array.cast(pa.large_binary())
    elif types.is_integer(of):
        form = _whole
    elif types.is_floating(of):
        form = _float
    elif types.is_boolean(of):
        form = _boolean
    elif types.is_decimal(of):
        form = _decimal
    elif types.is_temporal(of) and not types.is_interval(of):
        array, form = _temporal(array)
    elif types.is_binary(of) or types.is_large_binary(of) or types.is_fixed_size_binary(of) or types.is_binary_view(of):
        form = _bytes
    elif not types.is_null(of):
        raise _NoForm(str(of))
    return [b"n" if value is None else form(value) for value in array.to_pylist()]


def _text(value: bytes) -> bytes:
    return b"s%d:%b" % (len(value), value)


def _bytes(value: bytes) -> bytes:
    return b"b%d:%b" % (len(value), value)


def _whole(value: int) -> bytes:
    return b"i%d;" % value


def _boolean(value: bool) -> bytes:
    return b"T" if value else b"F"


def _float(value: float) -> bytes:
    return b"fnan;" if math.isnan(value) else f"f{float(value).hex()};".encode()


def _decimal(value: Decimal) -> bytes:
    digits = format(value, "f")
    digits = digits.rstrip("0").rstrip(".") if "." in digits else digits
    return f"q{'0' if digits == '-0' else digits};".encode()


def _temporal(array: Any) -> tuple[Any, Callable[[int], bytes]]:
    """The values as whole numbers, and their form: dates in days, all else in nanoseconds, for Python's own types hold only microseconds."""
    import pyarrow as pa

    types, of = pa.types, array.type
    numbers = array.cast(pa.int32() if of.bit_width == 32 else pa.int64())
    if types.is_date(of):
        unit = 1 if types.is_date32(of) else _DAY_MS
        return numbers, lambda number: b"d%d;" % (number // unit)
    kind = b"c" if types.is_time(of) else b"u" if types.is_duration(of) else b"t" if of.tz is None else b"z"
    scale = _NANOSECONDS[of.unit]
    return numbers, lambda number: b"%b%d;" % (kind, number * scale)
