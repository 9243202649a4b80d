"""What a dataset's files say about its splits, where that differs from what its splits are, and the files put right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypedDict

from . import card, infos
from .card import CARD, Card, ConfigInfo, SplitInfo
from .yaml_text import Document

YAML = ".huggingface.yaml"

_Listed = Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class Metadata:
    """The texts of the files that speak of splits, None for those a repository does not have."""

    card: str | None = None  # README.md
    yaml: str | None = None  # .huggingface.yaml
    infos: str | None = None  # dataset_infos.json
    info: str | None = None  # dataset_info.json

    def effective(self) -> Card:
        """The card as `datasets` sees it: `.huggingface.yaml` overrides it, key by key. Raises DataError."""
        said = card.read(self.card) if self.card is not None else Card()
        return said if self.yaml is None else said.under(card.read_yaml(self.yaml, YAML))


@dataclass(frozen=True)
class Disagreement:
    """One number that a file has wrong: `says` is what stands there (None: nothing, or no whole number), `actual` what is true (None: no such split).

    `split` is None for what concerns the config. `refused` tells whether `datasets` refuses to load the config over it.
    """

    where: str
    config: str
    split: str | None
    field: str
    says: int | None
    actual: int | str | None
    refused: bool

    def __str__(self) -> str:
        """One line for people."""
        subject = f"config {self.config}" + (f", split {self.split}" if self.split else "")
        if self.actual is None:
            return f"{self.where}: {subject}: is listed, but there is no such split"
        said = "says nothing" if self.says is None else f"says {self.says:,}"
        return f"{self.where}: {subject}: {self.field} {said}, should be {self.actual if isinstance(self.actual, str) else format(self.actual, ',')}"


@dataclass(frozen=True)
class _Source:
    """A file that speaks of the config, and whether `datasets` goes by it."""

    where: str
    info: ConfigInfo
    in_force: bool


class _Sizes(TypedDict):
    """In bytes, None for what is not known."""

    download_size: int | None
    dataset_size: int | None


def default_config(metadata: Metadata) -> str:
    """The config that `datasets` loads where none is named. Raises DataError, and UsageProblem where there are several and no default."""
    said = metadata.effective()
    names = [info.name for info in said.infos or ()] + [info.name for info in _legacy(metadata)]
    return card.default_config(said, list(dict.fromkeys(names)))


def expected(metadata: Metadata, config: str | None = None) -> dict[str, int] | None:
    """The rows that `datasets` expects of each split of a config, by default of the default one; None where it checks nothing. Raises DataError.

    `.huggingface.yaml` overrides the card, the card's `dataset_info` of a config that of `dataset_infos.json`. An entry without a number counts as 0 rows.
    """
    config = default_config(metadata) if config is None else config
    splits = next((source.info.splits for source in _sources(metadata, config) if source.in_force), None)
    return None if splits is None else {split.name: split.num_examples or 0 for split in splits}


def disagreements(metadata: Metadata, actual: Mapping[str, SplitInfo], config: str | None = None, download_size: int | None = None) -> list[Disagreement]:
    """Where the files differ from `actual`, which has all splits of the config and their numbers. `download_size`: bytes of all its files, if known.

    Files that say nothing of the config are left alone, unless none says anything: then the card should. Raises DataError.
    """
    config = default_config(metadata) if config is None else config
    sources = _sources_or_card(metadata, config)
    listed = _listed(metadata, config)
    found = [difference for source in sources for difference in _differences(source, actual, listed, download_size)]
    return found + ([] if listed is None else _unlisted(metadata, config, actual, listed, sources))


def repaired(metadata: Metadata, actual: Mapping[str, SplitInfo], config: str | None = None, download_size: int | None = None) -> Metadata:
    """The files with all `disagreements` put right, and nothing else changed. Raises DataError where a file cannot be edited in place."""
    if not actual:
        raise ValueError("there are no splits")
    config = default_config(metadata) if config is None else config
    wrong = {difference.where for difference in disagreements(metadata, actual, config, download_size)}
    informed = {source.where for source in _sources_or_card(metadata, config)}
    sizes: _Sizes = {"download_size": download_size, "dataset_size": _size(actual)}
    if CARD in wrong:
        document = card.front_matter(card.fenced(metadata.card or ""))
        metadata = replace(metadata, card=_repaired_yaml(document, config, actual, sizes if CARD in informed else None))
    if YAML in wrong and metadata.yaml is not None:
        metadata = replace(metadata, yaml=_repaired_yaml(card.whole(metadata.yaml, YAML), config, actual, sizes if YAML in informed else None))
    splits = list(actual.values())
    if infos.INFOS in wrong and metadata.infos is not None:
        said = next(info for info in infos.read(metadata.infos) if info.name == config)
        metadata = replace(metadata, infos=infos.with_splits(metadata.infos, config, splits, removed=_surplus(said, actual), **sizes))
    if infos.INFO in wrong and metadata.info is not None:
        said = infos.read_one(metadata.info)
        metadata = replace(metadata, info=infos.with_splits_of_one(metadata.info, config, splits, removed=_surplus(said, actual), **sizes))
    return metadata


def _repaired_yaml(document: Document, config: str, actual: Mapping[str, SplitInfo], sizes: _Sizes | None) -> str:
    """The text with `actual` in the config's `dataset_info` (not if `sizes` is None: it is elsewhere) and in its `data_files`, if it has any."""
    if sizes is None:
        return card.with_data_files(document, config, list(actual))
    said = card.of(document).info(config)
    text = card.edited(document, config, list(actual.values()), **sizes)
    for name in _surplus(said, actual) if said else ():
        document = card.reread(document, text)
        text = card.without_split(document, config, name)
    return text


