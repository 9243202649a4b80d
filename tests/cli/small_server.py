"""A server that lists its model: `small_server.py MODEL HOST PORT ...`.

BEGIN: a file that it waits for; API_KEY: the key that it asks for; PIDFILE: where its pid is written; STUBBORN: it and a child do not hear TERM.
"""

import json
import os
import signal
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

MODEL, HOST, PORT, *_ = sys.argv[1:]
KEY = os.environ.get("API_KEY")


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        known = not KEY or self.headers.get("Authorization") == f"Bearer {KEY}"
        status, body = (200, {"data": [{"id": MODEL}]}) if known else (401, {})
        data = json.dumps(body).encode()
        self.send_response(200 if self.path == "/health" else status if self.path == "/v1/models" else 404)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


def main():
    sys.stdout.write(f"key {KEY}\n")
    if os.environ.get("PIDFILE"):
        Path(os.environ["PIDFILE"]).write_text(str(os.getpid()))
    if os.environ.get("BEGIN"):
        sys.stdout.write("waits\n")
        while not Path(os.environ["BEGIN"]).exists():
            time.sleep(0.02)
    if os.environ.get("STUBBORN"):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if os.fork() == 0:
            os.setsid()
            time.sleep(600)
    ThreadingHTTPServer((HOST, int(PORT)), Handler).serve_forever()


main()
