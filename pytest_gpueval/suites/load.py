"""Find suite.toml, read it, and turn what is wrong with it into one message."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar, get_args

import orjson
from pydantic import BaseModel, ValidationError

from pytest_gpueval.errors import MissingExtra, SuiteError, UsageProblem, valid_values

from . import sweep_load
from .garbage import no_garbage
from .model import Suite
from .schema import TASK_COLUMNS, TASK_OPTIONS, PolicyEntry, SuiteFile
from .sweep import Sweep
from .sweep_schema import SweepFile

FILE_NAME = "suite.toml"
# What a TOML author calls the thing that was expected, by pydantic's name of the error.
_EXPECTED = {
    "bool_type": "true or false",
    "dict_type": "a table",
    "float_type": "a number",
    "int_type": "a whole number",
    "list_type": "an array",
    "model_type": "a table",
    "string_type": "a string",
    "string_too_short": "a string that is not empty",
    "finite_number": "a finite number",
    "invalid_key": "a key that is a string",
    "string_pattern_mismatch": "a name of letters, digits and . _ -, starting with a letter or digit, 100 at most",
    "too_short": "at least one entry",
}
T = TypeVar("T", bound=BaseModel)
AnySuite = Suite | Sweep
_KINDS = ("evaluation", "sweep")


def search_path(root: Path) -> list[Path]:
    """Where suites are looked for: the user's repository first, then what ships with the package."""
    shipped = Path(str(resources.files("pytest_gpueval"))) / "_suites"
    if not shipped.is_dir():  # an editable install: the folder beside the package
        shipped = shipped.parent.parent / "suites"
    return [root / "suites", shipped]


def available(root: Path) -> dict[str, Path]:
    """Name -> suite.toml of every suite that can be named."""
    found: dict[str, Path] = {}
    for directory in search_path(root):
        for path in sorted(directory.glob(f"*/{FILE_NAME}")):
            found.setdefault(path.parent.name, path)
    return found


def find(name: str, root: Path) -> Path:
    """The suite.toml of a suite named on the command line. Raises UsageProblem with the names there are."""
    suites = available(root)
    if name not in suites:
        raise UsageProblem(f"there is no suite {name!r}. {valid_values(name, suites, what='suites')}\nLooked in: {_listing(search_path(root))}")
    return suites[name]


def _listing(paths: Iterable[Path]) -> str:
    return ", ".join(dict.fromkeys(str(path) for path in paths))


def read(path: Path) -> AnySuite:
    """Read and check one suite file. Raises SuiteError."""
    try:
        with no_garbage():
            table = tomllib.loads(path.read_bytes().decode("utf-8-sig"))
    except OSError as error:
        raise SuiteError(f"{path}: {_why(error)}") from None
    except UnicodeDecodeError as error:
        line = error.object.count(10, 0, error.start) + 1  # 10 is a newline
        raise SuiteError(f"{path}: not UTF-8 in line {line}, at byte {error.start}") from None
    except (ValueError, RecursionError) as error:  # TOMLDecodeError is a ValueError, and so is a number of 5,000 digits
        raise SuiteError(f"{path}: not valid TOML: {error}") from None
    kind = table.get("kind", "evaluation")
    if kind not in _KINDS:
        raise SuiteError(f"{path}: kind: unknown {_shown(kind)}. {valid_values(str(kind), _KINDS, what='values')}")
    if kind == "sweep":
        return sweep_load.made(path.resolve(), validated(SweepFile, table, str(path)))
    suite = Suite(path.resolve().parent.name, path.resolve(), validated(SuiteFile, table, str(path)))
    problems = [f"{path}: {problem}" for problem in _problems(suite)]
    if problems:
        raise SuiteError("\n".join(problems))
    return suite


def evaluation(suite: AnySuite) -> Suite:
    """The same suite where only an evaluation will do. Raises UsageProblem for a sweep."""
    if isinstance(suite, Sweep):
        raise UsageProblem(f"suite {suite.name!r} is a sweep: it has rows, no datasets.\nSuite file: {suite.path}")
    return suite


def handed_over(suite: AnySuite) -> str | None:
    """A suite as text for another process, far faster to read than the file; None where JSON cannot hold a value of a runtime or a task, such as a date."""
    if isinstance(suite, Sweep):
        return sweep_load.handed_over(suite)
    try:
        tables = [entry.model_dump() for entry in suite.file.runtimes.values()]
        tables += [suite.file.task_options, *(dataset.task_options for dataset in suite.file.datasets.values() if dataset.task_options)]
        same = orjson.loads(orjson.dumps(tables)) == tables
    except TypeError:  # a number of more than 64 bits
        return None
    return suite.file.model_dump_json(exclude_unset=True) if same else None


def taken_over(path: Path, text: str) -> AnySuite:
    """The suite of this file from what `handed_over` gave, where it was checked."""
    if text.startswith('{"sweep":'):
        return sweep_load.taken_over(path, orjson.loads(text))
    return Suite(path.parent.name, path, SuiteFile.model_validate_json(text))


