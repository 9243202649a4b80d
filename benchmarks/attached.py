"""What an item costs more on another host: `python -m benchmarks.attached [--quick]`. A real sshd on loopback, so the round trip is nearly nothing.

Instant commands as rows of a sweep, on two lanes here and on two lanes there, by turns; start-up is cancelled by sessions of few and of many rows.
Each row is ten new files, and ext4 makes new files slowly for minutes after many were removed: TMPDIR says on which file system it is.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.sshd import Sshd, running

from .measure import Figure, print_table
from .sweeps import Sessions

TARGET_MS = 5.0
_FEW = 20


def main(argv: Sequence[str] | None = None) -> list[Figure]:
    """Measure, print, return the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.attached", description="Items on another host, beside the same items here")
    parser.add_argument("--quick", action="store_true", help="fewer rows, one repetition")
    quick = parser.parse_args(argv).quick
    with tempfile.TemporaryDirectory() as directory, running(Path(directory) / "sshd", chatty=False) as server:
        return _items(server, Path(directory) / "repository", 60 if quick else 400, 1 if quick else 3)


def _items(server: Sshd, place: Path, count: int, repeats: int) -> list[Figure]:
    place.mkdir()
    sessions = Sessions(place)
    (place / "hosts.toml").write_text(
        f'[hosts.there]\naddress = "ssh://{server.users["bash"]}@127.0.0.1:{server.port}"\nssh_config = "{server.config}"\n'
        f'python = "{sys.executable}"\ninstall = false\nworkdir = "{place.parent / "there"}"\n',
        encoding="utf-8",
    )
    for name, number in (("few", _FEW), ("many", _FEW + count)):
        sessions.suite(name, ["/bin/true", "{parameters}"], range(number))
    sides = {"here": (), "there": ("--gpueval-hosts", "there")}
    taken: dict[tuple[str, str], list[float]] = {}
    for _ in range(repeats):
        for side, options in sides.items():
            for name in ("few", "many"):
                usage, _ = sessions.run(name, "", *options, lanes=2)
                taken.setdefault((side, name), []).append(usage.wall_s)
    # What others do on the machine only adds, so the least counts.
    costs = {side: 1000 * (min(taken[side, "many"]) - min(taken[side, "few"])) / count for side in sides}
    more = costs["there"] - costs["here"]
    table = [(side, f"{min(taken[side, 'few']):.2f} s", f"{min(taken[side, 'many']):.2f} s", f"{costs[side]:.2f} ms") for side in sides]
    print_table(f"Rows on two lanes, the best of {repeats}, by turns", ("", f"{_FEW} rows", f"{_FEW + count} rows", "a row"), table)
    return [Figure("an item on another host, above one here", f"<= {TARGET_MS:g} ms", f"{more:.1f} ms", more <= TARGET_MS)]


if __name__ == "__main__":
    print_table("Summary", ("figure", "target", "measured", ""), [figure.cells() for figure in main()])
