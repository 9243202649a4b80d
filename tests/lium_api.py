"""The HTTP API that the real lium talks to, as much of it as renting a pod takes, on loopback."""

import json
import os
import sys
import threading
import uuid
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

KEY = "canary-7f3a91"
TEMPLATE = {"id": str(uuid.UUID(int=9)), "name": "PyTorch", "docker_image": "pytorch/pytorch", "docker_image_tag": "2.8", "category": "PYTORCH"}
VOLUMES = [{"id": str(uuid.UUID(int=7)), "name": "my_volume", "description": "all that is kept", "created_at": "2026-01-31T12:00:00Z"}]
SPECS = {
    "gpu": {"count": 8, "details": [{"name": "NVIDIA H100 80GB HBM3", "capacity": 81559}]},
    "ram": {"total": 2 << 30, "free": 2 << 30},
    "hard_disk": {"total": 4 << 30, "free": 3 << 30},
    "cpu": {"count": 64},
}


def node(number, count, price):
    return {
        "id": str(uuid.UUID(int=number)),
        "machine_name": "NVIDIA H100 80GB HBM3",
        "gpu_count": count,
        "available_gpu_count": count,
        "price_per_gpu": price,
        "location": {"country": "Netherlands", "country_code": "NL"},
        "specs": SPECS,
        "status": "available",
        "executor_ip_address": "203.0.113.7",
    }


@dataclass
class Api:
    """`rent`: ok; dead (nobody answers, and a pod is seen only once it was asked for twice); nothing (no answer, no pod); poor. `posts`: all that changes."""

    ssh: str = "ssh root@127.0.0.1 -p 1"
    rent: str = "ok"
    url: str = ""
    nodes: list = field(default_factory=lambda: [node(1, 8, 2.5), node(2, 8, 2.0), node(3, 1, 1.0)])
    pods: list = field(default_factory=list)
    posts: list = field(default_factory=list)
    ends: dict = field(default_factory=dict)

    def rents(self):
        return [body for path, body in self.posts if path.endswith("/rent")]

    def pod(self, name, machine):
        return {
            "id": str(uuid.UUID(int=1000 + len(self.posts))),
            "pod_name": name,
            "status": "RUNNING",
            "ssh_connect_cmd": self.ssh,
            "created_at": "2026-01-31T12:00:00Z",
            "executor": machine,
            "price": machine["price_per_gpu"] * machine["gpu_count"],
            "gpu_count": machine["gpu_count"],
            "template": TEMPLATE,
        }

    def get(self, path, query):
        listed = {"/executors": self.nodes, "/volumes": VOLUMES, "/templates": [TEMPLATE], "/machines": [{"name": "NVIDIA H100 80GB HBM3"}]}
        if path == "/executors" and "gpu_count_gte" in query:
            return [one for one in self.nodes if one["gpu_count"] == int(query["gpu_count_gte"][0])]
        if path == "/pods":
            return [{**pod, "removal_scheduled_at": self.ends.get(pod["id"])} for pod in self.pods]
        if path.startswith("/templates/"):
            return TEMPLATE
        return listed.get(path, {"/version": {"features": []}, "/users/me": {"id": "me", "balance": 100}, "/executors/deployment-estimate": {}}.get(path, []))

    def post(self, path, body):
        self.posts.append((path, body))
        if path.endswith("/schedule-removal"):
            self.ends[path.split("/")[2]] = body["removal_scheduled_at"]
            return 200, {}
        if not path.endswith("/rent"):
            return 200, {"id": "1", "name": "key", "public_key": body.get("public_key", "")}
        if self.rent == "poor":
            return 403, {"detail": "Insufficient balance. Required: $20.00"}
        made = self.pod(body["pod_name"], next(one for one in self.nodes if one["id"] == path.split("/")[2]))
        if self.rent == "ok" or (self.rent == "dead" and len(self.rents()) == 2):
            self.pods.append(made)
        return (200, {"success": True, "pod_id": made["id"]}) if self.rent == "ok" else (None, None)


@contextmanager
def serving(api):
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            url = urlsplit(self.path)
            self.answer(200, api.get(url.path.removeprefix("/api"), parse_qs(url.query)))

        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"] or 0)) or b"{}")
            self.answer(*api.post(self.path.removeprefix("/api"), body))

        def do_DELETE(self):
            api.posts.append((self.path.removeprefix("/api"), "DELETE"))
            api.pods = [pod for pod in api.pods if pod["id"] != self.path.rpartition("/")[2]]
            self.answer(200, {})

        def answer(self, status, body):
            if status is None:  # the connection ends without a word
                self.close_connection = True
                return
            if self.headers.get("X-API-Key") != KEY:
                status, body = 401, {"detail": "no such key"}
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    api.url = f"http://127.0.0.1:{server.server_address[1]}/api"
    try:
        yield api
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def install(place: Path) -> Path:
    """The real lium, started with this very interpreter, in a folder for PATH."""
    place.mkdir()
    program = place / "lium"
    program.write_text(
        f"#!{sys.executable}\nimport sys\nfrom importlib.metadata import entry_points\n"
        "(found,) = entry_points(group='console_scripts', name='lium')\nsys.argv[0] = 'lium'\nsys.exit(found.load()())\n"
    )
    program.chmod(0o755)
    return place


def environment(api: Api, home: Path, key: Path) -> dict[str, str]:
    """For lium to find the server, its key and nothing of the user's own."""
    path = f"{install(home / 'bin')}{os.pathsep}{os.environ['PATH']}"
    return {"HOME": str(home), "PATH": path, "LIUM_BASE_URL": api.url, "LIUM_API_KEY": KEY, "LIUM_SSH_KEY_PATH": str(key)}
