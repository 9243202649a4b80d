"""The agent as one text, and what starts it on the other side of a pipe."""

from __future__ import annotations

import re
import zlib
from functools import cache, lru_cache
from pathlib import Path

_MODULES = ("processes", "files", "gpus", "leases", "slurm", "progress", "runner", "manifest", "archive", "serving", "requests")
_OWN = re.compile(r"^from (?:\.|pytest_gpueval\.)[\w.]* import (?:\([^)]*\)|.*)\n", re.MULTILINE)
_FUTURE = "from __future__ import annotations\n"


def loader(then: str, *, first: str = "") -> str:
    """A program of one line that reads an agent, as `packed` makes it, from stdin: argv, which everybody on the host can read, says nothing.

    Then it does `then`, to which `i` is stdin, `s` the agent's text and `g` its names; and `first` before all, to which sys is known.
    """
    reads = "i=sys.stdin.buffer;s=zlib.decompress(i.read(int(i.readline()))).decode()"
    return f"import sys,zlib;{first}{reads};g={{'__name__':'gpueval_agent'}};exec(compile(s,'gpueval-agent','exec'),g);{then}"


LOADER = loader("g['main'](s,i.read())")


@cache
def source() -> str:
    """The agent's modules as one standalone file."""
    return joined(*modules())


def modules() -> tuple[str, ...]:
    """The agent's, in their order."""
    return ("../gpus/lock_files.py", *(f"detached/agent/{name}.py" for name in _MODULES))


@cache
def joined(*names: str) -> str:
    """Modules of `hosts` as one standalone file; each imports from those before it alone."""
    hosts = Path(__file__).parent.parent
    texts = (_OWN.sub("", (hosts / name).read_text(encoding="utf-8")).replace(_FUTURE, "") for name in names)
    return f'"""Made of pytest_gpueval/hosts: {" ".join(names)}."""\n' + _FUTURE + "\n".join(texts)


@lru_cache(maxsize=8)
def packed(agent: str) -> bytes:
    """An agent as a loader reads it. On a slow link it is most of a request: it goes compressed."""
    text = zlib.compress(agent.encode())
    return b"%d\n%b" % (len(text), text)


def framed(agent: str, request: bytes) -> bytes:
    """What LOADER reads."""
    return packed(agent) + request
