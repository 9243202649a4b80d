"""A machine that is reached through SSH."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from pytest_gpueval.errors import MissingExtra, UsageProblem

from . import ssh_config
from .address import Ssh, parsed
from .host import NOTHING
from .remote import RemoteHost, told

if TYPE_CHECKING:
    from .link import Link, Patience
    from .ssh_exchange import Exchange

_MOST_JUMPS = 8


class SshHost(RemoteHost):
    """A machine that is reached through SSH, by one connection for all that is asked of it, made when it is first needed and again after it broke.

    ssh_config, the agent and known_hosts mean what they mean to `ssh`; a key that is not known is never accepted, whatever StrictHostKeyChecking says.
    Files travel through `cat` and `tail` there, not through SFTP: that is as fast, and all it needs is a POSIX shell with base64.
    Relative paths count from `directory`, or from the home directory there. Any number of threads may use it.
    """

    def __init__(
        self,
        name: str,
        address: Ssh,
        *,
        directory: str | None = None,
        environment: Mapping[str, str] = NOTHING,
        python: str = "python3",
        host_key: str | None = None,
        config: Path | None = None,
        patience: Patience | None = None,
    ) -> None:
        """`host_key` is the fingerprint (SHA256:...) that alone is right. `config` is read in place of the user's ssh_config. `python` runs there."""
        super().__init__(name, directory=directory, environment=environment, python=python)
        self._address = address
        self._host_key, self._config, self._patience = host_key, config, patience
        self._link: Link | None = None
        self._connecting = threading.Lock()

    @classmethod
    def of(cls, word: str) -> Self:
        """The host that `described` told. Raises UsageProblem."""
        table = told(word)
        address = parsed(table.pop("address"))
        config, patience = table.pop("config", None), table.pop("patience", None)
        if not isinstance(address, Ssh):
            raise UsageProblem(f"{address} is not an SSH host")
        return cls(**table, address=address, config=Path(config) if config else None, patience=_paramiko().Patience(**patience) if patience else None)

    def interrupt(self) -> None:
        """As Host says; whoever connects at this moment is not waited for."""
        super().interrupt()
        if self._link is not None:
            self._link.give_up(InterruptedError("interrupted"))

    def close(self) -> None:
        """As Host says."""
        with self._connecting:
            link, self._link = self._link, None
        if link is not None:
            link.close()

    def _table(self) -> dict[str, Any]:
        return {
            "address": str(self._address),
            "host_key": self._host_key,
            "config": None if self._config is None else str(self._config.absolute()),
            "patience": None if self._patience is None else asdict(self._patience),
        }

    def _begun(
        self,
        argv: Sequence[str],
        *,
        timeout_s: float | None,
        environment: Mapping[str, str],
        directory: str,
        on_stderr: Callable[[bytes], None] | None,
    ) -> Exchange:
        link = self._connected()  # first: it says how to get paramiko
        from .ssh_exchange import Exchange  # noqa: PLC0415 - an extra

        return Exchange(link, argv, timeout_s=timeout_s, environment=environment, directory=directory, on_stderr=on_stderr)

    def _connected(self) -> Link:
        """The connection, made anew where it broke. Raises Unreachable, AccessDenied."""
        with self._connecting:
            if self._link is not None and self._link.alive:
                return self._link
            if self._link is not None:
                self._link.close()
                self._link = None
            self._link = self._chain(self._address, self._host_key, 0)
            return self._link

    def _chain(self, address: Ssh, host_key: str | None, depth: int) -> Link:
        """A connection, through those that ProxyJump names; each host on the way is checked like the last."""
        if depth > _MOST_JUMPS:
            raise UsageProblem(f"{self.name}: ProxyJump leads in a circle at {address}; see: ssh -G {self._address.host}")
        settings, through = ssh_config.read(address, self._config), None
        module = _paramiko()
        try:
            for jump in settings.jumps:
                place = ssh_config.jump_address(jump)
                if through is None:
                    through = self._chain(place, None, depth + 1)
                else:
                    through = module.Link(f"{self.name}, by {jump}", ssh_config.read(place, self._config), patience=self._patience, through=through)
            name = self.name if depth == 0 else f"{self.name}, by {address.host}"
            link: Link = module.Link(name, settings, host_key=host_key, patience=self._patience, through=through)
            return link
        except BaseException:
            if through is not None:
                through.close()
            raise


def _paramiko() -> Any:
    """What needs paramiko. Raises MissingExtra."""
    try:
        from . import link  # noqa: PLC0415 - an extra
    except ModuleNotFoundError as error:
        if error.name != "paramiko":
            raise
        raise MissingExtra("paramiko", needed_for="an SSH host", extra="hosts") from None
    return link
