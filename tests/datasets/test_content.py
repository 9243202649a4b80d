"""The same values are the same content, however they are stored; other values are other content."""

import datetime as dt
import decimal
import math

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_gpueval.datasets.content import row_contents
from pytest_gpueval.errors import DataError

TEXTS = st.none() | st.text(max_size=6)
NUMBERS = st.none() | st.integers(-128, 127)
SPANS = st.none() | st.lists(st.none() | st.fixed_dictionaries({"start": NUMBERS, "label": TEXTS}), max_size=3)
ROWS = st.lists(st.fixed_dictionaries({"text": TEXTS, "n": NUMBERS, "spans": SPANS, "x": st.none() | st.floats()}), min_size=1, max_size=8)

PLAIN = pa.schema({"text": pa.string(), "n": pa.int64(), "spans": pa.list_(pa.struct({"start": pa.int64(), "label": pa.string()})), "x": pa.float64()})
OTHER = pa.schema(
    {
        "x": pa.float64(),
        "spans": pa.large_list(pa.struct({"label": pa.large_string(), "start": pa.int8()})),
        "n": pa.int8(),
        "text": pa.dictionary(pa.int16(), pa.string()),
    }
)


def contents(rows, schema):
    return row_contents(pa.RecordBatch.from_pylist(rows, schema))


def one(value, type_):
    return row_contents(pa.record_batch({"v": pa.array([value], type_)}))[0]


@given(rows=ROWS)
@settings(deadline=None)
def test_it_does_not_matter_how_values_are_stored(rows):
    assert contents(rows, OTHER) == contents(rows, PLAIN)


@given(rows=ROWS, data=st.data())
@settings(deadline=None)
def test_it_does_not_matter_how_rows_are_cut(rows, data):
    at = data.draw(st.integers(0, len(rows)))
    batch = pa.RecordBatch.from_pylist(rows, PLAIN)
    assert row_contents(batch.slice(0, at)) + row_contents(batch.slice(at)) == row_contents(batch)


@given(rows=st.lists(ROWS.map(lambda rows: rows[0]), min_size=2, max_size=2))
@settings(deadline=None, max_examples=300)
def test_other_values_are_other_content(rows):
    first, second = contents(rows, PLAIN)
    assert (first == second) == (spelled(rows[0]) == spelled(rows[1]))


def spelled(value):
    """The value as Python writes it, less fields that are null: nan is nan, 0.0 is not -0.0."""
    if isinstance(value, dict):
        return {name: spelled(field) for name, field in value.items() if field is not None}
    return [spelled(item) for item in value] if isinstance(value, list) else "nan" if isinstance(value, float) and math.isnan(value) else repr(value)


@pytest.mark.parametrize(
    ("value", "type_", "expected"),
    [
        ("да", pa.string(), b"s4:\xd0\xb4\xd0\xb0"),
        ("да", pa.string_view(), b"s4:\xd0\xb4\xd0\xb0"),
        (b"\0\xff", pa.binary(), b"b2:\0\xff"),
        (b"\0\xff", pa.binary(2), b"b2:\0\xff"),
        (-7, pa.int32(), b"i-7;"),
        (2**64 - 1, pa.uint64(), b"i18446744073709551615;"),
        (True, pa.bool_(), b"T"),
        (False, pa.bool_(), b"F"),
        (0.1, pa.float64(), b"f0x1.999999999999ap-4;"),
        (0.5, pa.float32(), b"f0x1.0000000000000p-1;"),
        (0.5, pa.float16(), b"f0x1.0000000000000p-1;"),
        (math.inf, pa.float64(), b"finf;"),
        (math.nan, pa.float32(), b"fnan;"),
        (decimal.Decimal("1.50"), pa.decimal128(30, 10), b"q1.5;"),
        (decimal.Decimal(10**37 + 1), pa.decimal128(38, 0), b"q10000000000000000000000000000000000001;"),
        (decimal.Decimal(-0), pa.decimal128(5, 2), b"q0;"),
        (decimal.Decimal(100), pa.decimal256(5, 0), b"q100;"),
        (dt.date(1970, 1, 3), pa.date32(), b"d2;"),
        (dt.date(1969, 12, 31), pa.date64(), b"d-1;"),
        (dt.time(0, 0, 1), pa.time32("s"), b"c1000000000;"),
        (dt.time(0, 0, 1), pa.time64("ns"), b"c1000000000;"),
        (dt.timedelta(milliseconds=-1), pa.duration("us"), b"u-1000000;"),
        (1, pa.timestamp("s"), b"t1000000000;"),
        (1, pa.timestamp("ns"), b"t1;"),
        (dt.datetime(1970, 1, 1, 1, tzinfo=dt.UTC), pa.timestamp("ms", "Europe/Madrid"), b"z3600000000000;"),
        ([1, None], pa.list_(pa.int8()), b"l2:i1;n"),
        ([1, 2], pa.list_(pa.int8(), 2), b"l2:i1;i2;"),
        ([], pa.list_(pa.int8()), b"l0:"),
        ({"b": 1, "a": "x", "c": None}, pa.struct({"b": pa.int8(), "a": pa.string(), "c": pa.null()}), b"m2:s1:as1:xs1:bi1;"),
        ([[{"a": 1}], None, []], pa.list_(pa.list_(pa.struct({"a": pa.int8()}))), b"l3:l1:m1:s1:ai1;nl0:"),
        ("x", pa.dictionary(pa.int8(), pa.string()), b"s1:x"),
    ],
    ids=str,
)
def test_the_form_of_each_type(value, type_, expected):
    assert one(value, type_) == b"m1:s1:v" + expected
    assert one(None, type_) == b"m0:"


def test_nulls_of_fixed_size():
    array = pa.array([[1, 2], None, [3, 4]], pa.list_(pa.int8(), 2))
    assert row_contents(pa.record_batch({"v": array})) == [b"m1:s1:vl2:i1;i2;", b"m0:", b"m1:s1:vl2:i3;i4;"]


def test_a_column_of_nulls_is_as_none_at_all():
    assert contents([{"a": 1}], pa.schema({"a": pa.int8(), "new": pa.string()})) == contents([{"a": 1}], pa.schema({"a": pa.int8()}))


def test_an_extension_type_is_what_it_is_stored_as():
    array = pa.ExtensionArray.from_storage(pa.bool8(), pa.array([1, 0], pa.int8()))
    assert row_contents(pa.record_batch({"v": array})) == [b"m1:s1:vi1;", b"m1:s1:vi0;"]


@pytest.mark.parametrize("type_", [pa.map_(pa.string(), pa.int8()), pa.month_day_nano_interval(), pa.list_(pa.map_(pa.string(), pa.int8()))], ids=str)
def test_types_without_a_form_are_named(type_):
    with pytest.raises(DataError, match=r"^column 'v' holds (map|month).*, which has no content to tell rows apart by: name a column with unique keys$"):
        one(None, type_)
