"""HTTP as the hub speaks it: one request read, faults applied, one answer written; and a listener that leaves no thread behind."""

from __future__ import annotations

import io
import json
import re
import socket
import threading
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO
from urllib.parse import parse_qs, unquote, urlsplit

from tests.hub.journal import Request
from tests.hub.store import Refusal

if TYPE_CHECKING:
    from tests.hub.server import FakeHub

PIECE = 1 << 18
IDLE_S = 60.0
LINGER_S = 2.0


class Dropped(Exception):
    """The connection is closed without another word."""


class Exchange(BaseHTTPRequestHandler):
    """One connection; endpoints get it as their first argument, once for each request."""

    protocol_version = "HTTP/1.1"
    server_version = "tests.hub"
    timeout = IDLE_S
    disable_nagle_algorithm = True
    server: Listener

    @property
    def hub(self) -> FakeHub:
        return self.server.hub

    def log_message(self, *_: object) -> None:
        """The journal says more."""

    def answer(self) -> None:
        address = urlsplit(self.path)
        self.asked = unquote(self.path)
        self.query = {key: values[0] for key, values in parse_qs(address.query, keep_blank_values=True).items()}
        self.head_sent = self.unread = False
        asking = Request(
            self.command,
            self.asked,
            range=self.headers.get("Range"),
            user=self.hub.name_of(self.headers.get("Authorization")),
            user_agent=self.headers.get("User-Agent", ""),
            origin=self.server.origin,
        )
        self.number = self.hub.journal.open(asking)
        try:
            self._answer(address.path)
        except (Dropped, ConnectionError, TimeoutError):
            self.drop()
        except Exception:  # noqa: BLE001 - a fault of the stand-in itself: said at its end
            self.hub.broken.append(traceback.format_exc())
            self.drop() if self.head_sent else self.refuse(Refusal(500, "the stand-in failed, see its end"))

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_PATCH = answer  # noqa: N815 - the base class's names

    def _answer(self, path: str) -> None:
        try:
            self.body = self._read()
            self._meet_faults()
            for methods, pattern, endpoint in self.server.routes:
                match = pattern.fullmatch(path)
                if match and self.command in methods:
                    return endpoint(self, **{name: unquote(value) for name, value in match.groupdict().items() if value is not None})
            raise Refusal(404, f"the stand-in does not serve {self.command} {path}")
        except Refusal as refusal:
            self.refuse(refusal)

    def _meet_faults(self) -> None:
        stall = self.hub.faults.take("stall", self.command, self.asked)
        if stall and self.hub.closing.wait(stall.seconds):
            raise Dropped
        fail = self.hub.faults.take("fail", self.command, self.asked)
        if fail:
            raise Refusal(fail.status, fail.message, headers=fail.headers)

    def _read(self) -> bytes:
        """The request's body, bounded. Raises Refusal."""
        limit = self.hub.max_body_bytes
        try:
            if "chunked" in self.headers.get("Transfer-Encoding", "").lower():
                return self._read_chunks(limit)
            length = int(self.headers.get("Content-Length") or 0)
        except ValueError:
            self.close_connection = True
            raise Refusal(400, "a body of no clear length") from None
        if length > limit:
            raise self._too_much(f"a body of {length:,} bytes; the stand-in takes {limit:,}")
        cut = self.hub.faults.take("drop", self.command, self.asked, length=length)
        if cut:
            self._exactly(cut.after_bytes)
            raise Dropped
        return self._exactly(length)

    def _read_chunks(self, limit: int) -> bytes:
        got = io.BytesIO()
        while size := int(self.rfile.readline(64).split(b";")[0], 16):
            if got.tell() + size > limit:
                raise self._too_much(f"a body of over {limit:,} bytes")
            got.write(self._exactly(size))
            self.rfile.readline(64)
        while self.rfile.readline(1024).strip():  # trailers
            pass
        if self.hub.faults.take("drop", self.command, self.asked, length=got.tell()):
            raise Dropped
        return got.getvalue()

    def _too_much(self, message: str) -> Refusal:
        self.close_connection = self.unread = True
        return Refusal(413, message)

    def _exactly(self, size: int) -> bytes:
        data = self.rfile.read(size) if size else b""
        if len(data) < size:
            raise Dropped
        return data

    def json(self) -> Any:
        try:
            return json.loads(self.body)
        except ValueError:
            raise Refusal(400, "not JSON") from None

    def send_json(self, value: object, status: int = 200, headers: Mapping[str, str] | None = None) -> None:
        self.send(status, json.dumps(value).encode(), headers)

    def send(self, status: int, body: bytes = b"", headers: Mapping[str, str] | None = None, media_type: str = "application/json") -> None:
        self._head(status, len(body), media_type, headers or {})
        self._write(io.BytesIO(body), len(body))

    def send_file(self, path: Path, headers: Mapping[str, str]) -> None:
        """A file, or the range of it that was asked for. Raises Refusal."""
        size = path.stat().st_size
        first, last, status = _range(self.headers.get("Range"), size)
        extra = {"Accept-Ranges": "bytes", **headers}
        if status == 206:
            extra["Content-Range"] = f"bytes {first}-{last}/{size}"
        length = last - first + 1
        wrong = size // 2 if self.command != "HEAD" and self.hub.faults.take("corrupt", self.command, self.asked) else None
        self._head(status, length, "application/octet-stream", extra)
        with path.open("rb") as file:
            file.seek(first)
            self._write(file, length, wrong=None if wrong is None else wrong - first)

    def refuse(self, refusal: Refusal) -> None:
        headers = {"X-Request-Id": f"Root=1-{self.number:08d}", **refusal.headers}
        if refusal.message:
            headers["X-Error-Message"] = refusal.message
        if refusal.code:
            headers["X-Error-Code"] = refusal.code
        try:
            self.send_json({"error": refusal.message} if refusal.message else {}, refusal.status, headers)
        except Dropped:
            self.drop()
        if self.unread:
            self._linger()

    def _linger(self) -> None:
        """Take what is still sent, within bounds: a connection closed on unread bytes is reset, and its client may never see the answer."""
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_WR)
            self.connection.settimeout(LINGER_S)
            for _ in range(4 * self.hub.max_body_bytes // PIECE + 1):
                if not self.connection.recv(PIECE):
                    break

    def drop(self) -> None:
        self.close_connection = True
        _close(self.connection)

    def _head(self, status: int, length: int, media_type: str, headers: Mapping[str, str]) -> None:
        self.hub.journal.note(self.number, status=status)
        self.head_sent = True
        self.send_response(status)
        for name, value in {"Content-Type": media_type, "Content-Length": str(length), **headers}.items():
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()

    def _write(self, body: BinaryIO, length: int, *, wrong: int | None = None) -> None:
        """`length` bytes of `body`, the one at `wrong` inverted, cut or held back where a rule says so."""
        if self.command == "HEAD":
            return
        hold = self.hub.faults.take("hold", self.command, self.asked, length=length)
        cut = hold or self.hub.faults.take("cut", self.command, self.asked, length=length)
        left = cut.after_bytes if cut else length
        place = 0
        while left:
            piece = bytearray(body.read(min(PIECE, left)))
            if wrong is not None and 0 <= wrong - place < len(piece):
                piece[wrong - place] ^= 0xFF
            self.hub.journal.note(self.number, sent=len(piece))
            self.wfile.write(piece)
            place += len(piece)
            left -= len(piece)
        if hold:
            self.hub.closing.wait(hold.seconds)
        if cut:
            raise Dropped


def _range(header: str | None, size: int) -> tuple[int, int, int]:
    """First byte, last byte and status; several ranges at once are answered by the whole, as servers may. Raises Refusal."""
    match = re.fullmatch(r"bytes=(\d*)-(\d*)", header or "")
    if not match or match.groups() == ("", ""):
        return 0, size - 1, 200
    if match[1]:
        first, last = int(match[1]), min(size - 1, int(match[2]) if match[2] else size - 1)
    else:
        first, last = max(0, size - int(match[2])), size - 1
    if first >= size or last < first:
        raise Refusal(416, "The range cannot be satisfied", headers={"Content-Range": f"bytes */{size}"})
    return first, last, 206


def _close(connection: socket.socket) -> None:
    with suppress(OSError):  # it has gone already
        connection.shutdown(socket.SHUT_RDWR)


Route = tuple[tuple[str, ...], re.Pattern[str], Callable[..., None]]


class Listener(HTTPServer):
    """Serves one origin, a thread for each of at most `hub.max_connections` connections; one more is answered 503."""

    request_queue_size = 64

    def __init__(self, hub: FakeHub, origin: str, routes: list[Route]):
        super().__init__(("127.0.0.1", 0), Exchange)
        self.hub, self.origin, self.routes = hub, origin, routes
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self._connections: dict[threading.Thread, socket.socket] = {}
        self._lock = threading.Lock()
        self._loop = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, name=f"tests.hub {origin}", daemon=True)
        self._loop.start()

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            room = len(self._connections) < self.hub.max_connections
            if room:
                thread = threading.Thread(target=self._serve, args=(request, client_address), name=f"tests.hub {self.origin} connection", daemon=True)
                self._connections[thread] = request
        if room:
            thread.start()
        else:
            self.hub.journal.open(Request("-", "too many connections", status=503, origin=self.origin))
            request.sendall(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            self.shutdown_request(request)

    def _serve(self, request: Any, client_address: Any) -> None:
        try:
            with suppress(OSError):  # the client hung up between two requests
                self.finish_request(request, client_address)
        finally:
            with self._lock:
                del self._connections[threading.current_thread()]
            self.shutdown_request(request)

    def close(self, timeout_s: float = 10.0) -> None:
        """Raises RuntimeError where a thread does not end."""
        self.shutdown()
        self.server_close()
        with self._lock:
            live = dict(self._connections)
        for connection in live.values():
            _close(connection)
        for thread in (self._loop, *live):
            thread.join(timeout_s)
            if thread.is_alive():
                raise RuntimeError(f"{thread.name} does not end")
