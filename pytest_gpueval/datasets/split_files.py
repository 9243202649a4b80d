"""Which parquet files of a repository are a split's, as `datasets` finds them; None where only `datasets` itself can tell.

The patterns are those of `datasets.data_files`. What is not plain parquet (other formats, filters, columns, files elsewhere) is left to `datasets`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import PurePosixPath
from typing import Any

from pytest_gpueval.errors import MissingExtra

from .card import DEFAULT, Config, files_by_split
from .metadata import Metadata, default_config

Patterns = Mapping[str, Sequence[str]]

_SHARDED = "data/{split}-[0-9][0-9][0-9][0-9][0-9]-of-[0-9][0-9][0-9][0-9][0-9]*.*"
_SHARDED_NAME = re.compile(r"(.+)-[0-9][0-9][0-9][0-9][0-9]-of-[0-9][0-9][0-9][0-9][0-9]*.*")
_SPLIT = re.compile(r"^\w+(\.\w+)*$")
_KEYWORDS = {"train": ("train", "training"), "validation": ("validation", "valid", "dev", "val"), "test": ("test", "testing", "eval", "evaluation")}
_SEPARATOR = "[-._ 0-9]"
_IN_DIRECTORY = ("**/{0}/**", "**/{0}{1}*/**", "**/*{1}{0}/**", "**/*{1}{0}{1}*/**")
_IN_FILE = ("**/{0}{1}*", "**/*{1}{0}{1}*")
# Formats that are looked for before any split.
_OTHER_FORMATS = ("**/*.eval", "**/task.toml", "**/instruction.md")
_NEVER_DATA = frozenset({"README.md", "config.json", "dataset_info.json", "dataset_infos.json", "dummy_data.zip", "dataset_dict.json"})
# Suffixes that no format of `datasets` has.
_NO_FORMAT = frozenset({"cfg", "ini", "ipynb", "lock", "log", "py", "sh", "yaml", "yml"})
# Keys of a config under which the rows may be others than those of the files.
_CHANGES_ROWS = frozenset({"columns", "features", "filters", "on_bad_files", "fragment_scan_options"})
# What a pattern may not have if it is to mean the same here as there.
_ELSEWHERE = re.compile(r"://|::|\\|^[/~]|/$|//|(^|/)\.\.?(/|$)|\*\*[^/]|[^/]\*\*")
_MAGIC = re.compile(r"[*?\[]")


class _NotPlain(Exception):
    """Not an error: `datasets` itself must find the files."""


def split_files(paths: Sequence[str], metadata: Metadata, config: str | None, split: str) -> list[str] | None:
    """The files of a split in the order of its rows, [] where there is no such split; None where only `datasets` can tell.

    `paths` are all files of the repository; the config is by default the default one. Raises DataError for metadata that cannot be read, UsageProblem
    where there are several configs and no default, MissingExtra.
    """
    splits = files_of_splits(paths, metadata, config)
    return None if splits is None else splits.get(split, [])


def files_of_splits(paths: Sequence[str], metadata: Metadata, config: str | None = None) -> dict[str, list[str]] | None:
    """The files of every split of a config, as `split_files` has them. Raises as that."""
    card = metadata.effective()
    config = default_config(metadata) if config is None else config
    configs = card.configs or ()
    entry = card.config(config)
    if entry is None and (configs or config != DEFAULT):
        return None  # `datasets` says which there are
    try:
        # `datasets` tells the format from the first config, without its directory, and lets it hold for all.
        first = configs[0] if configs else None
        _require_parquet(_resolved(paths, _patterns(paths, "", first)))
        if entry is None:
            return _resolved(paths, _patterns(paths, "", None))
        for other in configs:  # `datasets` refuses them all where one has nothing
            _patterns(paths, _base(other.data_dir), other)
        if _CHANGES_ROWS & set(entry.options or ()):
            return None
        base = _base(entry.data_dir)
        splits = _resolved(paths, _patterns(paths, base, entry), base)
        _require_parquet(splits)
    except _NotPlain:
        return None
    return splits


def _patterns(paths: Sequence[str], base: str, entry: Config | None) -> Patterns:
    if entry is None or entry.data_files is None:
        return _default_patterns(paths, base)
    _require_known_form(entry.data_files)
    return files_by_split(entry.data_files)


def _require_known_form(data_files: Any) -> None:
    """Only what `datasets` takes in a card. Raises _NotPlain."""
    if isinstance(data_files, str):
        return
    if not isinstance(data_files, list) or not data_files:
        raise _NotPlain
    if all(isinstance(pattern, str) for pattern in data_files):
        return
    for entry in data_files:
        if not isinstance(entry, dict) or set(entry) != {"split", "path"} or not isinstance(entry["split"], str) or not _SPLIT.match(entry["split"]):
            raise _NotPlain
        patterns = entry["path"] if isinstance(entry["path"], list) else [entry["path"]]
        if not patterns or not all(isinstance(pattern, str) for pattern in patterns):
            raise _NotPlain
    if len({entry["split"] for entry in data_files}) < len(data_files):
        raise _NotPlain


def _base(data_dir: Any) -> str:
    """The prefix of a config's files. Raises _NotPlain."""
    if not data_dir:
        return ""
    if not isinstance(data_dir, str) or _ELSEWHERE.search(data_dir) or _MAGIC.search(data_dir):
        raise _NotPlain
    return f"{data_dir}/"


