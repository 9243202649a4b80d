"""A real sshd on loopback, or on a machine of tests/networks.py, with its own keys, configuration and accounts.

As root it runs in a mount namespace of its own, where /etc/passwd has more accounts: one for each login shell, each with its own home directory. Nothing
of the machine is changed. Without root, or where namespaces are not allowed, there is one account: that of whoever runs the tests.
"""

import os
import pwd
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pytest_gpueval.hosts.address import Ssh
from pytest_gpueval.hosts.link import Patience
from pytest_gpueval.hosts.ssh import SshHost

from .networks import Machine
from .waiting import wait_for

SHELLS = ("bash", "zsh", "fish")
# Startup files of all of them, which print, fail and change the directory.
CHATTY = "echo 'Welcome! 100% chatty'; echo 'profile: no such thing' >&2; cd /; false\n"
STARTUP = (".bashrc", ".zshenv", ".config/fish/config.fish", ".profile")
_IN_NAMESPACE = 'mount --bind "$1" /etc/passwd && shift && exec "$@"'


@dataclass
class Sshd:
    """`port`, `host_key` (a file), `identity` (a file), `config` (an ssh_config that holds for every name), `users` (login shell -> account)."""

    place: Path
    port: int = 0
    users: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None
    address: str = "127.0.0.1"

    @property
    def host_key(self) -> Path:
        return self.place / "host_ed25519"

    @property
    def identity(self) -> Path:
        return self.place / "id_ed25519"

    @property
    def config(self) -> Path:
        return self.place / "ssh_config"

    @property
    def known_hosts(self) -> Path:
        return self.place / "known hosts"

    def home(self, shell: str) -> Path:
        return self.place / "home" / shell

    def host(self, shell: str = "bash", **more: Any) -> SshHost:
        """An SshHost for the account whose login shell this is."""
        more = {"config": self.config, "patience": Patience(connect_s=60), **more}
        return SshHost(more.pop("name", "box"), Ssh(self.address, self.users[shell], more.pop("port", self.port)), **more)

    def know(self, *ports: int) -> None:
        """Make known_hosts hold the server's key, under these ports of its address."""
        kind, key, *_ = self.host_key.with_suffix(".pub").read_text().split()
        self.known_hosts.write_text("".join(f"[{self.address}]:{port} {kind} {key}\n" for port in ports or (self.port,)))

    def fingerprint(self) -> str:
        return subprocess.run(["ssh-keygen", "-lf", self.host_key], capture_output=True, text=True, check=True).stdout.split()[1]

    def stop(self) -> None:
        """End it and its sessions."""
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGTERM)
            self.process.wait()


def key(path: Path, kind: str = "ed25519", passphrase: str = "") -> Path:
    subprocess.run(["ssh-keygen", "-q", "-t", kind, *(["-b", "2048"] if kind == "rsa" else []), "-N", passphrase, "-f", path], check=True)
    return path


@contextmanager
def running(place: Path, *lines: str, chatty: bool = True, on: tuple[Machine, str] | None = None) -> Iterator[Sshd]:
    """An sshd whose configuration has `lines` besides; `on` a machine of its own, with the address that it has there."""
    place.mkdir(parents=True, exist_ok=True)
    server = Sshd(place) if on is None else Sshd(place, address=on[1])
    key(server.host_key)
    key(server.identity)
    prefix = _accounts(server, chatty)
    shutil.copy(server.identity.with_suffix(".pub"), place / "authorized_keys")
    server.config.write_text(
        f'Host *\n  IdentityFile "{server.identity}"\n  IdentitiesOnly yes\n  UserKnownHostsFile "{server.known_hosts}"\n  GlobalKnownHostsFile /dev/null\n'
    )
    try:
        _start(server, prefix if on is None else on[0].command(*prefix), lines)
        server.know()
        yield server
    finally:
        server.stop()


def namespaces() -> bool:
    """Whether this process may have a mount namespace."""
    return os.getuid() == 0 and subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode == 0


def _accounts(server: Sshd, chatty: bool) -> list[str]:
    if not namespaces():
        server.users = {"bash": pwd.getpwuid(os.getuid()).pw_name}
        return []
    passwd = Path("/etc/passwd").read_text()
    for shell in SHELLS:
        home = server.home(shell)
        for name in STARTUP:
            (home / name).parent.mkdir(parents=True, exist_ok=True)
            (home / name).write_text(CHATTY if chatty else "")
        server.users[shell] = f"gpueval-{shell}"
        passwd += f"gpueval-{shell}:x:0:0::{home}:{shutil.which(shell) or '/bin/sh'}\n"
    (server.place / "passwd").write_text(passwd)
    return ["unshare", "-m", "sh", "-c", _IN_NAMESPACE, "sshd", str(server.place / "passwd")]


def _start(server: Sshd, prefix: list[str], lines: tuple[str, ...]) -> None:
    sshd = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin")
    assert sshd, "the tests need OpenSSH's server; install it: apt-get install openssh-server"
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # where its unprivileged part lives; the system's own start makes it too
    while True:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            server.port = free.getsockname()[1]
        options = [
            f"Port {server.port}",
            f"ListenAddress {server.address}",
            f'HostKey "{server.host_key}"',
            f'AuthorizedKeysFile "{server.place / "authorized_keys"}"',
            "PidFile none",
            "PermitRootLogin prohibit-password",
            "PasswordAuthentication no",
            "KbdInteractiveAuthentication no",
            "UsePAM no",
            "StrictModes no",
            "MaxStartups 100",
            *lines,
        ]
        (server.place / "sshd_config").write_text("".join(f"{line}\n" for line in options))
        with (server.place / "sshd.log").open("ab") as log:
            command = [*prefix, sshd, "-D", "-e", "-f", str(server.place / "sshd_config")]
            server.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        wait_for(lambda: _answers(server) or server.process.poll() is not None)
        if server.process.poll() is None:
            return
        said = (server.place / "sshd.log").read_text()
        assert "in use" in said, said  # else somebody was faster: take another port


def _answers(server: Sshd) -> bool:
    if server.address != "127.0.0.1":  # of another network: it can only say so
        return "Server listening on" in (server.place / "sshd.log").read_text()
    try:
        with socket.create_connection((server.address, server.port), timeout=5) as connection:
            return connection.recv(4) == b"SSH-"
    except OSError:
        return False
