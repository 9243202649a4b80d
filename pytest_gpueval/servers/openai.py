"""Servers that speak OpenAI's protocol: vLLM, any other command, and those that run elsewhere."""

from __future__ import annotations

import os
import shutil
import string
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pytest_gpueval.errors import UsageProblem, valid_values
from pytest_gpueval.gpus import nvml
from pytest_gpueval.processes.leftovers import Segments
from pytest_gpueval.processes.program import Program

from . import ports, segments, sockets
from .openai_causes import CAUSES
from .openai_probe import First, Probe
from .server import Launch, Server, environment_with

_HTTP = "http"
_UUID_ROOM = len("/00000000-0000-0000-0000-000000000000")
# Options of vLLM that settings of ours stand for, or that would show a secret to whoever lists processes.
_SETTINGS_OF = {
    "--host": "host",
    "--port": "port",
    "--model": "model",
    "--served-model-name": "served_name",
    "--tensor-parallel-size": "tensor_parallel",
    "-tp": "tensor_parallel",
    "--gpu-memory-utilization": "gpu_memory_utilization",
    "--max-model-len": "max_model_len",
    "--dtype": "dtype",
    "--quantization": "quantization",
    "-q": "quantization",
    "--trust-remote-code": "trust_remote_code",
    "--seed": "seed",
}


@dataclass(frozen=True)
class VllmSettings:
    """`vllm serve`. What is None is left to vLLM; `port` None is a free one. `binary` is a path, or a name that is looked up in PATH."""

    model: str
    served_name: str | None = None
    binary: str = "vllm"
    tensor_parallel: int = 1
    gpu_memory_utilization: float | None = None
    max_model_len: int | None = None
    dtype: str | None = None
    quantization: str | None = None
    trust_remote_code: bool = False
    seed: int | None = None
    arguments: Sequence[str] = ()
    host: str = ports.LOOPBACK
    port: int | None = None
    start_s: float = 900.0
    stop_s: float = 20.0

    @property
    def name(self) -> str:
        """What requests call the model."""
        return self.served_name or self.model

    def argv(self, port: int) -> list[str]:
        """The command. Raises UsageProblem for arguments that are not to be given there."""
        for argument in self.arguments:
            option = argument.partition("=")[0].replace("_", "-")
            if option == "--api-key":
                raise UsageProblem("server.arguments: --api-key would show the key to whoever lists processes; set the environment variable VLLM_API_KEY")
            if option in _SETTINGS_OF:
                raise UsageProblem(f"server.arguments: {option} is given by the setting server.{_SETTINGS_OF[option]}")
        given = {
            "--served-model-name": self.served_name,
            "--tensor-parallel-size": self.tensor_parallel if self.tensor_parallel > 1 else None,
            "--gpu-memory-utilization": self.gpu_memory_utilization,
            "--max-model-len": self.max_model_len,
            "--dtype": self.dtype,
            "--quantization": self.quantization,
            "--seed": self.seed,
        }
        argv = [self.binary, "serve", self.model, "--host", self.host, "--port", str(port)]
        argv += [word for option, value in given.items() if value is not None for word in (option, str(value))]
        return [*argv, *(["--trust-remote-code"] if self.trust_remote_code else []), *self.arguments]


@dataclass(frozen=True)
class CommandSettings:
    """Any server: `argv` with the fields `{host}`, `{port}`, `{model}`, `{python}` and, where `suite` says it, `{suite}`; braces that are text written twice.

    `suite` is its folder. `environment` is added to this process's own. `key_variable` names the variable with the key which server and client agree on.
    """

    argv: Sequence[str]
    model: str
    served_name: str | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    key_variable: str | None = None
    suite: Path | None = None
    python: str = sys.executable
    host: str = ports.LOOPBACK
    port: int | None = None
    start_s: float = 300.0
    stop_s: float = 8.0

    @property
    def name(self) -> str:
        """What requests call the model; not every server has a name of its own for it."""
        return self.served_name or self.model

    def command(self, port: int) -> list[str]:
        """The argv with its fields filled in. Raises UsageProblem for other fields, and for none that tells the port."""
        values = {"host": self.host, "model": self.model, "port": str(port), "python": self.python}
        values |= {} if self.suite is None else {"suite": str(self.suite.resolve())}
        used: set[str] = set()
        argv = [_filled(word, values, used) for word in self.argv]
        if not argv:
            raise UsageProblem("server.argv is empty; it is the server's command, word by word")
        if "port" not in used:
            raise UsageProblem("server.argv has no field {port}: the server would not listen where it is asked")
        return argv


