"""A Triton inference server of ours: the binary of nvidia-pytriton's wheel, on a repository made for the start, with the models of suites.

The server and its models run in an interpreter of their own (`TritonSettings.server_python`): the wheel needs numpy 1.

Whoever reaches the server can have it load code. So it listens on sockets in a folder that only this user may enter. A header that it asks for would not do:
it stands in the server's command, which all users of a machine can read.
"""

from __future__ import annotations

import json
import re
import shutil
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pytest_gpueval.errors import ModelFault, RuntimeFault, StorageError, UsageProblem
from pytest_gpueval.processes.identity import own_name
from pytest_gpueval.processes.leftovers import SHARED_MEMORY
from pytest_gpueval.processes.program import Program
from pytest_gpueval.runtimes import calls, wire

from . import ports, sockets, triton_python
from .server import Launch
from .triton_control import Control
from .triton_model import MISSING, RAISED, USAGE

HTTP, GRPC = "http", "grpc"
NAME = "tritonserver"
_MODEL_FILE = "gpueval_model.py"
# What another interpreter imports of this package, by the names it has there.
LINKS = {_MODEL_FILE: Path(__file__).with_name("triton_model.py"), "gpueval_wire.py": Path(wire.__file__), "gpueval_calls.py": Path(calls.__file__)}
_REASON = re.compile(rf"({USAGE}|{MISSING}|{RAISED}): (.*)", re.DOTALL)
# What the server adds to the exception of a model: where its own lines were, the file of this package.
_AT = re.compile(r"\s*At:\n  .*", re.DOTALL)
_CONFIG = 'backend: "python"\n'  # the server looks for a file; what it says comes with each load
# gRPC adds the port to the name of a socket, and none of 0.
_SOCKETS = {HTTP: "http.sock", GRPC: "grpc.sock"}
_SOCKET_PORT = 1
_ROOM = len(f"/{_SOCKETS[GRPC]}:{_SOCKET_PORT}")
# Nobody needs these over a port. They ask for a header whose name none can have, so that nobody gets them.
_CLOSED = "model-repository,shared-memory,trace,logging,statistics:no header=none"


@dataclass(frozen=True)
class TritonSettings:
    """How to run the server. `server_python` has nvidia-pytriton, numpy 1, and what the models import: `make triton-server` makes one.

    A port that is None is a socket which only this user reaches. A `grpc_port` is for all users of the machine, who can ask its models; an `http_port` too,
    by which they can also load code. `start_s` bounds, in seconds, the server's start and each load of a model; `stop_s` its end, the models' `close()`
    included: what takes longer is cut off, and said. `arguments` are added to the server's command. `gpu=False` hides the GPUs that this process sees.
    """

    server_python: str
    http_port: int | None = None
    grpc_port: int | None = None
    start_s: float = 300.0
    stop_s: float = 3.0
    arguments: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    gpu: bool = True

    def __post_init__(self) -> None:
        """Raises UsageProblem."""
        for name, port in ((HTTP, self.http_port), (GRPC, self.grpc_port)):
            if port is not None and not 1 <= port <= 65535:
                raise UsageProblem(f"Triton's {name} port {port}: valid are 1 to 65535, or none for a socket of its own")
        if self.http_port is not None and self.http_port == self.grpc_port:
            raise UsageProblem(f"Triton's http and grpc ports are both {self.http_port}: they must differ")

    @property
    def ports(self) -> dict[str, int]:
        """Those that are given."""
        return {name: port for name, port in ((HTTP, self.http_port), (GRPC, self.grpc_port)) if port is not None}


@dataclass(frozen=True)
class TritonModel:
    """A suite's class as a model: `file.py:Class` in `directory`, or `package.module:Class`.

    `instances` processes each hold one. A call of `predict` gets at most `most_rows` rows, of as many requests as wait. `extra` is the extra of
    pytest-gpueval that installs what the class imports.
    """

    target: str
    directory: Path
    options: Mapping[str, Any] = field(default_factory=dict)
    instances: int = 1
    most_rows: int = 128
    extra: str | None = None

    @property
    def key(self) -> str:
        """The same for the same model."""
        return json.dumps([self.parameters, self.instances, self.most_rows])

    @property
    def slug(self) -> str:
        """The target as a part of a name."""
        return re.sub(r"[^A-Za-z0-9]+", "_", self.target).strip("_") or "model"

    @property
    def given(self) -> dict[str, Any]:
        """What the model is told of itself: `triton_model.Elements`."""
        return {"target": self.target, "directory": str(self.directory), "options": self.options, "place": str(Path.cwd())}

    @property
    def parameters(self) -> str:
        """The same as text. ASCII: it passes through protocol buffers. Raises UsageProblem."""
        try:
            return json.dumps(wire.pack(self.given))
        except wire.NotSendable as problem:
            raise UsageProblem(f"model {self.target}: an option cannot be handed to another process: {problem}") from None

    @property
    def config(self) -> dict[str, Any]:
        """Triton's model configuration. It travels with the load, never through a file: options may be secret.

        KIND_CPU says only that Triton does not hand out GPUs: the model sees all that this process sees, as in process. KIND_GPU would start an
        instance for each of them.
        """
        return {
            "backend": "python",
            "max_batch_size": self.most_rows,
            "default_model_filename": _MODEL_FILE,
            "input": [{"name": "rows", "data_type": "TYPE_STRING", "dims": [1]}],
            "output": [{"name": "answers", "data_type": "TYPE_STRING", "dims": [1]}],
            "dynamic_batching": {},
            "instance_group": [{"kind": "KIND_CPU", "count": self.instances}],
            "parameters": {"gpueval": {"string_value": self.parameters}},
        }


