"""What a dataset's card (README.md) says about its configs and splits, and saying it anew without touching anything else.

`datasets` compares the card's `num_examples` with the rows it reads, and refuses to load a dataset whose card was not updated. Texts are kept as they
are: read and write a card with its line breaks untranslated (`newline=""`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pytest_gpueval.errors import DataError, UsageProblem, valid_values

from .yaml_text import Document, Edit, line_of, newline_of

CARD = "README.md"
DEFAULT = "default"

# As huggingface_hub and the Hub find the front matter.
_FRONT_MATTER = re.compile(r"^(\s*---(?:\r\n|\r|\n))([\S\s]*?)((?:\r\n|\r|\n)---[ \t]*(\r\n|\n|$))")
_EMPTY_FRONT_MATTER = re.compile(r"^\s*---(?:\r\n|\r|\n)(?=---[ \t]*(?:\r\n|\n|$))")
_UNREAD = re.compile(r"^(?:dataset_info|configs)[ \t]*:", re.MULTILINE)
_BOM = "\ufeff"
_SPLIT_NAME = re.compile(r"\w+(?:\.\w+)*")


@dataclass(frozen=True)
class SplitInfo:
    """A split's rows, and their size in bytes as an Arrow table, which is what `datasets` records. None: not said, or not as a whole number."""

    name: str
    num_examples: int | None = None
    num_bytes: int | None = None


@dataclass(frozen=True)
class ConfigInfo:
    """A config's `dataset_info`. Sizes are in bytes. `splits` is None where none are spoken of: `datasets` then compares nothing."""

    name: str
    splits: tuple[SplitInfo, ...] | None = None
    download_size: int | None = None
    dataset_size: int | None = None
    features: Any = None


@dataclass(frozen=True)
class Config:
    """An entry of `configs`. `data_files` and `data_dir` are as written, None where they are not; `options` are all other keys."""

    name: str
    data_files: Any = None
    data_dir: Any = None
    default: bool = False
    options: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Card:
    """A card's `configs` and `dataset_info`, each None where the card has no such key."""

    configs: tuple[Config, ...] | None = None
    infos: tuple[ConfigInfo, ...] | None = None

    def under(self, other: Card) -> Card:
        """What this card says where `other` does not say otherwise: as `.huggingface.yaml` overrides README.md, key by key."""
        return Card(self.configs if other.configs is None else other.configs, self.infos if other.infos is None else other.infos)

    def config(self, name: str) -> Config | None:
        """The entry of `configs` of this name."""
        return next((config for config in self.configs or () if config.name == name), None)

    def info(self, name: str) -> ConfigInfo | None:
        """The `dataset_info` of this config."""
        return next((info for info in self.infos or () if info.name == name), None)


def read(text: str, where: str = CARD) -> Card:
    """What the card says. Raises DataError, with the line, for YAML that is broken or does not say what `datasets` understands."""
    return of(front_matter(text, where))


def read_yaml(text: str, where: str) -> Card:
    """What `.huggingface.yaml` says, which is a card's front matter alone. Raises DataError."""
    return of(whole(text, where))


def default_config(card: Card, infos: Sequence[str] = ()) -> str:
    """The config that is loaded where none is named; `infos` are the configs that have a `dataset_info` anywhere. Raises UsageProblem if there is none."""
    configs = card.configs or ()
    marked = [config.name for config in configs if len(configs) == 1 or config.name == DEFAULT or config.default]
    if len(marked) > 1:
        raise DataError(f"configs: {' and '.join(map(repr, marked))} are both the default. Only one may be.")
    if marked:
        return marked[0]
    if configs:
        raise UsageProblem(f"the dataset has several configs and no default. {valid_values('', [config.name for config in configs], what='configs')}")
    return infos[0] if len(infos) == 1 else DEFAULT


def with_split(
    text: str, config: str, split: SplitInfo, *, download_size: int | None = None, dataset_size: int | None = None, data_files: str | None = None
) -> str:
    """The card with these numbers of a split, and with `download_size` and `dataset_size` (bytes) if given; nothing else changes.

    What is missing is added: the front matter, `dataset_info`, the split, and its `data_files` where the config lists those of its splits (by default a
    pattern like that of the others). Raises DataError where the card cannot be read or edited; UsageProblem for a config or split it cannot have.
    """
    return edited(front_matter(fenced(text)), config, [split], download_size=download_size, dataset_size=dataset_size, data_files=data_files)


