"""Settings and suite files -> cases, and the names their runs get."""

from __future__ import annotations

import gc
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from hashlib import blake2b
from pathlib import Path, PurePosixPath

from pytest_gpueval.errors import UsageProblem, valid_values
from pytest_gpueval.runs.directory import RESULTS
from pytest_gpueval.suites import load
from pytest_gpueval.suites.load import AnySuite
from pytest_gpueval.suites.model import Case, Shard, Suite, Unit
from pytest_gpueval.suites.schema import PolicyEntry, RuntimeEntry

from .rows import is_own_test, summary_or_none
from .settings import Settings

# In a worker: the suites that the controller has read, by their files.
_taken_over: dict[Path, AnySuite] = {}


def hand_over(suites: Iterable[AnySuite]) -> dict[str, str]:
    """What a worker's `take_over` needs to know. One that cannot be handed over is left out, and read by every worker."""
    texts = {str(suite.path): load.handed_over(suite) for suite in suites}
    return {path: text for path, text in texts.items() if text is not None}


def take_over(texts: Mapping[str, str]) -> None:
    """From now on, suites are what the controller has read, whatever their files say meanwhile."""
    _taken_over.update((Path(path), load.taken_over(Path(path), text)) for path, text in texts.items())
    gc.freeze()  # they last as long as the process: a collection of garbage, of which pytest's own collection sets off many, need not look at them


def read_suite(path: Path) -> AnySuite:
    """Read a suite file, once for each state of it. Raises SuiteError."""
    if _taken_over and (suite := _taken_over.get(path.resolve())) is not None:
        return suite
    state = path.stat() if path.exists() else None
    return _read(path, (state.st_mtime_ns, state.st_size) if state else None)


@cache
def _read(path: Path, _state: tuple[int, int] | None) -> AnySuite:
    return load.read(path)


def suite_named(name: str, root: Path) -> AnySuite:
    """A suite by its name. Raises UsageProblem."""
    return read_suite(load.find(name, root))


def evaluation_named(name: str, root: Path) -> Suite:
    """As `suite_named`. Raises UsageProblem for a sweep too."""
    return load.evaluation(suite_named(name, root))


def function_of(suite: AnySuite) -> str:
    """The function of `items` that runs what a suite of this kind has."""
    return "test_eval" if isinstance(suite, Suite) else "test_sweep"


def units(suite: AnySuite, settings: Settings) -> Sequence[Unit]:
    """What a suite runs under the session's options: its cases, or the rows of a sweep. Raises UsageProblem."""
    return chosen(suite, settings) if isinstance(suite, Suite) else suite.rows


def suite_paths(settings: Settings) -> list[Path]:
    """The files of the suites on the command line. Raises UsageProblem."""
    return [load.find(name, settings.root) for name in settings.suite]


def chosen(suite: Suite, settings: Settings) -> list[Case]:
    """The cases of a suite under the session's options. Raises UsageProblem."""
    check_runtime([suite], settings)
    policy: tuple[str, PolicyEntry] | str | None = settings.policy
    if isinstance(policy, str) and ":" in policy:
        policy = load.read_policy(policy)
    found = suite.cases(settings.split, settings.runtime, policy)
    return found if settings.model is None else [replace(case, runtime=_asking(settings.model, case)) for case in found]


def _asking(model: str, case: Case) -> RuntimeEntry:
    """The runtime of a case with another language model: the one its server is started with, or the one that a server elsewhere is asked for."""
    entry = case.runtime
    if entry.kind != "openai":
        raise UsageProblem(f"--gpueval-model {model}: suite {case.suite!r}: runtime {case.runtime_name!r} is of kind {entry.kind!r}, not 'openai'")
    for name in ("vllm", "server"):
        if (server := getattr(entry, name)) is not None:
            return entry.model_copy(update={name: server.model_copy(update={"model": model})})
    return entry.model_copy(update={"request": entry.request.model_copy(update={"model": model})})


def check_runtime(suites: Sequence[AnySuite], settings: Settings) -> None:
    """Raise UsageProblem for a runtime that a variable names and a suite lacks; of several suites, all that do."""
    name, source = settings.runtime, settings.runtime_source
    evaluations = [suite for suite in suites if isinstance(suite, Suite)]
    without = [suite for suite in evaluations if name not in suite.file.runtimes] if source and name else []
    if without and name:
        lines = [
            f"{source}={name}: suite {suite.name!r} has no runtime {name!r}. {valid_values(name, suite.file.runtimes, what='runtimes')}" for suite in without
        ]
        advice = f"Say --gpueval-runtime NAME, or leave each suite its own default:  {source}= pytest ..."
        raise UsageProblem("\n".join([*lines, advice]))


def key(case: Unit) -> str:
    """What names a case within a session, shards apart: `guardrails_ru/meddies-fast`."""
    return f"{case.suite}/{case.whole_id}"


def run_names(session_dir: Path) -> set[str]:
    """The names of the runs that a session has; none where there is no session."""
    return {path.name for path in session_dir.glob("*")}


def run_name_of(name: str) -> str:
    """The run of the whole case of this key."""
    suite, _, case = name.partition("/")
    return run_name([suite, case])


def is_finished(session_dir: Path, name: str) -> bool:
    """Whether the whole case of this key has passed in a session."""
    summary = summary_or_none(session_dir / run_name_of(name))
    return summary is not None and summary.ok and summary.complete


def has_begun(session_dir: Path, name: str) -> bool:
    """Whether the whole case of this key has results in a session."""
    return (session_dir / run_name_of(name) / RESULTS).exists()


def shards_of(case: Case) -> list[Case]:
    """The shards that a case joins."""
    return [replace(case, parts=1, shard=Shard(number, case.parts)) for number in range(1, case.parts + 1)]


def run_id(case: Unit, nodeid: str, parameters: str, function: str) -> str:
    """The name of an item's run directory: `guardrails_ru-meddies-fast`; a test of the user's own adds its file and name."""
    parts = [case.suite, parameters]
    if is_own_test(nodeid):
        parts.append(f"{PurePosixPath(nodeid.partition('::')[0]).stem}.{function}")
    return run_name(parts)


def run_name(parts: Sequence[str]) -> str:
    """A directory's name made of parts."""
    name = "-".join(parts)
    clean = re.sub(r"[^A-Za-z0-9._-]", "_", name)[:150]
    return clean if clean == name else f"{clean}-{blake2b(name.encode(), digest_size=4).hexdigest()}"