class Triton:
    """The `Kind` of Triton servers. One start at a time."""

    name = NAME

    def __init__(self, settings: TritonSettings) -> None:
        self.settings = settings
        self._interpreter: triton_python.Interpreter | None = None
        self._identity = ""
        self._segments = ""

    @property
    def start_s(self) -> float:
        """Seconds until it must be ready."""
        return self.settings.start_s

    @property
    def stop_s(self) -> float:
        """Seconds it has to end by itself."""
        return self.settings.stop_s

    @property
    def interpreter(self) -> triton_python.Interpreter:
        """Where the models run; looked at once. Raises UsageProblem."""
        if self._interpreter is None:
            self._interpreter = triton_python.look(self.settings.server_python)
        return self._interpreter

    @property
    def causes(self) -> Mapping[str, str]:
        """What the words of a failed start, or of a failed load, mean."""
        python = self.settings.server_python
        return {
            r"(?i)cuda.{0,40}out of memory|CUDA_ERROR_OUT_OF_MEMORY|cudaErrorMemoryAllocation|OutOfMemoryError": "the GPU's memory is full; "
            "`gpueval gpus` says who uses it. Take fewer `instances`, or a GPU of its own.",
            # Not what the server says of its pinned memory wherever there is no GPU.
            r"(?im)^(?!.*pinned_memory_manager).*(CUDA driver version is insufficient|driver/library version mismatch|no CUDA-capable device"
            r"|forward compatibility was attempted)": "the "
            "NVIDIA driver does not fit the CUDA version that the server, or the model's framework, was built for. Update the driver, or set gpu = false.",
            r"libpython[\d.]+so\S*: cannot open shared object": f"the stub does not find its libpython. Is LD_LIBRARY_PATH set for the server? It needs "
            f"the LIBDIR of {python}.",
            r"unrecognized option '": "one of the `arguments` is not known to this tritonserver; the log of this start begins with which.",
            r"GLIBC_[\d.]+' not found|GLIBCXX_[\d.]+' not found": "the server's binary needs a newer C library than this system's.",
            r"(?i)compiled using NumPy 1\.x|numpy\.core\.multiarray failed to import|module compiled against ABI version": "the interpreter has numpy 2, "
            f"for which the server's stubs are not built: {python} -m pip install 'numpy<2'",
            r"(?i)already in use|failed to start (HTTP|GRPC) service": "somebody else took the port first. Leave the port out: it listens on a socket of its "
            "own then.",
            r"(?i)Failed to (initialize|increase|create|grow).{0,30}shared memory|No space left on device": f"{SHARED_MEMORY} is full, or too small: in a "
            "container, give it more (--shm-size).",
            r"(?i)unable to find backend library|Stub process is missing": f"nvidia-pytriton in {python} is incomplete: install it anew.",
        }

    def launch(self) -> Launch:
        """A start with a folder of its own, for its sockets and an empty repository. Raises UsageProblem, StorageError."""
        found = self.interpreter
        directory = sockets.folder(_ROOM)
        settings = self.settings
        identity = self._begin()
        try:
            directory.mkdir(mode=0o700)
            (directory / "repository").mkdir()
            self._link_backend(directory / "backends" / "python", found)
        except OSError as error:
            self._forget([directory])
            raise StorageError(f"{directory}: the server's folder cannot be made: {error.strerror}.\nSet TMPDIR to a folder that can be written.") from None
        return Launch(
            argv=[
                str(found.tritonserver),
                f"--id={identity}",
                f"--model-repository={directory / 'repository'}",
                "--model-control-mode=explicit",
                "--disable-auto-complete-config",
                f"--backend-directory={directory / 'backends'}",
                f"--backend-config=python,shm-region-prefix-name={self._segments}",
                "--allow-metrics=false",
                "--strict-readiness=false",  # else a model that did not start makes the others' server not ready
                # A second less than it has: then it is still its own end, and removes its segments.
                f"--exit-timeout-secs={max(1, int(settings.stop_s) - 1)}",
                *(f"--{name.replace('_', '-')}={value}" for name, value in self._listening(directory).items()),
                *([f"--grpc-restricted-protocol={_CLOSED}"] if settings.grpc_port is not None else []),
                *settings.arguments,
            ],
            environment=self._environment(found),
            ports=settings.ports,
            fixed=bool(settings.ports),
            made=[directory],
        )

    def ready(self, launch: Launch, program: Program, /) -> bool:  # noqa: ARG002 - part of the seam
        """Whether this very start answers. Its models are asked as they are loaded."""
        return self.control(launch).answers_as(self._identity)

    def address(self, launch: Launch, name: str) -> str:
        """Where a start listens for HTTP or GRPC: `host:port`, or `unix:/path` as the clients of each have it."""
        if name in launch.ports:
            return f"{ports.LOOPBACK}:{launch.ports[name]}"
        return f"{_socket(launch.made[0], name)}{f':{_SOCKET_PORT}' if name == GRPC else ''}"

    def control(self, launch: Launch) -> Control:
        """By which it is told what to do."""
        return Control(self.address(launch, HTTP))

    def clean(self, launch: Launch, /) -> None:
        """Remove its folder and what it left in shared memory."""
        self._forget(launch.made)
        for segment in SHARED_MEMORY.glob(f"{self._segments}*"):
            segment.unlink(missing_ok=True)

    def hide(self) -> None:
        """Keep others from reading rows and answers on their way: the python backend lets all users open its segments, whatever the umask."""
        for segment in SHARED_MEMORY.glob(f"{self._segments}*"):
            with suppress(FileNotFoundError):  # of a model that is unloaded meanwhile
                segment.chmod(0o600)

    def place(self, launch: Launch, name: str) -> Path:
        """The folder of a model, made and filled if it is not there: the server is told the rest as it loads it."""
        directory = launch.made[0] / "repository" / name
        version = directory / "1"
        if not version.is_dir():
            version.mkdir(parents=True)
            (directory / "config.pbtxt").write_text(_CONFIG, encoding="utf-8")
            for link, source in LINKS.items():
                (version / link).symlink_to(source)
        return directory

    def _begin(self) -> str:
        """A new identity, and a new prefix of segments."""
        self._identity, self._segments = str(uuid.uuid4()), own_name()
        return self._identity

    def _listening(self, directory: Path) -> dict[str, str | int]:
        """Addresses and ports, by the names that the server has for them with underscores."""
        given = self.settings.ports
        addresses = {f"{name}_address": ports.LOOPBACK if name in given else _socket(directory, name) for name in _SOCKETS}
        return addresses | {f"{name}_port": given.get(name, _SOCKET_PORT) for name in _SOCKETS}

    def _forget(self, made: Sequence[Path]) -> None:
        for directory in made:
            shutil.rmtree(directory, ignore_errors=True)

    def _environment(self, found: triton_python.Interpreter) -> dict[str, str]:
        environment = found.environment(self.settings.environment)
        if not self.settings.gpu:
            environment["CUDA_VISIBLE_DEVICES"] = ""
        return environment

    def _link_backend(self, directory: Path, found: triton_python.Interpreter) -> None:
        """The wheel has a stub for each version of Python, but the server looks for one beside the backend."""
        directory.mkdir(parents=True)
        for file in (found.backend / "libtriton_python.so", found.backend / "triton_python_backend_utils.py", found.stub):
            (directory / file.name).symlink_to(file)


