"""gpueval vllm start, status, stop: language model servers that go on when nobody is connected."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self

import typer

from . import detached, submit
from .output import Form, Json, Pretty, form, interruptible, show, show_document, tell, user_errors

if TYPE_CHECKING:
    from pytest_gpueval.hosts.detached.client import Agent, Submitted
    from pytest_gpueval.hosts.detached.gpus import Gpu
    from pytest_gpueval.hosts.detached.servers import StoppedServer
    from pytest_gpueval.hosts.detached.serving import Served
    from pytest_gpueval.hosts.detached.submission import Submission

    from .vllm_request import Wanted

NAME = "vllm"
_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
# A line of progress where nobody sees a line that is redrawn, seconds.
_TOLD_EVERY_S = 30.0

app = typer.Typer(help="Start, look at and stop vLLM, or any server that speaks OpenAI's protocol, on any host.", no_args_is_help=True)

_Name = Annotated[str, typer.Option("--name", metavar="NAME", help="What the server is called on its host; the id of its run.")]
_Command = Annotated[str | None, typer.Option("--command", metavar="'WORDS'", help="Another server; {model}, {host}, {port} and {python} are filled in.")]
_TensorParallel = Annotated[
    int, typer.Option("--tensor-parallel", "--tensor-parallel-size", min=1, max=64, metavar="N", help="GPUs that one copy is spread over.")
]
_Secrets = Annotated[
    list[str] | None, typer.Option("--secret", metavar="NAME", help="A variable of yours that goes with it, unseen; VLLM_API_KEY does by itself.")
]
_TailLines = Annotated[int, typer.Option("--tail-lines", min=0, metavar="N", help="The last N lines of its log.")]
_DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be asked of the host; start and stop nothing.")]


@app.command()
def start(
    arguments: Annotated[list[str] | None, typer.Argument(metavar="[-- MORE...]", help="More options of the server itself.")] = None,
    *,
    model: Annotated[str, typer.Option("--model", "--model-id", metavar="MODEL", help="Hub repository, or a path on the host.")],
    host: detached.HostOption = "local",
    name: _Name = NAME,
    port: Annotated[int, typer.Option("--port", min=1, max=65535, metavar="P", help="Where it listens.")] = 8000,
    bind: Annotated[str, typer.Option("--bind", metavar="ADDRESS", help="Address it listens at; what is not loopback, others can reach.")] = "127.0.0.1",
    gpus: Annotated[str | None, typer.Option("--gpus", metavar="0,1", help="0-3, 0,2, UUIDs, none or all (default: `gpus` of hosts.toml, or all).")] = None,
    gpus_shared: Annotated[bool, typer.Option("--gpus-shared", help="Do not lease its GPUs: sessions may use them as well.")] = False,
    command: _Command = None,
    binary: Annotated[str, typer.Option("--vllm-bin", metavar="PATH", help="vLLM's program on the host.")] = "vllm",
    served_name: Annotated[str | None, typer.Option("--served-name", "--served-model-name", metavar="NAME", help="What requests call the model.")] = None,
    tensor_parallel: _TensorParallel = 1,
    gpu_memory_utilization: Annotated[float | None, typer.Option("--gpu-memory-utilization", min=0.01, max=1, metavar="SHARE")] = None,
    max_model_len: Annotated[int | None, typer.Option("--max-model-len", min=1, metavar="TOKENS")] = None,
    dtype: Annotated[str | None, typer.Option("--dtype", metavar="TYPE")] = None,
    quantization: Annotated[str | None, typer.Option("--quantization", metavar="NAME")] = None,
    trust_remote_code: Annotated[bool, typer.Option("--trust-remote-code", help="Run code that the model brings.")] = False,
    seed: Annotated[int | None, typer.Option("--seed", metavar="N")] = None,
    variables: Annotated[list[str] | None, typer.Option("--env", metavar="NAME=VALUE", help="A variable of its environment.")] = None,
    secrets: _Secrets = None,
    timeout: Annotated[float, typer.Option("--timeout", min=1, metavar="SECONDS", help="Until it must answer.")] = 900.0,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Do not wait until it answers.")] = False,
    replace: Annotated[bool, typer.Option("--replace", help="Stop a server of this name that has other options.")] = False,
    no_tmux: Annotated[bool, typer.Option("--no-tmux", help="Without a terminal to attach to.")] = False,
    root: detached.RootOption = None,
    dry_run: _DryRun = False,
    json_: Json = False,
    pretty: Pretty = False,
) -> None:
    """Start a server that goes on when you leave, and wait until it answers there. The same options again: the same server.

    It leases its GPUs as a session does: until it has ended, no session there gets them.

    Examples:
      gpueval vllm start --host gpu-a --model Qwen/Qwen3-4B-Instruct-2507 --gpus 0,1 --tensor-parallel 2 --secret HF_TOKEN

      gpueval vllm start --model tiny.gguf --command '{python} -m llama_cpp.server --model {model} --host {host} --port {port}'
    """
    from .vllm_request import ModelOptions, Wanted

    model_options = ModelOptions(served_name, tensor_parallel, gpu_memory_utilization, max_model_len, dtype, quantization, trust_remote_code, seed)
    wanted = Wanted(name, model, port, bind, gpus, command, binary, model_options, variables or [], secrets or [], arguments or [])
    out = form(json_, pretty)
    with user_errors():
        made, place = _request(wanted, host), detached.place_of(root, host)
        if dry_run:
            submit.show_request(made, host, place, {"do": "launch", "replace": replace, "tmux": not no_tmux, "lease": not gpus_shared}, out)
            return
        if bind not in _LOOPBACK and not made.secrets:
            tell(f"warning: whoever reaches {bind} port {port} of {host} can use it: it asks for no key (VLLM_API_KEY, or --secret)")
        with detached.agent_at(host, root) as agent:
            _start(agent, made, host, out, _How(0 if no_wait else timeout, replace, tmux=not no_tmux, lease=not gpus_shared))


def _request(wanted: Wanted, host: str) -> Submission:
    from pytest_gpueval.errors import UsageProblem
    from pytest_gpueval.hosts import declared
    from pytest_gpueval.hosts.address import Slurm

    from . import vllm_request

    there = declared.named(host, Path.cwd())
    if isinstance(there.address, Slurm):
        raise UsageProblem(f"{host}: a login node is no place for a server. Have Slurm start it as a run: gpueval runs submit --host {host} -- vllm serve ...")
    folder = there.entry.workdir or (str(Path.cwd()) if host == "local" else "~")
    return vllm_request.request(wanted, there, os.environ, folder)


@dataclass(frozen=True, slots=True)
class _How:
    """Of a start: seconds to wait until it answers, and what `servers.start` is told."""

    timeout_s: float
    replace: bool
    tmux: bool
    lease: bool


def _start(agent: Agent, made: Submission, host: str, out: Form, how: _How) -> None:
    """Start, wait and tell. Raises GpuevalError."""
    from pytest_gpueval.errors import Unreachable, UsageProblem
    from pytest_gpueval.hosts.detached import servers
    from pytest_gpueval.servers.openai_causes import CAUSES

    from .vllm_request import for_options

    name, flags = made.run_id, _flags(host, agent.root)
    unknown = f"nobody knows whether {name} was started on {host}. The same command starts it once; look: gpueval vllm status {flags} --name {name}"
    try:
        with interruptible(unknown):
            done = servers.start(agent, made, os.environ, replace=how.replace, tmux=how.tmux, lease=how.lease)
    except UsageProblem as problem:
        hint = "\nIts path there: --vllm-bin PATH, or the first word of --command." if "there is no such program" in str(problem) else ""
        raise UsageProblem(f"{problem}{hint}") from None
    for note in done.notes:
        tell(f"note: {note}")
    progress = _Progress(name)
    causes = {pattern: for_options(advice) for pattern, advice in CAUSES.items()}
    try:
        with interruptible(f"{name} goes on loading on {host}. Stop it: gpueval vllm stop {flags} --name {name}"), progress:
            one = servers.wait(agent, name, timeout_s=how.timeout_s, causes=causes, told=progress.told) if how.timeout_s else servers.named(agent, name)
    except Unreachable as error:
        raise servers.unsure(agent, name, error) from None
    _say_started(one, done, host, agent.root, out)


class _Progress:
    """What is told while a server loads: a line that is redrawn on a terminal, else one every half minute."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._tty = sys.stderr.isatty()
        self._begin = self._told = time.monotonic()

    def told(self, one: Served) -> None:
        """A look at a server that does not answer yet."""
        from pytest_gpueval.reports.table import clock, plain

        now = time.monotonic()
        last = plain(next((line for line in reversed(one.run.tail.splitlines()) if line.strip()), "")).strip()
        text = f"{self._name}: loading for {clock(one.run.seconds or now - self._begin)}: {one.reason}{f' · {last}' if last else ''}"
        if self._tty:
            import shutil

            sys.stderr.write(f"\r\x1b[K{text[: shutil.get_terminal_size().columns - 1]}")
            sys.stderr.flush()
        elif now - self._told >= _TOLD_EVERY_S:
            self._told = now
            tell(text)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Take the line away."""
        if self._tty:
            sys.stderr.write("\r\x1b[K")


@app.command()
def status(
    *,
    host: detached.HostOption = "local",
    names: Annotated[list[str] | None, typer.Option("--name", metavar="NAME", help="Which server, any number of times (default: all).")] = None,
    url: Annotated[
        str | None, typer.Option("--api-base-url", envvar=["VLLM_BASE_URL", "OPENAI_API_BASE"], metavar="URL", help="Ask this one as well, from the host.")
    ] = None,
    tail_lines: _TailLines = 3,
    root: detached.RootOption = None,
    dry_run: _DryRun = False,
    json_: Json = False,
    pretty: Pretty = False,
) -> None:
    """How the servers of a host are, asked there. Exit code 1 if one that is named, or a URL, does not serve. Logs: gpueval runs logs.

    Examples:
      gpueval vllm status --host gpu-a

      gpueval vllm status --host gpu-a --name vllm --json
    """
    from pytest_gpueval.hosts.detached import servers
    from pytest_gpueval.hosts.detached.serving import Serving

    out = form(json_, pretty)
    with user_errors():
        place, asked = detached.place_of(root, host), None if names else _checked(url)
        if dry_run:
            show_document({"host": host, "request": {"do": "servers", "root": place, "run_ids": names, "url": asked}}, out)
            return
        with detached.agent_at(host, root) as agent:
            seen = agent.servers(names, url=asked, key=os.environ.get("OPENAI_API_KEY", "") if asked else "", tail_lines=tail_lines)
            found = {one.run.run_id: one for one in seen.servers}
            for name in names or ():
                found.setdefault(name, servers.named(agent, name) if name not in found else found[name])
    elsewhere = [{"url": asked, "state": "serving" if seen.url["models"] is not None else "silent", **seen.url}] if asked and seen.url else []
    if out is not Form.TABLE:
        show_document([*(record(one, seen.gpus) for one in found.values()), *elsewhere], out)
    else:
        _say_servers(list(found.values()), elsewhere, seen.gpus)
    if (names and any(one.state is not Serving.SERVING for one in found.values())) or any(one["state"] != "serving" for one in elsewhere):
        raise typer.Exit(1)


def _checked(url: str | None) -> str | None:
    """The URL, if it is one. Raises UsageProblem."""
    from urllib.parse import urlsplit

    from pytest_gpueval.errors import UsageProblem

    if not url:
        return None
    try:
        parts = urlsplit(url)
        valid = parts.scheme in {"http", "https"} and bool(parts.hostname) and (parts.port is None or parts.port > 0) and "@" not in parts.netloc
    except ValueError:
        valid = False
    if not valid:
        raise UsageProblem("--api-base-url (VLLM_BASE_URL, OPENAI_API_BASE): give http://HOST:PORT/v1, without a user or password in it")
    return url


@app.command()
def stop(
    *,
    host: detached.HostOption = "local",
    name: _Name = NAME,
    grace: Annotated[float, typer.Option("--grace", min=0, max=3600, metavar="SECONDS", help="Between TERM and KILL.")] = 20.0,
    root: detached.RootOption = None,
    dry_run: _DryRun = False,
    json_: Json = False,
    pretty: Pretty = False,
) -> None:
    """End every process of a server, and nobody else's; then see that its port is free and its GPU memory given back.

    Example:
      gpueval vllm stop --host gpu-a
    """
    from pytest_gpueval.hosts.detached import servers

    out = form(json_, pretty)
    with user_errors(), detached.agent_at(host, root) as agent:
        if dry_run:
            one = servers.named(agent, name)
            would = {"host": host, "name": name, "state": str(one.state), "processes": one.run.processes, "outcome": "dry run, nothing stopped"}
            if out is Form.TABLE:
                print(f"{name}: {_in_words(one)}, {one.run.processes} processes carry its mark (dry run, nothing stopped)")  # noqa: T201
            else:
                show_document(would, out)
            return
        done = servers.stop(agent, name, grace_s=grace)
    _say_stopped(done, out)


def record(one: Served, gpus: tuple[Gpu, ...] | None) -> dict[str, Any]:
    """A server as JSON. Seconds, and MiB by the index of the GPU."""
    run = one.run
    return {
        "name": run.run_id,
        "state": str(one.state),
        "reason": one.reason,
        "models": list(one.models) if one.models is not None else None,
        "url": one.url,
        "port": _port(one.url),
        "uptime_s": None if run.state.ended else run.seconds,
        "load_s": one.load_s,
        "starts": one.starts,
        "gpus": run.environment.get("CUDA_VISIBLE_DEVICES"),
        "gpu_memory_mib": _memory(one, gpus),
        "processes": run.processes,
        "command": list(run.command),
        "directory": run.directory,
        "tail": run.tail.splitlines(),
    }


def _memory(one: Served, gpus: tuple[Gpu, ...] | None) -> dict[str, int] | None:
    if one.gpu_memory_mib is None:
        return None
    indices = {gpu.uuid: str(gpu.index) for gpu in gpus or ()}
    return {indices.get(uuid, uuid): used for uuid, used in one.gpu_memory_mib.items()}


def _port(url: str) -> int | None:
    from urllib.parse import urlsplit

    return urlsplit(url).port


def _in_words(one: Served) -> str:
    return f"{one.state} ({one.reason})" if one.reason else str(one.state)


def _say_servers(found: list[Served], elsewhere: list[dict[str, Any]], gpus: tuple[Gpu, ...] | None) -> None:
    from pytest_gpueval.reports.table import clock, plain

    rows: list[dict[str, Any]] = []
    for one in found:
        memory = _memory(one, gpus)
        rows.append(
            {
                "name": one.run.run_id,
                "state": _in_words(one),
                "models": ", ".join(one.models or ()),
                "port": _port(one.url),
                "uptime": clock(one.run.seconds) if one.run.seconds is not None and not one.run.state.ended else "",
                "starts": one.starts,
                "GPU memory": "" if memory is None else ", ".join(f"{index}: {used:,} MiB" for index, used in memory.items()) or "none",
            }
        )
    rows += [{"name": one["url"], "state": one["state"], "models": plain(", ".join(one["models"] or ()))} for one in elsewhere]
    if not rows:
        print("no servers; gpueval vllm start --model ... starts one")  # noqa: T201
        return
    show(rows, ("name", "state", "models", "port", "uptime", "starts", "GPU memory"), Form.TABLE)
    for one in found:
        if one.run.tail:
            print(plain("\n".join([f"\nlast lines of {one.run.run_id}:", *(f"  {line}" for line in one.run.tail.splitlines())])))  # noqa: T201


def _flags(host: str, root: str) -> str:
    import shlex

    return shlex.join(["--host", host, "--remote-outputs-dir", root])


def _say_started(one: Served, done: Submitted, host: str, root: str, out: Form) -> None:
    from pytest_gpueval.hosts import declared
    from pytest_gpueval.reports.table import clock

    from .vllm_request import reach

    there = declared.named(host, Path.cwd())
    tunnel = reach(there.address, _port(one.url) or 80, str(declared.config_of(there) or "") or None)
    if out is not Form.TABLE:
        show_document({"again": done.again, "notes": list(done.notes), "reach": tunnel, **record(one, None)}, out)
        return
    name, flags = one.run.run_id, _flags(host, root)
    ready = f", ready after {clock(one.load_s)}" if one.load_s is not None and not done.again else ""
    lines = [f"{name}: {_in_words(one)}{' (it was started before)' if done.again else ''}{ready}"]
    lines += [f"models: {', '.join(one.models)}"] if one.models is not None else []
    lines += [f"on {host}: {one.url}"] + ([f"reach it from here: {tunnel}"] if tunnel else [])
    lines += [
        f"then: export VLLM_BASE_URL={one.url}",
        f"read it: gpueval runs logs -f {flags} --run-id {name}",
        f"stop it: gpueval vllm stop {flags} --name {name}",
    ]
    print("\n".join(lines))  # noqa: T201


def _say_stopped(done: StoppedServer, out: Form) -> None:
    run = done.stopped.run
    for note in done.notes:
        tell(f"warning: {note}")
    if out is not Form.TABLE:
        counts = {"ended_before": done.stopped.ended_before, "asked": done.stopped.asked, "killed": done.stopped.killed, "notes": list(done.notes)}
        memory = {gpu.index: {"before_mib": gpu.before_mib, "after_mib": gpu.after_mib} for gpu in done.stopped.memory.gpus or ()}
        show_document({"name": run.run_id, "state": str(run.state), "url": done.url, **counts, "gpu_memory": memory}, out)
        return
    before = "it had ended before; " if done.stopped.ended_before else ""
    free = "" if any(done.url in note for note in done.notes) else f", port {_port(done.url)} is free"
    known = [gpu for gpu in done.stopped.memory.gpus or () if gpu.before_mib is not None and gpu.after_mib is not None]
    memory_words = "".join(f", GPU {gpu.index}: {gpu.before_mib:,} -> {gpu.after_mib:,} MiB" for gpu in known)
    ended = f"{before}{done.stopped.asked} processes asked to end, {done.stopped.killed} killed, none left"
    print(f"{run.run_id}: stopped ({ended}{free}{memory_words})")  # noqa: T201
