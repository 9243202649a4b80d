"""What the servers among the runs are doing: who listens, and what they answer."""

from __future__ import annotations

import json
import os
import re
import socket
import time
from typing import Any
from urllib.parse import urlsplit

from .files import RUN_ID, Run, read_json, write_json
from .processes import POLL_S, family, lives

# In the environment of a run that is a server: where it answers, as in http://127.0.0.1:8000/v1.
URL = "GPUEVAL_SERVER_URL"
# Variables that servers read the key from which they ask for. The first that was sent along counts.
KEYS = ("VLLM_API_KEY", "API_KEY", "OPENAI_API_KEY")
LOOK_S = 5.0
MOST = 1 << 20
_LISTENS = "0A"


def listeners(port: int, root: str = "/proc") -> dict[str, int] | None:
    """The sockets that listen on a port, and the user of each; None where the kernel does not tell."""
    found: dict[str, int] = {}
    told = False
    for name in ("tcp", "tcp6"):
        try:
            with open(f"{root}/net/{name}", encoding="ascii") as file:
                lines = file.read().splitlines()[1:]
        except OSError:
            continue
        told = True
        for fields in map(str.split, lines):
            if fields[3] == _LISTENS and int(fields[1].rpartition(":")[2], 16) == port:
                found[fields[9]] = int(fields[7])
    return found if told else None


def owners(inodes: set[str]) -> list[int]:
    """Pids that hold one of these sockets, as far as we may see."""
    wanted = {f"socket:[{inode}]" for inode in inodes}
    return [int(name) for name in os.listdir("/proc") if name.isdecimal() and holds(f"/proc/{name}/fd", wanted)] if wanted else []


def holds(place: str, wanted: set[str]) -> bool:
    """Whether a process has one of these open; not, where it has ended or is not ours to look at."""
    try:
        return any(os.readlink(f"{place}/{number}") in wanted for number in os.listdir(place))
    except OSError:
        return False


def accepts(host: str, port: int) -> bool:
    """Whether anybody listens."""
    try:
        socket.create_connection((host, port), LOOK_S).close()
    except OSError:
        return False
    return True


def who_listens(host: str, port: int) -> dict[str, Any] | None:
    """Pids that listen on a port, and in words who that is; None if nobody does."""
    sockets = listeners(port)
    if sockets is None:
        return {"pids": [], "words": "a process that this system does not show"} if accepts(host, port) else None
    if not sockets:
        return None
    pids = owners(set(sockets))
    words = ", ".join(f"pid {pid} ({program_of(pid)})" for pid in pids) or "a process"
    return {"pids": pids, "words": f"{words} of {', '.join(sorted(map(account, set(sockets.values()))))}"}


def program_of(pid: int) -> str:
    """What the kernel calls a process."""
    try:
        with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return "ended"


def account(number: int) -> str:
    """The name of a user."""
    import pwd  # noqa: PLC0415 - seldom needed

    try:
        return f"user {pwd.getpwuid(number).pw_name}"
    except KeyError:
        return f"user {number}"


def asked(url: str, path: str, key: str) -> tuple[int, bytes] | None:
    """Status and body of a GET; None where there is no answer. Without proxies: what is meant is this machine."""
    import http.client  # noqa: PLC0415 - takes longer to import than most requests take

    parts = urlsplit(url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    try:
        connection = kind(parts.hostname or "", parts.port, timeout=LOOK_S)
        try:
            connection.request("GET", path, headers={"Authorization": f"Bearer {key}"} if key else {})
            response = connection.getresponse()
            return response.status, response.read(MOST)
        finally:
            connection.close()
    except (OSError, http.client.HTTPException, ValueError):
        return None


def answers(url: str, key: str) -> dict[str, Any]:
    """What a server says of its health, and which models it lists. A server without /health is as well as its list."""
    health = asked(url, "/health", key)
    if health is None or (health[0] != 200 and health[0] not in (404, 405)):
        return {"health": health[0] if health else None, "models": None, "status": None}
    listed = asked(url, f"{urlsplit(url).path.rstrip('/')}/models", key)
    models = None
    if listed is not None and listed[0] == 200:
        try:
            models = [str(entry["id"]) for entry in json.loads(listed[1])["data"]]
        except (ValueError, LookupError, TypeError):
            models = None
    return {"health": health[0], "models": models, "status": listed[0] if listed else None}


def key_of(pid: int, names: list[str]) -> str:
    """The key a server of ours asks for, out of its own environment: nobody has to send it once more."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            entries = dict(entry.partition(b"=")[::2] for entry in file.read().split(b"\0"))
    except OSError:
        return ""
    return next((entries[name.encode()].decode("utf-8", "replace") for name in KEYS if name in names and entries.get(name.encode())), "")


def server_runs(root: str, wanted: list[str] | None) -> list[str]:
    """Ids of runs that are servers: those that are named, or all."""
    try:
        names = sorted(os.listdir(root))
    except OSError:
        return []
    return [name for name in names if RUN_ID.fullmatch(name) and (wanted is None or name in wanted) and URL in environment_in(Run(root, name))]


def environment_in(run: Run) -> dict[str, str]:
    """The environment that was asked for; nothing where the run is nobody's, or cannot be read."""
    try:
        claim = read_json(os.path.join(run.state, "claim.json"))
        return dict(claim["request"]["environment"]) if claim else {}
    except Exception:  # noqa: BLE001 - somebody else's, or damaged: no server of ours
        return {}


def observed(run: Run, claim: dict[str, Any]) -> dict[str, Any]:
    """Who listens where a server is to, and what it answers: asked only if it is the server, who alone may get its key."""
    url = claim["request"]["environment"][URL]
    parts = urlsplit(url)
    listener = who_listens(parts.hostname or "", parts.port or 80)
    pids = {process.pid for process in family(claim["nonce"], run.part(claim, "runner"), set())}
    own = [pid for pid in (listener or {}).get("pids", []) if pid in pids]
    seen: dict[str, Any] = {"url": url, "listener": listener, "own": bool(own), "pids": sorted(pids)}
    if own:
        seen.update(answers(url, key_of(own[0], claim["request"]["secrets"])))
    if seen.get("models") is not None:
        write_json(run.place(claim, "ready.json"), {"at": time.time()}, once=True)
    seen["ready"] = run.part(claim, "ready")
    # Each start has a folder, named by its nonce.
    seen["starts"] = len([name for name in os.listdir(run.state) if re.fullmatch("[0-9a-f]{16}", name)])
    return seen


def awaited(run: Run, claim: dict[str, Any], wait_s: float) -> dict[str, Any]:
    """The same, once it answers, or its run has ended, or the time is over."""
    limit = time.monotonic() + wait_s
    while True:
        ended = run.part(claim, "exit") is not None or not lives(run.part(claim, "runner"))
        seen = observed(run, claim)
        if ended or seen.get("models") is not None or time.monotonic() > limit:
            return seen
        time.sleep(POLL_S * 5)


def look_at_port(url: str) -> dict[str, Any] | None:
    """Who listens where a server is to be started."""
    parts = urlsplit(url)
    return who_listens(parts.hostname or "", parts.port or 80)
