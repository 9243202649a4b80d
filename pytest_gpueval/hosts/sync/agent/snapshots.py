"""Trees on this host: looked for, built, and removed once nobody needs them."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import stat
import time
from typing import Any

from pytest_gpueval.hosts.detached.agent.files import read_json
from pytest_gpueval.hosts.detached.agent.processes import Refused, step

NAME_LENGTH = 20
KEPT_SNAPSHOTS = 5
KEPT_S = 86_400.0
BLOCK = 1 << 20
SPARE = 16 << 20  # of disk, beyond what is written
# What running code leaves beside it, and nobody misses.
LITTER = ("__pycache__", ".pytest_cache", ".hypothesis", ".mypy_cache", ".ruff_cache")


def at(root: str, *names: str) -> str:
    """A place below the root."""
    return os.path.join(root, *names)


def prepared(root: str) -> None:
    """Make the directories."""
    os.makedirs(root, mode=0o700, exist_ok=True)
    for name in ("snapshots", "index", "incoming"):
        os.makedirs(at(root, name), exist_ok=True)


def record(path: str, value: Any) -> None:
    """Write JSON, whole or not at all. Nobody waits until it is on disk, and all around it with it: what a power cut damages is not believed."""
    beside = f"{path}.{os.urandom(4).hex()}"
    with open(beside, "w", encoding="utf-8") as file:
        file.write(json.dumps(value))
    os.replace(beside, path)


def looks(path: str) -> list[int]:
    """What tells whether a file was touched: size, times of change of its content and of anything, and number."""
    return look_of(os.lstat(path))


def look_of(about: os.stat_result) -> list[int]:
    """The same of what is known of it."""
    return [about.st_size, about.st_mtime_ns, about.st_ctime_ns, about.st_ino]


def hash_of(path: str) -> str:
    """SHA-256 of a regular file."""
    digest = hashlib.sha256()
    with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as file:
        for data in iter(lambda: file.read(BLOCK), b""):
            digest.update(data)
    return digest.hexdigest()


def kind_of(path: str) -> str:
    """f, x or l as in a list of files; ? for what is neither."""
    mode = os.lstat(path).st_mode
    if stat.S_ISLNK(mode):
        return "l"
    return "?" if not stat.S_ISREG(mode) else "x" if mode & stat.S_IXUSR else "f"


def is_same(path: str, entry: list[Any]) -> bool:
    """Whether a file still is what was put there: [kind, content, looks]. Where it looks otherwise, its content decides."""
    try:
        if looks(path) == entry[2]:
            return True
        if kind_of(path) != entry[0]:
            return False
        if (os.readlink(path) if entry[0] == "l" else hash_of(path)) != entry[1]:
            return False
        entry[2] = looks(path)
        return True
    except OSError:
        return False


class Snapshot:
    """One of them."""

    def __init__(self, root: str, name: str) -> None:
        self.root, self.name = root, name
        self.place = at(root, "snapshots", name)
        self.index = at(root, "index", f"{name}.json")

    def files(self) -> dict[str, list[Any]] | None:
        """What was put there; None where nothing whole is."""
        try:
            found = read_json(self.index)
        except Refused:
            return None
        return found["files"] if found is not None and os.path.isdir(self.place) else None

    def changed(self, files: dict[str, list[Any]]) -> list[str]:
        """Files that somebody changed or removed since."""
        return [path for path, entry in files.items() if not is_same(at(self.place, path), entry)]

    def foreign(self, files: dict[str, list[Any]]) -> list[str]:
        """Files that were not put there by us."""
        found = []
        for directory, folders, names in os.walk(self.place):
            folders[:] = [name for name in folders if name not in LITTER and not name.endswith(".egg-info")]
            below = os.path.relpath(directory, self.place)
            paths = (name if below == "." else os.path.join(below, name) for name in [*names, *folders])
            found += [path for path in paths if path not in files and not os.path.isdir(at(self.place, path)) and not path.endswith(".pyc")]
        return found


def snapshots(root: str) -> list[Snapshot]:
    """All of them, the one that was asked for last first."""
    names = [name[: -len(".json")] for name in os.listdir(at(root, "index")) if name.endswith(".json")]
    found = [Snapshot(root, name) for name in names]
    return sorted(found, key=lambda each: os.stat(each.index).st_mtime_ns, reverse=True)


def choose(snapshot: Snapshot) -> None:
    """Make it the current one."""
    os.utime(snapshot.index)
    link = at(snapshot.root, "current")
    target = os.path.join("snapshots", snapshot.name)
    if os.path.islink(link) and os.readlink(link) == target:
        return
    beside = f"{link}.{os.getpid()}"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(beside)
    os.symlink(target, beside)
    os.replace(beside, link)


def current(root: str) -> Snapshot | None:
    """The one that was asked for last."""
    link = at(root, "current")
    return Snapshot(root, os.path.basename(os.readlink(link))) if os.path.islink(link) else None


class Contents:
    """Where contents are on this host already: in snapshots, and in trees that were cut off while they came."""

    def __init__(self, root: str) -> None:
        self.root = root
        self._places: dict[str, list[tuple[str, list[Any]]]] = {}
        for snapshot in snapshots(root)[:KEPT_SNAPSHOTS]:
            for path, entry in (snapshot.files() or {}).items():
                if entry[0] != "l":
                    self._places.setdefault(entry[1], []).append((at(snapshot.place, path), entry))
        for name in os.listdir(at(root, "incoming")):
            asked = None
            with contextlib.suppress(Refused):  # damaged: what came is sent again
                asked = read_json(at(root, "incoming", name)) if name.endswith(".json") else None
            for path, kind, content, _ in (asked or {}).get("manifest", ()):
                if kind != "l":
                    self.add(content, at(root, "incoming", name[: -len(".json")], path), kind)

    def add(self, digest: str, path: str, kind: str) -> None:
        """Something that may be a copy of it, or may have come in part."""
        self._places.setdefault(digest, []).append((path, [kind, digest, []]))

    def has(self, digest: str) -> bool:
        """Whether it need not be sent."""
        return any(is_same(path, entry) for path, entry in self._places.get(digest, ()))

    def copy(self, digest: str, target: str, kind: str) -> bool:
        """Make a file of it. False where there is none any more."""
        return any(path != target and copied(path, target, digest, kind) for path, _ in self._places.get(digest, ()))


def created(target: str, kind: str) -> int:
    """A descriptor of a file that is empty now; its folder is made."""
    flags, mode = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o777 if kind == "x" else 0o666
    try:
        return os.open(target, flags, mode)
    except FileNotFoundError:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        return os.open(target, flags, mode)


def copied(source: str, target: str, digest: str, kind: str) -> bool:
    """Copy a file whose content is known. False if it is another."""
    found = hashlib.sha256()
    try:
        with open(source, "rb") as here, open(created(target, kind), "wb") as there:
            for data in iter(lambda: here.read(BLOCK), b""):
                found.update(data)
                there.write(data)
    except FileNotFoundError:
        return False
    return found.hexdigest() == digest


def build(root: str, asked: dict[str, Any], came: dict[str, list[int]]) -> tuple[Snapshot | None, list[str]]:
    """Make the snapshot of a tree; None, and what must be sent, where something is missing. `came`: files in place, and how they look. Raises OSError."""
    tree, manifest = asked["tree"], asked["manifest"]
    beside = at(root, "incoming", tree)
    os.makedirs(beside, exist_ok=True)
    contents, missing = None, []
    if any(row[1] != "l" and row[0] not in came for row in manifest):
        contents = Contents(root)
        for path, kind, content, _ in manifest:
            if path in came:
                contents.add(content, at(beside, path), kind)
        missing = missing_of(contents, [row for row in manifest if row[0] not in came])
    if missing:
        return None, missing
    files: dict[str, list[Any]] = {}
    for path, kind, content, _ in manifest:
        target = f"{beside}/{path}"
        if kind == "l":
            linked(content, target)
        elif path not in came and not is_same(target, [kind, content, []]) and not (contents and contents.copy(content, target, kind)):
            return None, [content]  # what it was to be copied from has just been changed
        files[path] = [kind, content, came.get(path) or looks(target)]
    step("built")
    snapshot = Snapshot(root, free_name(root, tree))
    record(snapshot.index, {"tree": tree, **asked["about"], "files": files})
    os.rename(beside, snapshot.place)
    step("placed")
    return snapshot, []


def linked(content: str, target: str) -> None:
    """Make a link, also where one is left of an attempt that was cut off."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(target)
    os.makedirs(os.path.dirname(target), exist_ok=True)
    os.symlink(content, target)


