"""Starts a server on a host as a run of its own, waits until it answers there, and stops it."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from pytest_gpueval.errors import Conflict, GpuevalError, RuntimeFault, Unreachable, UsageProblem, valid_values

from .client import Agent, DetachedRun, Stopped, Submitted
from .serving import URL, Served, Servers, Serving
from .submission import Submission

# How long one request waits on the host, seconds.
_LOOK_S: Final = 2.0
_TAIL_LINES: Final = 25
# Until a port is free, after every process has ended.
_FREE_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class StoppedServer:
    """What became of a stop; `notes`: what is not as it should."""

    stopped: Stopped
    url: str
    notes: tuple[str, ...] = ()


def start(agent: Agent, what: Submission, secrets: Mapping[str, str], *, replace: bool = False, tmux: bool = True, lease: bool = True) -> Submitted:
    """Start a server, once: the same again gives the same server. `replace` stops one of this name that has other options.

    With `lease` no session gets its GPUs while it lives. Raises Conflict where such a one runs, or somebody else has the port or a GPU; UsageProblem,
    StorageError.
    """
    url = what.environment[URL]
    seen = agent.servers(port_of=url, gpus=False)
    own = next((one for one in seen.servers if one.run.run_id == what.run_id), None)
    lives = own is not None and (own.state is not Serving.ENDED or own.run.processes > 0)
    other = different(own.run, what) if own is not None and lives else ""
    if other:
        if not replace:
            raise Conflict(
                f"{agent.host.name}: the server {what.run_id!r} runs with other options: {other}\nSay --replace to stop it first, or another --name."
            )
        stop(agent, what.run_id)
        seen, lives = agent.servers(port_of=url, gpus=False), False
    if not lives and seen.listener is not None:
        raise Conflict(_taken(agent, url, seen))
    return agent.submit(what, secrets, force=own is not None, tmux=tmux, lease=lease)


def different(run: DetachedRun, what: Submission) -> str:
    """What a server that runs was asked for, and is not now: empty where it is the same."""
    texts = []
    for word in dict.fromkeys((*run.command, *what.command)):
        before, now = run.command.count(word), what.command.count(word)
        if before != now:
            texts.append(f"{'-' if before > now else '+'} {word}")
    if not texts and run.command != what.command:
        texts.append("its words in another order")
    for name in sorted({*run.environment, *what.environment}):
        before_value, now_value = run.environment.get(name), what.environment.get(name)
        if before_value != now_value:
            texts += [f"- {name}={before_value}"] if before_value is not None else []
            texts += [f"+ {name}={now_value}"] if now_value is not None else []
    if run.workdir != what.directory and not what.directory.startswith("~"):  # the host alone knows what that is
        texts += [f"- directory {run.workdir}", f"+ directory {what.directory}"]
    texts += [f"- secret {name}" for name in sorted({*run.secrets} - {*what.secrets})]
    texts += [f"+ secret {name}" for name in sorted({*what.secrets} - {*run.secrets})]
    return ", ".join(texts)


def wait(agent: Agent, name: str, *, timeout_s: float, causes: Mapping[str, str], told: Callable[[Served], None]) -> Served:
    """The server, once it answers on its host; `told` hears of each look before. Raises RuntimeFault if it ends, or is not ready in time."""
    limit = time.monotonic() + timeout_s
    while True:
        left_s = limit - time.monotonic()
        one = named(agent, name, wait_s=max(0.0, min(_LOOK_S, left_s)), tail_lines=_TAIL_LINES)
        if one.state is Serving.SERVING:
            return one
        if one.state is Serving.ENDED:
            raise RuntimeFault(f"{agent.host.name}: the server {name!r} did not start: {one.reason}.{_because(one, causes)}\n{_last_lines(one)}")
        if left_s <= 0:
            raise RuntimeFault(
                f"{agent.host.name}: the server {name!r} does not answer after {timeout_s:g} s: {one.reason}."
                "\nIt goes on, and the same command waits for it again."
                f"{_because(one, causes)}\n{_last_lines(one)}"
            )
        told(one)


def named(agent: Agent, name: str, *, wait_s: float = 0.0, tail_lines: int = 0) -> Served:
    """The server of a name. Raises UsageProblem where there is none."""
    found = agent.servers([name], wait_s=wait_s, tail_lines=tail_lines).servers
    if found:
        return found[0]
    known = [one.run.run_id for one in agent.servers(gpus=False).servers]
    raise UsageProblem(f"{agent.host.name}: there is no server {name!r} in {agent.root}. {valid_values(name, known, what='servers')}")


def stop(agent: Agent, name: str, *, grace_s: float = 20.0) -> StoppedServer:
    """End every process of a server, then see that its port is free and its GPU memory given back.

    Raises UsageProblem where there is none; GpuevalError where something of it outlives that.
    """
    before = agent.servers([name], gpus=False)
    held = before.servers[0] if before.servers else named(agent, name)
    done = agent.stop(name, grace_s=grace_s)
    limit = time.monotonic() + _FREE_S
    while True:  # its pace is that of the requests
        after = agent.servers([name], port_of=held.url, gpus=False)
        if after.listener is None or done.ended_before or time.monotonic() > limit:
            break
    notes = [*done.memory.notes]
    if after.listener is not None:
        if held.state is Serving.SERVING:
            raise GpuevalError(f"{agent.host.name}: {name}: its processes have ended, but {held.url} is taken by {after.listener}")
        notes.append(f"{held.url} is taken by {after.listener}, who is no part of it")
    return StoppedServer(done, held.url, tuple(notes))


def _taken(agent: Agent, url: str, seen: Servers) -> str:
    port = url.rpartition(":")[2].partition("/")[0]
    ours = next((one for one in seen.servers if one.url == url and one.state is Serving.SERVING), None)
    who = f"the server {ours.run.run_id!r}, {seen.listener}" if ours else seen.listener
    return f"{agent.host.name}: port {port} is taken by {who}.\nChoose another --port, or end that first."


def _because(one: Served, causes: Mapping[str, str]) -> str:
    cause = next((advice for pattern, advice in causes.items() if re.search(pattern, one.run.tail)), None)
    return f"\nProbable cause: {cause}" if cause else ""


def _last_lines(one: Served) -> str:
    lines = one.run.tail.splitlines()
    return "\n".join(["Its last lines:", *(f"  {line}" for line in lines)]) if lines else "It wrote nothing."


def unsure(agent: Agent, name: str, error: Unreachable) -> Unreachable:
    """What to tell where the link broke while a server was waited for."""
    return Unreachable(f"{error}\nThe server {name!r} goes on loading on {agent.host.name}, if it was started; the same command waits for it again.")
