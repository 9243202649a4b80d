"""What can be asked about code: look, put."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shlex
import signal
import sys
import zlib
from typing import Any, BinaryIO, Callable, Iterable, Iterator

from pytest_gpueval.hosts.detached.agent.files import alone, read_json
from pytest_gpueval.hosts.detached.agent.processes import Refused, step

from .snapshots import (
    BLOCK,
    NAME_LENGTH,
    Contents,
    at,
    build,
    check_room,
    choose,
    created,
    current,
    look_of,
    missing_of,
    prepared,
    prune,
    record,
    snapshots,
    sweep,
)

DIGEST = re.compile(r"[0-9a-f]{64}")
IDLE_S = 60
BUSY = "somebody else sends code there right now"
SYNC_LOCK_S = 120.0
MOST_NAMES = 20


class Payload:
    """What follows a request: contents one after the other, compressed as one stream or not. Silence for IDLE_S is its end: the link may be dead."""

    def __init__(self, file: BinaryIO, *, packed: bool) -> None:
        self._file = file
        self._unpack = zlib.decompressobj() if packed else None
        self._ready, self._at = b"", 0
        signal.signal(signal.SIGALRM, silent)

    def pieces(self, size: int) -> Iterator[bytes]:
        """So many bytes, as they come. Raises Refused where they end before."""
        while size:
            if self._at == len(self._ready):
                self._ready, self._at = self._more(), 0
            begin, self._at = self._at, min(self._at + size, len(self._ready))
            size -= self._at - begin
            yield self._ready[begin : self._at]

    def _more(self) -> bytes:
        while True:
            signal.alarm(IDLE_S)
            came = self._file.read1(BLOCK)  # type: ignore[attr-defined]
            signal.alarm(0)
            if not came:
                raise Refused("fault", "the link ended before all had come")
            data = came if self._unpack is None else self._unpacked(came)
            if data:
                return data

    def _unpacked(self, came: bytes) -> bytes:
        """One stream follows the other."""
        assert self._unpack is not None  # noqa: S101 - for whoever checks types
        pieces = [self._unpack.decompress(came)]
        while self._unpack.eof:
            rest, self._unpack = self._unpack.unused_data, zlib.decompressobj()
            if not rest:
                break
            pieces.append(self._unpack.decompress(rest))
        return b"".join(pieces)


def silent(*_: object) -> None:
    """Raises Refused."""
    raise Refused("fault", f"nothing came for {IDLE_S} s")


def check_names(message: dict[str, Any]) -> None:
    """Raises Refused for a list of files that leads elsewhere."""
    if not DIGEST.fullmatch(message["tree"]):
        raise Refused("usage", "not the hash of a tree")
    for path, kind, content, _ in message.get("manifest") or ():
        parts = path.split("/")
        if any(part in ("", ".", "..") for part in parts) or "\0" in path or kind not in "fxl" or (kind != "l" and not DIGEST.fullmatch(content)):
            raise Refused("usage", f"{path!r}: no file below the directory")


def look_for(message: dict[str, Any], _: BinaryIO) -> dict[str, Any]:
    """Take the tree if it is there, or can be made of what is; else say what is missing. With `dry` nothing is written. Raises Refused."""
    check_names(message)
    root, tree = message["root"], message["tree"]
    if message["dry"]:
        return {**would(message), "root": root, "notes": []}
    prepared(root)
    with alone(at(root, "lock"), f"{root}: {BUSY}", SYNC_LOCK_S):
        taken = taken_again(message)
        if taken is not None:
            return taken
        sweep(root)
        missing = missing_of(Contents(root), message["manifest"])
        check_room(root, sum({row[2]: row[3] for row in message["manifest"] if row[1] != "l"}.values()))
        if not missing:
            return make(message, {})
        record(at(root, "incoming", f"{tree}.json"), message)
    return {"missing": missing}


def would(message: dict[str, Any]) -> dict[str, Any]:
    """What `look_for` would find."""
    root, manifest = message["root"], message["manifest"]
    if not os.path.isdir(at(root, "index")):
        return {"missing": list({row[2]: 0 for row in manifest if row[1] != "l"}), "directory": None}
    same = [each for each in snapshots(root) if each.name.startswith(message["tree"][:NAME_LENGTH])]
    for snapshot in same:
        files = snapshot.files()
        if files is not None and not snapshot.changed(files):
            return {"missing": [], "directory": snapshot.place}
    return {"missing": missing_of(Contents(root), manifest), "directory": None}


def taken_again(message: dict[str, Any]) -> dict[str, Any] | None:
    """The answer, where a snapshot of this tree is as it was made."""
    root = message["root"]
    notes: list[str] = []
    for snapshot in snapshots(root):
        files = snapshot.files() if snapshot.name.startswith(message["tree"][:NAME_LENGTH]) else None
        if files is None:
            continue
        changed = snapshot.changed(files)
        if not changed:
            before = current(root)
            again = before is not None and before.name == snapshot.name
            choose(snapshot)
            return {"missing": [], "directory": snapshot.place, "root": root, "again": again, "notes": notes + (removed(message) if not again else [])}
        if changed:
            notes.append(left_there(snapshot.place, changed, "were changed or removed there"))
    return None


def make(asked: dict[str, Any], came: dict[str, list[int]]) -> dict[str, Any]:
    """Build the snapshot and take it; under the lock. Raises Refused, OSError."""
    root = asked["root"]
    before = current(root)
    files = before.files() if before is not None else None
    notes = []
    if before is not None and files is not None:
        changed, foreign = before.changed(files), before.foreign(files)
        notes += [left_there(before.place, changed, "were changed or removed there")] if changed else []
        notes += [left_there(before.place, foreign, "were made there")] if foreign else []
    snapshot, missing = build(root, asked, came)
    if snapshot is None:
        return {"missing": missing}
    choose(snapshot)
    step("chosen")
    with contextlib.suppress(FileNotFoundError):
        os.unlink(at(root, "incoming", f"{asked['tree']}.json"))
    return {"missing": [], "directory": snapshot.place, "root": root, "again": False, "notes": notes + removed(asked)}


def left_there(place: str, paths: list[str], what: str) -> str:
    """What stays in another snapshot."""
    shown = " ".join(shlex.quote(path) for path in paths[:MOST_NAMES])
    more = f" and {len(paths) - MOST_NAMES:,} more" if len(paths) > MOST_NAMES else ""
    return f"{len(paths):,} file(s) {what}, and stay in {place}: {shown}{more}"


def removed(message: dict[str, Any]) -> list[str]:
    """Remove what is old; notes about what could not be."""
    _, kept = prune(message["root"], message["runs"])
    return [f"old, but they hold what no sync brought, so they stay: {' '.join(kept)} in {at(message['root'], 'snapshots')}"] if kept else []


def take(message: dict[str, Any], file: BinaryIO) -> dict[str, Any]:
    """Take contents to their places; with the last of them build the snapshot. Raises Refused."""
    check_names(message)
    root, tree = message["root"], message["tree"]
    with alone(at(root, "lock"), f"{root}: {BUSY}", SYNC_LOCK_S):
        asked = read_json(at(root, "incoming", f"{tree}.json"))
        if asked is None:  # somebody else has made the same tree meanwhile
            taken = taken_again(message)
            if taken is None:
                raise Refused("conflict", f"{root}: somebody cleared it while code was sent; try again")
            return taken
        kinds = {row[0]: row[1] for row in asked["manifest"]}
        payload = Payload(file, packed=message["packed"])
        beside = at(root, "incoming", tree)
        came: dict[str, list[int]] = {}
        for path, digest, size in message["files"]:
            if kinds.get(path) not in ("f", "x"):
                raise Refused("usage", f"{path!r}: was not asked for")
            look = receive(payload.pieces(size), f"{beside}/{path}", kinds[path], digest)
            if look is None:
                return {"missing": None, "changed": path}
            came[path] = look
            step("received")
        if not message["last"]:
            return {"missing": None}
        return make({**asked, "root": root, "runs": message["runs"]}, came)


def receive(pieces: Iterable[bytes], target: str, kind: str, digest: str) -> list[int] | None:
    """One file, and how it looks; None, and it is removed, where it is not what it should be. Until it is whole it is shorter. Raises Refused, OSError."""
    found = hashlib.sha256()
    there = created(target, kind)
    try:
        for piece in pieces:
            found.update(piece)
            data = piece
            while data:
                data = data[os.write(there, data) :]
        look = look_of(os.fstat(there))
    finally:
        os.close(there)
    if found.hexdigest() == digest:
        return look
    os.unlink(target)
    return None


CODE_VERBS: dict[str, Callable[[dict[str, Any], BinaryIO], dict[str, Any]]] = {"look": look_for, "put": take}


def done_as_asked(message: dict[str, Any], file: BinaryIO, verbs: dict[str, Callable[[dict[str, Any], BinaryIO], dict[str, Any]]]) -> dict[str, Any]:
    """Do what a request says. What goes wrong is an answer, too."""
    try:
        for name in ("root", "runs"):
            message[name] = os.path.abspath(os.path.expanduser(message[name]))
        return verbs[message["do"]](message, file)
    except Refused as refused:
        return {"error": {"kind": refused.kind, "text": str(refused)}}
    except OSError as error:
        return {
            "error": {
                "kind": "storage",
                "text": f"{error.filename or message['root']}: {error.strerror or error}. Free some space there, or give another workdir in hosts.toml",
            }
        }


def serve(verbs: dict[str, Callable[[dict[str, Any], BinaryIO], dict[str, Any]]]) -> None:
    """One request, one answer: the request's length, the request, and what follows it."""
    file = sys.stdin.buffer
    message = json.loads(zlib.decompress(file.read(int(file.readline()))))
    print(json.dumps(done_as_asked(message, file, verbs)))  # noqa: T201 - the answer
