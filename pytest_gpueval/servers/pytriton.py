"""Triton as the library PyTriton runs it: a program of ours, `servers/pytriton_program.py`, with one model, in the interpreter that has nvidia-pytriton.

What differs from `servers/triton_server.py`: the model is called in the program's own process, each `instance` by a thread; each model has a program and
a server of its own, so ports that are fixed serve one model at a time; a model whose process ends takes its server with it, which starts anew in seconds.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pytest_gpueval.errors import GpuevalError, ModelFault, RuntimeFault, StorageError, UsageProblem
from pytest_gpueval.processes.leftovers import Segments
from pytest_gpueval.processes.program import MOST_STDIN, Program
from pytest_gpueval.processes.supervisor import Process, descendants, lives, look, pids
from pytest_gpueval.runs.redact import Redactor
from pytest_gpueval.runtimes import wire

from . import segments, sockets
from .pytriton_program import CUT_OFF
from .server import Launch, Server, Together, Watch
from .triton import GRPC, HTTP, LINKS, Triton, TritonModel, TritonSettings, cut_off, refused
from .triton_control import Refused
from .triton_model import USAGE
from .triton_python import Interpreter

NAME = "pytriton"
_PROGRAM = "gpueval_pytriton.py"
_READY = "ready"
_PING_S = 1.0
# PyTriton's own end, beside the model's.
_OWN_END_S = 8.0
# Of requests that its server has in flight when it is told to end: fewer than the supervisor waits before it kills, for what is killed leaves its segments.
_IN_FLIGHT_S = 1
_WORKSPACE = "work"
# Characters of what PyTriton adds to a model's name for a socket; and of that name.
_SOCKET_NAME, _LONGEST_NAME = len(f"/{_WORKSPACE}/_0_63-server.sock"), 24


class PyTriton(Triton):
    """The `Kind` of a PyTriton with one model."""

    name = NAME

    def __init__(self, settings: TritonSettings, model: TritonModel, served_name: str) -> None:
        super().__init__(settings)
        self.model = model
        self.served_name = served_name
        # Of this start: the server and its processes once it was ready; segments that those had, and those that were there before.
        self.helpers: list[Process] = []
        self._seen = Segments()
        self._foreign: set[Path] = set()

    @property
    def stop_s(self) -> float:
        """Seconds it has to end by itself."""
        return self.settings.stop_s + _OWN_END_S

    @property
    def causes(self) -> Mapping[str, str]:
        """As of the server alone, and PyTriton's own."""
        python = self.settings.server_python
        incomplete = f"nvidia-pytriton in {python} is incomplete, or another version than 0.7: {python} -m pip install --force-reinstall nvidia-pytriton"
        return {r"missing required packages|No module named|cannot import name '\w+' from 'pytriton": incomplete, **super().causes}

    def launch(self) -> Launch:
        """A start with a folder of its own. Raises UsageProblem, StorageError."""
        found = self.interpreter
        directory = sockets.folder(len(self.served_name) + _SOCKET_NAME)
        self.helpers, self._foreign = [], segments.named()
        launch = Launch(
            argv=[found.python, "-P", str(directory / "program" / _PROGRAM)],
            environment=self._environment(found),
            ports=self.settings.ports,
            fixed=bool(self.settings.ports),
            made=[directory],
        )
        launch = replace(launch, stdin=self._stdin(launch, self._begin()))
        try:
            directory.mkdir(mode=0o700)
            (directory / "program").mkdir()
            for link, source in {**LINKS, _PROGRAM: Path(__file__).with_name("pytriton_program.py")}.items():
                (directory / "program" / link).symlink_to(source)
        except OSError as error:
            self._forget([directory])
            raise StorageError(f"{directory}: PyTriton's folder cannot be made: {error.strerror}.\nSet TMPDIR to a folder that can be written.") from None
        return launch

    def ready(self, launch: Launch, program: Program, /) -> bool:
        """Whether PyTriton has said so, and this very start has answered: once for each."""
        if not (launch.made[0] / _READY).exists() or not super().ready(launch, program):
            return False
        if not self.helpers:
            try:
                self.control(launch).ping(self.served_name, _PING_S)
            except (OSError, Refused):
                return False
            self.hide()
            self.helpers = _server_processes(program)
            self.look()
        return True

    def look(self) -> None:
        """Note the segments that PyTriton's store of tensors has now: they have names of their own, and what is killed leaves them."""
        self._seen.add({path for process in self.helpers if lives(process) for path in segments.mapped(process.pid)} - self._foreign)

    def clean(self, launch: Launch, /) -> None:
        """Remove its folder with PyTriton's copies of the server, and what it left in shared memory."""
        self._seen.remove()
        self.helpers = []
        super().clean(launch)

    def _environment(self, found: Interpreter) -> dict[str, str]:
        # PyTriton starts processes after its client was there, which gRPC's handlers of forks would abort (grpc/grpc issue 43055).
        return {**super()._environment(found), "GRPC_ENABLE_FORK_SUPPORT": "0"}

    def _stdin(self, launch: Launch, identity: str) -> bytes:
        """What the program is told. Raises UsageProblem for an option or an argument that cannot be handed over."""
        _ = self.model.parameters  # says what is wrong with them
        directory = launch.made[0]
        told = wire.encode(
            {
                "model": self.model.given,
                "instances": self.model.instances,
                "most_rows": self.model.most_rows,
                "name": self.served_name,
                "workspace": str(directory / _WORKSPACE),
                "ready": str(directory / _READY),
                "segments": self._segments,
                "http": self.address(launch, HTTP),
                "grpc": self.address(launch, GRPC),
                "stop_s": self.settings.stop_s,
                "usage": USAGE,
                "config": {**self._config(directory, identity), **self._arguments()},
            }
        )
        if len(told) >= MOST_STDIN:
            raise UsageProblem(f"model {self.model.target}: its options take {len(told):,} bytes; at most some 60,000 can be handed to PyTriton. Use a file.")
        return told + b"\n"

    def _config(self, directory: Path, identity: str) -> dict[str, Any]:
        """Fields of pytriton.triton.TritonConfig."""
        return {
            "id": identity,
            **self._listening(directory),
            "allow_metrics": False,
            "strict_readiness": False,
            "exit_timeout_secs": _IN_FLIGHT_S,
        }

    def _arguments(self) -> dict[str, Any]:
        """The settings' `arguments` as such fields. Raises UsageProblem."""
        found: dict[str, Any] = {}
        for argument in self.settings.arguments:
            name, equals, value = argument.partition("=")
            if not name.startswith("--") or not equals:
                raise UsageProblem(f"arguments: {argument!r}: PyTriton takes them as --name=value")
            found[name[2:].replace("-", "_")] = {"true": True, "false": False}.get(value.lower(), value)
        return found


