"""Changes of a dataset repository: worked out against one commit, shown, and then committed on top of just that commit."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pytest_gpueval.errors import Conflict, DataError

from . import infos, metadata
from .card import CARD, SplitInfo
from .fast import choose, write
from .hub import Hub, Repository
from .labelled import Annotation, read_labelled
from .metadata import Metadata
from .parquet import file_hash
from .remote import MAIN, RemoteFile, RemoteSplit, folder_of
from .selection import NEGATIVES, SEED

_NAMES = {"card": CARD, "yaml": metadata.YAML, "infos": infos.INFOS, "info": infos.INFO}


@dataclass(frozen=True)
class Proposal:
    """What a commit on top of `base` would do. `labels`: label -> rows before (None where there was no such split) and after."""

    base: Repository
    message: str
    texts: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, Path] = field(default_factory=dict)
    removed: Sequence[str] = ()
    labels: Mapping[str, tuple[int | None, int]] = field(default_factory=dict)
    rows: tuple[int | None, int] | None = None
    notes: Sequence[str] = ()

    @property
    def empty(self) -> bool:
        """Whether everything is as it should be already."""
        return not (self.texts or self.files or self.removed)

    @property
    def diff(self) -> str:
        """What changes in texts, as a unified diff, and which files are put and removed."""
        lines = [f"+ {path} ({file.stat().st_size:,} bytes)\n" for path, file in self.files.items()]
        lines += [f"- {path}\n" for path in self.removed]
        for name, text in self.texts.items():
            before = self.base.texts.get(name, "")
            lines += difflib.unified_diff(before.splitlines(keepends=True), text.splitlines(keepends=True), f"a/{name}", f"b/{name}", n=1)
        return "".join(line if line.endswith("\n") else f"{line}\n" for line in lines)


def commit(hub: Hub, repo: str, propose: Callable[[Repository], Proposal], proposal: Proposal) -> tuple[Proposal, str | None]:
    """Commit a proposal on top of the commit that it was made for; once anew where somebody else was faster. Returns what was committed, and the commit.

    Nothing to do is no commit. Raises Conflict where somebody else was faster twice, AccessDenied, Unreachable, and as `propose`.
    """
    for last in (False, True):
        if proposal.empty:
            return proposal, None
        try:
            return proposal, hub.commit(repo, proposal.base.revision, proposal.message, _contents(proposal), proposal.removed)
        except Conflict:
            if last:
                raise
            proposal = propose(hub.repository(repo, MAIN))
    raise AssertionError


def _contents(proposal: Proposal) -> dict[str, bytes | Path]:
    return {**proposal.files, **{name: text.encode() for name, text in proposal.texts.items()}}


@dataclass(frozen=True)
class Wish:
    """A fast split to be: so many rows of `source`, chosen as `selection` says."""

    rows: int
    annotation: Annotation
    split: str = "fast"
    source: str = "full"
    negatives: float = NEGATIVES
    seed: str = SEED
    key: str | None = "id"
    config: str | None = None


def rebalance(hub: Hub, base: Repository, wish: Wish, folder: Path) -> Proposal:
    """A fast split of a repository anew, and its metadata with it; the file is written below `folder`.

    Raises DataError, UsageProblem for what cannot be selected, and as `Hub.fetch`.
    """
    config = wish.config or metadata.default_config(base.metadata)
    splits = base.splits(config)
    if splits is None:
        raise DataError(
            f"{base.words}: its files are no plain parquet, or not where split {wish.source!r} could be told; a fast split is chosen from parquet only"
        )
    if not splits.get(wish.source):
        raise DataError(f"{base.words}: has no split {wish.source!r} to choose from; it has {', '.join(splits) or 'none'}")
    full = hub.fetch(RemoteSplit(base.name, base.revision, wish.source, config, splits[wish.source]))
    sources = [full.path, *full.more]
    selection = choose(sources, wish.annotation, rows=wish.rows, negatives=wish.negatives, seed=wish.seed, key=wish.key)
    path = f"{_folder(splits[wish.source])}{wish.split}-00000-of-00001.parquet"
    written = write(sources, selection, folder / folder_of(base.name) / path)
    old = splits.get(wish.split, ())
    removed = [file.path for file in old if file.path != path]
    same = [file.sha256 for file in old if file.path == path] == [file_hash(written.path)]
    size = written.path.stat().st_size + sum(file.bytes or 0 for split, files in splits.items() if split != wish.split for file in files)
    info = SplitInfo(wish.split, written.rows, _num_bytes(written.path))
    others = _others(hub, base, config, wish.split, splits)
    texts = metadata.with_split(base.metadata, info, others, config, size, f"{path.removesuffix('00000-of-00001.parquet')}*")
    labels, rows = _before(hub, base, wish, old)
    return Proposal(
        base=base,
        message=f"{wish.split}: {written.rows:,} rows of {wish.source}, balanced by label",
        texts=_changed(base.metadata, texts),
        files={} if same else {path: written.path},
        removed=removed,
        labels={name: (labels.get(name, 0) if old else None, tally.selected) for name, tally in selection.labels.items()}
        | {"(none)": (labels.get("(none)", 0) if old else None, selection.negatives.selected)},
        rows=(rows, written.rows),
        notes=selection.notes,
    )


def mend(hub: Hub, base: Repository, config: str | None = None) -> tuple[Proposal, list[metadata.Disagreement]]:
    """The metadata of a repository as its parquet files are, and where it was not. Fetches every split. Raises DataError, and as `Hub.fetch`."""
    config = config or metadata.default_config(base.metadata)
    splits = base.splits(config)
    if not splits:
        raise DataError(f"{base.words}: has no plain parquet files whose rows could be counted")
    actual = {split: _counted(hub, base, config, split, files) for split, files in splits.items()}
    size = sum(file.bytes or 0 for files in splits.values() for file in files)
    wrong = metadata.disagreements(base.metadata, actual, config, size)
    texts = _changed(base.metadata, metadata.repaired(base.metadata, actual, config, size))
    return Proposal(base, "Metadata of the splits as they are", texts), wrong


def _folder(files: Sequence[RemoteFile]) -> str:
    """Where the split's files lie, with a slash; empty for the repository's root."""
    return files[0].path.rpartition("/")[0] + "/" if "/" in files[0].path else ""


def _others(hub: Hub, base: Repository, config: str, split: str, splits: Mapping[str, Sequence[RemoteFile]]) -> dict[str, SplitInfo]:
    """The other splits, which have to be listed too where none is: fetched and counted only then. Raises as `Hub.fetch`."""
    if metadata.expected(base.metadata, config) is not None:
        return {}
    return {name: _counted(hub, base, config, name, files) for name, files in splits.items() if name != split and files}


def _counted(hub: Hub, base: Repository, config: str, split: str, files: Sequence[RemoteFile]) -> SplitInfo:
    found = hub.fetch(RemoteSplit(base.name, base.revision, split, config, tuple(files)))
    return SplitInfo(split, found.rows, sum(map(_num_bytes, (found.path, *found.more))))


def _changed(before: Metadata, after: Metadata) -> dict[str, str]:
    """The files whose text is another one."""
    return {name: text for part, name in _NAMES.items() if (text := getattr(after, part)) is not None and text != getattr(before, part)}


def _num_bytes(path: Path) -> int:
    """The size of a file's rows in memory as `datasets` records it: that of `read_table`, here with one row group in memory at a time."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(path, pre_buffer=False) as file:
        return sum(int(file.read_row_group(group).nbytes) for group in range(file.num_row_groups))


def _before(hub: Hub, base: Repository, wish: Wish, old: Sequence[RemoteFile]) -> tuple[dict[str, int], int | None]:
    """Label -> rows of the split as it is now, and all its rows."""
    if not old:
        return {}, None
    found = hub.fetch(RemoteSplit(base.name, base.revision, wish.split, wish.config, tuple(old)))
    read = read_labelled([found.path, *found.more], wish.annotation, key=None)
    if read.labels is None:
        return {}, found.rows
    counts = dict.fromkeys(read.labels.names, 0)
    for index in read.labels.indices.tolist():
        counts[read.labels.names[index]] += 1
    bare = int((read.labels.indptr[1:] == read.labels.indptr[:-1]).sum())
    return {**counts, "(none)": bare}, found.rows
