"""One request to what keeps code on a host: the text of it, the request, and what follows; one round trip of the host's `run`."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Mapping
from itertools import chain
from typing import Any, Final

from pytest_gpueval.errors import UsageProblem
from pytest_gpueval.hosts.detached import bundle
from pytest_gpueval.hosts.detached.client import answered, asked, refused
from pytest_gpueval.hosts.detached.text import harmless
from pytest_gpueval.hosts.host import Host

CODE: Final = ("detached/agent/processes.py", "detached/agent/files.py", "sync/agent/snapshots.py", "sync/agent/receive.py")
# What looks at a host knows of its runs and its code, too.
_HOST: Final = ("facts", "environments", "verbs")
HOST: Final = (
    *bundle.modules(),
    *CODE[2:],
    *(f"bootstrap/agent/{name}.py" for name in _HOST),
)
_TOO_LONG: Final = "took longer than"  # what every host says of a program whose time was over
_TOO_OLD: Final = "and 3.11 or newer is needed"
_LOADER: Final = bundle.loader(
    "g['serve'](g['CODE_VERBS'])", first=f"sys.version_info<(3,8) and sys.exit('it is Python %d.%d, {_TOO_OLD}'%sys.version_info[:2]);"
)


def ask(
    host: Host,
    python: str,
    message: Mapping[str, Any],
    payload: Iterable[bytes] = (),
    *,
    timeout_s: float,
    unsure: str = "try again",
    modules: tuple[str, ...] = CODE,
    source: str | None = None,
) -> dict[str, Any]:
    """The answer. `modules` make the agent, or `source` is it. Raises Unreachable, AccessDenied, UsageProblem, Conflict, StorageError, GpuevalError."""
    agent, request = bundle.packed(source or bundle.joined(*modules)), zlib.compress(json.dumps(message).encode(), 1)
    stdin = chain([agent, b"%d\n%b" % (len(request), request)], payload)
    done = asked(host, python, _LOADER, stdin, timeout_s, unsure, directory="/")  # the workdir may be yet to make
    if (done.code is None and _TOO_LONG not in done.said) or _TOO_OLD in done.said:
        raise UsageProblem(f"{host.name}: {python} cannot be run there: {harmless(done.said).strip()}\nName another Python as `python` of hosts.toml.")
    answer = answered(host.name, done, unsure, python)
    if "error" in answer:
        raise refused(host.name, answer["error"])
    return answer