def _default_patterns(paths: Sequence[str], base: str) -> Patterns:
    """The patterns that `datasets` tries where a card names none: the first that find a file, of any format. Raises _NotPlain."""
    names = set()
    for path in _matches(paths, base, _SHARDED.format(split="*")):
        found = _SHARDED_NAME.search(PurePosixPath(path).name)
        if found is None or _SPLIT.match(found[1]) is None:
            raise _NotPlain
        names.add(found[1])
    if names:
        return {name: [_SHARDED.format(split=name)] for name in [*(split for split in _KEYWORDS if split in names), *sorted(names - set(_KEYWORDS))]}
    if any(_matches(paths, base, pattern) for pattern in _OTHER_FORMATS):
        raise _NotPlain
    for forms in (_IN_DIRECTORY, _IN_FILE):
        tried = {split: [form.format(keyword, _SEPARATOR) for keyword in keywords for form in forms] for split, keywords in _KEYWORDS.items()}
        found_any = {split: patterns for split, patterns in tried.items() if any(_matches(paths, base, pattern) for pattern in patterns)}
        if found_any:
            return found_any
    if not _matches(paths, base, "**"):
        raise _NotPlain
    return {"train": ["**"]}


def _resolved(paths: Sequence[str], patterns: Patterns, base: str = "") -> dict[str, list[str]]:
    """The files of each split. A pattern that finds none is an error to `datasets`, or makes an empty split. Raises _NotPlain."""
    splits: dict[str, list[str]] = {}
    for split, tried in patterns.items():
        found = [_glob(paths, base, pattern) for pattern in tried]
        if not any(found) or any(not files and not _MAGIC.search(pattern) for files, pattern in zip(found, tried, strict=True)):
            raise _NotPlain
        splits[split] = [path for files in found for path in files]
    return splits


def _require_parquet(splits: Mapping[str, Iterable[str]]) -> None:
    """Whether `datasets` takes the files of each split for parquet. Raises _NotPlain."""
    for files in splits.values():
        counts = Counter(suffix.lower() for path in files for suffix in _suffixes(path))
        if counts["parquet"] < max(counts.values()):
            raise _NotPlain


def _glob(paths: Sequence[str], base: str, pattern: str) -> list[str]:
    """The data files that match a pattern, sorted. Raises _NotPlain for a match that may be data of another format."""
    files = []
    for path in _matches(paths, base, pattern):
        suffixes = _suffixes(path)
        if _NO_FORMAT.issuperset(suffixes):  # or there is none
            continue
        if suffixes[-1] != "parquet" or PurePosixPath(path).name.startswith("metadata."):  # which belongs to folders of images and the like
            raise _NotPlain
        files.append(path)
    return files


def _matches(paths: Sequence[str], base: str, pattern: str) -> list[str]:
    """The files of any format that match a pattern, sorted. Raises _NotPlain for a pattern that may mean something else to `datasets`."""
    if not pattern or _ELSEWHERE.search(pattern):
        raise _NotPlain
    matcher, whole = _matcher(base, pattern), base + pattern
    ignored = _NEVER_DATA - {PurePosixPath(pattern).name}
    return [
        path
        for path in sorted(set(paths))
        if matcher.match(path) and PurePosixPath(path).name not in ignored and _special(path) == _special(whole) and _hidden(path) == _hidden(whole)
    ]


@cache
def _matcher(base: str, pattern: str) -> re.Pattern[str]:
    """Raises MissingExtra."""
    try:
        from fsspec.utils import glob_translate
    except ImportError:
        raise MissingExtra("fsspec", needed_for="finding the files of a split", extra="hub") from None
    return re.compile(glob_translate(base + pattern))


def _suffixes(path: str) -> list[str]:
    return PurePosixPath(path).name.split(".")[1:]


def _special(path: str) -> int:
    """How many of the directories are of the kind of `__pycache__`, which only a pattern that names them finds."""
    return sum(part.startswith("__") for part in PurePosixPath(path).parent.parts)


def _hidden(path: str) -> int:
    """How many parts of the path are hidden, which only a pattern that says so finds."""
    return sum(part.startswith(".") and set(part) != {"."} for part in PurePosixPath(path).parts)
