"""Which cases pytest's own selection leaves, as far as that can be said before any worker has collected them.

What `-m`, `--deselect` or a conftest.py choose, only the collection can tell; `-k`, `--lf` and node ids are about names, which are known.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from _pytest.cacheprovider import Cache
from _pytest.mark.expression import Expression

from pytest_gpueval.suites.load import FILE_NAME
from pytest_gpueval.suites.model import Case

_FUNCTION = "test_eval"
# Options whose choice is not made by names.
_OTHERS = ("markexpr", "deselect", "stepwise")


def selected(config: pytest.Config, chosen: Sequence[Case]) -> list[Case] | None:
    """Those of the cases that will be run; None where only the collection can tell."""
    option = config.option
    if any(getattr(option, name, None) for name in _OTHERS):
        return None
    found = [case for case in chosen if _is_named(config, case)]
    if keyword := (getattr(option, "keyword", "") or "").strip():
        try:
            expression = Expression.compile(keyword)
            found = [case for case in found if expression.evaluate(_matcher(config, case))]
        except (SyntaxError, ValueError, pytest.UsageError):  # pytest says what is wrong with it
            return None
    return _failed_last(config, found) if getattr(option, "lf", False) else found


def _is_named(config: pytest.Config, case: Case) -> bool:
    """Whether an argument stands for the item of a case: its node id, that of its function, its suite's file or folder."""
    for argument in config.args:
        place, _, rest = argument.partition("::")
        path = (config.invocation_params.dir / place).resolve()
        if path in (case.directory, case.directory / FILE_NAME) and rest in ("", _FUNCTION, f"{_FUNCTION}[{case.id}]"):
            return True
    return False


def _matcher(config: pytest.Config, case: Case) -> Callable[..., bool]:
    """What `-k` asks of the item of a case: is this part of its name, or of the names of the folders around it?"""
    names = [part.lower() for part in (*_below_root(config, case).parts, f"{_FUNCTION}[{case.id}]")]

    def matches(word: str, /, **given: Any) -> bool:
        if given:
            raise pytest.UsageError("-k takes no parameters")
        return any(word.lower() in name for name in names)

    return matches


def _below_root(config: pytest.Config, case: Case) -> Path:
    """The suite file's path below pytest's root. Raises ValueError for one that is elsewhere, whose folders pytest may not name."""
    return (case.directory / FILE_NAME).relative_to(config.rootpath.resolve())


def _failed_last(config: pytest.Config, cases: list[Case]) -> list[Case] | None:
    """What `--lf` leaves: those that failed; where none of them has, all of them, or none if that is what an option says."""
    path = Cache.cache_dir_from_config(config, _ispytest=True) / "v/cache/lastfailed"
    try:
        failed = set(json.loads(path.read_bytes()))
    except FileNotFoundError:
        failed = set()
    except (OSError, ValueError, TypeError):  # pytest says so
        return None
    if not failed:
        return [] if getattr(config.option, "last_failed_no_failures", "all") == "none" else cases
    try:
        found = [case for case in cases if f"{_below_root(config, case).as_posix()}::{_FUNCTION}[{case.id}]" in failed]
    except ValueError:
        return None
    return found or cases
