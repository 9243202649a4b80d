"""A host behind SSH beside OpenSSH's own programs: `python -m benchmarks.hosts [--quick]`.

The server is a real sshd on loopback, of the same machine: both sides share its cores, and what is compared is what the two clients make of them.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import execnet

from pytest_gpueval.hosts.local import LocalHost
from pytest_gpueval.hosts.ssh import SshHost
from pytest_gpueval.hosts.workers import spec_python
from tests.sshd import Sshd, running

from .measure import Figure, print_table, seconds

TARGET_RATIO, TARGET_TRIP_MS = 0.8, 5.0
_ECHO = "for item in channel: channel.send(item)"


def main(argv: Sequence[str] | None = None) -> list[Figure]:
    """Measure, print, return the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.hosts", description="Files, commands and workers through SSH")
    parser.add_argument("--quick", action="store_true", help="smaller files, fewer repetitions")
    quick = parser.parse_args(argv).quick
    with tempfile.TemporaryDirectory() as directory, running(Path(directory) / "sshd", "Subsystem sftp internal-sftp", chatty=False) as server:
        return [
            *_files(server, Path(directory), (64 if quick else 256) << 20, 2 if quick else 5),
            *_commands(server, 10 if quick else 50),
            *_workers(server, 50 if quick else 500),
        ]


def _files(server: Sshd, place: Path, size: int, repeats: int) -> list[Figure]:
    """One large file that cannot be compressed, by turns."""
    source, target = place / "source", place / "target"
    with source.open("wb") as file:
        for _ in range(size >> 20):
            file.write(os.urandom(1 << 20))
    there = f"{server.users['bash']}@127.0.0.1"
    scp = ["scp", "-q", "-F", str(server.config), "-P", str(server.port)]
    with server.host() as host:
        host.run(["true"])
        turns: dict[str, Callable[[], object]] = {
            "get": lambda: host.get(str(source), target),
            "scp from there": lambda: subprocess.run([*scp, f"{there}:{source}", target], check=True),
            "put": lambda: host.put(source, str(target)),
            "scp to there": lambda: subprocess.run([*scp, source, f"{there}:{target}"], check=True),
        }
        taken: dict[str, list[float]] = {name: [] for name in turns}
        for _ in range(repeats):
            for name, turn in turns.items():
                target.unlink(missing_ok=True)
                taken[name].append(seconds(turn))
    rates = {name: size / statistics.median(found) / 1e6 for name, found in taken.items()}
    print_table(
        f"A file of {size >> 20} MiB, {repeats} times, scp's connection included",
        ("", "MB/s, median"),
        [(name, f"{rate:,.0f}") for name, rate in rates.items()],
    )
    ratios = {"get": rates["get"] / rates["scp from there"], "put": rates["put"] / rates["scp to there"]}
    return [Figure(f"{name} through SSH over scp", f">= {TARGET_RATIO:g} x", f"{ratio:.2f} x", ratio >= TARGET_RATIO) for name, ratio in ratios.items()]


def _commands(server: Sshd, repeats: int) -> list[Figure]:
    """A command that does nothing: on the connection that is open, on a new one, by ssh, and here."""
    there = f"{server.users['bash']}@127.0.0.1"

    def anew(make: Callable[[], SshHost]) -> None:
        with make() as host:
            host.run(["true"])

    with server.host() as host:
        host.run(["true"])
        turns: dict[str, Callable[[], object]] = {
            "on an open connection": lambda: host.run(["true"]),
            "on a new connection": lambda: anew(server.host),
            "ssh": lambda: subprocess.run(["ssh", "-F", server.config, "-p", str(server.port), there, "true"], check=True),
            "local": lambda: LocalHost().run(["true"]),
        }
        found = {name: 1000 * statistics.median(seconds(turn) for _ in range(repeats)) for name, turn in turns.items()}
    print_table(f"A command that does nothing, median of {repeats}", ("", "ms"), [(name, f"{ms:.1f}") for name, ms in found.items()])
    ratio = found["on an open connection"] / found["ssh"]
    return [Figure("a command on an open connection, over ssh", "", f"{ratio:.2f} x", ok=None)]


def _workers(server: Sshd, repeats: int) -> list[Figure]:
    """A message to a gateway of execnet and back, as every item of a session has."""
    group = execnet.Group()
    try:
        with server.host() as host:
            commands = {"local": [sys.executable], "through SSH": host.worker_command([sys.executable])}
            found: dict[str, float] = {}
            for name, command in commands.items():
                channel = group.makegateway(f"popen//python={spec_python(command)}").remote_exec(_ECHO)
                trips = [seconds(lambda channel=channel: (channel.send(b"x" * 1000), channel.receive())) for _ in range(repeats)]  # type: ignore[misc]
                found[name] = 1000 * statistics.median(trips)
    finally:
        group.terminate(timeout=30)
    print_table(f"1 kB to a worker and back, median of {repeats}", ("", "ms"), [(name, f"{ms:.2f}") for name, ms in found.items()])
    more = found["through SSH"] - found["local"]
    return [Figure("a message to a worker and back, above a local one", f"<= {TARGET_TRIP_MS:g} ms", f"{more:.2f} ms", more <= TARGET_TRIP_MS)]


if __name__ == "__main__":
    print_table("Summary", ("figure", "target", "measured", ""), [figure.cells() for figure in main()])
