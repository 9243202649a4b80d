"""W&B's key on a host: in ~/.netrc, where programs that nobody logs in for find it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from pytest_gpueval.errors import UsageProblem
from pytest_gpueval.hosts.declared import Declared
from pytest_gpueval.hosts.detached.submission import DEFAULT_ROOT
from pytest_gpueval.hosts.host import Host
from pytest_gpueval.hosts.sync.request import HOST, ask

VARIABLE: Final = "WANDB_API_KEY"
_URL: Final = "WANDB_BASE_URL"
_DEFAULT: Final = "https://api.wandb.ai"
_NETRC_S: Final = 60.0


def key_of(environment: Mapping[str, str]) -> str:
    """The user's key. Raises UsageProblem."""
    key = environment.get(VARIABLE, "")
    if not key:
        raise UsageProblem(f"--wandb-login: {VARIABLE} is not set here; it is what would be written to ~/.netrc there")
    if not key.isprintable() or any(character.isspace() for character in key):
        raise UsageProblem(f"--wandb-login: {VARIABLE} holds a space or a control character, which ~/.netrc cannot")
    return key


def login(declared: Declared, host: Host, environment: Mapping[str, str]) -> str:
    """Write the key there; it travels through stdin alone. Returns what was done. Raises UsageProblem, Unreachable, StorageError."""
    key = key_of(environment)
    machine = urlsplit(environment.get(_URL) or _DEFAULT).hostname
    if machine is None:
        raise UsageProblem(f"{_URL}: not a URL")
    message = {"do": "netrc", "root": "~", "runs": DEFAULT_ROOT, "machine": machine, "login": "user", "password": key}
    answer = ask(host, declared.entry.python, message, timeout_s=_NETRC_S, modules=HOST)
    return f"{answer['path']}: {machine} {'was there already' if answer['again'] else 'written'}"
