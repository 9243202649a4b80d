"""Runtimes that need a server, and the servers of one process: made from the suite's settings, the session's options, and what fixtures change."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields
from glob import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

import pytest

from pytest_gpueval.datasets.mirror import MODELS
from pytest_gpueval.datasets.remote import folder_of
from pytest_gpueval.errors import UsageProblem, valid_values

if TYPE_CHECKING:
    from pytest_gpueval.runs.redact import Redactor
    from pytest_gpueval.runtimes.base import Runtime
    from pytest_gpueval.servers.openai import CommandServer, CommandSettings, Started, Vllm, VllmSettings
    from pytest_gpueval.servers.pytriton import PyTritonServer
    from pytest_gpueval.servers.server import Server, Watch
    from pytest_gpueval.servers.triton_server import TritonServer
    from pytest_gpueval.suites.model import Case
    from pytest_gpueval.suites.schema import ServerEntry, VllmEntry

    from .settings import Settings
    from .worker import Worker

# Gives a fixture by its name.
Fixture = Callable[[str], Any]
T = TypeVar("T")

# Of their logs, below the session's directory.
FOLDER = "servers"
TRITON_PYTHON = "GPUEVAL_TRITON_PYTHON"
MODEL_DIR = "GR_MODEL_DIR"
_TRITON_FOLDER = ".venv-triton"


def triton_runtime(case: Case, settings: Settings, fixture: Fixture) -> Runtime:
    """A case's model behind Triton: on a server of this process, or on the one at `--gpueval-triton-url`. Raises UsageProblem."""
    from pytest_gpueval.runtimes.triton import TritonRuntime  # noqa: PLC0415
    from pytest_gpueval.servers.triton import TritonModel  # noqa: PLC0415
    from pytest_gpueval.servers.triton_external import ExternalTriton  # noqa: PLC0415

    entry = case.runtime
    triton = entry.triton
    bounds: dict[str, Any] = {"rows": triton.batch_rows, "in_flight": min(triton.in_flight, settings.workers), "deadline_s": entry.deadline_s}
    if settings.triton_url is not None:
        return TritonRuntime(ExternalTriton(settings.triton_url, triton.model or case.suite), **bounds)
    if entry.target is None:
        raise UsageProblem(f"suite {case.suite!r}: runtimes.{case.runtime_name}.target: missing; a model behind Triton is 'file.py:Class'")
    model = TritonModel(entry.target, case.directory, entry.options, triton.instances, triton.most_rows, entry.extra)
    server: TritonServer | PyTritonServer = fixture("pytriton_server" if triton.engine == "pytriton" else "triton_server")
    return TritonRuntime(server.endpoint(model), **bounds)


def openai_runtime(case: Case, settings: Settings, fixture: Fixture) -> Runtime:
    """A case's language model: on a server of this process, or on one that runs elsewhere. Raises UsageProblem, RuntimeFault, Unreachable."""
    from pytest_gpueval.runtimes.openai import OpenAIRuntime  # noqa: PLC0415
    from pytest_gpueval.runtimes.openai_request import Request  # noqa: PLC0415
    from pytest_gpueval.servers.external import External  # noqa: PLC0415
    from pytest_gpueval.servers.openai import CommandSettings, VllmSettings  # noqa: PLC0415

    entry = case.runtime
    asked = {**entry.request.model_dump(exclude_unset=True), "timeout_s": entry.deadline_s}
    own = [name for name in ("vllm", "server", "url") if getattr(entry, name) is not None]
    if len(own) > 1:
        raise UsageProblem(f"suite {case.suite!r}: runtimes.{case.runtime_name}: has {' and '.join(own)}; one of them says where the server is")
    if own in ([], ["url"]):
        external = External.of(entry.url)
        external.reach()
        return OpenAIRuntime(external, Request(**asked), settings.workers, key=external.key, key_name=external.key_name)
    if entry.vllm is not None:
        given: VllmSettings | CommandSettings = VllmSettings(**{"binary": settings.vllm_bin, **_placed(entry.vllm, case.directory)})
    else:
        assert entry.server is not None  # noqa: S101 - the only one left
        command = _placed(entry.server, case.directory)
        given = CommandSettings(**{"argv": command.pop("command"), "suite": case.directory, **command})
    started = fixture("openai_server").serve(given, asked.get("endpoint", "chat"))
    return OpenAIRuntime(started, Request(**{"model": started.model, **asked}), settings.workers, key=started.key, key_name=started.key_name)


def _placed(entry: VllmEntry | ServerEntry, directory: Path) -> dict[str, Any]:
    """What the suite says of a server; a `model` that lies in the suite's folder, or among the models of GR_MODEL_DIR, by its path."""
    said = entry.model_dump(exclude_unset=True)
    inside = directory / entry.model
    if inside.exists():
        return {**said, "model": str(inside.resolve())}
    fetched = _fetched(entry.model, os.environ)
    return said if fetched is None else {"served_name": entry.model, **said, "model": str(fetched)}


def _fetched(model: str, environment: Mapping[str, str]) -> Path | None:
    """Where `gpueval assets download` put a model of the Hub, if GR_MODEL_DIR names that directory or the models in it. Raises UsageProblem."""
    named = environment.get(MODEL_DIR)
    if not named:
        return None
    if not Path(named).is_dir():
        raise UsageProblem(f"{MODEL_DIR}={named}: no such directory; it holds what `gpueval assets download` has fetched")
    places = (Path(named) / folder / folder_of(model) for folder in (MODELS, ""))
    return next((place.resolve() for place in places if place.is_dir()), None)


