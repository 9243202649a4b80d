"""The commands that start workers. Pure: they are built here and run by whoever starts the worker."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence

from pytest_gpueval.errors import UsageProblem

# The exit code of a worker's command, as of `ssh`, where nobody knows how the program there ended.
UNKNOWN = 255
# `~/` is the home directory there, in the directory and in the program's own path.
_BELOW = """
d=$1 p=$2
shift 2
case $d in "~") d=$HOME ;; "~/"*) d=$HOME/${d#"~/"} ;; esac
case $p in "~/"*) p=$HOME/${p#"~/"} ;; esac
cd "$d" && exec "$p" "$@"
"""


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


def below(directory: str, argv: Sequence[str]) -> list[str]:
    """The command that runs another one in a directory: for programs that are started where nobody can say in which."""
    return ["/bin/sh", "-c", _BELOW, "sh", directory if directory.startswith(("/", "~")) else f"./{directory}", *argv]
