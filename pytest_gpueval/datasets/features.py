"""The names behind whole numbers: what the library `datasets` calls ClassLabel, and writes into the metadata of its parquet files.

A feature is the JSON of it: `{"_type": "ClassLabel", "names": ["no", "yes"]}`, alone or within lists and structs.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

_KEY = b"huggingface"


def features_of(schema: pa.Schema) -> Mapping[str, Any]:
    """Column -> its feature, as a file's metadata has them; empty where it has none that can be read."""
    try:
        found = json.loads((schema.metadata or {})[_KEY])["info"]["features"]
    except (KeyError, TypeError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def namer(feature: Any) -> Callable[[Any], Any] | None:
    """What puts names in the place of numbers in a value of a column; None where there is nothing to put.

    -1 stands for "no label". A number without a name stays what it is.
    """
    names = _names(feature)
    if names is not None:
        return lambda value: _name(value, names)
    inside = _items(feature)
    if inside is not None:
        of_item = namer(inside)
        return None if of_item is None else lambda value: [of_item(item) for item in value] if isinstance(value, list) else value
    fields = {name: found for name, part in feature.items() if (found := namer(part)) is not None} if isinstance(feature, dict) else {}
    return (lambda value: _in_fields(value, fields)) if fields else None


def names_at(feature: Any, field: str | None = None) -> list[str] | None:
    """The names of a column of labels, of lists of them, or of lists of structs that hold one in `field`; None where it has none."""
    inside = _items(feature)
    feature = feature if inside is None else inside
    return _names(feature.get(field) if field is not None and isinstance(feature, dict) else feature)


def _names(feature: Any) -> list[str] | None:
    if not isinstance(feature, dict) or feature.get("_type") != "ClassLabel" or not isinstance(feature.get("names"), list):
        return None
    return [str(name) for name in feature["names"]]


def _items(feature: Any) -> Any:
    """The feature of a list's items; None where it is no list. Older versions wrote a list of one."""
    if isinstance(feature, list):
        return feature[0] if len(feature) == 1 else None
    return feature.get("feature") if isinstance(feature, dict) and isinstance(feature.get("_type"), str) else None


def _name(value: Any, names: list[str]) -> Any:
    if not isinstance(value, int) or value >= len(names) or value < -1:
        return value
    return names[value] if value >= 0 else None


def _in_fields(value: Any, fields: Mapping[str, Callable[[Any], Any]]) -> Any:
    if not isinstance(value, dict):
        return value
    return {**value, **{name: put(value[name]) for name, put in fields.items() if name in value}}
