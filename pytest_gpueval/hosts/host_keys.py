"""Whether a server is the one that it says: its key against known_hosts, or against a pin. Nothing is sent to a server that is not."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .known_hosts import Key, Known, entry_name, looked_up
from .ssh_config import Settings

__all__ = ["Key", "known", "objection", "preferred"]
_RSA = ("rsa-sha2-512", "rsa-sha2-256")


def known(settings: Settings) -> Known:
    """The keys that the user's and the system's files hold for a server."""
    return looked_up(map(_read, settings.known_hosts), _name(settings))


def preferred(offered: Sequence[str], keys: Known) -> tuple[str, ...]:
    """The kinds of keys in the order to ask for them: those that are known first, else a server with several would show another one."""
    wanted = [kind for key in keys.trusted for kind in (_RSA if key.kind == "ssh-rsa" else (key.kind,))]
    return tuple(sorted(offered, key=lambda kind: kind not in wanted))


def objection(name: str, settings: Settings, key: Key, keys: Known, pin: str | None) -> str | None:
    """What speaks against a server that shows `key`; None if nothing does. `pin` is the fingerprint that hosts.toml tells, which then decides alone."""
    shown = f"{_short(key.kind)} key {key.fingerprint}"
    standing = keys.standing(key)
    if standing == "revoked":
        return f"{name}: its {shown} is marked @revoked in known_hosts. Nothing was sent.\nAsk whoever runs it for the new key."
    if pin is not None:
        if key.fingerprint == pin:
            return None
        return (
            f"{name}: host_key in hosts.toml is {pin}, but the server shows the {shown}. Nothing was sent.\n"
            "Another machine may be answering. Ask whoever runs it which key is right; then change host_key."
        )
    if standing == "known":
        return None
    files = ", ".join(str(file) for file in settings.known_hosts[:1])
    own = f"On the host itself, `ssh-keygen -lf /etc/ssh/ssh_host_{_short(key.kind).lower()}_key.pub` prints its fingerprint"
    if standing == "changed":
        return (
            f"{name}: the server shows the {shown}, but known_hosts ({files}) has another one. Nothing was sent.\n"
            "The machine was set up anew, or another one is answering in its place.\n"
            f"{own}. Only if it is the same: `ssh-keygen -R '{_name(settings)}'` and then connect once with ssh, or pin it in hosts.toml:\n"
            f'    host_key = "{key.fingerprint}"'
        )
    return (
        f"{name}: the server shows the {shown}, which known_hosts ({files}) does not have. Nothing was sent.\n"
        f"{own}. If it is the same: connect once with ssh, which keeps it, or pin it in hosts.toml:\n"
        f'    host_key = "{key.fingerprint}"'
    )


def _name(settings: Settings) -> str:
    return settings.alias or entry_name(settings.host, settings.port)


def _short(kind: str) -> str:
    """As ssh-keygen says it, and as files of keys are called."""
    return {"ssh-ed25519": "ED25519", "ssh-rsa": "RSA"}.get(kind, "ECDSA" if kind.startswith("ecdsa") else kind)


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError:  # there need not be one, and without it no key is known
        return ""
