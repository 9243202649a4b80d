"""Code on a host behind SSH beside rsync: `python -m benchmarks.sync [--quick]`.

The server is a real sshd on loopback, as in `benchmarks.hosts`; both sides get a connection of their own for each sync, and the tree has been read before.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from pytest_gpueval.hosts.sync.client import Synced, sync
from pytest_gpueval.hosts.sync.rules import Rules
from pytest_gpueval.hosts.sync.tree import read
from tests.sshd import Sshd, running

from .measure import Figure, print_table, seconds

TARGET_RATIO, TARGET_AGAIN_S = 0.8, 0.5
_FILES = 5000


def main(argv: Sequence[str] | None = None) -> list[Figure]:
    """Measure, print, return the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sync", description="Code through SSH")
    parser.add_argument("--quick", action="store_true", help="fewer repetitions")
    repeats = 3 if parser.parse_args(argv).quick else 7
    with tempfile.TemporaryDirectory() as directory, running(Path(directory) / "sshd", chatty=False) as server:
        root = Path(directory) / "tree"
        grow(root, _FILES)
        os.environ["XDG_CACHE_HOME"] = str(Path(directory) / "cache")
        read(root, Rules())
        return _measured(server, root, Path(directory), repeats)


def grow(root: Path, count: int) -> None:
    """A git repository of files like those of a program: Python's own, cut and told apart, in folders of 50."""
    library = b"\n".join(path.read_bytes() for path in sorted(Path(os.__file__).parent.glob("*.py")))
    drawn = random.Random(0)  # noqa: S311 - the same tree each time
    for number in range(count):
        begin, size = drawn.randrange(len(library) - 40_000), int(min(40_000, drawn.lognormvariate(8, 1)))
        place = root / f"package_{number // 500}" / f"part_{number // 50 % 10}" / f"module_{number}.py"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(b"# %d\n" % number + library[begin : begin + size])
    subprocess.run(["git", "init", "-q", root], check=True)
    subprocess.run(["git", "-C", root, "add", "."], check=True)


def _measured(server: Sshd, root: Path, place: Path, repeats: int) -> list[Figure]:
    ssh = f"ssh -F '{server.config}' -p {server.port}"
    there = f"{server.users['bash']}@127.0.0.1"
    taken: dict[str, list[float]] = {name: [] for name in ("first", "rsync, first", "nothing changed", "rsync, nothing changed", "a round trip")}

    def ours(number: int) -> Synced:
        with server.host() as host:
            return sync(host, root, str(place / f"ours-{number}"), python=sys.executable)

    def theirs(number: int) -> None:
        subprocess.run(["rsync", "-a", "--exclude=.git", "-e", ssh, f"{root}/", f"{there}:{place}/theirs-{number}/"], check=True)

    # Each time elsewhere, and nothing is removed before the end: ext4 avoids inodes that were freed a moment ago, and looks at each of them for every new file.
    for number in range(repeats):
        for name, work in (("first", ours), ("rsync, first", theirs), ("nothing changed", ours), ("rsync, nothing changed", theirs)):
            taken[name].append(seconds(partial(work, number)))
        with server.host() as host:
            taken["a round trip"].append(seconds(lambda host=host: host.run(["true"])))  # type: ignore[misc]
    found = {name: statistics.median(each) for name, each in taken.items()}
    size = sum(path.stat().st_size for path in root.rglob("*.py"))
    title = f"{_FILES:,} files, {size / 1e6:,.1f} MB, {repeats} times by turns, connections included"
    print_table(title, ("", "s, median"), [(name, f"{value:.2f}") for name, value in found.items()])
    ratio, more = found["rsync, first"] / found["first"], found["nothing changed"] - found["a round trip"]
    return [
        Figure("code to an SSH host for the first time, speed over rsync's", f">= {TARGET_RATIO:g} x", f"{ratio:.2f} x", ratio >= TARGET_RATIO),
        Figure("code that is there already, above one round trip", f"<= {TARGET_AGAIN_S:g} s", f"{more:.2f} s", more <= TARGET_AGAIN_S),
    ]


if __name__ == "__main__":
    print_table("Summary", ("figure", "target", "measured", ""), [figure.cells() for figure in main()])
