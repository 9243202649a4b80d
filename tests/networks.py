"""Machines with a network, a name and addresses of their own: namespaces of this one, joined by cables (veth). Nothing leaves them.

They have no names in /run/netns, as `ip netns` gives them: those would outlive tests that are killed. A namespace lives as long as what is in it, and its first
process, which waits, is killed by the kernel together with us.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.waiting import wait_for

# Where the administrator's programs are, which may not be on PATH.
_PATH = f"{os.environ['PATH']}:/usr/sbin:/sbin"


@dataclass(frozen=True)
class Machine:
    """`pid` is of the process that keeps it."""

    name: str
    pid: int

    def command(self, *words: object) -> list[str]:
        """What, started here, is that command there."""
        return ["nsenter", f"--net=/proc/{self.pid}/ns/net", f"--uts=/proc/{self.pid}/ns/uts", "--", *map(str, words)]

    def run(self, *words: object) -> None:
        subprocess.run(self.command(*words), check=True)


def possible() -> bool:
    """Whether this process may have networks of its own: that takes root, and a kernel and a container that let it."""
    assert shutil.which("nsenter"), "the tests need nsenter; install it: apt-get install util-linux"
    words = ["unshare", "--net", "--uts", _ip(), "link", "add", "one", "type", "veth", "peer", "name", "other"]
    return os.geteuid() == 0 and subprocess.run(words, capture_output=True).returncode == 0


def _ip() -> str:
    found = shutil.which("ip", path=_PATH)
    assert found, "the tests need ip; install it: apt-get install iproute2"
    return found


@contextmanager
def machine(name: str) -> Iterator[Machine]:
    """One that is called so, with nothing but loopback."""
    words = ["setpriv", "--pdeathsig", "KILL", "unshare", "--net", "--uts", "sleep", "infinity"]
    with subprocess.Popen(words, stdin=subprocess.DEVNULL, start_new_session=True) as process:
        try:
            wait_for(lambda: Path(f"/proc/{process.pid}/comm").read_text() == "sleep\n")
            made = Machine(name, process.pid)
            made.run("hostname", name)
            made.run(_ip(), "link", "set", "lo", "up")
            yield made
        finally:
            process.kill()


def pull(one: Machine, other: Machine) -> None:
    """Pull the cable between them out of the other one: neither is told."""
    other.run(_ip(), "link", "set", one.name, "down")


def connect(one: Machine, its: str, other: Machine, address: str) -> None:
    """A cable: an interface called like the other machine at each end, with these addresses (of a network of two, /30)."""
    one.run(_ip(), "link", "add", other.name, "type", "veth", "peer", "name", one.name, "netns", other.pid)
    for end, link, own in ((one, other.name, its), (other, one.name, address)):
        end.run(_ip(), "address", "add", f"{own}/30", "dev", link)
        end.run(_ip(), "link", "set", link, "up")


@contextmanager
def star(*names: str) -> Iterator[tuple[Machine, dict[str, tuple[Machine, str]]]]:
    """A machine in the middle, and others around it, each with a cable to it: them, and their addresses (TEST-NET-1, RFC 5737)."""
    with ExitStack() as made:
        middle, around = made.enter_context(machine("laptop")), {}
        for number, name in enumerate(names):
            address = f"192.0.2.{4 * number + 2}"
            around[name] = made.enter_context(machine(name)), address
            connect(middle, f"192.0.2.{4 * number + 1}", around[name][0], address)
        yield middle, around
