"""suite.toml as a pytest module whose functions are the package's own."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

import pytest

from pytest_gpueval import items
from pytest_gpueval.errors import UsageProblem
from pytest_gpueval.suites.load import FILE_NAME, AnySuite

from . import cases
from .messages import collect_errors, user_errors
from .start import SETTINGS, ensure

_TABLE = re.compile(r"""\s*\[\s*datasets\s*\.\s*(["']?)([^"'\]]+?)\1\s*\]""")


class SuiteModule(pytest.Module):
    """Collects `test_eval` or `test_sweep` for a suite file."""

    def _getobj(self) -> ModuleType:
        with user_errors():
            name = cases.function_of(cases.read_suite(self.path))
        module = ModuleType(items.__name__, items.__doc__)
        module.__file__ = items.__file__
        setattr(module, name, getattr(items, name))
        return module

    def collect(self) -> Iterable[pytest.Item | pytest.Collector]:
        """As pytest's. An item is where its suite file says so, not in a file of this package: JUnit XML and annotations tell it to people."""
        lines = _lines(self.path)
        for item in super().collect():
            if isinstance(item, pytest.Function):
                unit = item.callspec.params.get("case") if hasattr(item, "callspec") else None
                item.__dict__["location"] = (self.nodeid, lines.get(getattr(unit, "dataset", "")), item.name)
            yield item


def _lines(path: Path) -> dict[str, int]:
    """Where the table of each dataset begins, counted from 0."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return {}
    return {match[2]: number for number, line in enumerate(text.splitlines()) if (match := _TABLE.match(line))}


def module(path: Path, parent: pytest.Collector) -> SuiteModule:
    """The collector of a suite file."""
    return SuiteModule.from_parent(parent, path=path)


def asked_for(path: Path, session: pytest.Session) -> bool:
    """Whether a suite file was named: itself, its folder, or by --gpueval-suite. A bare `pytest` must not start an evaluation."""
    return path.name == FILE_NAME and (session.isinitpath(path) or session.isinitpath(path.parent))


def parametrize(metafunc: pytest.Metafunc) -> None:
    """Give `case` to the functions of a suite, and to those marked `gpueval(suite=...)`."""
    with collect_errors():
        suite: AnySuite | None = None
        marker = metafunc.definition.get_closest_marker("gpueval")
        if isinstance(metafunc.definition.getparent(pytest.Module), SuiteModule):
            suite = cases.read_suite(metafunc.definition.path)
        elif marker is not None:
            suite = cases.suite_named(_suite_of(marker), metafunc.config.rootpath)
        if suite is not None:
            ensure(metafunc.config, suite)
            units = cases.units(suite, metafunc.config.stash[SETTINGS])
            metafunc.parametrize("case", units, ids=[unit.id for unit in units])


def _suite_of(marker: pytest.Mark) -> str:
    name = marker.kwargs.get("suite", marker.args[0] if marker.args else None)
    others = [*marker.args[1:], *(key for key in marker.kwargs if key != "suite")]
    if not isinstance(name, str) or others:
        found = f"; it does not know {', '.join(map(repr, others))} (options such as --gpueval-split choose those)" if others else ""
        raise UsageProblem(f'the marker gpueval takes a suite, @pytest.mark.gpueval(suite="guardrails_ru"){found}')
    return name
