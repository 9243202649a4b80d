"""From the options of `gpueval vllm start` to the run that is asked of a host. Pure, but for the caller's own environment and folder."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from pytest_gpueval.errors import UsageProblem
from pytest_gpueval.hosts.address import Address, Kubernetes, Local, Ssh
from pytest_gpueval.hosts.detached import submission
from pytest_gpueval.hosts.detached.agent.files import RUN_ID, RUN_ID_WORDS
from pytest_gpueval.hosts.detached.serving import URL
from pytest_gpueval.servers.openai import CommandSettings, VllmSettings, reached

if TYPE_CHECKING:
    from pytest_gpueval.hosts.declared import Declared

KEY: Final = "VLLM_API_KEY"
_RANGE = re.compile(r"(\d{1,4})(?:-(\d{1,4}))?\Z")
_UUID = re.compile(r"(?:GPU|MIG)-[0-9A-Za-z/-]+\Z")
# Of vLLM's options, what is not None where nobody gives them.
_LEFT_OUT: Final = {"tensor_parallel": 1, "trust_remote_code": False}
# What messages about servers of suites call a setting, and what that is here.
_OPTIONS: Final = {"arguments": "the words after --", "argv": "--command", "binary": "--vllm-bin"}


@dataclass(frozen=True, slots=True)
class ModelOptions:
    """Options of vLLM. What is None is left to it."""

    served_name: str | None
    tensor_parallel: int
    gpu_memory_utilization: float | None
    max_model_len: int | None
    dtype: str | None
    quantization: str | None
    trust_remote_code: bool
    seed: int | None


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the user said; `gpus` None is what hosts.toml says, or all; `command` None is vLLM."""

    name: str
    model: str
    port: int
    bind: str
    gpus: str | None
    command: str | None
    binary: str
    options: ModelOptions
    variables: Sequence[str]
    secrets: Sequence[str]
    arguments: Sequence[str]


def request(wanted: Wanted, host: Declared, own: Mapping[str, str], folder: str) -> submission.Submission:
    """The run that is this server; `folder` is where it works. Raises UsageProblem."""
    if not RUN_ID.fullmatch(wanted.name):
        raise UsageProblem(f"--name {wanted.name!r}: {RUN_ID_WORDS}")
    devices = _devices(wanted.gpus or _declared_gpus(host))
    if devices is not None and wanted.options.tensor_parallel > len(devices):
        raise UsageProblem(f"--tensor-parallel {wanted.options.tensor_parallel}: that takes as many GPUs, and --gpus names {len(devices)}")
    address = reached(wanted.bind)
    variables = {
        URL: f"http://{address}:{wanted.port}/v1",
        # Programs that name their processes keep their environment, by which they are known: vLLM's engine and workers do.
        "SPT_NOENV": "1",
        **({"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": ",".join(devices)} if devices is not None else {}),
    }
    if wanted.command is None:
        variables |= {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}
    else:  # some, llama-cpp-python among them, listen where these say
        variables |= {"HOST": wanted.bind, "PORT": str(wanted.port)}
    try:
        command = _vllm(wanted) if wanted.command is None else _other(wanted, wanted.command, host)
    except UsageProblem as problem:
        raise UsageProblem(for_options(str(problem))) from None
    # As in a session: the key that is set here is the key of the server that is started.
    secrets = {*wanted.secrets, *([KEY] if own.get(KEY) and wanted.command is None else [])}
    return submission.submission(
        command,
        directory=folder,
        run_id=wanted.name,
        variables=[*(f"{name}={value}" for name, value in variables.items()), *wanted.variables],
        secrets=sorted(secrets),
        own=own,
        now=datetime.now(UTC),
    )


def _vllm(wanted: Wanted) -> list[str]:
    settings = VllmSettings(wanted.model, binary=wanted.binary, arguments=wanted.arguments, host=wanted.bind, **asdict(wanted.options))
    return settings.argv(wanted.port)


def _other(wanted: Wanted, command: str, host: Declared) -> list[str]:
    for name, value in asdict(wanted.options).items():
        if value != _LEFT_OUT.get(name):
            raise UsageProblem(f"--{name.replace('_', '-')} is an option of vLLM; with --command write the server's own options after --")
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise UsageProblem(f"--command {command!r}: {error}") from None
    return CommandSettings([*words, *wanted.arguments], wanted.model, python=host.entry.python, host=wanted.bind).command(wanted.port)


def _declared_gpus(host: Declared) -> str | None:
    return None if host.entry.gpus in {None, "all", "auto"} else host.entry.gpus


def _devices(spec: str | None) -> list[str] | None:
    """The entries of CUDA_VISIBLE_DEVICES; None for all there are. Raises UsageProblem."""
    if spec in {None, "all"}:
        return None
    if spec == "none":
        return []
    found: list[str] = []
    for part in map(str.strip, (spec or "").split(",")):
        numbers = _RANGE.match(part)
        if numbers is not None and int(numbers[2] or numbers[1]) >= int(numbers[1]):
            found += map(str, range(int(numbers[1]), int(numbers[2] or numbers[1]) + 1))
        elif _UUID.match(part):
            found.append(part)
        else:
            raise UsageProblem(f"--gpus {spec}: {part!r} names no GPU of a host. Valid: 0-7, 0,2,4, UUIDs, all, none.")
    if len(set(found)) != len(found):
        raise UsageProblem(f"--gpus {spec}: a GPU is named twice")
    return found


def for_options(text: str) -> str:
    """A message about a suite's server, for the options of this command."""
    return re.sub(r"(?:the setting )?server\.([a-z_]+)", lambda match: _OPTIONS.get(match[1], "--" + match[1].replace("_", "-")), text)


def reach(address: Address, port: int, config: str | None = None) -> str | None:
    """The command, run here, that makes a server on loopback there one on loopback here; None where none is needed or known."""
    ends = f"{port}:127.0.0.1:{port}"
    match address:
        case Ssh(host, user, there):
            words = ["ssh", "-N", "-L", ends, *(["-F", config] if config else []), *(["-p", str(there)] if there else [])]
            return shlex.join([*words, f"{user}@{host}" if user else host])
        case Kubernetes(namespace, pod, context):
            return shlex.join(["kubectl", *(["--context", context] if context else []), "port-forward", "-n", namespace, f"pod/{pod}", f"{port}:{port}"])
        case Local():
            return None
    return None