def edited(
    document: Document,
    config: str,
    splits: Sequence[SplitInfo],
    *,
    download_size: int | None = None,
    dataset_size: int | None = None,
    listed: Sequence[str] | None = None,
    data_files: str | None = None,
) -> str:
    """As `with_split`, for several splits, of a card's front matter or of a whole YAML file; `listed` are those for `data_files`, by default all."""
    card = of(document)
    for split in splits:
        check_split_name(split.name)
    if card.configs and card.config(config) is None:
        raise UsageProblem(f"{document.where}: there is no config {config!r}. {valid_values(config, [known.name for known in card.configs], what='configs')}")
    edit = Edit(document)
    if card.config(config) is not None:
        for name in [split.name for split in splits] if listed is None else listed:
            _list_files(edit, config, name, data_files)
    _inform(edit, config, splits, {key: size for key, size in (("download_size", download_size), ("dataset_size", dataset_size)) if size is not None})
    return edit.text()


def with_data_files(document: Document, config: str, splits: Sequence[str], pattern: str | None = None) -> str:
    """The text where the `data_files` of a config, if it has any, have these splits. Raises DataError."""
    edit = Edit(document)
    if of(document).config(config) is not None:
        for split in splits:
            _list_files(edit, config, split, pattern)
    return edit.text()


def without_split(document: Document, config: str, split: str) -> str:
    """The text without the entry of a split in `dataset_info`. Raises DataError."""
    edit = Edit(document)
    path = _info_path(edit, config)
    if path is None:
        return document.text
    entries = _under(edit.data, path).get("splits")
    if not isinstance(entries, list):
        raise document.fail((*path, "splits"), f"split {split!r} should not be listed. Take it out, then try again.")
    for index, entry in enumerate(entries):
        if entry.get("name") == split:
            edit.remove((*path, "splits"), index)
            break
    return edit.text()


def front_matter(text: str, where: str = CARD) -> Document:
    """The YAML between the `---` lines at the head of a card; an empty document there if it has none. Raises DataError."""
    return Document(text, *_front_matter(text, where), where)


def fenced(text: str) -> str:
    """The card, with an empty front matter if it has none. Raises DataError."""
    start, _ = _front_matter(text, CARD)
    fence = f"---{newline_of(text)}"
    return text if text[:start].strip(_BOM) else text[:start] + fence + fence + text[start:]


def _front_matter(text: str, where: str) -> tuple[int, int]:
    """Where the YAML starts and ends; both are the head of the card if it has none. Raises DataError."""
    head = len(_BOM) if text.startswith(_BOM) else 0
    empty = _EMPTY_FRONT_MATTER.match(text[head:])
    if empty:
        return head + empty.end(), head + empty.end()
    found = _FRONT_MATTER.match(text[head:])
    if found:
        return head + found.end(1), head + found.start(3) + found[3].index("---")
    unread = _UNREAD.search(text)
    if unread and text[head:].lstrip().startswith("---"):
        raise DataError(
            f"{where}:{line_of(text, unread.start())}: the front matter is not read. The line before it and the line after it must be `---`, and no more."
        )
    return head, head


def whole(text: str, where: str) -> Document:
    """A file that is YAML from end to end. Raises DataError."""
    return Document(text, len(_BOM) if text.startswith(_BOM) else 0, len(text), where)


def reread(document: Document, text: str) -> Document:
    """The same part of a text that was edited. Raises DataError."""
    return Document(text, document.start, document.end + len(text) - len(document.text), document.where)


def check_split_name(name: str) -> None:
    """Raises UsageProblem for a name that `datasets` does not take."""
    if not _SPLIT_NAME.fullmatch(name):
        raise UsageProblem(f"{name!r} is no name for a split: letters, digits, `_` and single dots between them are.")


def of(document: Document) -> Card:
    """What a document says as a card. Raises DataError."""
    data = document.data
    if data is None:
        return Card()
    if not isinstance(data, dict):
        raise document.fail((), f"expected a mapping (`key: value`), found {_kind(data)}")
    configs = _configs(document, data["configs"]) if "configs" in data else None
    infos = _infos(document, data["dataset_info"]) if "dataset_info" in data else None
    return Card(configs, infos)


