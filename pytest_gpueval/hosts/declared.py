"""hosts.toml, and which host a name means."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, ValidationInfo, field_validator

from pytest_gpueval.errors import UsageProblem, valid_values
from pytest_gpueval.runs.redact import is_secret_name
from pytest_gpueval.suites.load import validated
from pytest_gpueval.suites.schema import Strict

from . import ssh_config
from .address import Address, Kubernetes, Local, Slurm, Ssh, parsed
from .host import Host
from .local import LocalHost
from .ssh import SshHost

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
    gpus: str | None = Field(None, description="as --gpus; goes before it")
    env: dict[str, str] = Field({}, description="environment of all that runs there; no secrets")
    volume: There | None = Field(None, description="must be mounted before anything starts")
    data: There | None = Field(None, description="datasets")
    models: There | None = Field(None, description="models")
    internet: bool = Field(True, description="false: data and models must be there, with their manifest.json")
    host_key: str | None = Field(None, description="SHA256:... as ssh-keygen -l prints it: the only key that the server may show, whatever known_hosts says")
    ssh_config: str | None = Field(None, description="file to read in place of ~/.ssh/config; relative to hosts.toml")

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

    @field_validator("host_key", "ssh_config")
    @classmethod
    def _of_ssh_alone(cls, value: str | None, info: ValidationInfo) -> str | None:
        address = info.data.get("address")
        if value is not None and address is not None and not _speaks_ssh(parsed(address)):
            raise ValueError(f"means something for ssh:// only, and this host is {address}")
        return value


class HostsFile(Strict):
    """A file hosts.toml."""

    hosts: dict[str, HostEntry] = Field({})

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
            config = config_of(declared)
            return SshHost(declared.name, address, directory=entry.workdir, environment=entry.env, python=entry.python, host_key=entry.host_key, config=config)
        case Kubernetes() | Slurm():
            raise UsageProblem(f"{declared.name} ({address}): hosts of this kind cannot be used yet; those of ssh:// and local can.")


def config_of(declared: Declared) -> Path | None:
    """The ssh_config that is read in place of the user's own, if hosts.toml names one."""
    written = declared.entry.ssh_config
    if written is None:
        return None
    return (declared.file.parent if declared.file is not None else Path.cwd()) / Path(written).expanduser()


def _speaks_ssh(address: Address) -> bool:
    return isinstance(address, Ssh) or (isinstance(address, Slurm) and address.login is not None)