def refused(model: TritonModel, kind: Triton, text: str, because: Callable[[str], str]) -> RuntimeFault | UsageProblem | None:
    """The reason in what a model's process said, in the model's own words; None where there is none."""
    reason = _REASON.search(text)
    if reason is None:
        return None
    said = _AT.sub("", reason[2]).rstrip("; \n")
    if reason[1] == USAGE:
        return UsageProblem(said)
    if reason[1] == MISSING:
        what = f"'pytest-gpueval[{model.extra}]'" if model.extra else said
        python = kind.settings.server_python
        return UsageProblem(
            f"model {model.target} needs the package {said!r}, which Triton's interpreter does not have.\nInstall it:  {python} -m pip install {what}"
        )
    return ModelFault(f"model {model.target} did not start on {kind.name}: {said}{because(said)}")


def cut_off(targets: Iterable[str], seconds: float) -> str:
    """What the user is told of models that did not close in time."""
    return (
        f"{', '.join(targets)}: close() was cut off, {seconds:g} s after it was asked for. To give it more, let the fixture triton_settings return "
        f'{{"stop_s": {max(10, round(4 * seconds))}}} in conftest.py.'
    )


def _socket(directory: Path, name: str) -> str:
    return f"{sockets.PREFIX}{directory / _SOCKETS[name]}"
