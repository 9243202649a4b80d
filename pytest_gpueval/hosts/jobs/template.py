"""What the user adds to a Job: a YAML file, over which ours is laid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pytest_gpueval.errors import MissingExtra, UsageProblem


def read(file: Path) -> dict[str, Any]:
    """A Job, or part of one. Raises UsageProblem, MissingExtra."""
    yaml = library()
    try:
        document = yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageProblem(f"{file}: cannot be read: {error.strerror or error}; hosts.toml names it as `job`") from None
    except (yaml.YAMLError, ValueError) as error:
        raise UsageProblem(f"{file}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(document, dict) or document.get("kind", "Job") != "Job" or document.get("apiVersion", "batch/v1") != "batch/v1":
        raise UsageProblem(f"{file}: not a Job; one document is needed whose kind is Job and whose apiVersion is batch/v1")
    return document


def library() -> Any:
    """PyYAML. Raises MissingExtra."""
    try:
        import yaml  # noqa: PLC0415 - an extra
    except ModuleNotFoundError:
        raise MissingExtra("pyyaml", needed_for="a Job of Kubernetes", extra="hosts") from None
    return yaml


def merged(theirs: Any, ours: Any) -> Any:
    """Tables are merged key by key, lists of what has names name by name, other lists are joined; of anything else ours counts.

    >>> merged({"a": [{"name": "x", "b": 1}], "c": 1}, {"a": [{"name": "x", "d": 2}], "c": 2})
    {'a': [{'name': 'x', 'b': 1, 'd': 2}], 'c': 2}
    """
    if isinstance(theirs, Mapping) and isinstance(ours, Mapping):
        both = {key: merged(theirs[key], ours[key]) for key in theirs if key in ours}
        return {**theirs, **ours, **both}
    if isinstance(theirs, list) and isinstance(ours, list):
        return _joined(theirs, ours)
    return ours


def _joined(theirs: Sequence[Any], ours: Sequence[Any]) -> list[Any]:
    named = {item["name"]: item for item in ours if isinstance(item, Mapping) and "name" in item}
    result = []
    for item in theirs:
        name = item.get("name") if isinstance(item, Mapping) else None
        result.append(merged(item, named.pop(name)) if name in named else item)
    return result + [item for item in ours if not (isinstance(item, Mapping) and "name" in item and item["name"] not in named)]
