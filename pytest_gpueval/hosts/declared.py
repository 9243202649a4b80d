"""hosts.toml, and which host a name means."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, Field, ValidationInfo, field_validator

from pytest_gpueval.errors import UsageProblem, valid_values
from pytest_gpueval.runs.redact import Redactor, arguments, is_secret_name
from pytest_gpueval.suites.load import validated
from pytest_gpueval.suites.schema import Strict

from . import slurm_options, ssh_config
from .address import Address, Kubernetes, KubernetesJobs, Local, Slurm, Ssh, parsed
from .host import Host
from .kubectl import Cluster
from .kubernetes import KubernetesHost
from .local import LocalHost
from .slurm import SlurmHost
from .ssh import SshHost
from .sync.rules import CodeEntry, Rules

if TYPE_CHECKING:
    from .jobs.client import Jobs

FILE_NAME = "hosts.toml"
_GPU = r"(?:\d+(?:-\d+)?|\d+:\d+|(?:GPU|MIG)-[0-9A-Za-z/-]+)"
_GPUS = re.compile(rf"(?:all|auto|none|{_GPU}(?:,{_GPU})*)\Z")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}\Z")
_FINGERPRINT = re.compile(r"SHA256:[A-Za-z0-9+/]{43}\Z")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")


def _absolute(path: str) -> str:
    if not path.startswith(("/", "~/")) and path != "~":
        raise ValueError(f"{path!r} is not a path from / or ~/ on")
    return path


def _address(text: str) -> str:
    try:
        parsed(text)
    except UsageProblem as problem:
        raise ValueError(str(problem)) from None
    return text


There = Annotated[str, Field(min_length=1), AfterValidator(_absolute)]


class HostEntry(Strict):
    """`[hosts.NAME]`: a machine, and what is where on it. Paths are paths there."""

    address: Annotated[str, AfterValidator(_address)] = Field(description="ssh://, k8s://, slurm://, or local; a name of ssh_config is ssh://NAME")
    workdir: There | None = Field(None, description="where what is ours lies; commands run there (default: the home directory)")
    python: Annotated[str, Field(min_length=1)] = Field("python3", description="Python 3.11, 3.12 or 3.13")
    uv: Annotated[str, Field(min_length=1)] | None = Field(None, description="the program uv, where it is not on PATH")
    install: bool | list[str] = Field(True, description="what is installed there: true: what the code says; false: nothing; or words of `pip install`")
    gpus: str | None = Field(None, description="as --gpus; goes before it")
    env: dict[str, str] = Field({}, description="environment of all that runs there; no secrets")
    volume: There | None = Field(None, description="must be mounted before anything starts")
    data: There | None = Field(None, description="datasets")
    models: There | None = Field(None, description="models")
    internet: bool = Field(True, description="false: data and models must be there, with their manifest.json")
    host_key: str | None = Field(None, description="SHA256:... as ssh-keygen -l prints it: the only key that the server may show, whatever known_hosts says")
    ssh_config: str | None = Field(None, description="file to read in place of ~/.ssh/config; relative to hosts.toml")
    gres: str | None = Field(None, description="Slurm: GPUs of a worker or a submitted run, as gpu:2 or gpu:a100:2; none (default: gpu:1)")
    time_limit: str | None = Field(None, description="Slurm: of each job, as HH:MM:SS (default: the partition's)")
    slurm: list[str] = Field([], description="Slurm: more options of srun and sbatch, as --mem=32G")

    image: Annotated[str, Field(min_length=1)] | None = Field(None, description="what the pods of Jobs run")
    job: Annotated[str, Field(min_length=1)] | None = Field(None, description="YAML file of a Job, over which ours is laid; relative to hosts.toml")
    volume_claim: Annotated[str, Field(min_length=1)] | None = Field(None, description="mounted in the pods of Jobs at `volume` (default: /mnt)")
    gpus_per_pod: int = Field(0, ge=0, le=1024, description="limit of nvidia.com/gpu of a pod of a Job")
    shards: int = Field(1, ge=1, le=10_000, description="pods of a Job, one for each shard")

    @field_validator("gpus")
    @classmethod
    def _some_gpus(cls, value: str | None) -> str | None:
        if value is not None and not _GPUS.match(value):
            raise ValueError(f"{value!r} names no GPUs; write 0-7, 0,2,4, UUIDs, all, auto or none")
        return value

    @field_validator("host_key")
    @classmethod
    def _a_fingerprint(cls, value: str | None) -> str | None:
        if value is not None and not _FINGERPRINT.match(value):
            raise ValueError(
                f"{value!r} is not a fingerprint; `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` on the host prints it: SHA256 and 43 characters"
            )
        return value

    @field_validator("env")
    @classmethod
    def _no_secrets(cls, value: dict[str, str]) -> dict[str, str]:
        for name in value:
            if not _VARIABLE.match(name):
                raise ValueError(f"{name!r} is not the name of an environment variable")
            if is_secret_name(name):
                raise ValueError(f"{name!r} looks like a secret, which does not belong into a file; set it on the host itself")
        return value

    @field_validator("install")
    @classmethod
    def _no_passwords(cls, value: bool | list[str]) -> bool | list[str]:  # noqa: FBT001 - as it is written
        if isinstance(value, list) and arguments(value, Redactor.of({})) != value:
            raise ValueError("holds what looks like a secret, which everybody on the host would see; let pip's or uv's own configuration there hold it")
        return value

    @field_validator("host_key", "ssh_config")
    @classmethod
    def _of_ssh_alone(cls, value: str | None, info: ValidationInfo) -> str | None:
        address = info.data.get("address")
        if value is not None and address is not None and not _speaks_ssh(parsed(address)):
            raise ValueError(f"means something for ssh:// only, and this host is {address}")
        return value

    @field_validator("gres", "time_limit", "slurm")
    @classmethod
    def _of_slurm_alone(cls, value: str | list[str] | None, info: ValidationInfo) -> str | list[str] | None:
        address = info.data.get("address")
        if value and address is not None and not isinstance(parsed(address), Slurm):
            raise ValueError(f"means something for slurm:// only, and this host is {address}")
        check: Callable[[Any], object] = {"gres": slurm_options.gres, "time_limit": slurm_options.time, "slurm": slurm_options.options}[info.field_name or ""]
        try:
            check(value) if value is not None else None
        except UsageProblem as problem:
            raise ValueError(str(problem)) from None
        return value

    @field_validator("image", "job", "volume_claim", "gpus_per_pod", "shards")
    @classmethod
    def _of_jobs_alone(cls, value: str | int | None, info: ValidationInfo) -> str | int | None:
        address = info.data.get("address")
        if value is not None and address is not None and not isinstance(parsed(address), KubernetesJobs):
            raise ValueError(f"means something for k8s://NAMESPACE only, whose runs are Jobs, and this host is {address}")
        return value


class HostsFile(Strict):
    """A file hosts.toml."""

    hosts: dict[str, HostEntry] = Field({})
    code: CodeEntry = Field(default_factory=CodeEntry)

    @field_validator("hosts")
    @classmethod
    def _names(cls, value: dict[str, HostEntry]) -> dict[str, HostEntry]:
        for name in value:
            if not _NAME.match(name) or name == "local":
                raise ValueError(f"{name!r} cannot name a host: letters, digits and . _ -, starting with a letter or digit, 100 at most; 'local' is taken")
        return value


@dataclass(frozen=True, slots=True)
class Declared:
    """A host that a user named, and where the name was found."""

    name: str
    address: Address
    entry: HostEntry
    # hosts.toml, or None where the name is an address or ssh_config's.
    file: Path | None = None


def read(file: Path) -> HostsFile:
    """Read and check hosts.toml. Raises UsageProblem with `file: key`, the value and the valid ones."""
    try:
        table = tomllib.loads(file.read_bytes().decode("utf-8-sig"))
    except OSError as error:
        raise UsageProblem(f"{file}: cannot be read: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError and TOMLDecodeError are ValueErrors
        raise UsageProblem(f"{file}: not valid TOML: {error}") from None
    return validated(HostsFile, table, str(file))


def named(name: str, root: Path) -> Declared:
    """The host of a name: of hosts.toml in `root` first, then an address, then a name of ssh_config. Raises UsageProblem with the names there are."""
    file = root / FILE_NAME
    hosts = read(file).hosts if file.exists() else {}
    if name in hosts:
        entry = hosts[name]
        return Declared(name, parsed(entry.address), entry, file)
    if name == "local" or "://" in name:
        address = parsed(name)
        return Declared(str(address), address, HostEntry(address=str(address)))
    aliases = ssh_config.names()
    if ssh_config.is_named(name, aliases) and _NAME.match(name):
        return Declared(name, Ssh(name), HostEntry(address=str(Ssh(name))))
    plain = [alias for alias in aliases if not set(alias) & set("*?")]
    where = f"{file} and ssh_config" if file.exists() else f"ssh_config (and there is no {file})"
    raise UsageProblem(
        f"there is no host {name!r} in {where}. {valid_values(name, {*hosts, *plain, 'local'}, what='hosts')}\nA host that neither names is written ssh://[USER@]HOST[:PORT]."
    )


def every(root: Path) -> list[Declared]:
    """The hosts of hosts.toml, in its order. Raises UsageProblem."""
    file = root / FILE_NAME
    hosts = read(file).hosts if file.exists() else {}
    return [Declared(name, parsed(entry.address), entry, file) for name, entry in hosts.items()]


def code_rules(root: Path) -> Rules:
    """What of `root` is code, by the rules and hosts.toml. Raises UsageProblem."""
    file = root / FILE_NAME
    return Rules(read(file).code if file.exists() else CodeEntry())


def default_name(environment: Mapping[str, str] = os.environ) -> str:
    """The host of a command that names none."""
    return environment.get("OPS_DEFAULT_HOST") or "local"


def opened(declared: Declared) -> Host:
    """The host itself; an SSH host connects when it is first asked for something. Raises UsageProblem for kinds that cannot be used yet."""
    entry, address = declared.entry, declared.address
    match address:
        case Local():
            return LocalHost(declared.name, directory=entry.workdir, environment=entry.env)
        case Ssh():
            return _ssh(declared, address)
        case Slurm():
            login = LocalHost(declared.name, directory=entry.workdir, environment=entry.env) if address.login is None else _ssh(declared, address.login)
            gres = slurm_options.gres(entry.gres) if entry.gres else slurm_options.ONE_GPU
            options = slurm_options.JobOptions(address.partition, address.account, gres, entry.time_limit, tuple(entry.slurm))
            return SlurmHost(declared.name, login, options, directory=entry.workdir, environment=entry.env, python=entry.python)
        case Kubernetes():
            return KubernetesHost(declared.name, address, directory=entry.workdir, environment=entry.env, python=entry.python)
        case KubernetesJobs():
            raise UsageProblem(
                f"{declared.name} ({address}): nothing is run there directly, its runs are Jobs: gpueval runs submit, status, logs, stop, fetch and archive. "
                "A pod of it is k8s://NAMESPACE/POD."
            )


def _ssh(declared: Declared, address: Ssh) -> SshHost:
    entry, config = declared.entry, config_of(declared)
    return SshHost(declared.name, address, directory=entry.workdir, environment=entry.env, python=entry.python, host_key=entry.host_key, config=config)


def jobs(declared: Declared, root: str | None, *, index: int | None = None) -> Jobs | None:
    """The runs of a host whose runs are Jobs; None for other hosts. Raises UsageProblem, MissingExtra."""
    entry, address = declared.entry, declared.address
    if not isinstance(address, KubernetesJobs):
        return None
    from .jobs import template  # noqa: PLC0415 - only where a host has them
    from .jobs.client import Jobs  # noqa: PLC0415 - the same
    from .jobs.manifest import Settings  # noqa: PLC0415 - the same

    theirs = template.read(_beside(declared, entry.job)) if entry.job is not None else {}
    volume = {"volume": entry.volume} if entry.volume is not None else {}
    settings = Settings(entry.image, entry.shards, entry.gpus_per_pod, entry.volume_claim, environment=entry.env, template=theirs, **volume)
    return Jobs(Cluster(declared.name, address.namespace, address.context), settings, root, index=index)


def config_of(declared: Declared) -> Path | None:
    """The ssh_config that is read in place of the user's own, if hosts.toml names one."""
    written = declared.entry.ssh_config
    if written is None:
        return None
    return _beside(declared, written)


def _beside(declared: Declared, written: str) -> Path:
    return (declared.file.parent if declared.file is not None else Path.cwd()) / Path(written).expanduser()


def _speaks_ssh(address: Address) -> bool:
    return isinstance(address, Ssh) or (isinstance(address, Slurm) and address.login is not None)
