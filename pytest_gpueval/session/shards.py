"""Items that evaluate a dataset, cut into items for its shards and one that joins them.

The cut comes after pytest's own selection, so that `-k`, `--lf` and node ids choose datasets whatever number of workers there is.
Every worker makes it from the same numbers, and so alike.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

import pytest

from pytest_gpueval.errors import UsageProblem
from pytest_gpueval.suites.load import FILE_NAME
from pytest_gpueval.suites.model import Case, Shard, Unit
from pytest_gpueval.suites.sweep import Row

from . import cases, rows
from .cutting import Collected, Cutting

# Shards that the command line names by their node ids: (suite's folder, dataset's case) -> their ids, such as 2of4.
Named = Mapping[tuple[Path, str], set[str]]
NAMED = pytest.StashKey[Named]()

_SHARD = re.compile(r"^(?P<file>.*?)::(?P<function>[^\[]+)\[(?P<case>.+)-(?P<number>[0-9]{1,4})of(?P<count>[0-9]{1,4})\]$", re.DOTALL)


def unnamed(arguments: Sequence[str], here: Path) -> tuple[list[str], Named]:
    """Arguments in which node ids of shards name their datasets instead, and the shards that were named. Paths are relative to `here`.

    Raises UsageProblem for shards that cannot be.
    """
    found: dict[tuple[Path, str], set[str]] = {}
    kept: list[str] = []
    for argument in arguments:
        match = _SHARD.match(argument)
        if match is None or PurePosixPath(match["file"]).name != FILE_NAME:
            kept.append(argument)
            continue
        if not 1 <= int(match["number"]) <= int(match["count"]):
            raise UsageProblem(f"{argument}: there is no shard {match['number']} of {match['count']}")
        found.setdefault(((here / match["file"]).resolve().parent, match["case"]), set()).add(f"{match['number']}of{match['count']}")
        whole = f"{match['file']}::{match['function']}[{match['case']}]"
        if whole not in kept:
            kept.append(whole)
    return kept, found


def expand(items: list[pytest.Item], cutting: Cutting, named: Named, deselected: Callable[[Sequence[pytest.Item]], None]) -> None:
    """Put shards, and behind them the item that joins them, in the place of each dataset that is cut."""
    found = [case_of(item) for item in items]
    counts = cutting.of_datasets([case for case in found if case is not None])
    made: list[pytest.Item] = []
    for item, case in zip(items, found, strict=True):
        if not isinstance(case, Case):
            made.append(item)
            continue
        wanted = named.get((case.directory.resolve(), case.id)) if named else None
        if wanted:
            made += [_clone(item, replace(case, shard=shard)) for shard in _parsed(wanted)]
            continue
        count = counts.get(cases.key(case), 1)
        made += [_clone(item, replace(case, shard=Shard(number, count))) for number in range(1, count + 1)] if count > 1 else []
        made.append(_clone(item, replace(case, parts=count)) if count > 1 else item)
    items[:] = made if cutting.part is None else _part(made, *cutting.part, deselected)


def remember_whole(config: pytest.Config) -> None:
    """Have `--lf` find the dataset of a shard that failed: it selects before the cut, and knows no shards."""
    cache = getattr(config, "cache", None)
    if cache is None:
        return
    kept, found = unnamed(list(cache.get("cache/lastfailed", {})), Path())
    if found:
        cache.set("cache/lastfailed", dict.fromkeys(kept, True))


def collected(items: Iterable[pytest.Item]) -> Collected:
    """What there is of suites among the items."""
    found = ((item.nodeid, case_of(item)) for item in items)
    return [(nodeid, cases.key(case), case.parts, case.shard.count if case.shard else 1) for nodeid, case in found if case is not None]


def case_of(item: pytest.Item) -> Unit | None:
    """The case or row of an item that a suite file collected; a test of the user's own is never cut."""
    callspec = getattr(item, "callspec", None)
    case = callspec.params.get("case") if callspec is not None else None
    return case if isinstance(case, (Case, Row)) and not rows.is_own_test(item.nodeid) else None


def _parsed(wanted: Iterable[str]) -> list[Shard]:
    return sorted({Shard(*map(int, text.split("of"))) for text in wanted}, key=lambda shard: (shard.count, shard.number))


def _clone(item: pytest.Item, case: Case) -> pytest.Item:
    """The same test for another case."""
    assert isinstance(item, pytest.Function)  # noqa: S101 - for the type checker; `case_of` has asked for a callspec
    callspec = replace(item.callspec, params={**item.callspec.params, "case": case}, _idlist=(case.id,))
    clone = type(item).from_parent(
        item.parent,
        name=f"{item.originalname}[{case.id}]",
        callspec=callspec,
        fixtureinfo=item._fixtureinfo,  # noqa: SLF001 - the clone asks for the same fixtures
        keywords={case.id: True},
        originalname=item.originalname,
    )
    for mark in [mark for mark in item.own_markers if mark not in clone.own_markers]:  # a conftest.py has seen the item that was collected
        clone.add_marker(_mark(mark, strict=case.shard is None))
    clone.user_properties += item.user_properties
    file, line, _ = item.location
    clone.__dict__["location"] = (file, line, clone.name)
    return clone


def _mark(mark: pytest.Mark, *, strict: bool) -> pytest.MarkDecorator:
    """The same mark. What is expected to fail as a whole may pass in its shards, which are not strict about it."""
    lenient = {"strict": False} if mark.name == "xfail" and not strict else {}
    made: pytest.MarkDecorator = getattr(pytest.mark, mark.name).with_args(*mark.args, **{**mark.kwargs, **lenient})
    return made


def _part(items: Sequence[pytest.Item], index: int, count: int, deselected: Callable[[Sequence[pytest.Item]], None]) -> list[pytest.Item]:
    """Every `count`-th item from `index` on. A join is left out unless all its shards are here: `gpueval runs merge` brings them together."""
    units = [item for item in items if (case := case_of(item)) is None or case.parts == 1]
    mine = units[index::count]
    shards: dict[str, int] = {}
    for item in mine:
        case = case_of(item)
        if case is not None and case.shard is not None:
            whole = cases.key(case)
            shards[whole] = shards.get(whole, 0) + 1
    chosen = {id(item) for item in mine}
    chosen |= {id(item) for item in items if (case := case_of(item)) and case.parts > 1 and shards.get(cases.key(case)) == case.parts}
    kept = [item for item in items if id(item) in chosen]
    left = [item for item in items if id(item) not in chosen]
    if left:
        deselected(left)
    return kept