def _surplus(said: ConfigInfo, actual: Mapping[str, SplitInfo]) -> list[str]:
    return [split.name for split in said.splits or () if split.name not in actual]


def _size(actual: Mapping[str, SplitInfo]) -> int | None:
    """The bytes of all splits, None if those of one are not known."""
    sizes = [split.num_bytes for split in actual.values()]
    return None if None in sizes else sum(size for size in sizes if size is not None)


def _legacy(metadata: Metadata) -> tuple[ConfigInfo, ...]:
    return () if metadata.infos is None else infos.read(metadata.infos)


def _standalone(metadata: Metadata) -> Card:
    return Card() if metadata.yaml is None else card.read_yaml(metadata.yaml, YAML)


def _sources(metadata: Metadata, config: str) -> list[_Source]:
    """The files that have an info of the config. The first is the one that `datasets` goes by, unless it is `dataset_info.json`, which it never reads."""
    own, above = Card() if metadata.card is None else card.read(metadata.card), _standalone(metadata)
    said = [(YAML, above.info(config)), (CARD, own.info(config)), (infos.INFOS, next((info for info in _legacy(metadata) if info.name == config), None))]
    ruled_out = {CARD} if above.infos is not None else set()
    one = None if metadata.info is None else infos.read_one(metadata.info)
    sources: list[_Source] = []
    for where, info in said:
        if info is not None:
            sources.append(_Source(where, info, in_force=where not in ruled_out and not any(source.in_force for source in sources)))
    if one is not None and one.name == config:
        sources.append(_Source(infos.INFO, one, in_force=False))
    return sources


def _sources_or_card(metadata: Metadata, config: str) -> list[_Source]:
    """As `_sources`; where `datasets` finds nothing about the config, with the file that should say it."""
    sources = _sources(metadata, config)
    if any(source.in_force for source in sources):
        return sources
    where = CARD if _standalone(metadata).infos is None else YAML
    return [_Source(where, ConfigInfo(config), in_force=True), *(source for source in sources if source.where != where)]


def _differences(source: _Source, actual: Mapping[str, SplitInfo], listed: _Listed | None, download_size: int | None) -> list[Disagreement]:
    """What a file has wrong. A split that neither its infos nor the `data_files` have is not read, and so not refused."""
    info = source.info
    known = {split.name: split for split in info.splits or ()}
    checked = source.in_force and info.splits is not None
    found = [
        Disagreement(source.where, info.name, name, "num_examples", split.num_examples, None, checked) for name, split in known.items() if name not in actual
    ]
    for name, split in actual.items():
        said = known.get(name, SplitInfo(name))
        for field in ("num_examples", "num_bytes"):
            says, true = getattr(said, field), getattr(split, field)
            if true is not None and says != true:
                refused = checked and field == "num_examples" and (listed is None or name in listed or name in known)
                found.append(Disagreement(source.where, info.name, name, field, says, true, refused))
    for field, size in (("download_size", download_size), ("dataset_size", _size(actual))):
        if size is not None and getattr(info, field) != size:
            found.append(Disagreement(source.where, info.name, None, field, getattr(info, field), size, refused=False))
    return found


def _listed(metadata: Metadata, config: str) -> _Listed | None:
    """The patterns of the splits that the config's `data_files` list; None where they are left to the default patterns."""
    entry = metadata.effective().config(config)
    return None if entry is None or entry.data_files is None else card.files_by_split(entry.data_files)


def _unlisted(metadata: Metadata, config: str, actual: Mapping[str, SplitInfo], listed: _Listed, sources: Sequence[_Source]) -> list[Disagreement]:
    """The splits that the config's `data_files` do not have."""
    where = CARD if _standalone(metadata).configs is None else YAML
    checked = {split.name for source in sources if source.in_force for split in source.info.splits or ()}
    return [
        Disagreement(where, config, name, "data_files", None, card.pattern_like(listed, config, name), name in checked) for name in actual if name not in listed
    ]
