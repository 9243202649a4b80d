"""Asks a host for its GPUs, and for a place where a session's runs are written there; both are ours until we hang up."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from queue import Empty, Queue
from typing import Any, Final

from pytest_gpueval.errors import AccessDenied, Conflict, GpuevalError, RuntimeFault, StorageError, Unreachable, UsageProblem

from .host import Host
from .workers import below

# Beyond what it is told to wait for GPUs: connecting, starting Python, and looking at GPUs that seem busy.
_ANSWER_S: Final = 90.0
_END_S: Final = 15.0
_KINDS: Final = {error.exit_code: error for error in (UsageProblem, Unreachable, AccessDenied, Conflict)}


class Keeper:
    """What a host keeps for a session."""

    def __init__(self, process: subprocess.Popen[bytes], have: Mapping[str, Any]) -> None:
        self._process = process
        self.have = have

    def close(self, wait_s: float = _END_S) -> None:
        """Give it all back; again is harmless. A host that has not done so after `wait_s` will when it finds that we are gone."""
        with suppress(OSError):
            if self._process.stdin is not None:
                self._process.stdin.close()
        try:
            self._process.wait(wait_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def keep(
    host: Host,
    python: Sequence[str],
    directory: str,
    *,
    place: str | None,
    session: str,
    gpus: str,
    wait_s: float,
    shared: bool,
    on_wait: Callable[[str], None],
    on_start: Callable[[Keeper], None] = lambda _: None,
) -> Keeper:
    """Lease GPUs of a host, as `--gpus` says them, by the interpreter that has this package there, in the directory that has the repository.

    The directory for the session's runs is made in `place`, or below that of the repository. `on_start` hears of the keeper before it has anything.

    Raises Unreachable, AccessDenied, UsageProblem, Conflict, StorageError, RuntimeFault.
    """
    command = host.worker_command(below(directory, [*python, "-m", "pytest_gpueval.gpus.keeper"]))
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)  # noqa: S603 - an argv list
    lines: Queue[bytes] = Queue()
    said: list[bytes] = []
    threading.Thread(target=_read, args=(process.stdout, lines.put), name=f"gpueval keeper {host.name}", daemon=True).start()
    errors = threading.Thread(target=_read, args=(process.stderr, said.append), name=f"gpueval keeper {host.name} stderr", daemon=True)
    errors.start()
    keeper = Keeper(process, {})
    try:
        on_start(keeper)
        with suppress(BrokenPipeError):  # it has ended, and says why
            assert process.stdin is not None  # noqa: S101 - a pipe
            process.stdin.write(json.dumps({"place": place, "session": session, "gpus": gpus, "wait_s": wait_s, "shared": shared}).encode() + b"\n")
            process.stdin.flush()
        keeper.have = _answer(host.name, lines, _ANSWER_S + wait_s, on_wait)
    except _Silent:
        process.kill()
        process.wait()
        errors.join(_END_S)
        keeper.close()
        raise _why(host.name, python, directory, b"".join(said).decode("utf-8", "replace").strip(), process.returncode) from None
    except BaseException:
        keeper.close()
        raise
    return keeper


class _Silent(Exception):
    """It ended, or took too long, without an answer."""


def _answer(name: str, lines: Queue[bytes], limit_s: float, on_wait: Callable[[str], None]) -> Mapping[str, Any]:
    deadline = time.monotonic() + limit_s
    while True:
        try:
            line = lines.get(timeout=max(0.0, deadline - time.monotonic()))
        except Empty:
            raise _Silent from None
        if not line:
            raise _Silent
        try:
            told = json.loads(line)
        except ValueError:
            continue  # a profile that prints
        if not isinstance(told, dict):
            continue
        if "wait" in told:
            on_wait(f"{name}: waiting: {told['wait']}")
        elif "error" in told:
            raise _KINDS.get(told["error"]["exit_code"], RuntimeFault)(f"{name}: {told['error']['text']}")
        elif "have" in told:
            have: dict[str, Any] = told["have"]
            return have


def _why(name: str, python: Sequence[str], directory: str, said: str, code: int) -> GpuevalError:
    last = said.splitlines()[-1].removeprefix("gpueval relay: ").removeprefix(f"{name}: ") if said else f"exit code {code}"
    if "No module named" in said and "pytest_gpueval" in said:
        return UsageProblem(f"{name}: {' '.join(python)} has no pytest-gpueval in {directory}. `gpueval hosts bootstrap {name}` installs it.")
    if "can't cd to" in said or "No such file or directory" in said or "not found" in said:
        return UsageProblem(
            f"{name}: {last}\nThe repository has to be in {directory} there, and its interpreter is {' '.join(python)}: see workdir and python in hosts.toml."
        )
    if "No space left" in said:
        return StorageError(f"{name}: {last}")
    if code == 255:
        return Unreachable(f"{name}: {last}")
    return RuntimeFault(f"{name}: it did not say which GPUs it has: {last}")


def _read(stream: Any, take: Callable[[bytes], None]) -> None:
    with suppress(OSError), stream:  # what the process has left behind may keep the other end: nobody but this thread waits for that
        for line in stream:
            take(line)
    take(b"")  # its end
