"""Who we are to an SSH server: keys of the agent and of files, in the order that `ssh` has."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import paramiko

from pytest_gpueval.errors import AccessDenied, Unreachable

from .ssh_config import Settings


def log_in(transport: paramiko.Transport, settings: Settings, name: str) -> None:
    """Be somebody to a server whose own key has been checked. Raises AccessDenied, Unreachable."""
    agent = paramiko.Agent()
    try:
        _log_in(transport, settings, name, agent)
    finally:
        agent.close()


def _log_in(transport: paramiko.Transport, settings: Settings, name: str, agent: paramiko.Agent) -> None:
    tried: list[str] = []
    for label, key in _keys(settings, agent, tried):
        try:
            more = transport.auth_publickey(settings.user, key)
        except paramiko.BadAuthenticationType as error:
            raise AccessDenied(f"{name}: the server takes no keys, only {', '.join(error.allowed_types)}; sessions cannot answer questions.") from None
        except paramiko.AuthenticationException:
            tried.append(f"{label}: refused")
            if not transport.is_active():
                break
        except (paramiko.SSHException, OSError, EOFError) as error:
            if transport.is_active():  # an agent that does not sign, a key of a kind that this server does not speak
                tried.append(f"{label}: {error or type(error).__name__}")
                continue
            if not tried:
                raise Unreachable(f"{name}: the connection broke during login: {error or type(error).__name__}.") from None
            break
        else:
            if not more:
                return
            raise AccessDenied(f"{name}: beside the key {label} the server asks for {' and '.join(more)}; sessions cannot answer questions.")
    listing = "".join(f"\n    {line}" for line in tried) or "\n    no key: no agent has one, and no file of ssh_config's IdentityFile is there"
    closed = (
        ""
        if transport.is_active()
        else "\nThe server then hung up: it may count too many attempts; name the right key with IdentityFile and IdentitiesOnly in ssh_config."
    )
    raise AccessDenied(f"{name}: the server knows none of our keys. Tried:{listing}{closed}\nSee what ssh does: ssh -v -l {settings.user} {settings.host}")


def _keys(settings: Settings, agent: paramiko.Agent, skipped: list[str]) -> Iterator[tuple[str, paramiko.PKey]]:
    """Keys of the agent that ssh_config names, its files, then the agent's other keys. What cannot be used is noted in `skipped`."""
    files = [file for file in settings.identities if file.is_file()]
    wanted = {blob for file in settings.identities if (blob := _public(file)) is not None}
    everyones = agent.get_keys()
    named = [key for key in everyones if key.asbytes() in wanted]
    offered = {key.asbytes() for key in named}
    for key in named:
        yield f"agent: {key.comment or key.get_name()}", key
    for file in files:
        loaded = _loaded(file, skipped) if file.suffix != ".pub" else None
        if loaded is not None and loaded.asbytes() not in offered:
            yield str(file), loaded
    if not settings.identities_only:
        for key in everyones:
            if key not in named:
                yield f"agent: {key.comment or key.get_name()}", key


def _loaded(file: Path, skipped: list[str]) -> paramiko.PKey | None:
    try:
        return paramiko.PKey.from_path(file)
    except (TypeError, paramiko.PasswordRequiredException):  # the first is cryptography's word for it
        skipped.append(f"{file}: encrypted; give it to an agent: ssh-add {file}")
    except OSError as error:
        skipped.append(f"{file}: {error.strerror or error}")
    except (ValueError, paramiko.SSHException, paramiko.UnknownKeyType) as error:
        skipped.append(f"{file}: not a key that can be used: {error}")
    return None


def _public(file: Path) -> bytes | None:
    """The public half beside a file, as it goes over the wire."""
    place = file if file.suffix == ".pub" else file.with_name(file.name + ".pub")
    try:
        blob: bytes = paramiko.PublicBlob.from_string(place.read_text().strip()).key_blob
        return blob
    except (OSError, ValueError):
        return None
