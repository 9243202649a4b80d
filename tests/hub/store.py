"""What the stand-in keeps: repositories with their commits, in memory, and the bytes of their files, on disk, each under its SHA-256."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

# What a new repository's .gitattributes names, and so what is stored as large files.
LARGE = (".arrow", ".bin", ".gguf", ".gz", ".npy", ".onnx", ".parquet", ".pt", ".safetensors", ".tar", ".zip")
LARGE_BYTES = 10 << 20
ATTRIBUTES = "".join(f"*{suffix} filter=lfs diff=lfs merge=lfs -text\n" for suffix in LARGE).encode()


class Refusal(Exception):
    """What a request is answered with instead of what it asked for; `code` is the X-Error-Code that clients tell errors apart by."""

    def __init__(self, status: int, message: str, code: str | None = None, headers: Mapping[str, str] | None = None):
        super().__init__(message)
        self.status, self.message, self.code, self.headers = status, message, code, dict(headers or {})


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")


def is_large(path: str, size: int) -> bool:
    return size > 0 and (path.endswith(LARGE) or size > LARGE_BYTES)


@dataclass(frozen=True)
class Entry:
    """A file of a commit. `oid` is what git calls its blob: of the pointer where it is a large file."""

    sha256: str
    size: int
    oid: str
    large: bool

    @property
    def etag(self) -> str:
        return self.sha256 if self.large else self.oid


@dataclass(frozen=True)
class Commit:
    sha: str
    parent: str | None
    message: str
    description: str
    author: str
    date: str
    changed: tuple[str, ...]  # paths added, changed or deleted
    deleted: tuple[str, ...]
    tree: Mapping[str, Entry] = field(repr=False)


class Blobs:
    """Bytes by their SHA-256, one file each."""

    def __init__(self, directory: Path):
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)

    def path(self, sha256: str) -> Path:
        return self.directory / sha256

    def put(self, data: bytes) -> str:
        sha256 = hashlib.sha256(data).hexdigest()
        target = self.path(sha256)
        if not target.exists():
            draft = target.with_name(f"{sha256}.{threading.get_ident()}")
            draft.write_bytes(data)
            draft.replace(target)
        return sha256

    def entry(self, path: str, data: bytes) -> Entry:
        sha256 = self.put(data)
        return self.large(sha256) if is_large(path, len(data)) else Entry(sha256, len(data), _oid(data), large=False)

    def large(self, sha256: str) -> Entry:
        size = self.path(sha256).stat().st_size
        pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n"
        return Entry(sha256, size, _oid(pointer.encode()), large=True)


def _oid(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


class Repository:
    """A repository of a hub. What may be seen by whom can be changed at any time: `private`, `gated` and `allowed` are plain attributes."""

    def __init__(self, blobs: Blobs, name: str, *, kind: str, private: bool, gated: str | bool, allowed: tuple[str, ...]):
        self.name, self.kind, self.private, self.gated, self.allowed = name, kind, private, gated, allowed
        self.created = now()
        self.branches: dict[str, str] = {}
        self.tags: dict[str, str] = {}
        self.objects: set[str] = set()  # large files that it has got, committed or not yet
        self._commits: dict[str, Commit] = {}
        self._blobs = blobs
        self._lock = threading.RLock()

    @property
    def owner(self) -> str:
        return self.name.split("/", maxsplit=1)[0]

    @property
    def head(self) -> str:
        """The last commit of `main`."""
        return self.branches["main"]

    def at(self, revision: str = "main") -> Commit:
        """The commit that a branch, a tag, a full or a shortened SHA names. Raises Refusal."""
        named = self.branches.get(revision) or self.tags.get(revision) or revision
        if re.fullmatch(r"[0-9a-f]{7,40}", named):
            found = [commit for sha, commit in self._commits.items() if sha.startswith(named)]
            if len(found) == 1:
                return found[0]
        raise Refusal(404, f"Invalid rev id: {revision}", "RevisionNotFound")

    def files(self, revision: str = "main") -> dict[str, bytes]:
        """All files, .gitattributes too."""
        return {path: self._blobs.path(entry.sha256).read_bytes() for path, entry in self.at(revision).tree.items()}

    def log(self, revision: str = "main") -> list[Commit]:
        """Commits, the newest first."""
        commits = [self.at(revision)]
        while commits[-1].parent:
            commits.append(self._commits[commits[-1].parent])
        return commits

    def commit(
        self, files: Mapping[str, bytes] | None = None, *, delete: tuple[str, ...] = (), message: str = "change", author: str = "somebody", branch: str = "main"
    ) -> str:
        """Commit as somebody else would: no client, no rights asked. A path that ends in `/` deletes a folder."""
        entries = {path: self._blobs.entry(path, data) for path, data in (files or {}).items()}
        return self.apply(entries, delete, message=message, author=author, branch=branch)

    def tag(self, name: str, revision: str = "main") -> None:
        with self._lock:
            if name in self.tags:
                raise Refusal(409, f"Tag reference exists already: refs/tags/{name}")
            self.tags[name] = self.at(revision).sha

    def branch(self, name: str, revision: str = "main") -> None:
        with self._lock:
            if name in self.branches:
                raise Refusal(409, f"Reference already exists: refs/heads/{name}")
            self.branches[name] = self.at(revision).sha

    def apply(
        self,
        entries: Mapping[str, Entry],
        delete: tuple[str, ...],
        *,
        message: str,
        author: str,
        branch: str = "main",
        description: str = "",
        parent: str | None = None,
    ) -> str:
        """One commit, whole or not at all; with `parent`, only on that commit. Raises Refusal."""
        with self._lock:
            head = self.branches.get(branch)
            if head is None and self._commits:
                raise Refusal(404, f"Invalid rev id: {branch}", "RevisionNotFound")
            if parent is not None and parent != head:
                raise Refusal(412, "A commit has happened since. Please refresh and try again.")
            before = dict(self._commits[head].tree) if head else {}
            deleted = tuple(path for gone in delete for path in _deleted(gone, before))
            tree = {**{path: entry for path, entry in before.items() if path not in deleted}, **entries}
            changed = tuple(sorted(path for path in {*before, *tree} if before.get(path) != tree.get(path)))
            date = now()
            known = [head, len(self._commits), message, author, date, sorted((path, entry.oid) for path, entry in tree.items())]
            sha = hashlib.sha1(json.dumps(known).encode()).hexdigest()
            gone = tuple(path for path in deleted if path not in tree)
            self._commits[sha] = Commit(sha, head, message, description, author, date, changed, gone, tree)
            self.branches[branch] = sha
            self.objects |= {entry.sha256 for entry in entries.values() if entry.large}
            return sha


def _deleted(gone: str, tree: Mapping[str, Entry]) -> list[str]:
    inside: Callable[[str], bool] = (lambda path: path.startswith(gone)) if gone.endswith("/") else (lambda path: path == gone)
    found = [path for path in tree if inside(path)]
    if not found:
        raise Refusal(404, "A file with this name doesn't exist", "EntryNotFound")
    return found