class _OpenAIKind:
    """What all these servers have in common. One for each `Server`."""

    causes: Mapping[str, str] = CAUSES

    def __init__(self, settings: VllmSettings | CommandSettings, name: str, key_name: str | None, endpoint: Literal["chat", "completions"]) -> None:
        self.settings = settings
        self.name = name
        self.key_name = key_name
        self._first_path = endpoint
        self._lock = threading.Lock()
        self._first: First | None = None
        # Of shared memory: those of this start's processes, and those that were there before.
        self._segments = Segments()
        self._foreign: set[Path] = set()
        self._looked_at = 0.0

    @property
    def start_s(self) -> float:
        """Seconds until it must be ready, the model's load included."""
        return self.settings.start_s

    @property
    def stop_s(self) -> float:
        """Seconds it has to end by itself."""
        return self.settings.stop_s

    @property
    def key(self) -> str | None:
        """The key that server and client agree on, from the environment; None for a server that asks for none."""
        return (os.environ.get(self.key_name) or None) if self.key_name else None

    def url(self, launch: Launch) -> str:
        """Where requests go."""
        return f"http://{reached(self.settings.host)}:{launch.ports[_HTTP]}/v1"

    def launch(self) -> Launch:
        """Raises UsageProblem."""
        port = self.settings.port or ports.free(1)[0]
        self._first = None
        self._foreign, self._looked_at = segments.named(), 0.0
        argv, environment, made = self._start(port)
        return Launch(argv=argv, environment=environment, ports={_HTTP: port}, fixed=self.settings.port is not None, made=made)

    def ready(self, launch: Launch, program: Program) -> bool:
        """Whether our own program listens, lists its models, and has answered a first request: some die of that. Raises RuntimeFault if it refuses it."""
        probe = Probe(self.url(launch), self.key)
        self._look_at_segments(program)
        if not probe.accepts_connections():
            return False
        listener = ports.listener(launch.ports[_HTTP])
        running = {process.pid for process in program.processes()}
        if listener not in running:  # somebody else's, who must not get our key
            return False
        listed = probe.models()
        if listed is None:
            return False
        with self._lock:
            if self._first is None:
                self._looked_at = 0.0  # what it starts, it has started by now
                self._look_at_segments(program)
                self._first = First(probe, self._first_path, listed[0] if listed else self.settings.name, self.start_s)
            if not self._first.answered():
                return False
        return True

    def clean(self, launch: Launch) -> None:
        """Remove the segments of shared memory that its processes had mapped, and folders made for it."""
        self._segments.remove()
        for folder in launch.made:
            shutil.rmtree(folder, ignore_errors=True)

    def _look_at_segments(self, program: Program) -> None:
        """Once a second: what is killed leaves its segments, and nothing tells then whose they were."""
        if time.monotonic() - self._looked_at >= 1:
            self._looked_at = time.monotonic()
            self._segments.add({path for process in program.processes() for path in segments.mapped(process.pid)} - self._foreign)

    def _start(self, port: int) -> tuple[list[str], dict[str, str], tuple[Path, ...]]:
        raise NotImplementedError


class Vllm(_OpenAIKind):
    """vLLM's own server. Its engine and workers are processes in sessions of their own; the supervisor ends them too."""

    def __init__(self, settings: VllmSettings, endpoint: Literal["chat", "completions"] = "completions") -> None:
        super().__init__(settings, "vllm", "VLLM_API_KEY", endpoint)
        self._vllm = settings

    def _start(self, port: int) -> tuple[list[str], dict[str, str], tuple[Path, ...]]:
        binary = shutil.which(self._vllm.binary)
        if binary is None:
            raise UsageProblem(
                f"There is no program {self._vllm.binary!r}.\nGive the path of vllm in the environment it is installed in: --vllm-bin /opt/vllm/bin/vllm"
            )
        argv = [binary, *self._vllm.argv(port)[1:]]
        # Its sockets, each named by a UUID; else they stay in /tmp when it is killed.
        place = sockets.folder(_UUID_ROOM)
        place.mkdir(mode=0o700)
        return argv, vllm_environment(place), (place,)


