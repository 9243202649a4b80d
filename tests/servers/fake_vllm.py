"""Stands in for vllm: `fake_vllm.py serve MODEL --host H --port P`. An engine in a session of its own holds shared memory and does not hear TERM.

FAKE_VLLM: where pids are written; FAKE_VLLM_MODE: `dies` at its first request, `refuses` it, `silent` never listens.
"""

import json
import mmap
import os
import signal
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

MODE = os.environ.get("FAKE_VLLM_MODE", "")


def engine(segment):
    os.setsid()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with Path(segment).open("w+b") as file:
        file.truncate(4096)
        held = mmap.mmap(file.fileno(), 4096)
    if os.fork() == 0:  # a worker
        os.setsid()
    Path(os.environ["FAKE_VLLM"], str(os.getpid())).touch()
    while True:
        time.sleep(60)
        held.flush()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.answer(200, {"object": "list", "data": [{"id": sys.argv[2]}]})

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        if MODE == "dies":
            os.write(1, b"RuntimeError: CUDA out of memory\n")
            os._exit(1)
        if MODE == "refuses":
            self.answer(400, {"error": {"message": "no chat template"}})
        else:
            self.answer(200, {"choices": [{"index": 0, "text": "ok", "finish_reason": "stop"}], "usage": {"prompt_tokens": 1, "completion_tokens": 1}})

    def answer(self, status, body):
        if self.headers.get("Authorization") != f"Bearer {os.environ.get('VLLM_API_KEY')}":
            status, body = 401, {"error": {"message": "unauthorized"}}
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


def main():
    options = dict(zip(sys.argv[3::2], sys.argv[4::2], strict=False))
    os.write(1, f"argv {sys.argv}\n".encode())
    os.write(1, f"key {os.environ.get('VLLM_API_KEY')}\n".encode())
    if MODE == "silent":
        time.sleep(600)
    segment = f"/dev/shm/psm_fake_{os.getpid()}"
    if os.fork() == 0:
        engine(segment)
    while len(list(Path(os.environ["FAKE_VLLM"]).iterdir())) < 2 or not Path(segment).exists():
        time.sleep(0.01)
    Path(os.environ["VLLM_RPC_BASE_PATH"], "socket").touch()
    ThreadingHTTPServer((options["--host"], int(options["--port"])), Handler).serve_forever()


main()
