"""What a dataset's files say about its splits, where that differs from what its splits are, and the files put right."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from . import card, infos
from .card import CARD, Card, ConfigInfo, SplitInfo
from .yaml_text import Document

YAML = ".huggingface.yaml"

_Listed = Mapping[str, Sequence[str]]
# Entries for the splits of a `dataset_info`, the names of those to take out, and the bytes of all if they are known.
_Entries = tuple[Sequence[SplitInfo], Sequence[str], int | None]


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
    informed = {source.where: (list(actual.values()), _surplus(source.info, actual), _size(actual.values())) for source in _sources_or_card(metadata, config)}
    return _edited(metadata, config, {where: informed.get(where) for where in wrong}, list(actual), download_size)


def with_split(
    metadata: Metadata,
    split: SplitInfo,
    others: Mapping[str, SplitInfo],
    config: str | None = None,
    download_size: int | None = None,
    data_files: str | None = None,
) -> Metadata:
    """The files with a split that is new or has new numbers, `dataset_size` to match, `download_size` (bytes) if given, and nothing else changed.

    `others` are all other splits of the config. They are entered only where no splits were listed yet: `datasets` refuses a dataset of whose splits some
    are listed and some are not. `data_files` is the pattern of the split's files, for a config that lists such; by default one like those of the others.
    Raises DataError where a file cannot be edited in place, UsageProblem for a config or split it cannot have.
    """
    config = default_config(metadata) if config is None else config
    informed: dict[str, _Entries | None] = {}
    for source in _sources_or_card(metadata, config):
        listed = [known for known in source.info.splits or () if known.name != split.name]
        new = [split] if source.info.splits is not None else [*(other for other in others.values() if other.name != split.name), split]
        informed[source.where] = new, [], _size([*listed, *new])
    entry = metadata.effective().config(config)
    if entry is not None and entry.data_files is not None:
        informed.setdefault(YAML if _standalone(metadata).configs is not None else CARD, None)
    return _edited(metadata, config, informed, [split.name], download_size, data_files)


def _edited(
    metadata: Metadata,
    config: str,
    informed: Mapping[str, _Entries | None],
    listed: Sequence[str],
    download_size: int | None,
    data_files: str | None = None,
) -> Metadata:
    """The files with these entries (None: only in its `data_files`), and the splits `listed` in the `data_files` of the config, if it has any."""
    if CARD in informed:
        document = card.front_matter(card.fenced(metadata.card or ""))
        metadata = replace(metadata, card=_edited_yaml(document, config, informed[CARD], listed, download_size, data_files))
    if YAML in informed and metadata.yaml is not None:
        metadata = replace(metadata, yaml=_edited_yaml(card.whole(metadata.yaml, YAML), config, informed[YAML], listed, download_size, data_files))
    for where, edit in ((infos.INFOS, infos.with_splits), (infos.INFO, infos.with_splits_of_one)):
        entries = informed.get(where)
        text = metadata.infos if where == infos.INFOS else metadata.info
        if entries is not None and text is not None:
            splits, surplus, size = entries
            text = edit(text, config, splits, removed=surplus, download_size=download_size, dataset_size=size)
            metadata = replace(metadata, infos=text) if where == infos.INFOS else replace(metadata, info=text)
    return metadata


def _edited_yaml(document: Document, config: str, entries: _Entries | None, listed: Sequence[str], download_size: int | None, data_files: str | None) -> str:
    if entries is None:
        return card.with_data_files(document, config, listed, data_files)
    splits, surplus, size = entries
    text = card.edited(document, config, splits, download_size=download_size, dataset_size=size, listed=listed, data_files=data_files)
    for name in surplus:
        document = card.reread(document, text)
        text = card.without_split(document, config, name)
    return text


def _surplus(said: ConfigInfo, actual: Mapping[str, SplitInfo]) -> list[str]:
    return [split.name for split in said.splits or () if split.name not in actual]


def _size(splits: Iterable[SplitInfo]) -> int | None:
    """The bytes of all splits, None if those of one are not known."""
    sizes = [split.num_bytes for split in splits]
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
    for field, size in (("download_size", download_size), ("dataset_size", _size(actual.values()))):
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
