"""A program on another host that is, for whoever starts it here, a program here: `python -m pytest_gpueval.hosts.relay HOST -- COMMAND...`.

HOST is what the `described` of an SSH host, or of a pod, gives. The stdin and stdout of this process are those of the program there, byte by byte, and so is
what it says on stderr.
It ends when the program ends, with its exit code, or by its signal; with 255, as `ssh` does, where nobody knows how it ended. Once this process is gone,
however it went, the stdin of the supervisor there hangs up, and that ends the program and all that it started.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Sequence

from pytest_gpueval.errors import GpuevalError
from pytest_gpueval.processes.command import supervised_there

from .address import Kubernetes, parsed
from .kubernetes import KubernetesHost
from .remote import Program, RemoteHost, told
from .ssh import SshHost
from .workers import UNKNOWN

USAGE = "usage: python -m pytest_gpueval.hosts.relay HOST -- COMMAND..."
_CHUNK = 1 << 16


def opened(word: str) -> RemoteHost:
    """The host that a word describes. Raises UsageProblem."""
    return KubernetesHost.of(word) if isinstance(parsed(told(word)["address"]), Kubernetes) else SshHost.of(word)


def main(argv: Sequence[str]) -> int:
    """Carry bytes until either side ends. Returns the exit code, minus the signal where the program died by one."""
    if len(argv) < 3 or argv[1] != "--":
        _write(2, f"{USAGE}\n".encode())
        return 2
    try:
        with opened(argv[0]) as host, host.start(supervised_there(host.python, argv[2:]), on_stderr=lambda data: _write(2, data)) as program:
            threading.Thread(target=_feed, args=(program,), name="gpueval relay stdin", daemon=True).start()
            while data := program.read():
                _write(1, data)
            ended = program.end()
    except GpuevalError as error:
        _write(2, f"gpueval relay: {error}\n".encode())
        return UNKNOWN
    return UNKNOWN if ended.code is None else ended.code


def _feed(program: Program) -> None:
    while data := os.read(0, _CHUNK):
        if not program.write(data):
            return
    program.finish_stdin()


def _write(file: int, data: bytes) -> None:
    """All of it. Whoever read there may be gone: then so are we, and the other side finds out."""
    view = memoryview(data)
    try:
        while view:
            view = view[os.write(file, view) :]
    except BrokenPipeError:
        os._exit(UNKNOWN)


def leave(code: int) -> None:
    """End as the program did, and at once: the threads that still wait have nothing to say."""
    if code < 0:
        signal.signal(-code, signal.SIG_DFL) if -code not in {signal.SIGKILL, signal.SIGSTOP} else None
        os.kill(os.getpid(), -code)
    os._exit(code if code >= 0 else 128 - code)


if __name__ == "__main__":
    leave(main(sys.argv[1:]))
