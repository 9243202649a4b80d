"""Join sessions that ran parts of one suite: which run is taken from where, what contradicts, what is missing. Reads and writes nothing (see `gather`)."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pytest_gpueval.errors import Conflict, UsageProblem

from .directory import IDENTITY
from .records import RunMetadata, SessionRecord, SessionRun, Summary

# How pytest's own exit codes rank, from the best: passed, nothing collected, failed, interrupted, usage, internal.
_EXITS = (0, 5, 1, 2, 4, 3)
# Statuses without a verdict: the run can be gone on with, or says nothing about the model.
_OPEN = frozenset({"interrupted", "skipped", "error", "crashed", "oom", "timeout"})
# What two runs of one item must say alike.
_RESULTS = ("ok", "status", "headline", "metrics", "labels", "rows")
# What decides the results of a suite, and is the same in every session of it.
_OPTIONS = ("limit", "policy", "runtime", "model", "judge")
_CARRIED = ("--gpueval-split", "--gpueval-runtime", "--gpueval-policy", "--gpueval-data", "--gpueval-limit", "--gpueval-on-bad-row")
# What reports may hold of texts, from the least on.
_TEXTS = ("no", "errors", "yes")
# Names of missing parts that are spelt out.
_MOST = 20
_NAME = re.compile(r"(?!-)(?!\.{1,2}\Z)[\w.-]{1,150}")


@dataclass(frozen=True)
class Found:
    """A run as one session has it. `size` is that of its results in bytes."""

    session: str
    path: Path
    metadata: RunMetadata
    summary: Summary | None
    listed: SessionRun | None
    size: int

    @property
    def status(self) -> str:
        """The status, or that there is none."""
        return self.summary.status if self.summary is not None else "unfinished"

    @property
    def rank(self) -> int:
        """2: finished, 1: ended with a verdict that is not reused, 0: anything else."""
        if self.summary is None or self.summary.status in _OPEN:
            return 0
        return 2 if self.summary.ok and self.summary.complete else 1


@dataclass(frozen=True)
class Session:
    """A session as it was read: its record, its runs by their ids, its JUnit XML."""

    name: str
    path: Path
    record: SessionRecord
    runs: Mapping[str, Found]
    junit: str | None = None


@dataclass(frozen=True)
class Plan:
    """What a merge will write, and what there is to say about it."""

    target: Path
    record: SessionRecord
    sessions: Sequence[Session]
    taken: Mapping[str, Found]
    notes: Sequence[str] = ()
    missing: Sequence[str] = ()
    commands: Sequence[str] = ()

    def kept(self) -> dict[str, int]:
        """Run id -> number of the session whose run is taken."""
        numbers = {session.name: number for number, session in enumerate(self.sessions)}
        return {run_id: numbers[run.session] for run_id, run in self.taken.items()}


def plan(target: Path, sessions: Sequence[Session], argv: Sequence[str], *, allow_differences: bool = False) -> Plan:
    """Decide. Raises UsageProblem for a name of `target` that pytest will not take, Conflict for sessions that do not belong together."""
    if not _NAME.fullmatch(target.name):
        raise UsageProblem(f"{target.name!r}: the name of a session is made of letters, digits and . _ -, at most 150, and does not begin with -")
    if not any(session.runs for session in sessions):
        raise UsageProblem(f"there is no run in {_listing(session.name for session in sessions)}")
    different = differences(sessions)
    if different and not allow_differences:
        raise Conflict(
            "the sessions differ:\n" + "\n".join(f"  {line}" for line in different) + "\n"
            "Run them anew under the same conditions, or join them as they are with --allow-differences (session.json then says what differs)."
        )
    taken, notes = _taken(sessions)
    shards = [shard for session in sessions for shard in ([session.record.shard] if session.record.shard else session.record.shards)]
    absent, twice = _shards([(shard.index, shard.count) for shard in shards])
    parts, judge = _row_shards(taken, target, _options(sessions))
    listed = [
        f"{run.run_id}: {session.name} lists it, but has no directory of it" for session in sessions for run in session.record.runs if run.run_id not in taken
    ]
    unfinished = [f"{run_id}: {run.status} in {run.session}" for run_id, run in taken.items() if run.summary is None or run.status == "interrupted"]
    record = _record(target.name, sessions, taken, argv).model_copy(update={"shards": shards, "differences": different})
    return Plan(target, record, sessions, taken, [*notes, *twice], [*absent, *listed, *parts, *unfinished], judge)


def differences(sessions: Sequence[Session]) -> list[str]:
    """What should be equal in all sessions and is not, a line each."""
    facts = {session.name: _facts(session) for session in sessions}
    found = []
    for key in dict.fromkeys(key for fact in facts.values() for key in fact):
        values: dict[str, list[str]] = {}
        for name, fact in facts.items():
            if key in fact:
                values.setdefault(fact[key], []).append(name)
        if len(values) > 1:
            found.append(f"{key}: " + "; ".join(f"{_short(value)} in {', '.join(names)}" for value, names in values.items()))
    return found


def _facts(session: Session) -> dict[str, str]:
    """What a session was run under, as JSON texts under names that people understand."""
    code = session.record.code
    facts: dict[str, list[Any]] = {
        "commit": [code.get("commit")],
        "uncommitted changes": [code.get("diff_sha256")],
        "plugin version": [session.record.plugin_version],
        "data": [session.record.data],
    }
    for run in session.runs.values():
        metadata = run.metadata.model_dump(mode="json")
        dataset = run.metadata.dataset
        found = {f"{dataset.get('name')}/{dataset.get('split')} sha256": dataset["sha256"]} if dataset.get("sha256") else {}
        for option in _OPTIONS:
            value = metadata[option]
            found.update({f"{option}.{key}": item for key, item in value.items()} if isinstance(value, Mapping) else {option: value})
        for key, value in found.items():
            values = facts.setdefault(f"{run.metadata.suite} {key}", [])
            if value not in values:
                values.append(value)
    return {key: " and ".join(sorted(json.dumps(value, sort_keys=True, ensure_ascii=False) for value in values)) for key, values in facts.items()}


def _taken(sessions: Sequence[Session]) -> tuple[dict[str, Found], list[str]]:
    """The run that is taken for each run id, in natural order, and what to say. Raises Conflict for runs that contradict each other."""
    taken, notes, problems = {}, [], []
    for run_id in sorted({run_id for session in sessions for run_id in session.runs}, key=_natural):
        found = [session.runs[run_id] for session in sessions if run_id in session.runs]
        taken[run_id] = best = _best(found)
        for other in found:
            if other is best:
                continue
            unlike = _contradiction(best, other) if other.rank == best.rank > 0 else []
            if unlike:
                problems.append(f"  {run_id}: {best.path} and {other.path} differ in {', '.join(unlike)}")
            elif other.rank == best.rank > 0:
                notes.append(f"{run_id}: the same in {best.session} and {other.session}; taken from {best.session}")
            else:
                notes.append(f"{run_id}: {best.status} in {best.session}, {other.status} in {other.session}; taken from {best.session}")
    if problems:
        raise Conflict(
            "runs that ended in two sessions with different results:\n" + "\n".join(problems) + "\n"
            "Leave one of the two sessions out, or move the run directory that you do not want away."
        )
    return taken, notes


def _best(found: Sequence[Found]) -> Found:
    """The finished one before one that failed, before the one that came furthest; the first of equals."""
    best = max(run.rank for run in found)
    candidates = [run for run in found if run.rank == best]
    return candidates[0] if best else max(candidates, key=lambda run: run.size)


def _contradiction(one: Found, other: Found) -> list[str]:
    """The names of what differs between two runs that ended; times and machines excepted."""
    if one.summary is None or other.summary is None:
        return []
    unlike = [key for key in _RESULTS if getattr(one.summary, key) != getattr(other.summary, key)]
    here, there = ([gate for gate in run.gates if gate.unit is None] for run in (one.summary, other.summary))  # those with a unit are of the machine
    unlike += ["gates"] if here != there else []
    return unlike + [key for key in IDENTITY if getattr(one.metadata, key) != getattr(other.metadata, key)]


def _shards(shards: Sequence[tuple[int, int]]) -> tuple[list[str], list[str]]:
    """Which parts of the items are missing, and which came twice."""
    missing, twice = [], []
    for count in sorted({count for _, count in shards}):
        indices = [index for index, of in shards if of == count]
        there = sorted(set(indices))
        twice += [f"shard {index} of {count} is in {indices.count(index)} sessions" for index in there if indices.count(index) > 1]
        if len(there) >= count:
            continue
        known = f"there {'is' if len(there) == 1 else 'are'} {_listing(map(str, there))} of {count}"
        if count - len(there) > _MOST:
            missing.append(f"{count - len(there)} of {count} shards are missing: {known}")
        else:
            lost = [str(index) for index in range(count) if index not in there]
            missing.append(f"shard{'s' if len(lost) > 1 else ''} {_listing(lost)} of {count} {'are' if len(lost) > 1 else 'is'} missing: {known}")
    if len({count for _, count in shards}) > 1:
        twice.append("the sessions were cut into different numbers of shards: " + ", ".join(f"{index} of {count}" for index, count in shards))
    return missing, twice


def _row_shards(taken: Mapping[str, Found], target: Path, options: Sequence[str]) -> tuple[list[str], list[str]]:
    """Datasets cut in shards of rows: which shards are missing, and the commands that judge what is whole but not judged yet."""
    # A whole that failed for want of a shard has no verdict yet.
    judged = {(run.metadata.suite, run.metadata.case, _test(run.metadata)) for run in taken.values() if run.rank}
    missing, suites = [], []
    for (suite, whole, test, count), shards in _groups(taken).items():
        if (suite, whole, test) in judged:
            continue
        numbers = shards.keys()
        lost = count - len(numbers)
        if not lost:
            suites += [suite] if all(run.rank == 2 for run in shards.values()) else []
        elif lost > _MOST:
            missing.append(f"{suite} {whole}: {lost} of {count} shards of its rows are missing")
        else:
            names = _listing(f"{number}of{count}" for number in range(1, count + 1) if number not in numbers)
            missing.append(f"{suite} {whole}: of the shards of its rows, {names} {'are' if lost > 1 else 'is'} missing")
    place = [f"--gpueval-output-dir={target.parent}", "--gpueval-session", target.name]
    return missing, [shlex.join(["pytest", "--gpueval-suite", suite, *place, *options]) for suite in dict.fromkeys(suites)]


def _groups(taken: Mapping[str, Found]) -> dict[tuple[str, str, str, int], dict[int, Found]]:
    """Suite, whole case, test, number of shards -> the shards of rows that are there, by their numbers."""
    groups: dict[tuple[str, str, str, int], dict[int, Found]] = {}
    for run in taken.values():
        number, _, of = (run.metadata.shard or "").partition("of")
        if number.isdecimal() and of.isdecimal():
            whole = run.metadata.case.removesuffix(f"-{run.metadata.shard}")
            groups.setdefault((run.metadata.suite, whole, _test(run.metadata), int(of)), {})[int(number)] = run
    return groups


def _cuts(taken: Mapping[str, Found]) -> dict[str, int]:
    """How datasets were cut, so that pytest goes on with the same shards; where one was cut in two ways, the one of which least is missing."""
    ranked = sorted(_groups(taken).items(), key=lambda group: len(group[1]) / group[0][3])
    return {f"{suite}/{whole}": count for (suite, whole, _, count), _ in ranked}


def _test(metadata: RunMetadata) -> str:
    """The test of an item, without its parameters."""
    return metadata.nodeid.partition("[")[0]


def _options(sessions: Sequence[Session]) -> list[str]:
    """The options that decide what runs were: without them a later session would refuse to reuse the runs. All sessions that say them agree."""
    for argv in (session.record.argv for session in sessions):
        pairs = [(argument.partition("="), following) for argument, following in zip(argv, [*argv[1:], ""], strict=False)]
        found = [f"{name}={value if equals else following}" for (name, equals, value), following in pairs if name in _CARRIED]
        if found:
            return found
    return []


def _record(name: str, sessions: Sequence[Session], taken: Mapping[str, Found], argv: Sequence[str]) -> SessionRecord:
    records = [session.record for session in sessions]
    begin = min((record.started_at for record in records), key=_moment)
    ended = [record.ended_at for record in records if record.ended_at is not None]
    offsets = {session.name: (_moment(session.record.started_at) - _moment(begin)).total_seconds() for session in sessions}
    order = list(dict.fromkeys(suite for record in records for suite in record.suites))
    ordered = sorted(taken.items(), key=lambda item: order.index(item[1].metadata.suite) if item[1].metadata.suite in order else len(order))
    return SessionRecord(
        session=name,
        argv=list(argv),
        suites=order,
        data=" / ".join(dict.fromkeys(record.data for record in records)),
        lanes=[{**lane, "host": lane.get("host", record.host)} for record in records for lane in record.lanes],
        host=", ".join(dict.fromkeys(record.host for record in records)),
        code=_code([record.code for record in records]),
        plugin_version=", ".join(dict.fromkeys(record.plugin_version for record in records)),
        started_at=begin,
        ended_at=max(ended, key=_moment) if len(ended) == len(records) else None,
        # A session that did not end was interrupted.
        exit_status=max((2 if record.exit_status is None else record.exit_status for record in records), key=_badness),
        runs=[_run(run_id, run, offsets[run.session]) for run_id, run in ordered],
        cuts=_cuts(taken),
        merged_from=[session.name for session in sessions],
        report_texts=None if any(record.report_texts is None for record in records) else min((record.report_texts for record in records), key=_TEXTS.index),
    )


def _run(run_id: str, run: Found, offset_s: float) -> SessionRun:
    """What session.json says of a run: what its own session said, or, of one that an earlier invocation ran, what its directory says."""
    summary, metadata = run.summary, run.metadata
    said = {"status": summary.status, "ok": summary.ok} if summary else {"status": None, "ok": None}
    if run.listed is not None:
        begin_s = run.listed.begin_s
        return run.listed.model_copy(update={**said, "begin_s": None if begin_s is None else round(begin_s + offset_s, 3)})
    return SessionRun(
        run_id=run_id,
        nodeid=metadata.nodeid,
        suite=metadata.suite,
        case=metadata.case,
        worker=metadata.worker,
        status=summary.status if summary else None,
        ok=summary.ok if summary else None,
        seconds=summary.seconds if summary else None,
        rows=summary.rows.scored if summary else None,
        samples_per_s=summary.samples_per_s if summary else None,
        startup_s=summary.startup_s if summary else None,
        runtime=metadata.runtime.get("name"),
    )


def _code(codes: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What all say alike of the code; unknown where they differ. One tree with changes makes the whole dirty."""
    keys = dict.fromkeys(key for code in codes for key in code)
    common = {key: codes[0].get(key) if all(code.get(key) == codes[0].get(key) for code in codes) else None for key in keys}
    if any(code.get("dirty") for code in codes):
        common["dirty"] = True
    return common


def _moment(text: str) -> datetime:
    """A time of a record; the beginning of time for a text that is none."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return datetime.min.replace(tzinfo=UTC)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _badness(status: int) -> int:
    return _EXITS.index(status) if status in _EXITS else len(_EXITS)


def _natural(text: str) -> list[tuple[int, str]]:
    """A key that sorts 2of10 before 10of10."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"([0-9]+)", text)]


def _listing(names: Iterable[str]) -> str:
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last


def _short(text: str) -> str:
    return text if len(text) <= 120 else text[:117] + "..."