class PyTritonModel(Server):
    """One model: `runtimes.triton.TritonEndpoint`, and the server behind it. It starts when it is prepared."""

    kind: PyTriton
    asked_to_end = False
    # The second instance gives the first one second to start, which a busy machine does not; and asks it on a socket that may be there
    # without being listened to.
    luckless = re.compile(rf"{Server.luckless.pattern}|Timeout occurred while waiting for config file|get_config_from_handshake_server.*ConnectionRefusedError")

    def __init__(self, kind: PyTriton, log: Path, redactor: Redactor, most_restarts: int, watch: Watch | None = None) -> None:
        super().__init__(kind, log, redactor, most_restarts, watch)
        self.name = kind.served_name
        self.most_rows = kind.model.most_rows

    def __str__(self) -> str:
        return f"model {self.kind.model.target} on {self.kind.name}"

    @property
    def url(self) -> str:
        """Where requests go. Raises RuntimeFault while the server was not started."""
        return self.kind.address(self.launch, GRPC)

    def prepare(self) -> None:
        """See that it is there.

        Raises UsageProblem for a target that is not there or an interpreter that does not fit, RuntimeFault if the model raises, Conflict for a port in use.
        """
        with self._lock:
            if self._program is not None and not self.running:
                self.restart()
            self.start()

    def stop(self, *, hurry: bool = False) -> None:
        """Close the model, then stop PyTriton; in a `hurry`, kill both. Raises RuntimeFault if something is left."""
        with self._stopping():
            asked = self.running and not hurry
            self.kind.look()
            super().stop(hurry=hurry)
            if asked and (self.exit_code == CUT_OFF or (self.exit_code or 0) < 0):
                self._note(cut_off([self.kind.model.target], self.kind.settings.stop_s))

    def _missing(self) -> str | None:
        """PyTriton starts no process of its server again that is gone."""
        gone = [f"{process.name} {process.pid}" for process in self.kind.helpers if not lives(process)]
        return f"the process {', '.join(gone)} is gone" if gone else None

    def _kill(self) -> None:
        self.kind.look()
        super()._kill()

    def _not_started(self, what: str, text: str) -> GpuevalError:
        model = self.kind.model
        known = refused(model, self.kind, text, self._because)
        return known or ModelFault(f"model {model.target} did not start on {self.kind.name}: {what}.{self._because(text)}\n{self._end_of_log(text)}")


