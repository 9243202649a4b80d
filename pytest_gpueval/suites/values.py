"""What a parameter of a run can be, and what a column of a sweep's file may declare to hold."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal, Union

# What JSON can say. None is a parameter that is left out.
Value = Union[bool, int, float, str, list["Value"], dict[str, "Value"], None]

Kind = Literal["int", "float", "bool", "str", "json"]


def leaves(value: Value) -> Iterator[Value]:
    """Everything in a value that is no list and no table; keys of tables are left out."""
    if isinstance(value, list):
        for part in value:
            yield from leaves(part)
    elif isinstance(value, dict):
        for part in value.values():
            yield from leaves(part)
    else:
        yield value


def infinite(value: Value) -> float | None:
    """The first number in a value that is not finite (nan, inf), which most notations cannot say."""
    if not isinstance(value, list | dict):
        return value if isinstance(value, float) and not math.isfinite(value) else None
    return next((leaf for leaf in leaves(value) if isinstance(leaf, float) and not math.isfinite(leaf)), None)


def number(value: object) -> float | None:
    """A number that a program wrote; texts too, for that is how steps, "nan" and "inf" are written. None for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        return float(value)
    except (ValueError, OverflowError):
        return None