def free_name(root: str, tree: str) -> str:
    """A name that no snapshot has: one of the same tree may be there, and have been changed."""
    number, name = 1, tree[:NAME_LENGTH]
    while os.path.lexists(at(root, "snapshots", name)):
        number += 1
        name = f"{tree[:NAME_LENGTH]}-{number}"
    return name


def missing_of(contents: Contents, manifest: list[list[Any]]) -> list[str]:
    """Contents that must be sent, each once."""
    return [content for content in {row[2]: None for row in manifest if row[1] != "l"} if not contents.has(content)]


def sweep(root: str) -> None:
    """Remove what was cut off while it came, and nobody asked for again."""
    for name in os.listdir(at(root, "incoming")):
        path = at(root, "incoming", name)
        with contextlib.suppress(OSError):
            if time.time() - os.stat(path).st_mtime > KEPT_S:
                if os.path.isdir(path):
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    os.unlink(path)


def check_room(root: str, needed: int) -> None:
    """Raises Refused where the disk has no room for so many bytes."""
    about = os.statvfs(root)
    free = about.f_bavail * about.f_frsize
    if needed and needed + SPARE > free:
        raise Refused("storage", f"{root}: {needed / 1e6:,.1f} MB are needed, and {free / 1e6:,.1f} MB are free; free some, or give another workdir")