def _configs(document: Document, data: Any) -> tuple[Config, ...]:
    if not data:  # null and an empty list alike
        return ()
    if not isinstance(data, list):
        raise document.fail(("configs",), f"configs: expected a list, found {_kind(data)}")
    configs: dict[str, Config] = {}
    for index, entry in enumerate(data):
        path = ("configs", index)
        if not isinstance(entry, dict) or "config_name" not in entry:
            raise document.fail(path, "configs: each entry must be a mapping with `config_name`")
        name = _name(document, (*path, "config_name"), entry["config_name"])
        if name in configs:
            raise document.fail(path, f"configs: {name!r} is there twice")
        rest = {key: value for key, value in entry.items() if key not in ("config_name", "data_files", "data_dir", "default")}
        if "data_files" in entry and entry["data_files"] is None:
            raise document.fail((*path, "data_files"), f"configs: data_files of {name!r} is empty. Leave it out for the default patterns.")
        configs[name] = Config(name, entry.get("data_files"), entry.get("data_dir"), bool(entry.get("default")), rest)
    return tuple(configs.values())


def _infos(document: Document, data: Any) -> tuple[ConfigInfo, ...]:
    if isinstance(data, dict):
        return (_info(document, ("dataset_info",), data),)
    infos: dict[str, ConfigInfo] = {}
    for index, entry in enumerate(data if isinstance(data, list) else ()):  # what is neither, `datasets` does not read
        path = ("dataset_info", index)
        if not isinstance(entry, dict):
            raise document.fail(path, f"dataset_info: expected a mapping for each config, found {_kind(entry)}")
        info = _info(document, path, entry)
        if info.name in infos:
            raise document.fail(path, f"dataset_info: config {info.name!r} is there twice")
        infos[info.name] = info
    return tuple(infos.values())


def _info(document: Document, path: tuple[str | int, ...], data: Mapping[str, Any]) -> ConfigInfo:
    name = _name(document, (*path, "config_name"), data.get("config_name", DEFAULT))
    info = ConfigInfo(name, None, number(data.get("download_size")), number(data.get("dataset_size")), data.get("features"))
    entries = data.get("splits")
    if entries is None:
        return info
    if not isinstance(entries, list | dict):
        raise document.fail((*path, "splits"), f"splits: expected a list of splits, found {_kind(entries)}")
    splits: dict[str, SplitInfo] = {}
    for index, entry in enumerate(entries) if isinstance(entries, list) else entries.items():
        here = (*path, "splits", index)
        if not isinstance(entry, dict) or "name" not in entry:
            raise document.fail(here, "splits: each must be a mapping with `name`, `num_bytes` and `num_examples`")
        split = _name(document, (*here, "name"), entry["name"])
        if split in splits:
            raise document.fail(here, f"splits: {split!r} is there twice")
        splits[split] = SplitInfo(split, number(entry.get("num_examples")), number(entry.get("num_bytes")))
    return replace(info, splits=tuple(splits.values()))


def number(value: Any) -> int | None:
    """A whole number, or None for what is none."""
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _name(document: Document, path: tuple[str | int, ...], value: Any) -> str:
    if not isinstance(value, str):
        raise document.fail(path, f"{path[-1]}: expected text, found {_kind(value)}. Put it in quotes.")
    return value


def _kind(value: Any) -> str:
    if isinstance(value, list | dict):
        return "a list" if isinstance(value, list) else "a mapping"
    return "nothing" if value is None else f"{value!r}"[:60]


def _entry(split: SplitInfo) -> dict[str, Any]:
    """A whole entry of `splits`, with its keys in the order of the Hub's tools."""
    if split.num_examples is None or split.num_bytes is None:
        raise ValueError(f"the numbers of split {split.name!r} are not known: {split}")
    return {"name": split.name, "num_bytes": split.num_bytes, "num_examples": split.num_examples}


def _under(data: Any, path: Sequence[str | int]) -> Any:
    for step in path:
        data = data[step]
    return data


def _info_path(edit: Edit, config: str) -> tuple[str | int, ...] | None:
    """Where the `dataset_info` of a config stands."""
    infos = (edit.data or {}).get("dataset_info")
    if isinstance(infos, dict):
        return ("dataset_info",) if infos.get("config_name", DEFAULT) == config else None
    for index, info in enumerate(infos if isinstance(infos, list) else ()):
        if info.get("config_name", DEFAULT) == config:
            return ("dataset_info", index)
    return None


