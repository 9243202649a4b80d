"""Sends code: one round trip where nothing changed, one more for each batch of what is missing there."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from pytest_gpueval.errors import Conflict
from pytest_gpueval.hosts import local
from pytest_gpueval.hosts.detached.submission import DEFAULT_ROOT
from pytest_gpueval.hosts.host import Host

from .request import ask
from .rules import Rules
from .tree import Item, Tree, content, names, read

# Of contents in one request; they are in memory.
_BATCH_BYTES: Final = 32 << 20
_LOOK_S: Final = 300.0
_PUT_S: Final = 3600.0
_TRIES: Final = 5
_UNSURE: Final = "What came whole is kept there: sync again, and the rest is sent"
_PIECE_BYTES: Final = 1 << 20
_SAMPLE_BYTES: Final = 1 << 18
_WORTH_PACKING: Final = 0.8


@dataclass(frozen=True, slots=True)
class Synced:
    """What became of a sync. `directory` holds the tree on the host, and will not change; None in a dry run that would make it. `base` is all that is ours.

    `again` where it was there and current before; `sent` are the files whose contents went, `sent_bytes` what they hold.
    """

    directory: str | None
    base: str
    tree: Tree
    sent: tuple[Item, ...]
    again: bool
    notes: tuple[str, ...]

    @property
    def sent_bytes(self) -> int:
        """Of contents, each once."""
        return sum({item.content: item.size for item in self.sent}.values())

    @property
    def current(self) -> str:
        """A path there that always is the tree which was sent last."""
        return f"{self.base}/current"


class _Changed(Exception):
    """A file is not what it was when it was hashed."""


def sync(
    host: Host,
    root: Path,
    base: str,
    *,
    rules: Rules | None = None,
    python: str = "python3",
    runs: str = DEFAULT_ROOT,
    dry_run: bool = False,
    tell: Callable[[str], None] | None = None,
) -> Synced:
    """Have the code of `root` below `base` on a host. To sync again completes what was cut off; `tell` hears how it goes.

    Old trees are removed, but for those that a process there, or one of the `runs`, works in.

    Raises UsageProblem, StorageError, Conflict, Unreachable, AccessDenied.
    """
    for _ in range(_TRIES):
        tree = read(root, rules or Rules())
        try:
            return _sent(host, tree, base, python, runs, dry_run=dry_run, tell=tell or (lambda _: None))
        except _Changed as changed:
            last = str(changed)
    raise Conflict(f"{root}: {last} changes all the time; sync again once it is done")


def _sent(host: Host, tree: Tree, base: str, python: str, runs: str, *, dry_run: bool, tell: Callable[[str], None]) -> Synced:
    manifest = [[item.path, item.kind, item.content, item.size] for item in tree.items]
    common = {"root": base, "runs": runs, "tree": tree.digest}
    message = {**common, "do": "look", "dry": dry_run, "manifest": manifest, "about": {"from": str(tree.root), "commit": _commit(tree.root)}}
    answer = ask(host, python, message, timeout_s=_LOOK_S, unsure=_UNSURE)
    if answer["missing"] and not dry_run:
        tell(f"{host.name}: sending {len(_of(tree, set(answer['missing']))):,} of {len(tree.items):,} files")
    gone: dict[str, Item] = {}
    for _ in range(_TRIES):
        if not answer["missing"] or dry_run:
            break
        gone |= _by_content(tree, answer["missing"])
        for request, payload in _batches(tree, answer["missing"]):
            answer = ask(host, python, {**common, "do": "put", **request}, payload, timeout_s=_PUT_S, unsure=_UNSURE)
            if "changed" in answer:
                raise _Changed(answer["changed"])
    if answer["missing"] and not dry_run:
        raise Conflict(f"{host.name}: {base}: files vanish there as they come; is it being cleared? Sync again")
    sent = _of(tree, gone.keys() if gone else set(answer["missing"]))
    return Synced(answer["directory"], answer.get("root", base), tree, sent, answer.get("again", answer["directory"] is not None), tuple(answer["notes"]))


def _batches(tree: Tree, missing: Sequence[str]) -> Iterator[tuple[Mapping[str, Any], Iterable[bytes]]]:
    """Requests that send contents. Raises _Changed."""
    items = list(_by_content(tree, missing).values())
    batch: list[Item] = []
    size = 0
    for item in items:
        if batch and size + item.size > _BATCH_BYTES:
            yield _request(tree, batch, last=False)
            batch, size = [], 0
        batch.append(item)
        size += item.size
    yield _request(tree, batch, last=True)


def _request(tree: Tree, items: Sequence[Item], *, last: bool) -> tuple[Mapping[str, Any], Iterable[bytes]]:
    """A request, and the contents of its files in pieces. Raises _Changed."""
    contents = _contents(tree, items)
    sample = contents[0][:_SAMPLE_BYTES] if contents else b""
    packed = len(zlib.compress(sample, 1)) < _WORTH_PACKING * len(sample)
    files = [[item.path, item.content, item.size] for item in items]
    return {"files": files, "packed": packed, "last": last}, _packed(contents) if packed else contents


def _contents(tree: Tree, items: Sequence[Item]) -> list[bytes]:
    """What files hold, in pieces of some size. What is right in size alone is found out there. Raises _Changed."""
    pieces: list[bytes] = []
    piece: list[bytes] = []
    size = 0
    for item in items:
        data = content(tree.root, item)
        if len(data) != item.size:
            raise _Changed(names([item]))
        piece.append(data)
        size += len(data)
        if size >= _PIECE_BYTES:
            pieces.append(b"".join(piece))
            piece, size = [], 0
    return [*pieces, b"".join(piece)]


def _packed(contents: Sequence[bytes]) -> Iterator[bytes]:
    """Compressed by all cores, while what came before travels."""
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        yield from pool.map(partial(zlib.compress, level=1), contents)


def _of(tree: Tree, contents: Collection[str]) -> tuple[Item, ...]:
    """The files that hold these."""
    return tuple(item for item in tree.items if item.kind != "l" and item.content in contents)


def _by_content(tree: Tree, contents: Sequence[str]) -> dict[str, Item]:
    """The first file of each."""
    found: dict[str, Item] = {}
    for item in _of(tree, set(contents)):
        found.setdefault(item.content, item)
    return found


def _commit(root: Path) -> str | None:
    said = local.run(["git", "rev-parse", "HEAD"], root)
    return said.strip() if said else None
