"""`dataset_infos.json` and `dataset_info.json`, which older tools wrote beside the card: reading them, and editing them as text."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pytest_gpueval.errors import DataError

from .card import DEFAULT, ConfigInfo, SplitInfo, number

INFOS = "dataset_infos.json"
INFO = "dataset_info.json"

_BEYOND_SPACE = re.compile(r"[^ \t\r\n]|$")
_DECODER = json.JSONDecoder()
# What the tools that wrote these files kept of one conversion. `datasets` takes them for facts about the files there are.
_OF_ONE_CONVERSION = ("shard_lengths", "original_shard_lengths")

Path = tuple[str, ...]


def read(text: str, where: str = INFOS) -> tuple[ConfigInfo, ...]:
    """The infos in `dataset_infos.json`, under the names that `datasets` gives them: one alone is the default. Raises DataError."""
    table = _parse(text, where)
    for name, info in table.items():
        _require_table(info, f"{where}: {name}")
    names = dict(zip(table, [DEFAULT] if len(table) == 1 else table, strict=True))
    return tuple(_info(names[name], info, f"{where}: {name}") for name, info in table.items())


def read_one(text: str, where: str = INFO) -> ConfigInfo:
    """The info in `dataset_info.json`. Raises DataError."""
    table = _parse(text, where)
    name = table.get("config_name")
    return _info(name if isinstance(name, str) else DEFAULT, table, where)


def with_splits(
    text: str, config: str, splits: Sequence[SplitInfo], *, removed: Sequence[str] = (), download_size: int | None = None, dataset_size: int | None = None
) -> str:
    """`dataset_infos.json` with these numbers of a config's splits; the text as it is if it has nothing about the config.

    Key order, indentation and all else stay. Where a number changes, `download_checksums` goes: it is of other files, and `datasets`, where it is told to
    check them, refuses what differs and takes what has none. Raises DataError.
    """
    table = _parse(text, INFOS)
    read(text)
    key = next(iter(table)) if len(table) == 1 and config == DEFAULT else config
    return _informed(text, INFOS, (key,), splits, removed, download_size, dataset_size) if key in table else text


def with_splits_of_one(
    text: str, config: str, splits: Sequence[SplitInfo], *, removed: Sequence[str] = (), download_size: int | None = None, dataset_size: int | None = None
) -> str:
    """As `with_splits`, of `dataset_info.json`, which is about one config. Raises DataError."""
    return _informed(text, INFO, (), splits, removed, download_size, dataset_size) if read_one(text).name == config else text


def _parse(text: str, where: str) -> dict[str, Any]:
    try:
        table = json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(f"{where}:{error.lineno}: not valid JSON: {error.msg}") from None
    except (RecursionError, ValueError) as error:  # a number of thousands of digits
        raise DataError(f"{where}: not valid JSON: {error}") from None
    return _require_table(table, where)


def _require_table(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise DataError(f"{where}: expected an object ({{...}}), found {json.dumps(value)[:60]}")
    return value


def _info(name: str, table: Mapping[str, Any], where: str) -> ConfigInfo:
    splits = table.get("splits")
    entries = None if splits is None else tuple(_splits(splits, f"{where}: splits"))
    return ConfigInfo(name, entries, number(table.get("download_size")), number(table.get("dataset_size")), table.get("features"))


def _splits(splits: Any, where: str) -> list[SplitInfo]:
    if not isinstance(splits, dict):
        raise DataError(f"{where}: expected an object with an entry for each split")
    for name, entry in splits.items():
        _require_table(entry, f"{where}: {name}")
    return [SplitInfo(str(entry.get("name", name)), number(entry.get("num_examples")), number(entry.get("num_bytes"))) for name, entry in splits.items()]


def _informed(
    text: str, where: str, path: Path, splits: Sequence[SplitInfo], removed: Sequence[str], download_size: int | None, dataset_size: int | None
) -> str:
    edit = _Edit(text, where)
    known = edit.at(path).get("splits")
    if known is None:
        edit.put((*path, "splits"), {split.name: _entry(split, {}) for split in splits})
    else:
        keys = {str(entry.get("name", key)): key for key, entry in known.items()}
        sample: dict[str, Any] = next(iter(known.values()), {})
        for split in splits:
            if split.name in keys:
                _renumber(edit, (*path, "splits", keys[split.name]), split)
            else:
                edit.put((*path, "splits", split.name), _entry(split, sample))
        for name in removed:
            if name in keys:
                edit.drop((*path, "splits", keys[name]))
    for key, size in (("download_size", download_size), ("dataset_size", dataset_size)):
        if size is not None:
            edit.put((*path, key), size)
    table = edit.at(path)
    if "size_in_bytes" in table and all(isinstance(table.get(key), int) for key in ("download_size", "dataset_size")):
        edit.put((*path, "size_in_bytes"), table["download_size"] + table["dataset_size"] + (number(table.get("post_processing_size")) or 0))
    if edit.changed and table.get("download_checksums") is not None:
        edit.drop((*path, "download_checksums"))
    return edit.text


def _renumber(edit: _Edit, path: Path, split: SplitInfo) -> None:
    for key, value in (("num_bytes", split.num_bytes), ("num_examples", split.num_examples)):
        if value is not None:
            edit.put((*path, key), value)
    for key in _OF_ONE_CONVERSION:
        lengths = edit.at(path).get(key)
        if lengths is not None and (not isinstance(lengths, list) or sum(number(length) or 0 for length in lengths) != split.num_examples):
            edit.drop((*path, key))


def _entry(split: SplitInfo, sample: Mapping[str, Any]) -> dict[str, Any]:
    if split.num_examples is None or split.num_bytes is None:
        raise ValueError(f"the numbers of split {split.name!r} are not known: {split}")
    entry = {"name": split.name, "num_bytes": split.num_bytes, "num_examples": split.num_examples}
    return entry | ({"dataset_name": sample["dataset_name"]} if "dataset_name" in sample else {})


@dataclass(frozen=True)
class _Member:
    """Where a key of an object starts and ends in the text, and where its value does."""

    key: int
    key_end: int
    start: int
    end: int


class _Edit:
    """JSON whose text is changed in place, one member of an object after the other."""

    def __init__(self, text: str, where: str) -> None:
        self.text, self.where, self.changed = text, where, False

    def at(self, path: Path) -> dict[str, Any]:
        """The object at `path`."""
        found = json.loads(self.text)
        for key in path:
            found = found[key]
        return _require_table(found, f"{self.where}: {'.'.join(path)}")

    def put(self, path: Path, value: Any) -> None:
        """Let the object at `path[:-1]` have a value under the last key."""
        owner = self.at(path[:-1])
        key = path[-1]
        start, members = self._members(path[:-1])
        if key in members:
            if type(owner[key]) is type(value) and owner[key] == value:
                return
            place = members[key]
            self._splice(place.start, place.end, self._rendered(value, self._indent(place.key)))
        elif members:
            last, before = list(members.values())[-1], list(members.values())[:-1]
            gap = self.text[before[-1].end + 1 : last.key] if before else self.text[start + 1 : last.key]
            if not before and not gap.strip(" "):
                gap = self._space()
            said = f"{json.dumps(key)}{self.text[last.key_end : last.start]}{self._rendered(value, self._indent(last.key))}"
            self._splice(last.end, last.end, f",{gap}{said}")
        else:
            end = self._skip(start + 1)
            indent = self._indent(start)
            inner = None if indent is None else indent + self._step()
            body = f"{json.dumps(key)}:{self._space()}{self._rendered(value, inner)}"
            self._splice(start + 1, end, body if inner is None else f"{self._newline()}{inner}{body}{self._newline()}{indent}")

    def drop(self, path: Path) -> None:
        """Take the member at `path` off its object, with the comma that goes with it."""
        start, members = self._members(path[:-1])
        names = list(members)
        index = names.index(path[-1])
        if index + 1 < len(names):
            self._splice(members[path[-1]].key, members[names[index + 1]].key, "")
        else:
            self._splice(members[names[index - 1]].end if index else start + 1, members[path[-1]].end, "")

    def _members(self, path: Path) -> tuple[int, dict[str, _Member]]:
        """Where the object at `path` starts, and its members in the order of the text. Of a key that is there twice the last counts, as it does in Python."""
        start = self._skip(0)
        members = self._object(start)
        for key in path:
            start = members[key].start
            members = self._object(start)
        return start, members

    def _object(self, start: int) -> dict[str, _Member]:
        members: dict[str, _Member] = {}
        position = self._skip(start + 1)
        while self.text[position] != "}":
            key, key_end = _DECODER.raw_decode(self.text, position)
            value = self._skip(self._skip(key_end) + 1)
            _, end = _DECODER.raw_decode(self.text, value)
            members.pop(key, None)
            members[key] = _Member(position, key_end, value, end)
            position = self._skip(end)
            if self.text[position] == ",":
                position = self._skip(position + 1)
        return members

    def _skip(self, position: int) -> int:
        """The next place that is not white space."""
        found = _BEYOND_SPACE.search(self.text, position)
        return found.start() if found else len(self.text)

    def _space(self) -> str:
        """What stands after a colon, and after a comma that ends no line: a space or nothing, as after the first colon."""
        first = next(iter(self._members(())[1].values()), None)
        return " " if first is None or self.text[first.key_end : first.start].endswith(" ") else ""

    def _newline(self) -> str:
        return "\r\n" if "\r\n" in self.text else "\n"

    def _indent(self, position: int) -> str | None:
        """The indentation of the line that `position` starts or is in; None for JSON on one line."""
        if self._step() == "":
            return None
        line = self.text[self.text.rfind("\n", 0, position) + 1 : position]
        return line[: len(line) - len(line.lstrip(" \t"))]

    def _step(self) -> str:
        """By how much each level is indented; nothing for JSON on one line."""
        found = re.match(r"\s*\{[ \t]*\r?\n([ \t]+)", self.text)
        return found[1] if found else ""

    def _rendered(self, value: Any, indent: str | None) -> str:
        """A value as the rest of the text is laid out, in a line that is indented so."""
        if indent is None:
            return json.dumps(value, separators=(f",{self._space()}", f":{self._space()}"))
        return json.dumps(value, indent=self._step()).replace("\n", self._newline() + indent)

    def _splice(self, start: int, end: int, new: str) -> None:
        self.text = self.text[:start] + new + self.text[end:]
        self.changed = True
