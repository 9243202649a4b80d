"""Forks supervisors on request: one that is forked costs a fraction of one that is started, which needs an interpreter of its own.

    python -I -S supervisor_server.py SOCKET

A script of its own beside supervisor.py, which stays the one file that another host needs. `SOCKET` is the descriptor of a connected stream; whoever
holds its other end asks, one request at a time, and gets one answer for each:

    request   8 bytes, the length of what follows, with the descriptors of `Files`; then JSON: [the supervisor's arguments, its program's environment]
    answer    8 bytes, the supervisor's pid with a pidfd of it, or minus the errno why there is none
    go        one byte through `Files.told`: only now the supervisor begins. Who does not get the answer cannot tell whether there is a supervisor, and
              must be able to ask somebody else without the program running twice
    told      8 bytes through `Files.told`, the exit code or minus the signal, just before the supervisor ends. Without a word it was killed

We have one thread and import nothing that starts others, so Python may run in what we fork. Of ours, what is forked keeps nothing: not a descriptor, and a
session, markers and signal handlers of its own. We end when the other end of the socket is gone. Supervisors that still run then notice by their own stdin.
"""

from __future__ import annotations

import array
import errno
import json
import os
import select
import signal
import socket
import struct
import sys
from pathlib import PurePath
from typing import NamedTuple, NoReturn

if __name__ == "__main__":
    sys.path.append(str(PurePath(__file__).parents[2]))

from pytest_gpueval.processes import supervisor

NUMBER = struct.Struct("=q")
# Where what is forked has these two, after its stdin, stdout and stderr.
_TOLD, _DIRECTORY = 3, 4


class Files(NamedTuple):
    """The descriptors that come with a request, in this order."""

    stdin: int
    stdout: int
    stderr: int
    directory: int
    told: int


def receive(stream: socket.socket, most_files: int) -> tuple[int, list[int]]:
    """One number and the descriptors that came with it. Raises EOFError if the other end is gone."""
    size = array.array("i").itemsize
    data, ancillary, _, _ = stream.recvmsg(NUMBER.size, socket.CMSG_LEN(most_files * size), socket.MSG_CMSG_CLOEXEC)
    files = array.array("i")
    for level, kind, content in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            files.frombytes(content[: len(content) - len(content) % size])
    while len(data) < NUMBER.size:
        more = stream.recv(NUMBER.size - len(data))
        if not more:
            raise EOFError
        data += more
    return NUMBER.unpack(data)[0], list(files)


def send(stream: socket.socket, number: int, files: list[int]) -> None:
    """One number, and descriptors. Raises OSError."""
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", files))] if files else []
    sent = stream.sendmsg([NUMBER.pack(number)], rights)
    stream.sendall(NUMBER.pack(number)[sent:])


def _request(stream: socket.socket) -> tuple[list[str], dict[str, str], list[int]]:
    """The next one. Raises EOFError."""
    length, files = receive(stream, len(Files._fields))
    content = bytearray(length)
    view = memoryview(content)
    while view:
        count = stream.recv_into(view)
        if not count:
            raise EOFError
        view = view[count:]
    argv, environment = json.loads(content)
    return argv, environment, files


def _be_supervisor(argv: list[str], environment: dict[str, str], files: Files) -> NoReturn:
    """In what was forked: do what a supervisor does that is started by its path."""
    code = 70
    try:
        _settle(files)
        with socket.socket(fileno=_TOLD) as told:
            if told.recv(1):
                code = _supervised(argv, environment)
                told.sendall(NUMBER.pack(code))
    except OSError:  # whoever asked is gone: there is nobody to tell
        pass
    finally:
        os._exit(code & 0xFF)


def _supervised(argv: list[str], environment: dict[str, str]) -> int:
    try:
        os.chdir(_DIRECTORY)
    except OSError as error:
        supervisor.say(f"the folder of {argv[-1]}: {error.strerror}")
        return 126
    os.close(_DIRECTORY)
    return supervisor.run(argv, environment)


def _settle(files: Files) -> None:
    """Have the five under their numbers, and nothing else. None of them came with one of the first three: there the server's own are open."""
    for number, file in enumerate((files.stdin, files.stdout, files.stderr)):
        os.dup2(file, number)
    above = max(int(name) for name in os.listdir("/proc/self/fd")) + 1
    spare = [os.dup(file) for file in (files.told, files.directory)]  # they may have each other's number
    above = max(above, *(file + 1 for file in spare))
    for number, file in zip((_TOLD, _DIRECTORY), spare, strict=True):
        if number != file:
            os.dup2(file, number, inheritable=False)
    os.closerange(_DIRECTORY + 1, above)


class _Server:
    def __init__(self, stream: socket.socket) -> None:
        self._stream = stream
        self._children: dict[int, int] = {}
        self._poller = select.poll()
        self._poller.register(stream, select.POLLIN)

    def serve(self) -> None:
        """Until the other end is gone."""
        try:
            while True:
                for file, _ in self._poller.poll():
                    if file in self._children:
                        self._reap(file)
                    else:
                        self._answer()
        except (EOFError, ConnectionError):
            return

    def _reap(self, handle: int) -> None:
        self._poller.unregister(handle)
        os.waitpid(self._children.pop(handle), 0)
        os.close(handle)

    def _answer(self) -> None:
        argv, environment, received = _request(self._stream)
        try:
            files = Files(*received)
            handle = self._fork(argv, environment, files)
        except TypeError:  # the limit of open files: the kernel drops what is too much
            send(self._stream, -errno.EMFILE, [])
        except OSError as error:
            send(self._stream, -(error.errno or errno.EIO), [])
        else:
            send(self._stream, self._children[handle], [handle])
        finally:
            for file in received:
                os.close(file)

    def _fork(self, argv: list[str], environment: dict[str, str], files: Files) -> int:
        """A pidfd of a supervisor that waits for its `go`. Raises OSError."""
        pid = os.fork()
        if pid == 0:
            _be_supervisor(argv, environment, files)
        try:
            handle = os.pidfd_open(pid)
        except OSError:
            os.kill(pid, signal.SIGKILL)  # it waits, and is ours to reap: nobody else can have its pid
            os.waitpid(pid, 0)
            raise
        self._children[handle] = pid
        self._poller.register(handle, select.POLLIN)
        return handle


def main(file: int) -> None:
    """Serve on this descriptor."""
    os.set_inheritable(file, False)
    for number in (signal.SIGINT, signal.SIGCHLD):  # what Python made of the one, and whoever started us of the other
        signal.signal(number, signal.SIG_DFL)
    with socket.socket(fileno=file) as stream:
        _Server(stream).serve()


if __name__ == "__main__":
    main(int(sys.argv[1]))
