"""pytest hooks. Each parses, delegates, and costs nothing where the plugin is not used."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_gpueval.fixtures import (
    case,
    load_split,
    openai_server,
    openai_settings,
    predictions,
    pytriton_server,
    remote_host,
    run,
    split,
    triton_server,
    triton_settings,
)
from pytest_gpueval.session.settings import OPTIONS

if TYPE_CHECKING:
    from pytest_gpueval.session.collect import SuiteModule

__all__ = [
    "case",
    "load_split",
    "openai_server",
    "openai_settings",
    "predictions",
    "pytriton_server",
    "remote_host",
    "run",
    "split",
    "triton_server",
    "triton_settings",
]

_SUITE_FILE = "suite.toml"


def pytest_addoption(parser: pytest.Parser, pluginmanager: pytest.PytestPluginManager) -> None:  # noqa: ARG001
    """Options and their ini keys."""
    group = parser.getgroup("gpueval", "GPU evaluations and sweeps (pytest-gpueval)")
    for option in OPTIONS:
        if option.switch:
            group.addoption(option.flag, dest=option.name, action="store_true", default=False, help=option.help)
        else:
            group.addoption(option.flag, dest=option.name, default=None, metavar=option.metavar, help=option.help)
        parser.addini(option.name, option.help, default=None, type=option.ini_type)


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    """Hooks for conftest.py."""
    from pytest_gpueval import hookspecs  # noqa: PLC0415

    pluginmanager.add_hookspecs(hookspecs)


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    """Pin the GPU before any conftest.py is imported, where this process will run the items itself."""
    if early_config.known_args_namespace.gpus or early_config.getini("gpus"):
        from pytest_gpueval.session import start  # noqa: PLC0415

        start.pin(early_config)


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> int | None:
    """Prepare the session if the plugin is asked for."""
    if _asked_for(config):
        from pytest_gpueval.session import start  # noqa: PLC0415

        return start.prepare(config)
    return None


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Register the marker, and the parts that this process plays."""
    config.addinivalue_line("markers", "gpueval(suite): give the test the cases of a suite, through the fixture `case`")
    if _asked_for(config) or "gpueval" in getattr(config, "workerinput", {}):
        from pytest_gpueval.session import start  # noqa: PLC0415

        start.configure(config)


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> SuiteModule | None:
    """Collect a suite file that was asked for."""
    if file_path.name != _SUITE_FILE:
        return None
    from pytest_gpueval.session import collect  # noqa: PLC0415

    return collect.module(file_path, parent) if collect.asked_for(file_path, parent.session) else None


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Parametrize over the cases of a suite; many a repository has parameters of its own that are called "case"."""
    definition = metafunc.definition
    if "case" in metafunc.fixturenames and (definition.path.name == _SUITE_FILE or definition.get_closest_marker("gpueval")):
        from pytest_gpueval.session import collect  # noqa: PLC0415

        collect.parametrize(metafunc)


def _asked_for(config: pytest.Config) -> bool:
    """Whether an option of ours, or a suite file among the arguments, was given. Cheap: decides whether anything is imported."""
    option = config.option
    if option.gpueval_suite or option.gpus or option.gpueval_session or option.gpueval_hosts or config.getini("gpueval_suite"):
        return True
    return any(_SUITE_FILE in argument or Path(argument, _SUITE_FILE).exists() for argument in config.args)
