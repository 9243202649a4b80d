"""The command of a supervised process. Pure: it is built here and run by whoever starts the process."""

from __future__ import annotations

import base64
import sys
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

# Started by its path, so that another host needs this one file and no package.
SUPERVISOR = Path(__file__).with_name("supervisor.py")
_INTERPRETER = (sys.executable, "-I", "-S", str(SUPERVISOR))
# From here on the command holds the supervisor's own arguments.
WORDS = len(_INTERPRETER)
_NONE: Mapping[str, str] = MappingProxyType({})


def supervised(
    program: Sequence[str], *, leases: Sequence[Path] = (), grace_s: float = 8.0, at_once: bool = False, ask: str = "INT", markers: Mapping[str, str] = _NONE
) -> list[str]:
    """The command of a supervisor around `program`, to which arguments may be added.

    `leases` are locked, shared, in this order for the program's life. `grace_s` is what it has to end by itself once whoever holds the other end of the
    supervisor's stdin is gone; with `at_once` it is asked to end there and then, by the signal `ask`. `markers` go into its environment, to find what
    a dead session left.
    """
    argv = [*_INTERPRETER]
    for lease in leases:
        argv += ["--lease", str(lease)]
    argv += ["--grace", f"{grace_s:g}"]
    if at_once:
        argv.append("--at-once")
    if ask != "INT":
        argv += ["--ask", ask]
    for name, value in markers.items():
        argv += ["--marker", f"{name}={value}"]
    return [*argv, "--", *program]


def carried(python: str, script: Path, arguments: Sequence[str]) -> list[str]:
    """The command that runs a script of ours on a host that has nothing of ours: its text goes along. It needs the standard library alone."""
    # Without a slash: execnet splits commands at //.
    text = base64.urlsafe_b64encode(zlib.compress(script.read_bytes(), 9)).decode("ascii")
    loader = f"import base64,zlib;exec(compile(zlib.decompress(base64.urlsafe_b64decode('{text}')),'{script.name}','exec'))"
    return [python, "-I", "-S", "-c", loader, *arguments]


def supervised_there(python: str, program: Sequence[str], *, leases: Sequence[str] = (), grace_s: float = 8.0) -> list[str]:
    """As `supervised`, on such a host; `python` and `leases` are there."""
    locked = [word for lease in leases for word in ("--lease", lease)]
    return carried(python, SUPERVISOR, [*locked, "--grace", f"{grace_s:g}", "--", *program])
