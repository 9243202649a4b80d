"""The code that is here: its files with their hashes, and what is left out."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pytest_gpueval.errors import StorageError, UsageProblem
from pytest_gpueval.hosts import local
from pytest_gpueval.hosts.host import Done

from .rules import Rules, environments, never

_LIST_S: Final = 120.0
# A file that changed so shortly before it was hashed may change again within the same tick of its file system's clock: its hash is not kept.
_FRESH_NS: Final = 2_000_000_000
_MOST_EXAMPLES: Final = 5
# The mode of a submodule in git's index.
_SUBMODULE: Final = b"160000 "


@dataclass(frozen=True, slots=True)
class Item:
    """A file (kind "f", or "x" where it may be executed), or a link ("l"). `content` is the SHA-256 of a file, and where a link leads."""

    path: str
    kind: str
    content: str
    size: int


@dataclass(frozen=True)
class Tree:
    """What is sent of `root`, by path; and what is not, with the reason."""

    root: Path
    items: tuple[Item, ...]
    left_out: Mapping[str, str]
    notes: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """Of names, kinds and contents: two trees with the same digest are the same."""
        rows = json.dumps([[item.path, item.kind, item.content] for item in self.items])
        return hashlib.sha256(rows.encode()).hexdigest()

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(item.size for item in self.items)


def read(root: Path, rules: Rules) -> Tree:
    """Look at the repository. Raises UsageProblem where git refuses or it is too much."""
    root = Path(os.path.realpath(root))
    names, left_out, notes = _listed(root, rules)
    rules = Rules(rules.entry, environments(names))
    known, items = _Known(root), []
    for name in names:
        item = _item(root, name, rules, left_out, known)
        if item is not None:
            items.append(item)
    known.save()
    tree = Tree(root, tuple(items), left_out, notes)
    _check_size(tree, rules)
    return tree


def _listed(root: Path, rules: Rules) -> tuple[list[str], dict[str, str], tuple[str, ...]]:
    """Names below `root`, sorted; what is left out as a whole; notes."""
    left_out: dict[str, str] = {}
    done = local.call(["git", "rev-parse", "--show-toplevel"], root, environment={"LC_ALL": "C"})
    if done.code == 0:
        top = os.fsdecode(done.output).removesuffix("\n")
        notes = () if Path(top) == root else (f"only what is below {root} is sent, not all of the repository {top}",)
        return sorted(set(_of_git(root, "", left_out))), left_out, notes
    if done.code is not None and "not a git repository" not in done.said:
        raise UsageProblem(f"{root}: git cannot tell which files belong to it: {done.said.strip()}")
    why = "is in no git repository" if done.code is not None else "cannot be asked of git, which is not there"
    walked = sorted(_walked(root, "", rules, left_out))
    return walked, left_out, (f"{root} {why}: all files are sent that no rule leaves out, whatever .gitignore says",)


def _of_git(root: Path, below: str, left_out: dict[str, str]) -> Iterator[str]:
    """What git tracks, and what it would if it were told to; submodules too. Raises UsageProblem."""
    done = local.call(["git", "ls-files", "-z", "-co", "--exclude-standard"], root / below, _LIST_S)
    modules = local.call(["git", "ls-files", "-z", "-s"], root / below, _LIST_S) if (root / below / ".gitmodules").exists() else Done(0, b"", "")
    if done.code != 0 or modules.code != 0:
        raise UsageProblem(f"{root / below}: git cannot list its files: {(done.said or modules.said).strip()}")
    names = {below + os.fsdecode(raw) for raw in done.output.split(b"\0") if raw}
    for name in (below + os.fsdecode(raw.partition(b"\t")[2]) for raw in modules.output.split(b"\0") if raw.startswith(_SUBMODULE)):
        names.discard(name)
        if os.path.lexists(root / name / ".git"):
            yield from _of_git(root, f"{name}/", left_out)
        else:
            left_out[f"{name}/"] = "a submodule that is not checked out; git submodule update --init"
    for name in names:
        if name.endswith("/"):
            left_out[name] = "a git repository of its own, and no submodule"
        else:
            yield name


def _walked(root: Path, below: str, rules: Rules, left_out: dict[str, str]) -> Iterator[str]:
    """All files, without looking into folders that are left out."""
    try:
        entries = sorted(os.scandir(root / below), key=lambda entry: entry.name)
    except OSError as error:
        left_out[below or "./"] = f"cannot be read: {error.strerror}"
        return
    if below and any(entry.name == "pyvenv.cfg" for entry in entries) and not rules.entry.include:
        left_out[below] = "a virtual environment"
        return
    for entry in entries:
        name = below + entry.name
        if not entry.is_dir(follow_symlinks=False):
            yield name
        elif (found := rules.objection(name, None)) and (never(entry.name) or not rules.entry.include):
            left_out[found[0]] = found[1]
        else:
            yield from _walked(root, f"{name}/", rules, left_out)


def _item(root: Path, name: str, rules: Rules, left_out: dict[str, str], known: _Known) -> Item | None:
    path = f"{root}/{name}"
    try:
        about = os.lstat(path)
        found = rules.objection(name, about.st_size)
        if found is None and stat.S_ISLNK(about.st_mode):
            target = os.readlink(path)  # noqa: PTH115 - the same
            why = _leads_out(root, name, target)
            if why is None:
                return Item(name, "l", target, 0)
            found = name, why
        elif found is None and not stat.S_ISREG(about.st_mode):
            found = name, "no regular file"
        if found is None:
            return Item(name, "x" if about.st_mode & stat.S_IXUSR else "f", known.digest(name, about), about.st_size)
    except FileNotFoundError:
        return None  # git knows it, and it is deleted
    except OSError as error:
        found = name, f"cannot be read: {error.strerror}"
    left_out[found[0]] = found[1]
    return None


def _leads_out(root: Path, name: str, target: str) -> str | None:
    """Why a link cannot be kept as one: it leads out of the tree, here or there."""
    if target.startswith("/"):
        return f"a link to {target!r}, which is a path of this machine"
    inside = os.path.normpath(os.path.join(os.path.dirname(name), target))  # noqa: PTH118, PTH120 - names, not files
    real = os.path.realpath(root / name)
    if f"{inside}/".startswith("../") or os.path.commonpath([real, root]) != str(root):
        return f"a link that leads out of the tree, to {target!r}"
    return None


def _check_size(tree: Tree, rules: Rules) -> None:
    most = rules.entry.max_total_mib * (1 << 20)
    if tree.size <= most:
        return
    folders: dict[str, int] = {}
    for item in tree.items:
        top = item.path.partition("/")[0]
        folders[top] = folders.get(top, 0) + item.size
    largest = sorted(folders.items(), key=lambda pair: -pair[1])[:_MOST_EXAMPLES]
    shown = ", ".join(f"{name!a} {size / (1 << 20):,.0f} MiB" for name, size in largest)
    raise UsageProblem(
        f"{tree.root}: {tree.size / (1 << 20):,.0f} MiB of code are more than max_total_mib = {rules.entry.max_total_mib:g}. The largest: {shown}.\n"
        "Data and models do not belong into code: ignore them in git, or name them in [code] exclude of hosts.toml; else allow more there."
    )


class _Known:
    """Hashes of files that have not changed since. The time of a file's last change of any kind (ctime) is no user's to set, so none hides behind it."""

    def __init__(self, root: Path) -> None:
        self._root, self._now = root, time.time_ns()
        cache = os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()
        self._file = Path(cache) / "gpueval" / "sync" / f"{hashlib.sha256(os.fsencode(root)).hexdigest()[:16]}.json"
        self._before: dict[str, list[Any]] = {}
        self._after: dict[str, list[Any]] = {}
        with suppress(OSError, ValueError):
            found = json.loads(self._file.read_bytes())
            self._before = found if isinstance(found, dict) else {}

    def digest(self, name: str, about: os.stat_result) -> str:
        """The SHA-256 of a file that looks like this. Raises OSError."""
        looks = [about.st_size, about.st_mtime_ns, about.st_ctime_ns, about.st_ino]
        before = self._before.get(name)
        digest = before[4] if before is not None and before[:4] == looks else hashed(self._root / name)
        if max(about.st_mtime_ns, about.st_ctime_ns) < self._now - _FRESH_NS:
            self._after[name] = [*looks, digest]
        return str(digest)

    def save(self) -> None:
        """For the next time; without it hashes are made anew."""
        if self._after == self._before:
            return
        beside = self._file.with_suffix(f".{os.getpid()}.{threading.get_ident()}.tmp")  # several hosts get it at the same time
        with suppress(OSError):
            self._file.parent.mkdir(parents=True, exist_ok=True)
            beside.write_text(json.dumps(self._after))
            beside.replace(self._file)


def hashed(path: Path) -> str:
    """The SHA-256 of a regular file. Raises OSError."""
    with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as file:  # noqa: PTH123 - a descriptor
        return hashlib.file_digest(file, "sha256").hexdigest()


def content(root: Path, item: Item) -> bytes:
    """A file as it is now, but no more than a byte beyond what it was; nothing where it is gone. Raises StorageError."""
    try:
        file = os.open(f"{root}/{item.path}", os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise StorageError(f"{root / item.path}: cannot be read: {error.strerror or error}") from None
    try:
        found = os.read(file, item.size + 1)
        while len(found) < item.size and (data := os.read(file, item.size + 1 - len(found))):
            found += data
        return found
    finally:
        os.close(file)


def names(items: Iterable[Item]) -> str:
    """Some of them, in words."""
    shown = [f"{item.path!a}" for item in items]
    return ", ".join(shown[:_MOST_EXAMPLES]) + (f" and {len(shown) - _MOST_EXAMPLES:,} more" if len(shown) > _MOST_EXAMPLES else "")