class Stoppable(Protocol):
    """A server."""

    @property
    def notes(self) -> Sequence[str]:
        """What the user should hear of, once it was stopped."""

    def stop(self, *, hurry: bool = False) -> None:
        """Raises RuntimeFault if something is left."""


S = TypeVar("S", bound=Stoppable)


def lent(
    session: pytest.Session, name: str, make: Callable[[Settings, Path, Redactor, Mapping[str, Any], Watch], S], changes: Mapping[str, Any]
) -> Iterator[S]:
    """A server for as long as its fixture. Its log is `servers/<worker>-<name>.log` of the session. Raises UsageProblem."""
    from pytest_gpueval.gpus.memory import MemoryWatch  # noqa: PLC0415

    worker: Worker | None = session.config.pluginmanager.getplugin("gpueval-worker")
    if worker is None:
        raise UsageProblem(f"the fixture {name}_server needs a session: add --gpueval-session NAME")
    server = make(worker.settings, worker.session_dir / FOLDER / f"{worker.name}-{name}.log", worker.redactor, changes, MemoryWatch(worker.gpus))
    yield server
    worker.close_runtimes()  # their connections
    try:
        server.stop(hurry=session.exitstatus == pytest.ExitCode.INTERRUPTED)  # xdist kills a worker ten seconds after Ctrl-C
    finally:
        for note in server.notes:
            worker.warn(note)


def logs(session_dir: Path, worker: str) -> list[str]:
    """Of one worker's servers: below the session's directory, where those of its neighbours grow too."""
    return sorted(f"{FOLDER}/{log.name}" for log in (session_dir / FOLDER).glob(f"{escape(worker)}-*.log"))


def triton_server(settings: Settings, log: Path, redactor: Redactor, changes: Mapping[str, Any], watch: Watch | None = None) -> TritonServer:
    """A server that starts with its first model; `changes` are fields of TritonSettings. Raises UsageProblem."""
    from pytest_gpueval.servers.triton import TritonSettings  # noqa: PLC0415
    from pytest_gpueval.servers.triton_server import TritonServer  # noqa: PLC0415

    return TritonServer(_changed(TritonSettings, {"server_python": triton_python(settings)}, changes, "triton_settings"), log, redactor, watch=watch)


def pytriton_server(settings: Settings, log: Path, redactor: Redactor, changes: Mapping[str, Any], watch: Watch | None = None) -> PyTritonServer:
    """PyTriton, for each model once; `changes` as of `triton_server`. Raises UsageProblem."""
    from pytest_gpueval.servers.pytriton import PyTritonServer  # noqa: PLC0415
    from pytest_gpueval.servers.triton import TritonSettings  # noqa: PLC0415

    return PyTritonServer(_changed(TritonSettings, {"server_python": triton_python(settings)}, changes, "triton_settings"), log, redactor, watch=watch)


def triton_python(settings: Settings, environment: Mapping[str, str] = os.environ) -> str:
    """The interpreter for Triton: the option, the variable, the one that `make triton-server` makes, else this one."""
    made = settings.root / _TRITON_FOLDER / "bin/python"
    return settings.triton_python or environment.get(TRITON_PYTHON) or (str(made) if made.exists() else sys.executable)


class OpenAIServers:
    """The language model server of this process: one at a time, since each fills its GPU."""

    def __init__(
        self,
        settings: Settings,  # noqa: ARG002 - as `lent` makes all
        log: Path,
        redactor: Redactor,
        changes: Mapping[str, Any],
        watch: Watch | None = None,
    ) -> None:
        self._log = log
        self._redactor = redactor
        self._changes = dict(changes)
        self._watch = watch
        self._given: tuple[Any, str] | None = None
        self._started: Started | None = None
        self._server: Server | None = None
        self.notes: list[str] = []

    def serve(self, given: VllmSettings | CommandSettings, endpoint: Literal["chat", "completions"] = "chat") -> Started:
        """The server of these settings, ready; another one is stopped for it. Raises UsageProblem, RuntimeFault, Conflict."""
        from pytest_gpueval.servers.openai import CommandServer, Started, Vllm, VllmSettings  # noqa: PLC0415
        from pytest_gpueval.servers.server import Server  # noqa: PLC0415

        if self._started is None or self._given != (given, endpoint):
            self.stop()
            own = {field.name: getattr(given, field.name) for field in fields(given)}
            changed = _changed(type(given), own, self._changes, "openai_settings")
            kind: Vllm | CommandServer = Vllm(changed, endpoint) if isinstance(changed, VllmSettings) else CommandServer(changed, endpoint=endpoint)
            self._server = server = Server(kind, self._log, self._redactor, watch=self._watch)
            server.start()
            self._given, self._started = (given, endpoint), Started(server, kind)
        return self._started

    @property
    def url(self) -> str:
        """The base URL of the server that is up. Raises UsageProblem if none is."""
        if self._started is None:
            raise UsageProblem("openai_server: no server is up; openai_server.serve(VllmSettings(...)) starts one")
        return self._started.url

    def stop(self, *, hurry: bool = False) -> None:
        """Stop it; again is harmless. Raises RuntimeFault if something is left."""
        server, self._given, self._started, self._server = self._server, None, None, None
        if server is not None:
            try:
                server.stop(hurry=hurry)
            finally:
                self.notes += server.notes


def _changed(kind: type[T], own: Mapping[str, Any], changes: Mapping[str, Any], fixture: str) -> T:
    """Settings with what a fixture changes. Raises UsageProblem for a name that they do not have."""
    known = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    for name in changes:
        if name not in known:
            raise UsageProblem(f"fixture {fixture}: {name!r} is no setting. {valid_values(name, known, what='settings')}")
    return kind(**{**own, **changes})
