"""The agent as one text, and what starts it on the other side of a pipe."""

from __future__ import annotations

import re
import zlib
from functools import cache
from pathlib import Path

_MODULES = ("processes", "files", "gpus", "slurm", "progress", "runner", "manifest", "archive", "serving", "requests")
_OWN = re.compile(r"^from (?:\.|pytest_gpueval\.)[\w.]* import (?:\([^)]*\)|.*)\n", re.MULTILINE)
_FUTURE = "from __future__ import annotations\n"

# Reads the agent's length, the agent, and the request from stdin: argv, which everybody on the host can read, says nothing.
LOADER = (
    "import sys,zlib;i=sys.stdin.buffer;s=zlib.decompress(i.read(int(i.readline()))).decode();g={'__name__':'gpueval_agent'};"
    "exec(compile(s,'gpueval-agent','exec'),g);g['main'](s,i.read())"
)


@cache
def source() -> str:
    """The agent's modules as one standalone file."""
    return joined(*modules())


def modules() -> tuple[str, ...]:
    """The agent's, in their order."""
    return tuple(f"detached/agent/{name}.py" for name in _MODULES)


@cache
def joined(*names: str) -> str:
    """Modules of `hosts` as one standalone file; each imports from those before it alone."""
    hosts = Path(__file__).parent.parent
    texts = (_OWN.sub("", (hosts / name).read_text(encoding="utf-8")).replace(_FUTURE, "") for name in names)
    return f'"""Made of pytest_gpueval/hosts: {" ".join(names)}."""\n' + _FUTURE + "\n".join(texts)


def framed(agent: str, request: bytes) -> bytes:
    """What LOADER reads. On a slow link the agent is most of a request: it goes compressed."""
    text = zlib.compress(agent.encode())
    return b"%d\n%b%b" % (len(text), text, request)