class CommandServer(_OpenAIKind):
    """Any OpenAI-compatible server, by its command.

    For example `["{python}", "-m", "llama_cpp.server", "--model", "{model}", "--host", "{host}", "--port", "{port}", "--interrupt_requests", "false"]`;
    without its last words llama-cpp-python breaks a streamed reply off as soon as another request comes.
    """

    def __init__(self, settings: CommandSettings, name: str = "server", endpoint: Literal["chat", "completions"] = "completions") -> None:
        super().__init__(settings, name, settings.key_variable, endpoint)
        self._command = settings

    def _start(self, port: int) -> tuple[list[str], dict[str, str], tuple[Path, ...]]:
        # llama-cpp-python listens where HOST and PORT say, whatever its options say; others that read them agree.
        where = {"HOST": self._command.host, "PORT": str(port), "PYTHONUNBUFFERED": "1"}
        return self._command.command(port), environment_with(**where, **self._command.environment), ()


class Started:
    """A `Server` around a kind of this module, as runtimes see it."""

    def __init__(self, server: Server, kind: Vllm | CommandServer) -> None:
        self._server = server
        self._kind = kind

    @property
    def url(self) -> str:
        """Where the present start answers. Raises RuntimeFault while there is none."""
        return self._kind.url(self._server.launch)

    @property
    def generation(self) -> int:
        """How often it was started."""
        return self._server.generation

    @property
    def model(self) -> str:
        """What requests call its model."""
        return self._kind.settings.name

    @property
    def key(self) -> str | None:
        """The key for its requests."""
        return self._kind.key

    @property
    def key_name(self) -> str:
        """The environment variable that the key is from."""
        return self._kind.key_name or "(no variable is named for its key)"

    def recover(self, generation: int, problem: str) -> None:
        """Restart it. Raises RuntimeFault."""
        self._server.recover(generation, problem)


def vllm_environment(sockets: Path, environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The environment of a vLLM: it reports no usage, stays offline where the Hub's client is to, and finds its GPUs by number.

    Versions before 0.24 understand no UUIDs in CUDA_VISIBLE_DEVICES, which is what workers have. Raises RuntimeFault for a broken driver.
    """
    changed = {
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "VLLM_RPC_BASE_PATH": str(sockets),
        "PYTHONUNBUFFERED": "1",
    }
    if environment.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}:
        changed["TRANSFORMERS_OFFLINE"] = "1"
    mask = environment.get("CUDA_VISIBLE_DEVICES", "")
    if "GPU-" in mask:
        changed |= numbered(mask, [gpu.uuid for gpu in nvml.gpus()])
    return {**environment, **changed}


def numbered(mask: str, uuids: Sequence[str]) -> dict[str, str]:
    """CUDA_VISIBLE_DEVICES by number, of GPUs in nvidia-smi's order; nothing where not every entry is one whole GPU of these."""
    entries = [entry.strip() for entry in mask.split(",")]
    numbers = [[number for number, uuid in enumerate(uuids) if entry.startswith("GPU-") and uuid.startswith(entry)] for entry in entries]
    if any(len(found) != 1 for found in numbers):
        return {}
    return {"CUDA_VISIBLE_DEVICES": ",".join(str(found[0]) for found in numbers), "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}


def _filled(word: str, values: Mapping[str, str], used: set[str]) -> str:
    pieces = []
    try:
        for text, name, form, conversion in string.Formatter().parse(word):
            pieces.append(text)
            if name is None:
                continue
            if name not in values or form or conversion:
                raise UsageProblem(f"server.argv: {word!r}: unknown field {{{name}}}. {valid_values(name, values, what='fields')}")
            used.add(name)
            pieces.append(values[name])
    except ValueError as error:  # an unmatched brace
        raise UsageProblem(f"server.argv: {word!r}: {error}. Braces that are text are written twice: {{{{ and }}}}.") from None
    return "".join(pieces)


def reached(host: str) -> str:
    """The host that reaches a server which listens on every address."""
    return {"0.0.0.0": ports.LOOPBACK, "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)  # noqa: S104 - compared, not bound