def prune(root: str, runs: str) -> tuple[list[str], list[str]]:
    """Remove old snapshots that nothing uses. Returns the names of those removed, and of those kept since they hold what we did not bring."""
    removed, kept = [], []
    old = [each for each in snapshots(root)[KEPT_SNAPSHOTS:] if time.time() - os.stat(each.index).st_mtime > KEPT_S]
    users = in_use([each.place for each in old], runs) if old else set()
    for snapshot in old:
        files = snapshot.files()
        if snapshot.place in users:
            continue
        if files is not None and (snapshot.changed(files) or snapshot.foreign(files)):
            kept.append(snapshot.name)
            continue
        os.unlink(snapshot.index)
        shutil.rmtree(snapshot.place, ignore_errors=True)
        removed.append(snapshot.name)
    return removed, kept


def in_use(places: list[str], runs: str) -> set[str]:
    """Which of these directories a process of this host, or a run that has not ended, works in."""
    texts: list[str] = []
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            texts.append(os.readlink(f"/proc/{pid}/cwd"))
        for name in ("environ", "cmdline"):
            with contextlib.suppress(OSError), open(f"/proc/{pid}/{name}", "rb") as file:
                texts.append(os.fsdecode(file.read()))
    with contextlib.suppress(OSError):
        for name in os.listdir(runs):
            with contextlib.suppress(OSError, Refused, KeyError, TypeError):
                state = os.path.join(runs, name, ".gpueval")
                claim = read_json(os.path.join(state, "claim.json"))
                if claim is not None and not os.path.exists(os.path.join(state, claim["nonce"], "exit.json")):
                    texts.append(json.dumps(claim["request"], ensure_ascii=False))
    # Of two names one may begin with the other: a name ends where a path does.
    return {place for place in places for text in texts if any(f"{place}{end}" in f"{text}/" for end in '/:"\0')}
