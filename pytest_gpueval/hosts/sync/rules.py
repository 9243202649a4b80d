"""What of a repository is code, and goes to hosts; and why the rest does not. Pure."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import Final

from pydantic import Field

from pytest_gpueval.suites.schema import Strict

_MIB: Final = 1 << 20
_PRIVATE: Final = "may hold secrets, which stay here"
_NEVER: Final[Mapping[str, str]] = MappingProxyType(
    dict.fromkeys((".git", ".hg", ".svn", ".jj"), "version control")
    | dict.fromkeys((".ssh", ".aws", ".gnupg", ".netrc", "_netrc", ".pypirc", ".git-credentials", ".pgpass"), _PRIVATE)
    | dict.fromkeys(("id_rsa", "id_dsa", "id_ecdsa", "id_ed25519"), _PRIVATE)
)
_CACHES: Final = {".mypy_cache", ".ruff_cache", ".pytest_cache", ".hypothesis", ".import_linter_cache", ".tox", ".nox", ".cache", ".eggs", "__pycache__"}
_LEFTOVERS: Final = {".ipynb_checkpoints", "node_modules", "wandb", "mlruns", ".DS_Store"}
_KEYS: Final = (".pem", ".key", ".p12", ".pfx", ".jks", ".kdbx")
_MODELS: Final = (".safetensors", ".gguf", ".ggml", ".ckpt", ".pt", ".pth", ".onnx", ".engine", ".plan", ".h5", ".tflite", ".mlmodel", ".pkl", ".joblib")
_DATA: Final = (".parquet", ".arrow", ".feather", ".npy", ".npz", ".tfrecord", ".jsonl", ".csv", ".tar", ".zip", ".gz", ".xz", ".zst", ".bz2", ".7z")
_ENVIRONMENT: Final = "pyvenv.cfg"


class CodeEntry(Strict):
    """`[code]` of hosts.toml: what is sent. In a pattern `*` matches any characters; one without `/` is of a name anywhere, a folder's too."""

    include: list[str] = Field([], description="patterns of files that are sent although a rule leaves them out; never .git, .env* or keys of SSH")
    exclude: list[str] = Field([], description="patterns of files that are not sent")
    max_file_mib: float = Field(10.0, gt=0, description="a larger file is no code")
    max_model_mib: float = Field(1.0, ge=0, description="of a file that is called like a model, such as x.safetensors")
    max_data_mib: float = Field(5.0, ge=0, description="of a file that is called like a dataset, such as x.parquet")
    max_total_mib: float = Field(512.0, gt=0, description="of all together: more is refused")


@dataclass(frozen=True)
class Rules:
    """Which files are left out. `environments` are folders that are virtual environments."""

    entry: CodeEntry = field(default_factory=CodeEntry)
    environments: frozenset[str] = frozenset()

    def objection(self, path: str, size: int | None) -> tuple[str, str] | None:
        """The topmost folder (with a slash behind it), or the file, that is left out, and why; None for what is sent. Without `size`, of a folder."""
        folder, _, name = path.rpartition("/")
        found = self._of_folder(folder) if folder else None
        why = never(name)
        if why and (found is None or not found[2]):
            return path + ("/" if size is None else ""), why
        if found is not None and (found[2] or not _matches(self._included, path)):
            return found[:2]
        if found is None and _matches(self._included, path):
            return None
        if found is None and (why := self._of_name(path, name)) is not None:
            return path + ("/" if size is None else ""), why
        return None if size is None or _matches(self._included, path) else self._too_large(path, size)

    def _of_folder(self, folder: str) -> tuple[str, str, bool] | None:
        """Why nothing in a folder is sent; and whether `include` has no say."""
        if folder in self._folders:
            return self._folders[folder]
        above, _, name = folder.rpartition("/")
        found = self._of_folder(above) if above else None
        if (why := never(name)) and (found is None or not found[2]):
            found = f"{folder}/", why, True
        elif found is None and (why := self._of_name(folder, name)) is not None:
            found = f"{folder}/", why, False
        self._folders[folder] = found
        return found

    def _of_name(self, path: str, name: str) -> str | None:
        if name in _CACHES or name in _LEFTOVERS or name.endswith((".pyc", ".egg-info")):
            return "a cache"
        if path in self.environments:
            return "a virtual environment"
        return "exclude of hosts.toml" if _matches(self._excluded, path) else None

    @cached_property
    def _least(self) -> float:
        """No smaller file is too large for anything."""
        return min(self.entry.max_file_mib, self.entry.max_model_mib, self.entry.max_data_mib) * _MIB

    def _too_large(self, path: str, size: int) -> tuple[str, str] | None:
        if size <= self._least and not path.lower().endswith(_KEYS):
            return None
        name = path.rpartition("/")[2].lower()
        if name.endswith(_KEYS):
            return path, _PRIVATE
        entry = self.entry
        if name.endswith(_MODELS) and size > entry.max_model_mib * _MIB:
            return path, f"a model of {size / _MIB:,.1f} MiB (max_model_mib = {entry.max_model_mib:g})"
        if name.endswith(_DATA) and size > entry.max_data_mib * _MIB:
            return path, f"data of {size / _MIB:,.1f} MiB (max_data_mib = {entry.max_data_mib:g})"
        if size > entry.max_file_mib * _MIB:
            return path, f"{size / _MIB:,.1f} MiB (max_file_mib = {entry.max_file_mib:g})"
        return None

    @cached_property
    def _folders(self) -> dict[str, tuple[str, str, bool] | None]:
        return {}

    @cached_property
    def _included(self) -> re.Pattern[str] | None:
        return _compiled(self.entry.include)

    @cached_property
    def _excluded(self) -> re.Pattern[str] | None:
        return _compiled(self.entry.exclude)


def never(name: str) -> str | None:
    """Why a file or folder of this name is never sent, whatever `include` says."""
    return _NEVER.get(name) or (_PRIVATE if name.startswith(".env") else None)


def environments(paths: Iterable[str]) -> frozenset[str]:
    """The folders that hold a pyvenv.cfg."""
    return frozenset(path.rpartition("/")[0] for path in paths if path.rpartition("/")[2] == _ENVIRONMENT and "/" in path)


def _compiled(patterns: Sequence[str]) -> re.Pattern[str] | None:
    """One expression for all: each matches a path, and all that is below it."""
    if not patterns:
        return None
    translated = []
    for pattern in patterns:
        body = fnmatch.translate(pattern.strip("/")).removesuffix(r"\Z").removesuffix(r"\z")
        translated.append(body if "/" in pattern.rstrip("/") else f"(?:(?s:.*)/)?{body}")
    return re.compile(f"(?:{'|'.join(translated)})(?:/(?s:.*))?\\Z")


def _matches(patterns: re.Pattern[str] | None, path: str) -> bool:
    return patterns is not None and patterns.match(path) is not None