def _why(error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return "no such file"
    return f"cannot be read: {error.strerror or error}"


def validated(model: type[T], table: Any, where: str) -> T:
    """Check a table against a model. Raises SuiteError with `file: key`, the value and the valid ones, one line for each problem."""
    try:
        return model.model_validate(table)
    except ValidationError as problem:
        lines = [f"{where}: {_explain(error, model)}" for error in problem.errors(include_url=False)]
        raise SuiteError("\n".join(dict.fromkeys(lines))) from None


def _explain(error: Any, model: type[BaseModel], place: Sequence[Any] = ()) -> str:
    """`key: what is wrong. What would be right.`, where the model's table is at `place`."""
    location: Sequence[Any] = [part for part in error["loc"] if part != "[key]"]
    key = f"{_dotted([*place, *location])}: " if place or location else ""
    kind, context = error["type"], error.get("ctx", {})
    if kind == "extra_forbidden":
        return f"{key}unknown key. {valid_values(str(location[-1]), _fields_at(model, location[:-1]), what='keys here')}"
    if kind == "missing":
        return f"{key}missing; this key is required"
    if kind == "value_error":
        return f"{key}{context['error']}"
    found = _shown(error["input"])
    if kind == "literal_error":
        valid = re.findall(r"'([^']*)'", context["expected"])
        return f"{key}unknown {found}. {valid_values(str(error['input']), valid, what='values')}"
    expected = _EXPECTED.get(kind) or error["msg"].removeprefix("Input should be ")
    return f"{key}expected {expected}, found {found}"


def _dotted(location: Iterable[Any]) -> str:
    """`datasets.kaggle.gates[0].min`."""
    names = (f"[{part}]" if isinstance(part, int) else f".{part if part.isprintable() else repr(part)}" for part in location)
    return "".join(names).removeprefix(".")


def _shown(value: Any) -> str:
    """A value as TOML people read it, cut short."""
    if isinstance(value, bool):
        return str(value).lower()
    if value is None:
        return "nothing"
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _fields_at(model: type[BaseModel], location: Sequence[Any]) -> list[str]:
    """The names of the fields of the table at `location` within `model`; none for a place that `model` does not have."""
    current: Any = model
    for part in location:
        fields = _fields(current)
        # In dict[str, X] and list[X] the last argument is what is inside.
        current = fields[part].annotation if part in fields else (get_args(current) or (None,))[-1]
    return list(_fields(current))


def _fields(annotation: Any) -> Mapping[Any, Any]:
    """The fields of the model that an annotation names, itself or as `Model | None`; empty for anything else."""
    members = get_args(annotation)
    candidates = [annotation, *(members if type(None) in members else ())]
    return next((c.model_fields for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)), {})


def _problems(suite: Suite) -> Iterator[str]:
    """What no single value shows: names that are used must exist, files that are named must be there, and nothing may be given twice."""
    file = suite.file
    yield from _unknown("split", file.split, {split for dataset in file.datasets.values() for split in dataset.splits}, "splits")
    yield from _unknown("runtime", file.runtime, file.runtimes, "runtimes")
    if file.policy is not None:
        yield from _unknown("policy", file.policy, file.policies, "policies")
    yield from (f"labels: {label!r} is given twice" for label in dict.fromkeys(file.labels) if file.labels.count(label) > 1)
    yield from dict.fromkeys(_option_problems(suite))
    columns = TASK_COLUMNS.get(file.task)
    for name, dataset in file.datasets.items() if columns else ():
        for column in dataset.columns:
            yield from _unknown(f"datasets.{name}.columns", column, columns or (), f"columns of task {file.task!r}")
    if file.task == "generation":
        yield from _meaningless(suite)
    yield from dict.fromkeys(_judge_problems(suite))
    for key, label in _labels_used(suite):
        yield from _unknown(key, label, file.labels, "labels")
    for key, name in _files_used(suite):
        if not (suite.directory / name).is_file():
            yield f"{key}: {name!r}: no such file in {suite.directory}"


def _option_problems(suite: Suite) -> Iterator[str]:
    """What is wrong with the options of a task that comes with the package, as each dataset has them."""
    file, model = suite.file, TASK_OPTIONS.get(suite.file.task)
    if model is None:
        return
    told = {name: dataset for name, dataset in file.datasets.items() if dataset.task_options}
    plain = next(((name, dataset) for name, dataset in file.datasets.items() if not dataset.task_options), None)  # all of them are alike
    for name, dataset in [*([plain] if plain else ()), *told.items()]:
        own = ["datasets", name, "task_options"]
        try:
            model.model_validate({**file.task_options, **dataset.task_options})
        except ValidationError as problem:
            for error in problem.errors(include_url=False):
                at_fault = {error["loc"][0]} if error["loc"] else set(dataset.task_options)
                yield _explain(error, model, own if at_fault & set(dataset.task_options) else ["task_options"])


