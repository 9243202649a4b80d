"""Real clients, each in a process of its own: they read the environment when they are imported."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

MARK = "\x1e"
PRELUDE = """
import json, sys, time, warnings
warnings.simplefilter("ignore")
names, started = {}, time.monotonic()
try:
    exec(compile(sys.stdin.read(), "client", "exec"), names)
    said = {"value": names.get("result")}
except BaseException as error:
    chain, one = [], error
    while one is not None:
        chain.append([type(one).__name__, str(one)])
        one = one.__cause__ or one.__context__
    said = {"error": type(error).__name__, "text": str(error), "chain": chain, "status": getattr(getattr(error, "response", None), "status_code", None)}
    said["bases"] = [one.__name__ for one in type(error).__mro__]
said["seconds"] = time.monotonic() - started
print(chr(30) + json.dumps(said))
"""


@dataclass(frozen=True)
class Said:
    """What a client's code came to: the value of its `result`, or the error that ended it with those that led to it."""

    value: Any
    error: str | None
    text: str
    bases: tuple[str, ...]
    chain: tuple[tuple[str, str], ...]
    status: int | None
    seconds: float
    output: str


def run(source: str, environment: Mapping[str, str], *, timeout_s: float = 120.0) -> Said:
    """Run `source` and tell its `result`. Raises RuntimeError where it ends without a word."""
    done = subprocess.run([sys.executable, "-c", PRELUDE], input=source, env=dict(environment), capture_output=True, text=True, timeout=timeout_s, check=False)
    output, mark, said = done.stdout.rpartition(MARK)
    if not mark:
        raise RuntimeError(f"the client ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    told = json.loads(said)
    chain = tuple((name, text) for name, text in told.get("chain", ()))
    return Said(
        told.get("value"),
        told.get("error"),
        told.get("text", ""),
        tuple(told.get("bases", ())),
        chain,
        told.get("status"),
        told["seconds"],
        output + done.stderr,
    )