class PyTritonServer:
    """PyTriton for each model of one process, all in one log. A model's server starts when it is loaded."""

    def __init__(self, settings: TritonSettings, log: Path, redactor: Redactor, most_restarts: int = 200, watch: Watch | None = None) -> None:
        """`most_restarts` counts those of each model: a row that ends the model's process costs up to eight of them until it is found."""
        self.log = log
        self._settings = settings
        self._redactor = redactor
        self._most_restarts = most_restarts
        self._watch = None if watch is None else Together(watch)
        self._lock = threading.Lock()
        self._models: dict[str, PyTritonModel] = {}
        self._notes: list[str] = []
        self._numbers = 0

    @property
    def notes(self) -> list[str]:
        """What the user should hear of."""
        return [*self._notes, *(note for model in self._models.values() for note in model.notes)]

    def endpoint(self, model: TritonModel) -> PyTritonModel:
        """The model as a runtime sees it, the same for the same model. Raises UsageProblem for an option that cannot travel."""
        key = model.key
        with self._lock:
            if key not in self._models:
                self._numbers += 1
                kind = PyTriton(replace(self._settings), model, f"{model.slug[: _LONGEST_NAME - 4]}_{self._numbers}")
                self._models[key] = PyTritonModel(kind, self.log, self._redactor, self._most_restarts, self._watch)
            return self._models[key]

    def load(self, model: TritonModel) -> str:
        """Load a model and see that it answers; once for the same model. Returns the model's name there. Raises as `PyTritonModel.prepare` does."""
        found = self.endpoint(model)
        found.prepare()
        return found.name

    def unload(self, model: TritonModel) -> None:
        """Close a model and end its server; harmless for one that is not loaded. Raises RuntimeFault if something is left."""
        with self._lock:
            found = self._models.pop(model.key, None)
        if found is not None:
            found.stop()
            self._notes += found.notes

    def problem(self) -> str | None:
        """Why one of its models would not answer; None if all are ready."""
        return next((f"{model}: {problem}" for model in self._models.values() if (problem := model.problem()) is not None), None)

    def stop(self, *, hurry: bool = False) -> None:
        """Close all models and stop their servers, side by side; again is harmless. In a `hurry` they are killed. Raises RuntimeFault if something is left."""
        problems: list[Exception] = []

        def stop(model: PyTritonModel) -> None:
            try:
                model.stop(hurry=hurry)
            except Exception as problem:  # noqa: BLE001 - nobody else would hear of it
                problems.append(problem)

        threads = [threading.Thread(target=stop, args=(model,)) for model in list(self._models.values())]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if problems:
            raise RuntimeFault("\n".join(map(str, problems)))


def _server_processes(program: Program) -> list[Process]:
    """The server with its python backend and PyTriton's store: all but the program itself, and what the model started."""
    mine = program.processes()
    roots = [process for process in mine if process.name == "tritonserver"]
    everyone = [process for process in map(look, pids()) if process is not None]
    return [process for root in roots for process in (root, *descendants(everyone, root.pid))]