def _judge_problems(suite: Suite) -> Iterator[str]:
    """A judge must be a language model, be there where it is needed, and be needed where it is there."""
    file, entry = suite.file, suite.file.judge
    judged = {name: dataset for name, dataset in file.datasets.items() if suite.is_judged(dataset)}
    if entry is None:
        for name, dataset in judged.items():
            key = f"datasets.{name}.task_options.match" if "match" in dataset.task_options else "task_options.match"
            yield f"{key}: 'judge' needs a judge: a table [judge] with runtime = \"NAME\", one of the runtimes of this suite"
        return
    if not judged:
        yield "judge: nothing asks it. Datasets of task 'generation' do with match = \"judge\" in their task_options, or in the suite's; or leave the table out"
    yield from _unknown("judge.runtime", entry.runtime, file.runtimes, "runtimes")
    runtime = file.runtimes.get(entry.runtime)
    if runtime is not None and runtime.kind != "openai":
        models = [name for name, other in file.runtimes.items() if other.kind == "openai"]
        hint = valid_values(entry.runtime, models, what="runtimes of kind 'openai'")
        yield f"judge.runtime: {entry.runtime!r} is of kind {runtime.kind!r}; a judge is a language model, of kind 'openai'. {hint}"


def _meaningless(suite: Suite) -> Iterator[str]:
    """What a suite cannot say whose task has no labels."""
    why = f"task {suite.file.task!r} has no labels"
    if suite.file.labels:
        yield f"labels: {why}; leave the key out"
    for name, policy in suite.file.policies.items():
        if policy.threshold:
            yield f"policies.{name}.threshold: {why}, so nothing has a score; leave the key out"


def _unknown(key: str, name: str, valid: Iterable[str], what: str) -> Iterator[str]:
    names = list(valid)
    if name not in names:
        yield f"{key}: unknown {name!r}. {valid_values(name, names, what=what)}"


def _labels_used(suite: Suite) -> Iterator[tuple[str, str]]:
    """(key, label) wherever the file uses one of the suite's labels."""
    file = suite.file
    for name, policy in file.policies.items():
        yield from ((f"policies.{name}.thresholds.{label}", label) for label in policy.thresholds)
        yield from ((f"policies.{name}.disabled[{i}]", label) for i, label in enumerate(policy.disabled))
    for name, dataset in file.datasets.items():
        yield from ((f"datasets.{name}.label_map.{raw}", label) for raw, label in dataset.label_map.items())
    for prefix, gates in [("", file.gates), *((f"datasets.{name}.", dataset.gates) for name, dataset in file.datasets.items())]:
        yield from ((f"{prefix}gates[{i}].label", gate.label) for i, gate in enumerate(gates) if gate.label is not None)


def _files_used(suite: Suite) -> Iterator[tuple[str, str]]:
    """(key, path) of the Python files that the file names."""
    if suite.file.data.generator is not None:
        yield "data.generator", suite.file.data.generator
    for name, runtime in suite.file.runtimes.items():
        place = (runtime.target or "").rpartition(":")[0]
        if runtime.kind == "inprocess" and place.endswith(".py"):
            yield f"runtimes.{name}.target", place


def read_policy(reference: str) -> tuple[str, PolicyEntry]:
    """Read `FILE:NAME`, where the file is TOML or YAML with a table of policies, perhaps under `policies`. Raises UsageProblem."""
    file, _, name = reference.rpartition(":")
    path = Path(file)
    if path.suffix not in (".toml", ".yaml", ".yml"):
        raise UsageProblem(f"--gpueval-policy {reference}: expected FILE:NAME, where FILE ends in .toml, .yaml or .yml")
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise UsageProblem(f"--gpueval-policy {reference}: {path}: {_why(error)}") from None
    except UnicodeDecodeError as error:
        raise UsageProblem(f"--gpueval-policy {reference}: {path}: not UTF-8 at byte {error.start}") from None
    table = _parse_policies(path, text)
    policies = table.get("policies", table)
    if not isinstance(policies, dict) or name not in policies:
        names = map(str, policies) if isinstance(policies, dict) else ()
        raise UsageProblem(f"{path}: there is no policy {name!r}. {valid_values(name, names, what='policies')}")
    return name, validated(PolicyEntry, policies[name], f"{path}: {name}")


def _parse_policies(path: Path, text: str) -> Mapping[str, Any]:
    if path.suffix == ".toml":
        try:
            return tomllib.loads(text)
        except (ValueError, RecursionError) as error:
            raise UsageProblem(f"{path}: not valid TOML: {error}") from None
    try:
        import yaml
    except ImportError:
        raise MissingExtra("pyyaml", needed_for=f"the policy file {path}", extra="policy") from None
    try:
        table = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # a date of month 13 is a ValueError
        raise UsageProblem(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(table, dict):
        raise UsageProblem(f"{path}: expected a table of policies, found {_shown(table)}")
    return table