def _inform(edit: Edit, config: str, splits: Sequence[SplitInfo], sizes: Mapping[str, int]) -> None:
    """Let the config's `dataset_info` have these splits and sizes. What is further in comes first: insertions may share a place."""
    path = _info_path(edit, config)
    if path is not None:
        _enter(edit, path, splits)
        for key, size in sizes.items():
            edit.put(path, key, size)
        return
    infos = (edit.data or {}).get("dataset_info")
    said = {"splits": [_entry(split) for split in splits], **sizes}
    named = {"config_name": config, **said}
    if isinstance(infos, list):
        edit.append(("dataset_info",), named)
    elif isinstance(infos, dict):
        edit.make_list(("dataset_info",), "config_name", DEFAULT, named)
    elif infos is None:
        edit.put((), "dataset_info", said if config == DEFAULT else named)
    else:
        raise edit.document.fail(("dataset_info",), f"dataset_info: expected a mapping or a list, found {_kind(infos)}")


def _enter(edit: Edit, path: tuple[str | int, ...], splits: Sequence[SplitInfo]) -> None:
    """Let `splits` of a `dataset_info` have these numbers; None leaves what is there."""
    entries = _under(edit.data, path).get("splits")
    if entries is None:
        edit.put(path, "splits", [_entry(split) for split in splits])
        return
    places = {entry["name"]: place for place, entry in (enumerate(entries) if isinstance(entries, list) else entries.items())}
    order = list(entries[-1]) if entries and isinstance(entries, list) else []
    for split in splits:
        for key, value in (("num_bytes", split.num_bytes), ("num_examples", split.num_examples)):
            if split.name in places and value is not None:
                edit.put((*path, "splits", places[split.name]), key, value)
    for split in splits:
        if split.name in places:
            continue
        if not isinstance(entries, list):
            raise edit.document.fail((*path, "splits"), "splits: expected a list of splits (`- name: ...`), as the Hub's tools write it")
        edit.append((*path, "splits"), dict(sorted(_entry(split).items(), key=lambda item: order.index(item[0]) if item[0] in order else len(order))))


def _list_files(edit: Edit, config: str, split: str, pattern: str | None) -> None:
    """Let the config's `data_files` have the split, if they list any. Raises DataError where they take every file for one split."""
    index = next(index for index, entry in enumerate(edit.data["configs"]) if entry["config_name"] == config)
    path = ("configs", index)
    files = edit.data["configs"][index].get("data_files")
    listed = files_by_split(files)
    if files is None or split in listed:
        return
    if isinstance(files, dict):
        edit.put((*path, "data_files"), split, pattern or pattern_like(listed, config, split))
    elif isinstance(files, list) and all(isinstance(entry, dict) for entry in files):
        edit.append((*path, "data_files"), {"split": split, "path": pattern or pattern_like(listed, config, split)})
    else:
        raise edit.document.fail(
            (*path, "data_files"),
            f"data_files of config {config!r} take all files for its split 'train'. List its splits (`- split: ...`, `path: ...`), then try again.",
        )


def files_by_split(data_files: Any) -> dict[str, tuple[str, ...]]:
    """The patterns of each split, from `data_files` in any of its forms: text or a list of it (which are split `train`), a mapping, a list of mappings."""
    if isinstance(data_files, dict):
        return {str(split): _texts(patterns) for split, patterns in data_files.items()}
    if isinstance(data_files, list) and any(isinstance(entry, dict) for entry in data_files):
        return {str(entry.get("split")): _texts(entry.get("path")) for entry in data_files if isinstance(entry, dict)}
    return {"train": _texts(data_files)} if data_files else {}


def pattern_like(listed: Mapping[str, Sequence[str]], config: str, split: str) -> str:
    """A pattern for a split's files: as the other splits have it, else as the Hub's tools write it."""
    for name, patterns in listed.items():
        for pattern in patterns:
            renamed, count = re.subn(rf"(?<![^\W_]){re.escape(name)}(?![^\W_])", split, pattern)
            if count == 1:
                return renamed
    return f"data/{split}-*" if config == DEFAULT else f"{config}/{split}-*"


def _texts(patterns: Any) -> tuple[str, ...]:
    return tuple(map(str, patterns)) if isinstance(patterns, list) else () if patterns is None else (str(patterns),)
