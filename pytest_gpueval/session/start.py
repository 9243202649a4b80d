"""How a session begins: is the plugin asked for at all, and which part does this process play."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from pytest_gpueval.errors import GpuevalError, UsageProblem
from pytest_gpueval.suites.load import FILE_NAME

from . import lanes, plan
from .settings import Settings

SETTINGS = pytest.StashKey[Settings]()
LANES = pytest.StashKey[list[lanes.Lane]]()


@contextmanager
def user_errors() -> Iterator[None]:
    """Give errors of ours to pytest as usage errors: one message, no traceback."""
    try:
        yield
    except GpuevalError as error:
        raise pytest.UsageError(str(error)) from None


def is_worker(config: pytest.Config) -> bool:
    """Whether this is an xdist worker."""
    return hasattr(config, "workerinput")


def prepare(config: pytest.Config) -> None:
    """On the controller, before pytest is configured: read the options, add the suites, lay the lanes."""
    with user_errors():
        settings = Settings.of(config)
        paths = plan.suite_paths(settings)
        if paths:
            config.args = ([] if config.args_source is not pytest.Config.ArgsSource.ARGS else config.args) + [
                str(path) for path in paths if str(path) not in config.args
            ]
        if not (paths or settings.gpus or settings.session or _named_suites(config)):
            return
        config.stash[SETTINGS] = settings
        most = sum(len(plan.cases(plan.read_suite(path), settings)) for path in _named_suites(config))
        config.stash[LANES] = laid = lanes.lay(settings.gpus, _processes(config), max(1, most))
        if laid and not lanes.apply(laid, config):
            config.stash[LANES] = laid[:1]


def configure(config: pytest.Config) -> None:
    """Register the parts that this process plays."""
    if is_worker(config):
        _configure_worker(config, config.workerinput)  # type: ignore[attr-defined]
    elif SETTINGS in config.stash and not config.option.collectonly:
        from .controller import Controller  # noqa: PLC0415

        with user_errors():
            controller = Controller(config, config.stash[SETTINGS], config.stash[LANES], suites_of(config))
        config.pluginmanager.register(controller, "gpueval-controller")
        if config.option.dist == "no" if config.pluginmanager.hasplugin("xdist") else True:
            _register_worker(config, config.stash[SETTINGS], controller.session_dir, controller.code, _lane_name(config), controller)


def suites_of(config: pytest.Config) -> list[plan.Suite]:
    """The suites that the command line names."""
    return [plan.read_suite(path) for path in _named_suites(config)]


def _lane_name(config: pytest.Config) -> str:
    laid = config.stash[LANES]
    return laid[0].name if laid else "main"


def _configure_worker(config: pytest.Config, given: dict[str, Any]) -> None:
    """In an xdist worker: everything decided comes from the controller."""
    if "gpueval" not in given:
        return
    with user_errors():
        settings = Settings.of(config)
    config.stash[SETTINGS] = settings
    told = given["gpueval"]
    _register_worker(config, settings, Path(told["session_dir"]), told["code"], given["workerid"], given["gpueval_channel"])


def _register_worker(config: pytest.Config, settings: Settings, session_dir: Path, code: Any, name: str, listener: Any) -> None:
    from pytest_gpueval.runs.redact import Redactor  # noqa: PLC0415

    from .worker import Worker  # noqa: PLC0415

    send = listener.hear if hasattr(listener, "hear") else listener.send
    worker = Worker(config, settings, session_dir, code, name, Redactor.of(os.environ), send)
    config.pluginmanager.register(worker, "gpueval-worker")
    config.add_cleanup(worker.close)


def _named_suites(config: pytest.Config) -> list[Path]:
    """The suite files among pytest's arguments, given as file, node id or folder."""
    found: dict[Path, None] = {}
    for argument in config.args:
        path = config.invocation_params.dir / argument.split("::")[0]
        file = path / FILE_NAME if path.is_dir() else path
        if file.name == FILE_NAME and file.exists():
            found[file.resolve()] = None
    return list(found)


def _processes(config: pytest.Config) -> int | None:
    """What `-n` asks for, None without it."""
    asked = getattr(config.option, "numprocesses", None)
    if isinstance(asked, str):  # "auto" and "logical" are the lanes' business
        raise UsageProblem(f"-n {asked} beside --gpus: --gpus decides the number of workers; leave out -n, or give a number for CPU lanes.")
    return asked
