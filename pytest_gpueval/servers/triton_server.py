"""A Triton server and its models: loaded once, loaded again when the server, or a model's process, was lost."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path

from pytest_gpueval.errors import GpuevalError, ModelFault, RuntimeFault, UsageProblem
from pytest_gpueval.processes.supervisor import Process, lives, send
from pytest_gpueval.runs.redact import Redactor

from .server import Server, Watch
from .triton import GRPC, Triton, TritonModel, TritonSettings, cut_off, refused
from .triton_control import Control, Refused

_POLL_S = 0.02
_PING_S = 60.0
# A model whose process ended while it was idle is unloaded at once; one whose process ended in a request never is.
_REPAIR_S = 0.5
# A model that is being loaded has a process. The server may wait for ever for one that could not start.
_WITHOUT_STUB_S = 10.0
_LOADING_POLL_S = 0.25


@dataclass
class _Loaded:
    """A model that is to be there for as long as the server. `stubs` are its processes, one for each instance."""

    model: TritonModel
    name: str
    stubs: list[Process] = field(default_factory=list)

    @property
    def broken(self) -> bool:
        """Whether a process of it is gone. Triton starts no other one, calls the model ready, and fails every request to it."""
        return not all(map(lives, self.stubs))


class TritonServer(Server):
    """A server that starts with its first model. It belongs to one process, and may serve all its items one after the other."""

    asked_to_end = False

    def __init__(self, settings: TritonSettings, log: Path, redactor: Redactor, most_restarts: int = 200, watch: Watch | None = None) -> None:
        """`most_restarts` counts repairs too: a row that ends the model's process costs up to eight of them until it is found."""
        self._triton = Triton(settings)
        super().__init__(self._triton, log, redactor, most_restarts, watch)
        self._models: dict[str, _Loaded] = {}
        self._numbers = 0

    @property
    def grpc_url(self) -> str:
        """Where requests go. Raises RuntimeFault while it was not started."""
        return self._triton.address(self.launch, GRPC)

    def endpoint(self, model: TritonModel) -> ModelEndpoint:
        """The model as a runtime sees it. It is loaded when the runtime starts."""
        return ModelEndpoint(self, model)

    def load(self, model: TritonModel) -> str:
        """Load a model and see that it answers; once for the same model. Starts the server if need be. Returns the model's name there.

        Raises UsageProblem for a target that is not there or an interpreter that does not fit, RuntimeFault if the model raises, Conflict for a port in use.
        """
        key = model.key
        with self._lock:
            if self._program is not None and not self.running:
                self.restart()
            self.start()
            if key not in self._models:
                self._numbers += 1
                loaded = _Loaded(model, f"{model.slug}_{self._numbers}")
                self._put(loaded)
                self._models[key] = loaded
            return self._models[key].name

    def unload(self, model: TritonModel) -> None:
        """Close a model and end its processes, so that others can have its memory; harmless for one that is not loaded.

        One that does not close in time takes the server with it, which comes back with the others when it is asked next.
        """
        with self._lock:
            loaded = self._models.pop(model.key, None)
            if loaded is not None and self.running and (loaded.broken or not self._unloaded([loaded], self.kind.stop_s)):
                self._cut_off([loaded])
                self._kill()

    def start(self) -> None:
        """Start, and load what was loaded before; again is harmless. Raises as `load` does."""
        with self._lock:
            if self._program is not None:
                return
            super().start()
            try:
                for loaded in self._models.values():
                    self._put(loaded)
            except BaseException:
                self._kill()
                super().stop()
                raise

    def stop(self, *, hurry: bool = False) -> None:
        """Close the models, then stop the server; in a `hurry`, kill them. Raises RuntimeFault if something is left."""
        with self._stopping():
            if self.running and not hurry:
                # Models first: while it has some, the server looks once a second whether they are gone.
                whole = [loaded for loaded in self._models.values() if not loaded.broken]
                closed = self._unloaded(whole, self.kind.stop_s)
                if not closed:
                    self._cut_off(whole)
                if not closed or len(whole) < len(self._models):  # it would wait for what is gone
                    self._kill()
            super().stop(hurry=hurry)

    def recover(self, generation: int, problem: str) -> None:
        """Load a model again whose process is gone; restart a server that is gone, or hangs. Raises RuntimeFault if it cannot go on."""
        with self._lock:
            if not (generation == self.generation <= self._most_restarts and self._repaired(problem)):
                super().recover(generation, problem)

    def _missing(self) -> str | None:
        gone = [loaded.model.target for loaded in self._models.values() if loaded.broken]
        return f"the process of model {', '.join(gone)} is gone" if gone else None

    def _repaired(self, problem: str) -> bool:
        """Whether it was enough to load models again whose processes are gone."""
        broken = [loaded for loaded in self._models.values() if loaded.broken]
        if not broken or not self.running or self._program is None or not self.kind.ready(self.launch, self._program):
            return False
        self._say(f"loads {', '.join(loaded.name for loaded in broken)} again: {problem}")
        for loaded in broken:  # of several instances, those that are left
            _kill(loaded.stubs)
        try:
            if not self._unloaded(broken, _REPAIR_S):
                return False
            for loaded in broken:
                self._put(loaded)
        except GpuevalError as fault:
            self._say(str(fault))
            return False
        self.generation += 1
        return True

    def _put(self, loaded: _Loaded) -> None:
        """Load it, and ask it. Raises UsageProblem, RuntimeFault."""
        mark = self.log.stat().st_size
        control, seconds = self._control(), self.kind.start_s
        try:
            self._triton.place(self.launch, loaded.name)
            self._load(loaded, control, seconds)
            self._triton.hide()
            control.ping(loaded.name, min(seconds, _PING_S))
        except TimeoutError:
            self._kill()  # else it would go on loading, and hold its memory
            raise self._failed(loaded, f"it is not ready after {seconds:g} s", mark) from None
        except (OSError, Refused) as problem:
            raise self._failed(loaded, str(problem) or type(problem).__name__, mark) from None

    def _load(self, loaded: _Loaded, control: Control, seconds: float) -> None:
        """Have the model loaded. Raises Refused, OSError; also where the server waits for a process that has ended."""
        asked = ThreadPoolExecutor(1, "gpueval-triton-load")
        answer = asked.submit(control.load, loaded.name, loaded.model.config, seconds)
        try:
            limit = time.monotonic() + _WITHOUT_STUB_S
            while not wait([answer], _LOADING_POLL_S).done:
                self._triton.hide()
                if self._unwanted.is_set():
                    raise ConnectionError("the server is to be stopped")
                loaded.stubs = self._stubs(loaded.name)
                if loaded.stubs:
                    limit = time.monotonic() + _WITHOUT_STUB_S
                elif time.monotonic() > limit:
                    raise ConnectionError("its process ended while it was loaded, which the server did not notice")
            answer.result()
        finally:
            if not answer.done():  # also when somebody presses Ctrl-C: else the thread, and this process, would wait for the server
                self._kill()
            asked.shutdown()
        loaded.stubs = self._stubs(loaded.name)

    def _unloaded(self, many: Sequence[_Loaded], seconds: float) -> bool:
        """Unload models, and wait until their processes have ended: only then is their memory free. False if that takes too long, or the server is gone."""
        control = self._control()
        limit = time.monotonic() + seconds
        try:
            for loaded in many:
                control.unload(loaded.name, seconds)
            left = {loaded.name for loaded in many}
            while left:
                states = control.states()
                left = {loaded.name for loaded in many if states.get(loaded.name) in {"READY", "UNLOADING"} or any(map(lives, loaded.stubs))}
                if left and time.monotonic() > limit:
                    return False
                if left:
                    time.sleep(_POLL_S)
        except (OSError, Refused):
            return False
        for loaded in many:
            loaded.stubs = []
        return True

    def _cut_off(self, many: Sequence[_Loaded]) -> None:
        """Say which of these had no time to close."""
        late = [loaded.model.target for loaded in many if any(map(lives, loaded.stubs))]
        if late:
            self._note(cut_off(late, self.kind.stop_s))
        self._say("is killed: a model did not close in time" if late else "is killed: it does not answer")

    def _failed(self, loaded: _Loaded, problem: str, mark: int) -> RuntimeFault | UsageProblem:
        """Why a model was not loaded, in the model's own words where it has some."""
        reason = refused(loaded.model, self._triton, problem, self._because)
        if reason is not None:
            return reason
        text = self._said(mark)
        because = self._because(f"{problem}\n{text}")
        return ModelFault(f"model {loaded.model.target} did not start on {self.kind.name}: {problem}{because}\n{self._end_of_log(text)}")

    def _stubs(self, name: str) -> list[Process]:
        """The processes of a model, one for each instance."""
        file = str(self._triton.place(self.launch, name) / "1").encode()
        assert self._program is not None  # noqa: S101 - who asks has started it
        return [process for process in self._program.processes() if any(word.startswith(file) for word in _arguments(process.pid)[:2])]

    def _control(self) -> Control:
        return self._triton.control(self.launch)


class ModelEndpoint:
    """A model of a server of ours: `runtimes.triton.TritonEndpoint`."""

    def __init__(self, server: TritonServer, model: TritonModel) -> None:
        self._server = server
        self._model = model
        self.name = ""
        self.most_rows = model.most_rows

    def __str__(self) -> str:
        return f"model {self._model.target} on {self._server.kind.name}"

    @property
    def url(self) -> str:
        """Where requests go. Raises RuntimeFault while the server was not started."""
        return self._server.grpc_url

    @property
    def generation(self) -> int:
        """How often the server was started or repaired."""
        return self._server.generation

    def prepare(self) -> None:
        """See that the model is loaded. Raises as `TritonServer.load` does."""
        self.name = self._server.load(self._model)

    def recover(self, generation: int, problem: str) -> None:
        """Bring the server back, with all its models. Raises RuntimeFault."""
        self._server.recover(generation, problem)


def _kill(processes: Iterable[Process]) -> None:
    for process in processes:
        send(process, signal.SIGKILL)


def _arguments(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:  # it ended meanwhile
        return []
