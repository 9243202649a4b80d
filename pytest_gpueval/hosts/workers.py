"""The commands that start workers. Pure: they are built here and run by whoever starts the worker."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from pytest_gpueval.errors import UsageProblem

# Started by its path, so that another host needs this one file and no package.
SUPERVISOR = Path(__file__).with_name("supervisor.py")
_NONE: Mapping[str, str] = MappingProxyType({})


def supervised(python: str, *, leases: Sequence[Path] = (), grace_s: float = 8.0, markers: Mapping[str, str] = _NONE) -> list[str]:
    """The command of a supervisor around `python`, whose arguments are to follow.

    `leases` are locked, shared, in this order for the worker's life. `grace_s` is what the worker has to end by itself once the
    controller is gone. `markers` go into its environment, to find what a dead session left.
    """
    argv = [sys.executable, "-I", "-S", str(SUPERVISOR)]
    for lease in leases:
        argv += ["--lease", str(lease)]
    argv += ["--grace", f"{grace_s:g}"]
    for name, value in markers.items():
        argv += ["--marker", f"{name}={value}"]
    return [*argv, "--", python]


def spec_python(argv: Sequence[str]) -> str:
    """The command as the value of `python=` in an execnet specification, which is split at every `//`. Raises UsageProblem.

    >>> spec_python(["/usr//bin/env", "A=b c", "python3"])
    "/usr/bin/env 'A=b c' python3"
    """
    words = [re.sub("//+", "/", word) if word.startswith(("/", "./", "../")) else word for word in argv]
    for word in words:
        if "//" in word:
            raise UsageProblem(f"{word!r} cannot be part of a worker's command: execnet splits it at //. Write it with single slashes.")
    if words and words[-1].endswith("/"):
        raise UsageProblem(f"{words[-1]!r} cannot end a worker's command: it is a directory, a Python interpreter is needed.")
    return shlex.join(words)
