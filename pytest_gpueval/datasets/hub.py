"""Splits of Hub repositories: which commit and which files, and the files themselves, each checked against what the Hub says of it.

A name of a revision (`main`) is resolved on every use or not at all: what was fetched before is used for a whole commit hash, never in place of an
answer. Files land in huggingface_hub's own cache.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Literal, TypeVar
from urllib.parse import quote

from filelock import FileLock

from pytest_gpueval.errors import DataError, GpuevalError, MissingExtra, Offline, StorageError, UsageProblem, valid_values

from . import access, download, infos, metadata
from .cache import cache_directory
from .card import CARD
from .metadata import Metadata
from .parquet import ParquetSplit
from .remote import MAIN, RemoteFile, RemoteSplit, folder_of
from .split_files import files_of_splits
from .writing import write_whole

T = TypeVar("T")

Kind = Literal["dataset", "model"]
DATASET: Final = "dataset"
TIMEOUT_S = 5.0
# A Hub that is down, or that says "too many requests", is asked again for so long.
PATIENCE_S = 6.0
_COMMIT = re.compile(r"[0-9a-f]{40}")
_TEXTS = (CARD, metadata.YAML, infos.INFOS, infos.INFO)
_DAY_S = 86_400
_CACHE = "XDG_CACHE_HOME chooses another place."


@dataclass(frozen=True, slots=True)
class Repository:
    """A repository at one commit: its files, and the texts that say what its splits are."""

    name: str
    revision: str
    files: tuple[RemoteFile, ...]
    texts: Mapping[str, str]

    @property
    def metadata(self) -> Metadata:
        """What the repository says of its splits."""
        return Metadata(*map(self.texts.get, _TEXTS))

    def splits(self, config: str | None = None) -> dict[str, tuple[RemoteFile, ...]] | None:
        """The files of every split of a config; None where they are no plain parquet. Raises DataError, UsageProblem."""
        found = files_of_splits([file.path for file in self.files], self.metadata, config)
        by_path = {file.path: file for file in self.files}
        return None if found is None else {split: tuple(by_path[path] for path in paths) for split, paths in found.items()}

    @property
    def words(self) -> str:
        """`acme/people@1234567`."""
        return f"{self.name}@{self.revision[:7]}"


class Hub:
    """The Hub as the environment says: HF_ENDPOINT, HF_HOME, HF_TOKEN, HF_HUB_OFFLINE. Calls may come from several threads."""

    def __init__(self) -> None:
        """Raises MissingExtra."""
        try:
            from huggingface_hub import HfApi  # noqa: PLC0415 - heavy
            from huggingface_hub.utils.tqdm import disable_progress_bars  # noqa: PLC0415 - heavy
        except ImportError as error:
            raise MissingExtra(error.name or "huggingface_hub", needed_for="--gpueval-data hub", extra="hub") from None
        disable_progress_bars()
        self._api = HfApi()
        self._answered: set[str] = set()
        # What a user should know of where data came from.
        self.notes: list[str] = []

    def split(self, repo: str, revision: str | None, split: str, config: str | None = None) -> RemoteSplit:
        """Which files are a split, at a commit or at what a branch or tag names now. Raises DataError, AccessDenied, Unreachable, StorageError."""
        found = self.repository(repo, revision or MAIN)
        try:
            splits = found.splits(config)
            rows = metadata.expected(found.metadata, config) or {}
        except (DataError, UsageProblem) as problem:
            raise type(problem)(f"{found.words}: {problem}") from None
        if splits is not None and split not in splits:
            raise DataError(f"{found.words}: has no split {split!r}. {valid_values(split, splits, what='splits')}")
        return RemoteSplit(repo, found.revision, split, config, splits[split] if splits is not None else (), rows.get(split))

    def repository(self, repo: str, revision: str, kind: Kind = DATASET) -> Repository:
        """A repository at a commit, or at what a branch or tag names now. A model has no texts here.

        Raises DataError, AccessDenied, Unreachable, StorageError.
        """
        if kind == DATASET and _COMMIT.fullmatch(revision) and (known := self._remembered(repo, revision)) is not None:
            return known
        if access.offline():
            return self._offline(repo, revision)
        look: Any = self._api.model_info if kind == "model" else self._api.dataset_info
        info = self._asked(lambda: look(repo, revision=revision, files_metadata=True, timeout=TIMEOUT_S), repo, revision)
        self._answered.add(repo)
        files = tuple(RemoteFile(file.rfilename, file.size, file.lfs.sha256 if file.lfs else None) for file in info.siblings or ())
        names = {file.path for file in files}
        texts = {name: self._text(repo, str(info.sha), name) for name in _TEXTS if name in names and kind == DATASET}
        if kind != DATASET:
            return Repository(repo, str(info.sha), files, texts)
        found = self._remember(Repository(repo, str(info.sha), files, texts))
        if not _COMMIT.fullmatch(revision):
            write_whole(self._place(repo, f"named-{quote(revision, safe='')}"), found.revision, _CACHE)
        return found

    def _text(self, repo: str, revision: str, name: str) -> str:
        """A text as it is, line breaks included. Raises DataError, and as `file`."""
        data = self.file(repo, revision, name).read_bytes()
        try:
            return data.decode()
        except UnicodeDecodeError as error:
            raise DataError(f"{repo}@{revision[:7]}: {name} is not UTF-8: {error}") from None

    def fetch(self, remote: RemoteSplit, *, again: bool = False) -> ParquetSplit:
        """The split's files, fetched unless they are here; `again` fetches them in any case. Raises DataError, AccessDenied, Unreachable, StorageError.

        What is here but is not what the repository holds is fetched anew, and a note says so.
        """
        if not remote.files:
            return ParquetSplit(self._converted(remote, again=again), remote.origin, revision=remote.revision)
        found = self._fetched(remote, again=again)
        if found.expected is not None and found.sha256 != found.expected and not access.offline():
            self.notes.append(f"{remote.origin}: {found.path.name} was damaged in the cache, and is fetched anew")
            found = self._fetched(remote, again=True)
        found.check((), None)
        if remote.rows is not None and found.rows != remote.rows:
            raise DataError(
                f"{remote.origin}: split {remote.split!r} has {found.rows:,} rows, but the repository says {remote.rows:,} of itself: its metadata is of "
                "another file, and the library `datasets` refuses to load it.\nWhoever may write there mends it: gpueval datasets publish-info"
            )
        return found

    def held(self, remote: RemoteSplit) -> ParquetSplit:
        """A split as it is here; the Hub is not asked. Where `files` are not known, the commit was looked at from here. Raises DataError."""
        known = None if remote.files or not _COMMIT.fullmatch(remote.revision) else self._remembered(remote.repo, remote.revision)
        files = remote.files if known is None else (known.splits(remote.config) or {}).get(remote.split, ())
        here = [path for file in files if (path := self._here(remote.repo, remote.revision, file.path)) is not None]
        if not here or len(here) < len(files):
            raise DataError(f"{remote.origin}: split {remote.split!r} is not in this machine's cache")
        return ParquetSplit(here[0], remote.origin, tuple(here[1:]), remote.sha256, remote.revision)

    def _fetched(self, remote: RemoteSplit, *, again: bool) -> ParquetSplit:
        first, *rest = [self._file_of(remote, file, again=again) for file in remote.files]
        return ParquetSplit(first, remote.origin, tuple(rest), remote.sha256, remote.revision)

    def _file_of(self, remote: RemoteSplit, file: RemoteFile, *, again: bool) -> Path:
        """One file of a split. Raises as `file`."""
        if not access.offline() and download.can_go_on(file) and (again or self._here(remote.repo, remote.revision, file.path) is None):
            self._require_answer(remote.repo, DATASET)
            name = f"{file.path} at {remote.revision[:7]}"
            self._asked(lambda: download.into_cache(remote.repo, remote.revision, file, DATASET, again=again), remote.repo, name)
            again = False
        return self.file(remote.repo, remote.revision, file.path, again=again)

    def commit(self, repo: str, parent: str, message: str, contents: Mapping[str, bytes | Path], removed: Sequence[str]) -> str:
        """One commit on top of `parent`, and its hash. Raises Conflict where `parent` is not the last any more, AccessDenied, Unreachable."""
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete  # noqa: PLC0415 - heavy

        operations: list[Any] = [CommitOperationAdd(path, content if isinstance(content, bytes) else str(content)) for path, content in contents.items()]
        operations += [CommitOperationDelete(path) for path in removed]

        def send() -> str:
            return str(self._api.create_commit(repo, operations, commit_message=message, parent_commit=parent, repo_type="dataset").oid)

        return self._asked(send, repo, f"a commit on {parent[:7]}")

    def to_fetch(self, remote: RemoteSplit) -> int | None:
        """Bytes of the split's files that are not here; None where that is not known."""
        missing = [file.bytes for file in remote.files if self._here(remote.repo, remote.revision, file.path) is None]
        return None if not remote.files or None in missing else sum(size for size in missing if size is not None)

    def fresh(self, remote: RemoteSplit, folder: Path) -> list[Path]:
        """The split's files, fetched into a cache of their own. Raises as `fetch`."""
        return [self.file(remote.repo, remote.revision, file.path, again=True, cache=folder) for file in remote.files] or [self._converted(remote, again=True)]

    def file(
        self, repo: str, revision: str, path: str, *, kind: Kind = DATASET, again: bool = False, cache: Path | None = None, folder: Path | None = None
    ) -> Path:
        """One file at a commit, in `cache` instead of huggingface_hub's, or itself in `folder`. Raises DataError, AccessDenied, Unreachable, StorageError."""
        from huggingface_hub import hf_hub_download  # noqa: PLC0415 - heavy

        if again or folder is not None or self._here(repo, revision, path, kind, cache) is None:
            self._require_answer(repo, kind)

        def fetch() -> str:
            place: dict[str, Any] = {"cache_dir": cache, "local_dir": folder, "force_download": again, "etag_timeout": TIMEOUT_S}
            return str(hf_hub_download(repo, path, repo_type=kind, revision=revision, **place))

        return Path(self._asked(fetch, repo, f"{path} at {revision[:7]}"))

    def to_place(self, repo: str, revision: str, file: RemoteFile, half: Path, *, kind: Kind, advice: str) -> None:
        """A file that `download.can_go_on` with, whole and checked, in `half`: from where an earlier process stopped. Raises as `download.fetch` and `file`."""
        if not download.copied(self._here(repo, revision, file.path, kind), file, half):
            self._require_answer(repo, kind)
            self._asked(lambda: download.fetch(repo, revision, file, kind, half, advice), repo, f"{file.path} at {revision[:7]}")

    def _here(self, repo: str, revision: str, path: str, kind: Kind = DATASET, cache: Path | None = None) -> Path | None:
        """A file that is in huggingface_hub's cache, or in `cache`."""
        from huggingface_hub import try_to_load_from_cache  # noqa: PLC0415 - heavy

        found = try_to_load_from_cache(repo, path, cache, revision, kind)
        return Path(found) if isinstance(found, str) else None

    def _require_answer(self, repo: str, kind: Kind) -> None:
        """See, once, that the Hub answers: a download would try for half a minute, or for six where nobody even refuses. Raises as `_asked`."""
        if repo in self._answered or access.offline():
            return
        look: Any = self._api.model_info if kind == "model" else self._api.dataset_info
        self._asked(lambda: look(repo, timeout=TIMEOUT_S), repo, MAIN)
        self._answered.add(repo)

    def _asked(self, call: Callable[[], T], repo: str, wanted: str) -> T:
        """Ask, again for a while where that can help. Raises as `access.explained` says."""
        from tenacity import Retrying, retry_if_exception, stop_before_delay  # noqa: PLC0415 - only here

        patience = Retrying(retry=retry_if_exception(_may_pass), stop=stop_before_delay(PATIENCE_S), wait=_wait_s, reraise=True)
        try:
            return patience(call)
        except GpuevalError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever huggingface_hub and its HTTP library raise
            raise access.explained(error, repo, wanted) from None

    # What is remembered of commits, which never change.

    def _place(self, repo: str, revision: str) -> Path:
        return cache_directory() / "hub" / folder_of(repo) / f"{revision}.json"

    def _remembered(self, repo: str, revision: str) -> Repository | None:
        try:
            known = json.loads(self._place(repo, revision).read_bytes())
            return Repository(repo, revision, tuple(RemoteFile(**file) for file in known["files"]), known["texts"])
        except (OSError, ValueError, KeyError, TypeError):  # not there, or of another version
            return None

    def _remember(self, found: Repository) -> Repository:
        known = {"files": [asdict(file) for file in found.files], "texts": dict(found.texts)}
        write_whole(self._place(found.name, found.revision), json.dumps(known), _CACHE)
        return found

    def _offline(self, repo: str, revision: str) -> Repository:
        """A repository as it was when the Hub was asked last; a note says when. Raises Offline."""
        commit, when = (revision, "") if _COMMIT.fullmatch(revision) else self._last_known(repo, revision)
        known = self._remembered(repo, commit)
        if known is None:
            raise Offline(
                f"{repo}: revision {revision} was never looked at from here, and HF_HUB_OFFLINE forbids to ask.\n"
                "Run it once with the Hub, or fetch it there: `gpueval assets download`, then --gpueval-data DIR."
            )
        if when:
            self.notes.append(f"{repo}: offline; {revision} is taken to be {commit[:7]}, as it was {when}")
        return known

    def _last_known(self, repo: str, name: str) -> tuple[str, str]:
        """The commit that a branch or tag named when the Hub was asked last, and how long ago that was; empty if it never was."""
        place = self._place(repo, f"named-{quote(name, safe='')}")
        try:
            return place.read_text(encoding="ascii"), _ago(time.time() - place.stat().st_mtime)
        except OSError:
            return "", ""

    def _converted(self, remote: RemoteSplit, *, again: bool) -> Path:
        """A split that is no plain parquet, read by the library `datasets` and written as parquet, once for each commit."""
        name = f"{remote.config or 'default'}-{remote.split}.parquet"
        place = cache_directory() / "converted" / folder_of(remote.repo) / remote.revision / name
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(place.with_suffix(".lock")):
                if again or not place.exists():
                    half = place.with_suffix(f".{os.getpid()}.half")
                    self._asked(lambda: _load(remote, half, again=again), remote.repo, f"split {remote.split!r}")
                    half.replace(place)
        except OSError as error:
            raise StorageError(f"{place}: cannot be written: {error.strerror}.\n{_CACHE}") from None
        return place


