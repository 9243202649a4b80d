"""Real clients, each in a process of its own: they read the environment when they are imported."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

MARK = "\x1e"  # ends what the client's own code prints
PRELUDE = """
import json, sys, time, warnings
warnings.simplefilter("ignore")

def tell(error):
    chain, one = [], error
    while one is not None:
        chain.append([type(one).__name__, str(one)])
        one = one.__cause__ or (None if one.__suppress_context__ else one.__context__)
    bases = [one.__name__ for one in type(error).__mro__]
    status = getattr(getattr(error, "response", None), "status_code", None)
    return {"error": type(error).__name__, "text": str(error), "chain": chain, "status": status, "bases": bases}

def attempt(call, *arguments, **named):
    started = time.monotonic()
    try:
        said = {"value": call(*arguments, **named)}
    except Exception as error:
        said = tell(error)
    return {**said, "seconds": time.monotonic() - started}

def whole():
    names = {"attempt": attempt}
    exec(compile(sys.stdin.read(), "client", "exec"), names)
    return names.get("result")

print(chr(30) + json.dumps(attempt(whole)))
"""


@dataclass(frozen=True)
class Said:
    """What a call came to: its value, or the error that ended it, with those that led to it. `status` is the answer's, where there was one."""

    value: Any = None
    error: str | None = None
    text: str = ""
    bases: tuple[str, ...] = ()
    chain: tuple[tuple[str, str], ...] = ()
    status: int | None = None
    seconds: float = 0.0
    output: str = ""


def said(told: Mapping[str, Any], output: str = "") -> Said:
    """What `attempt` of a client's code returned."""
    given = {**told, "bases": tuple(told.get("bases", ())), "chain": tuple((name, text) for name, text in told.get("chain", ()))}
    return Said(**given, output=output)


def run(source: str, environment: Mapping[str, str], *, timeout_s: float = 240.0) -> Said:
    """Run `source` and tell what its `result` is. It may call `attempt(function, ...)`. Raises RuntimeError where it ends without a word."""
    command = [sys.executable, "-c", PRELUDE]
    done = subprocess.run(command, input=source, env=dict(environment), capture_output=True, text=True, timeout=timeout_s, check=False)
    output, mark, last = done.stdout.rpartition(MARK)
    if not mark:
        raise RuntimeError(f"the client ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return said(json.loads(last), output + done.stderr)
