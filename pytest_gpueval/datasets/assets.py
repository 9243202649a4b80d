"""What a suite needs of the Hub, in a directory that can be carried to machines without a network: fetched, hashed, and written down in a manifest."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Literal

from filelock import FileLock, Timeout

from pytest_gpueval.errors import Conflict, DataError, StorageError

from .download import can_go_on, half_of
from .hub import Hub, Repository
from .mirror import MANIFEST, MODELS, FileEntry, Manifest, SplitEntry, open_mirror
from .parquet import ParquetSplit, file_hash
from .remote import RemoteFile, RemoteSplit, folder_of
from .side_by_side import side_by_side
from .writing import write_whole

_FETCHING = ".fetching"
_AT_ONCE = 4
# Room that is left when everything is there.
_SPARE_BYTES = 64 << 20
_ADVICE = "Free some space, or choose another place: --to DIR"


@dataclass(frozen=True, slots=True)
class Asset:
    """One file: which it is at the Hub, and where it will be below the directory. `dataset` and `split` are of splits only."""

    kind: Literal["dataset", "model"]
    repo: str
    revision: str
    remote: RemoteFile
    target: str
    dataset: str | None = None
    split: str | None = None


def assets_of_split(dataset: str, remote: RemoteSplit) -> list[Asset]:
    """The files of a split: `<dataset>/<split>.parquet`, or numbered ones. Raises DataError for what is no parquet."""
    if not remote.files:
        raise DataError(f"{remote.origin}: split {remote.split!r} is no plain parquet, and cannot be carried as it is")
    count = len(remote.files)
    names = [f"{remote.split}.parquet"] if count == 1 else [f"{remote.split}-{number:05}-of-{count:05}.parquet" for number in range(count)]
    return [
        Asset("dataset", remote.repo, remote.revision, file, f"{dataset}/{name}", dataset, remote.split) for file, name in zip(remote.files, names, strict=True)
    ]


def assets_of_model(model: Repository) -> list[Asset]:
    """All files of a model's repository: `models/<owner>--<name>/...`. Raises DataError for a path that leads elsewhere."""
    found = []
    for file in model.files:
        path = PurePosixPath(file.path)
        if path.is_absolute() or ".." in path.parts:
            raise DataError(f"{model.words}: {file.path!r} is no path below the repository")
        found.append(Asset("model", model.name, model.revision, file, f"{MODELS}/{folder_of(model.name)}/{file.path}"))
    return found


def missing(directory: Path, assets: Sequence[Asset]) -> list[Asset]:
    """Those that are not there, or are not what the Hub, or for what it does not hash the manifest, says. Raises DataError, StorageError."""
    known = _known(directory)
    return [asset for asset in assets if not _is_there(directory / asset.target, asset, known.get((asset.repo, asset.revision, asset.target)))]


def download(hub: Hub, directory: Path, assets: Sequence[Asset], wanted: Sequence[Asset], tell: Callable[[Asset], None]) -> Manifest:
    """Fetch the `wanted` of all `assets`, and write the manifest of them all; `tell` hears of each that is there.

    What was fetched when it breaks off, parts of files too, is there the next time. Raises Conflict where another process does the same; StorageError, before
    anything is fetched, if it does not fit; DataError for what is not what the Hub says; AccessDenied, Unreachable.
    """
    _require_room(directory, wanted)

    def ended(asset: Asset, future: Future[None]) -> None:
        future.result()
        tell(asset)

    with _alone(directory):
        side_by_side(partial(_fetch, hub, directory), wanted, _AT_ONCE, ended)
        shutil.rmtree(directory / _FETCHING, ignore_errors=True)
    return _write_manifest(directory, assets)


def check(directory: Path) -> list[tuple[str, str | None]]:
    """Each file of a directory's manifest, and what is wrong with it, if anything. Raises DataError, UsageProblem."""
    manifest = open_mirror(directory).manifest
    if manifest is None:
        raise DataError(f"{directory / MANIFEST}: no such file; `gpueval assets download` makes it")
    return [(entry.file, _problem(directory / entry.file, entry.bytes, entry.sha256)) for entry in manifest.files]


@contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """Be the only process that fetches into a directory. Raises Conflict, StorageError."""
    lock = FileLock(directory / _FETCHING / ".lock", timeout=0)
    try:
        Path(lock.lock_file).parent.mkdir(exist_ok=True)
        lock.acquire()
    except Timeout:
        raise Conflict(f"{directory}: another `gpueval assets download` writes there now. Wait for it, or choose another place: --to DIR") from None
    except OSError as error:
        raise StorageError(f"{directory}: cannot be written: {error.strerror}") from None
    try:
        yield
    finally:
        lock.release()


def _known(directory: Path) -> dict[tuple[str | None, str | None, str], str]:
    if not (directory / MANIFEST).is_file():
        return {}
    manifest = open_mirror(directory).manifest or Manifest()
    return {(entry.repo, entry.revision, entry.file): entry.sha256 for entry in manifest.files}


def _is_there(path: Path, asset: Asset, known: str | None) -> bool:
    expected = asset.remote.sha256 or known
    return expected is not None and _problem(path, asset.remote.bytes, expected) is None


def _problem(path: Path, size: int | None, sha256: str) -> str | None:
    if not path.is_file():
        return "missing"
    if size is not None and path.stat().st_size != size:
        return f"has {path.stat().st_size:,} bytes, not {size:,}"
    return None if file_hash(path) == sha256 else "damaged or replaced: another SHA-256"


def _require_room(directory: Path, wanted: Iterable[Asset]) -> None:
    """Raises StorageError if what is wanted does not fit."""
    needed = sum(asset.remote.bytes or 0 for asset in wanted)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(directory).free
    except OSError as error:
        raise StorageError(f"{directory}: cannot be written: {error.strerror}") from None
    if needed and needed + _SPARE_BYTES > free:
        raise StorageError(f"{directory}: {needed / 1e9:,.2f} GB are to be fetched, but {free / 1e9:,.2f} GB are free.\n{_ADVICE}")


def _fetch(hub: Hub, directory: Path, asset: Asset) -> None:
    """One file: beside its place until it is whole and checked, also where that takes several processes."""
    target = directory / asset.target
    beside = directory / _FETCHING / asset.target
    if can_go_on(asset.remote):
        half = half_of(beside.parent, asset.remote)
        for other in beside.parent.glob(f"{half.name.partition('-')[0]}-*"):
            if other != half:  # of other content
                other.unlink()
        hub.to_place(asset.repo, asset.revision, asset.remote, half, kind=asset.kind, advice=_ADVICE)
    else:
        half = hub.file(asset.repo, asset.revision, asset.remote.path, kind=asset.kind, folder=directory / _FETCHING / folder_of(asset.repo))
        if asset.remote.sha256 is not None and file_hash(half) != asset.remote.sha256:
            half.unlink(missing_ok=True)
            raise DataError(f"{asset.repo}@{asset.revision[:7]}: {asset.remote.path} did not arrive as the Hub says it is; fetch it again")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        half.replace(target)
    except OSError as error:
        raise StorageError(f"{target}: cannot be written: {error.strerror}") from None


def _write_manifest(directory: Path, assets: Sequence[Asset]) -> Manifest:
    datasets, models = [], []
    for asset in assets:
        path = directory / asset.target
        known = {"repo": asset.repo, "revision": asset.revision, "file": asset.target, "bytes": path.stat().st_size, "sha256": file_hash(path)}
        if asset.kind == "model":
            models.append(FileEntry.model_validate(known))
        else:
            rows = ParquetSplit(path, "").rows
            datasets.append(SplitEntry.model_validate({**known, "dataset": asset.dataset, "split": asset.split, "rows": rows}))
    manifest = Manifest(datasets=datasets, models=models)
    write_whole(directory / MANIFEST, manifest.model_dump_json(indent=2) + "\n")
    return manifest