def _load(remote: RemoteSplit, target: Path, *, again: bool) -> None:
    """Let `datasets` read a split, and write it. Raises DataError, MissingExtra."""
    try:
        import datasets  # noqa: PLC0415 - heavy
    except ImportError as error:
        raise MissingExtra(error.name or "datasets", needed_for=f"reading {remote.repo}, which is no plain parquet,", extra="hub") from None
    mode = "force_redownload" if again else None
    try:
        rows: Any = datasets.load_dataset(remote.repo, remote.config, split=remote.split, revision=remote.revision, download_mode=mode)
    except (ValueError, datasets.exceptions.DatasetsError, datasets.exceptions.DatasetGenerationError) as error:
        raise DataError(f"{remote.origin}: the library `datasets` cannot read split {remote.split!r}: {' '.join(str(error).split())[:400]}") from None
    rows.to_parquet(str(target))


def _may_pass(error: BaseException) -> bool:
    status = getattr(getattr(error, "response", None), "status_code", None)
    return status is not None and (status == 429 or status >= 500)


def _wait_s(state: Any) -> float:
    """Seconds until the next try: what the Hub asks for, else more each time."""
    response = getattr(state.outcome.exception(), "response", None)
    asked = response.headers.get("Retry-After", "") if response is not None else ""
    return float(asked) if asked.isdecimal() else 0.25 * 2.0 ** min(state.attempt_number, 4)


def _ago(seconds: float) -> str:
    days = int(seconds // _DAY_S)
    return f"{days} days ago" if days > 1 else f"{max(1, int(seconds // 3600))} hours ago" if seconds >= 3600 else "less than an hour ago"
