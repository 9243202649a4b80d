"""A TCP proxy on loopback that is a bad link: it is slow, cuts, stalls, or cuts after so many bytes."""

import select
import socket
import threading
import time
from contextlib import contextmanager

from pytest_gpueval.hosts.link import Patience


class Link:
    """Connections to `port` go on to the server. What passes is counted: `sent` to the server, `came` from it."""

    def __init__(self, server_port):
        self._server_port = server_port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.sent = self.came = self.connections = 0
        self._pairs = []
        self._stalled = threading.Event()
        self._most_to_come = self._most_to_go = None
        self._rate, self._free_at = None, 0.0
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def stall(self):
        """From now on nothing passes, and nobody is told: TCP itself goes on to confirm what is sent."""
        self._stalled.set()

    def stall_after(self, count):
        """Stall once so many more bytes have gone to the server."""
        self._most_to_go = self.sent + count

    @property
    def stalled(self):
        return self._stalled.is_set()

    def flow(self):
        """What was held back passes, and all else does again."""
        self._stalled.clear()

    def slow(self, bytes_per_s):
        """From now on so much passes in a second, both directions and all connections together. None takes it back."""
        self._rate = bytes_per_s

    def cut(self):
        """End all connections; new ones are welcome."""
        with self._lock:
            pairs, self._pairs = self._pairs, []
        for end in (end for pair in pairs for end in pair):
            with _gone():
                end.shutdown(socket.SHUT_RDWR)  # not close: a thread waits on it

    def cut_after(self, count):
        """Cut once so many more bytes have come from the server. None takes it back."""
        self._most_to_come = None if count is None else self.came + count

    def close(self):
        """For good."""
        with _gone():
            self._listener.shutdown(socket.SHUT_RDWR)
        self._threads[0].join()
        self._listener.close()
        self.flow()
        self.cut()
        for thread in self._threads:
            thread.join()

    def _accept(self):
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self._server_port))
            with self._lock:
                self._pairs.append((client, server))
                self.connections += 1
            self._threads.append(threading.Thread(target=self._serve, args=(client, server), daemon=True))
            self._threads[-1].start()

    def _serve(self, client, server):
        with client, server:
            up = threading.Thread(target=self._carry, args=(client, server, "sent"), daemon=True)
            up.start()
            self._carry(server, client, "came")
            up.join()

    def _carry(self, source, target, name):
        while data := self._read(source):
            self._take_its_time(len(data))
            while self._stalled.is_set():
                select.select([], [], [], 0.01)
            with self._lock:
                setattr(self, name, getattr(self, name) + len(data))
            if name == "sent" and self._most_to_go is not None and self.sent >= self._most_to_go:
                self._most_to_go = None
                self.stall()
            if name == "came" and self._most_to_come is not None and self.came >= self._most_to_come:
                self._most_to_come = None
                self.cut()
                return
            try:
                target.sendall(data)
            except OSError:
                return
        with _gone():
            target.shutdown(socket.SHUT_WR)

    def _read(self, source):
        try:
            return source.recv(65536 if self._rate is None else 1500)
        except OSError:
            return b""

    def _take_its_time(self, count):
        """Wait for the turn of so many bytes: the link is one pipe."""
        if self._rate is None:
            return
        with self._lock:
            turn = max(time.monotonic(), self._free_at)
            self._free_at = turn + count / self._rate
            until = self._free_at
        select.select([], [], [], max(0.0, until - time.monotonic()))


@contextmanager
def _gone():
    try:
        yield
    except OSError:
        return


# A dead link is given up soon. Servers of a busy machine answer within that, or a test that should pass says so.
SHORT = Patience(connect_s=60, keepalive_s=1, dead_s=4)


@contextmanager
def bad_link(server_port):
    link = Link(server_port)
    try:
        yield link
    finally:
        link.close()
