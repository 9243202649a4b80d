"""How a session begins: is the plugin asked for at all, and which part does this process play."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from pytest_gpueval.errors import GpuevalError, UsageProblem
from pytest_gpueval.runs.redact import Redactor
from pytest_gpueval.suites.load import FILE_NAME
from pytest_gpueval.suites.model import Suite

from . import cases, lanes
from .controller import Controller
from .settings import Settings
from .worker import Notify, Worker

SETTINGS = pytest.StashKey[Settings]()
LANES = pytest.StashKey[Sequence[lanes.Lane]]()


@contextmanager
def user_errors() -> Iterator[None]:
    """Give errors of ours to pytest as usage errors: one message, no traceback."""
    try:
        yield
    except GpuevalError as error:
        raise pytest.UsageError(str(error)) from None


def _end_on_sigterm(config: pytest.Config) -> None:
    """End as by Ctrl-C on SIGTERM: the run says "interrupted", files are closed. xdist workers ignore SIGINT, so they are stopped by it too."""

    def interrupt(_number: int, _frame: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second one must not interrupt the first one's report
        raise KeyboardInterrupt("ended by SIGTERM")

    if threading.current_thread() is threading.main_thread():
        before = signal.signal(signal.SIGTERM, interrupt)

        def give_back() -> None:
            signal.signal(signal.SIGTERM, before)

        config.add_cleanup(give_back)


def only_looks(config: pytest.Config) -> bool:
    """Whether pytest was asked to show something instead of running tests."""
    return any(getattr(config.option, name, False) for name in ("collectonly", "setupplan", "setuponly", "showfixtures", "show_fixtures_per_test"))


def is_worker(config: pytest.Config) -> bool:
    """Whether this is an xdist worker."""
    return hasattr(config, "workerinput")


def prepare(config: pytest.Config) -> None:
    """Before pytest is configured: read the options and add the suites; on the controller lay the lanes too."""
    with user_errors():
        settings = Settings.of(config)
        paths = cases.suite_paths(settings)
        if paths:
            config.args = ([] if config.args_source is not pytest.Config.ArgsSource.ARGS else config.args) + [
                str(path) for path in paths if str(path) not in config.args
            ]
        cases.check_source(settings)
        config.stash[SETTINGS] = settings
        if is_worker(config):
            return
        most = sum(len(cases.chosen(cases.read_suite(path), settings)) for path in _named_suites(config))
        config.stash[LANES] = laid = lanes.lay(settings.gpus, _processes(config), max(1, most))
        if laid and not lanes.apply(laid, config):
            config.stash[LANES] = laid[:1]


def configure(config: pytest.Config) -> None:
    """Register the parts that this process plays."""
    if is_worker(config):
        _configure_worker(config, config.workerinput)  # type: ignore[attr-defined]
    elif SETTINGS in config.stash and not only_looks(config):
        with user_errors():
            _open_session(config, suites_of(config))


def ensure(config: pytest.Config, suite: Suite) -> None:
    """Open a session late, for tests marked `gpueval` that run without an option of ours. Raises UsageProblem in an xdist worker."""
    if SETTINGS in config.stash:
        return
    if is_worker(config):
        raise UsageProblem("tests marked gpueval need a session when xdist runs them: add --gpueval-session NAME")
    config.stash[SETTINGS], config.stash[LANES] = Settings.of(config), []
    if not only_looks(config):
        _open_session(config, [suite])


def _open_session(config: pytest.Config, suites: list[Suite]) -> None:
    """Own the session's directory; without xdist, run its items too."""
    _end_on_sigterm(config)
    controller = Controller(config, config.stash[SETTINGS], config.stash[LANES], suites, redactor_of(suites))
    config.pluginmanager.register(controller, "gpueval-controller")
    if getattr(config.option, "dist", "no") == "no":
        _register_worker(config, config.stash[SETTINGS], controller.session_dir, controller.code, _lane_name(config), controller.redactor, controller.hear)


def redactor_of(suites: Sequence[Suite]) -> Redactor:
    """What must not be written: the secrets of the environment and of the options of runtimes."""
    return Redactor.of(os.environ, [entry.options for suite in suites for entry in suite.file.runtimes.values()])


def suites_of(config: pytest.Config) -> list[Suite]:
    """The suites that the command line names."""
    return [cases.read_suite(path) for path in _named_suites(config)]


def _lane_name(config: pytest.Config) -> str:
    laid = config.stash[LANES]
    return laid[0].name if laid else "main"


def _configure_worker(config: pytest.Config, given: dict[str, Any]) -> None:
    """In an xdist worker: everything decided comes from the controller."""
    if "gpueval" not in given:
        return
    told, channel = given["gpueval"], given["gpueval_channel"]
    _end_on_sigterm(config)
    channel.setcallback(lambda _stop: os.kill(os.getpid(), signal.SIGTERM))
    _register_worker(config, config.stash[SETTINGS], Path(told["session_dir"]), told["code"], given["workerid"], redactor_of(suites_of(config)), channel.send)


def _register_worker(config: pytest.Config, settings: Settings, session_dir: Path, code: Any, name: str, redactor: Redactor, send: Notify) -> None:
    worker = Worker(config, settings, session_dir, code, name, redactor, send)
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
