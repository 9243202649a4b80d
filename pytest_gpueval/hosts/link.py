"""One SSH connection: opened, checked, kept under watch. The only module, with `ssh_exchange`, that imports paramiko."""

from __future__ import annotations

import logging
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import paramiko
from paramiko.common import MSG_CHANNEL_CLOSE, MSG_CHANNEL_REQUEST

from pytest_gpueval.errors import AccessDenied, Unreachable

from . import host_keys, ssh_login
from .ssh_config import Settings

# What paramiko raises when a connection is not what it was.
BROKEN = (paramiko.SSHException, OSError, EOFError)
# When we ask for new keys: after 2**32 blocks of AES (RFC 4344, 3.2), as OpenSSH does, and not after 512 MiB as paramiko: a channel whose end comes after
# paramiko asked, and before it was answered, makes it wait for itself.
_REKEY_BYTES = 1 << 36
# How long a server may take to notice that a session has ended.
_LET_GO_S = 10.0
_AGAIN_S = 0.05
# paramiko logs every broken connection with a traceback; without a handler Python prints that on stderr.
logging.getLogger("paramiko").addHandler(logging.NullHandler())


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds to wait: for a connection and each of its steps, of silence before the server is asked whether it lives, and of silence until it is given up."""

    connect_s: float = 15.0
    keepalive_s: float = 5.0
    dead_s: float = 20.0


class Watched:
    """A socket that counts how often something came. paramiko reads and writes through it; a channel of another connection will do as well."""

    def __init__(self, sock: Any, on_close: Callable[[], None] | None = None) -> None:
        self._sock = sock
        self._on_close = on_close
        self.heard = 0

    def recv(self, size: int) -> bytes:
        """As a socket does."""
        data: bytes = self._sock.recv(size)
        self.heard += 1
        return data

    def send(self, data: bytes) -> int:
        """As a socket does."""
        sent: int = self._sock.send(data)
        return sent

    def settimeout(self, seconds: float | None) -> None:
        """As a socket does."""
        self._sock.settimeout(seconds)

    def break_off(self) -> None:
        """Wake whoever reads or writes here; they find it ended."""
        with suppress(*BROKEN):  # it is gone already
            self._sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """As a socket does."""
        with suppress(*BROKEN):  # a channel says goodbye, to a connection that may be gone
            self._sock.close()
        if self._on_close is not None:
            on_close, self._on_close = self._on_close, None
            on_close()

    @property
    def _closed(self) -> bool:  # paramiko asks a socket so
        return bool(self._sock._closed)  # noqa: SLF001 - the same


def _request(channel: paramiko.Channel, message: paramiko.Message) -> None:
    """Note the signal that a program died by, which paramiko lets go: without it a killed program and a broken link look alike."""
    place = message.packet.tell()
    if message.get_text() == "exit-signal":
        message.get_boolean()
        channel.gpueval_signal = message.get_text()
    message.packet.seek(place)
    _handle(channel, message)


def _close(channel: paramiko.Channel, message: paramiko.Message) -> None:
    """Note that the server has closed a session: paramiko closes those of a link that breaks in the same way."""
    channel.gpueval_closed = True
    _handle_close(channel, message)


# A private name of paramiko; tests/hosts/test_ssh.py says if it goes.
_HANDLERS: Mapping[int, Any] = paramiko.Transport._channel_handler_table  # noqa: SLF001
_handle, _handle_close = _HANDLERS[MSG_CHANNEL_REQUEST], _HANDLERS[MSG_CHANNEL_CLOSE]


class _Transport(paramiko.Transport):  # type: ignore[misc] # paramiko has no types
    _channel_handler_table: Mapping[int, Any] = MappingProxyType({**_HANDLERS, MSG_CHANNEL_REQUEST: _request, MSG_CHANNEL_CLOSE: _close})


class Link:
    """An open connection whose server has proved who it is, and knows who we are.

    A watch asks a silent server whether it is there, and gives it up after `dead_s` of silence: whoever waits for something wakes then. Silence is counted in
    the watch's own ticks, so that a process which was stopped for an hour does not take that for the server's fault.
    """

    def __init__(self, name: str, settings: Settings, *, host_key: str | None = None, patience: Patience | None = None, through: Link | None = None) -> None:
        """Connect. `through` carries this connection, and ends with it. Raises Unreachable and AccessDenied."""
        self.name = name
        self._place = f"{settings.user}@{settings.host}:{settings.port}"
        self._patience = patience or Patience()
        self._through = through
        self._why: str | None = None
        self._ended = threading.Event()
        self._ask = threading.Event()
        self._socket = Watched(*self._reach(settings))
        try:
            self._transport = self._shake_hands(settings, host_key)
            ssh_login.log_in(self._transport, settings, f"{name} ({self._place})")
        except BaseException:
            self._socket.close()
            raise
        for work in (self._watch, self._keep_asking):
            threading.Thread(target=work, name=f"gpueval ssh {work.__name__.strip('_')}", daemon=True).start()

    @property
    def alive(self) -> bool:
        """Whether it is open, as far as is known."""
        return self._transport.is_active() and self._why is None

    def channel(self, timeout_s: float | None = None) -> paramiko.Channel:
        """A new session on it. Raises Unreachable."""
        limit = time.monotonic() + _LET_GO_S
        while True:
            try:
                return self._transport.open_session(timeout=timeout_s or self._patience.connect_s)
            except paramiko.ChannelException as error:
                if time.monotonic() >= limit:
                    raise Unreachable(
                        f"{self.name}: the server opens no more sessions on one connection: {error.text}. Its MaxSessions may be too small."
                    ) from None
                time.sleep(_AGAIN_S)  # one that has ended counts there until its process is collected, which nobody announces
            except BROKEN as error:
                self.give_up(error)
                raise self.broken() from None

    def tunnel(self, host: str, port: int) -> paramiko.Channel:
        """A way on from there to another server. Raises Unreachable."""
        try:
            return self._transport.open_channel("direct-tcpip", (host, port), ("127.0.0.1", 0), timeout=self._patience.connect_s)
        except paramiko.ChannelException as error:
            raise Unreachable(f"{self.name}: {host}:{port} cannot be reached from there: {error.text}") from None
        except BROKEN as error:
            raise self.broken(error) from None

    def give_up(self, error: BaseException) -> None:
        """It is of no use any more: something was to go over it, and could not. Whoever comes next makes another one."""
        self._end(_text(error) if str(error) else "the connection broke")

    def broken(self, error: BaseException | None = None) -> Unreachable:
        """What to raise once something failed on this connection."""
        why = self._why or (f"{error}" if error is not None and str(error) else "the connection broke")
        return Unreachable(f"{self.name} ({self._place}): {why}.")

    def close(self) -> None:
        """End it; again is harmless."""
        self._end(None)

    def _end(self, why: str | None) -> None:
        self._why = self._why or why
        self._ended.set()
        self._ask.set()
        if why is not None:  # nobody would read a farewell, and to write one may block
            self._socket.break_off()
        self._transport.close()
        self._socket.close()

    def _reach(self, settings: Settings) -> tuple[Any, Callable[[], None] | None]:
        """Something to talk through, and what to do once it is closed."""
        if self._through is not None:
            return self._through.tunnel(settings.host, settings.port), self._through.close
        if settings.proxy_command:
            return _proxy(settings.proxy_command)
        try:
            sock = socket.create_connection((settings.host, settings.port), timeout=self._patience.connect_s)
        except OSError as error:
            raise Unreachable(f"{self.name} ({self._place}): no connection: {error.strerror or error}.") from None
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux: what was sent and nobody confirms ends the connection
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(self._patience.dead_s * 1000))
        return sock, None

    def _shake_hands(self, settings: Settings, host_key: str | None) -> _Transport:
        """Until keys are exchanged and the server's is the one that is known."""
        known = host_keys.known(settings)
        try:
            transport = _Transport(self._socket)
            transport.packetizer.REKEY_BYTES = _REKEY_BYTES
            options = transport.get_security_options()
            options.ciphers = tuple(sorted(options.ciphers, key=lambda cipher: "gcm" not in cipher))  # the fastest ones: no MAC besides
            options.key_types = host_keys.preferred(options.key_types, known)
            transport.banner_timeout = transport.handshake_timeout = transport.auth_timeout = self._patience.connect_s
            transport.daemon = True
            transport.start_client(timeout=self._patience.connect_s)
            key = transport.get_remote_server_key()
        except BROKEN as error:
            raise Unreachable(f"{self.name} ({self._place}): what answers there does not speak SSH as it should: {_text(error)}.") from None
        problem = host_keys.objection(f"{self.name} ({self._place})", settings, host_keys.Key(key.get_name(), key.asbytes()), known, host_key)
        if problem is not None:
            transport.close()
            raise AccessDenied(problem)
        return transport

    def _watch(self) -> None:
        patience, heard, silent_s = self._patience, -1, 0.0
        tick_s = min(1.0, patience.keepalive_s / 2)
        while not self._ended.wait(tick_s):
            if not self._transport.is_active():
                self._end("the connection broke")
                return
            if self._socket.heard != heard:
                heard, silent_s = self._socket.heard, 0.0
                continue
            silent_s += tick_s
            if silent_s >= patience.keepalive_s:
                self._ask.set()
            if silent_s >= patience.dead_s:
                self._end(f"it has not answered for {patience.dead_s:g} s; what runs there may still run")
                return

    def _keep_asking(self) -> None:
        """A thread of its own, since paramiko waits for the answer. What the answer is does not matter."""
        while True:
            self._ask.wait()
            self._ask.clear()
            if self._ended.is_set():
                return
            try:
                self._transport.global_request("keepalive@openssh.com", wait=True)
            except BROKEN:
                return  # the watch sees the end


def _text(error: BaseException) -> str:
    return str(error) or type(error).__name__


def _proxy(command: str) -> tuple[socket.socket, Callable[[], None]]:
    """A socket whose other end is the stdin and stdout of ProxyCommand, which ssh_config defines to be a shell's text."""
    ours, theirs = socket.socketpair()
    try:
        process = subprocess.Popen(["/bin/sh", "-c", f"exec {command}"], stdin=theirs.fileno(), stdout=theirs.fileno(), start_new_session=True)  # noqa: S603 - the user's own text
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()

    def end() -> None:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    return ours, end
