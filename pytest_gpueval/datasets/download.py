"""Large files of the Hub, fetched so that a process that dies, however it does, leaves what it had to the next one.

huggingface_hub goes on after a broken connection, but gives each of its downloads a file of its own, which is lost with the process. Here what has come is
kept under a name made of the file's place and of the hash that it must have: content that has changed never continues what was there before.
"""

from __future__ import annotations

import hashlib
import shutil
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from pytest_gpueval.errors import DataError, StorageError

from .parquet import file_hash
from .remote import RemoteFile

if TYPE_CHECKING:
    from collections.abc import Callable

ADVICE = "HF_HOME chooses another place for what is fetched."
_SUFFIX = ".incomplete"
_FOR_A_GROUP = 0o664  # as huggingface_hub makes its locks: several users may share a cache


def can_go_on(file: RemoteFile) -> bool:
    """Whether the Hub tells the file's hash, and hands it out by plain HTTP, which knows ranges. What is small enough to have no hash begins anew."""
    from huggingface_hub import constants

    return file.sha256 is not None and file.bytes is not None and file.bytes <= constants.MAX_HTTP_DOWNLOAD_SIZE


def fetch(repo: str, revision: str, file: RemoteFile, kind: str, half: Path, advice: str = "") -> None:
    """Fetch a file to `half`, from the byte on at which an earlier process stopped, and check the whole of it.

    Raises DataError for what is not what the Hub says, StorageError, which ends with the `advice`, and whatever huggingface_hub raises.
    """
    try:
        half.parent.mkdir(parents=True, exist_ok=True)
        begun = _begun(half, file)
        if _fetched(repo, revision, file, kind, half, begun) or (begun and _fetched(repo, revision, file, kind, half, 0)):
            return
    except OSError as error:
        if error.errno is None or isinstance(error, ConnectionError):
            raise
        raise StorageError(f"{half}: cannot be written: {error.strerror}" + (f".\n{advice}" if advice else "")) from None
    raise DataError(f"{repo}@{revision[:7]}: {file.path} is not the file that it should be: it did not arrive as the Hub says it is; fetch it again")


def into_cache(repo: str, revision: str, file: RemoteFile, kind: str, *, again: bool) -> None:
    """Have a file's bytes in huggingface_hub's cache, as it lays them down: a blob named by its hash, where its own download then finds it. Raises as `fetch`.

    Its own lock is held meanwhile.
    """
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    cache, name, sha256 = Path(constants.HF_HUB_CACHE), repo_folder_name(repo_id=repo, repo_type=kind), str(file.sha256)
    blob = cache / name / "blobs" / sha256

    def lock_of(hash_: str) -> Path:
        return cache / ".locks" / name / f"{hash_}.lock"

    lock_of(sha256).parent.mkdir(parents=True, exist_ok=True)
    with FileLock(lock_of(sha256), mode=_FOR_A_GROUP):
        if blob.exists() and not again:
            return
        half = half_of(blob.parent, file)
        _discard_others(half, lock_of)
        fetch(repo, revision, file, kind, half, ADVICE)
        half.replace(blob)


def copied(here: Path | None, file: RemoteFile, half: Path) -> bool:
    """Whether a file that is `here` already is what it should be, and now in `half` too. Raises StorageError."""
    if here is None or file_hash(here) != file.sha256:
        return False
    try:
        half.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(here, half)
    except OSError as error:
        raise StorageError(f"{half}: cannot be written: {error.strerror}") from None
    return True


def half_of(folder: Path, file: RemoteFile) -> Path:
    """Where below `folder` a file is kept until it is whole."""
    return folder / f"{hashlib.sha256(file.path.encode()).hexdigest()[:16]}-{file.sha256}{_SUFFIX}"


def _begun(half: Path, file: RemoteFile) -> int:
    """How many bytes are there already."""
    size = half.stat().st_size if half.exists() else 0
    if size <= (file.bytes or 0):
        return size
    half.unlink()
    return 0


def _fetched(repo: str, revision: str, file: RemoteFile, kind: str, half: Path, begun: int) -> bool:
    """Fetch what is missing behind the first `begun` bytes. Whether the whole is what it should be; if not, nothing of it is left."""
    from huggingface_hub import hf_hub_url
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

    # The client leaves the token out where the Hub sends it on to another host.
    with half.open("ab") as target:
        http_get(
            hf_hub_url(repo, file.path, repo_type=kind, revision=revision), target, resume_size=begun, headers=build_hf_headers(), expected_size=file.bytes
        )
    return _is_whole(half, file)


def _is_whole(half: Path, file: RemoteFile) -> bool:
    if file_hash(half) == file.sha256:
        return True
    half.unlink()
    return False


def _discard_others(half: Path, lock_of: Callable[[str], Path]) -> None:
    """Throw away what is there of other content of the same file, unless somebody is fetching it."""
    prefix, _, _ = half.name.partition("-")
    for other in half.parent.glob(f"{prefix}-*{_SUFFIX}"):
        if other != half:
            with suppress(Timeout), FileLock(lock_of(other.name.removeprefix(f"{prefix}-").removesuffix(_SUFFIX)), timeout=0):
                other.unlink(missing_ok=True)
