"""Find suite.toml, read it, and turn what is wrong with it into one message."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from pytest_gpueval.errors import MissingExtra, SuiteError, UsageProblem, valid_values

from .model import Suite
from .schema import PolicyEntry, SuiteFile

FILE_NAME = "suite.toml"
T = TypeVar("T", bound=BaseModel)


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


def read(path: Path) -> Suite:
    """Read and check one suite file. Raises SuiteError."""
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SuiteError(f"{path}: no such file") from None
    except UnicodeDecodeError as error:
        raise SuiteError(f"{path}: not UTF-8 at byte {error.start}") from None
    except tomllib.TOMLDecodeError as error:
        raise SuiteError(f"{path}: not valid TOML: {error}") from None
    suite = Suite(path.resolve().parent.name, path.resolve(), validated(SuiteFile, table, str(path)))
    _check_references(suite)
    return suite


def validated(model: type[T], table: Mapping[str, Any], where: str) -> T:
    """Check a table against a model. Raises SuiteError with `file:key`, the value and the valid ones, one line for each problem."""
    try:
        return model.model_validate(table)
    except ValidationError as problem:
        lines = [_explain(where, error, model) for error in problem.errors()]
        raise SuiteError("\n".join(dict.fromkeys(lines))) from None


def _explain(where: str, error: Any, model: type[BaseModel]) -> str:
    location: Sequence[Any] = [part for part in error["loc"] if part != "[key]"]
    key = ".".join(str(part) for part in location)
    if error["type"] == "extra_forbidden":
        fields = _fields_at(model, location[:-1])
        return f"{where}: {key}: unknown key. {valid_values(str(location[-1]), fields, what='keys here')}"
    if error["type"] == "missing":
        return f"{where}: {key}: missing; this key is required"
    if error["type"] == "value_error":
        return f"{where}: {key}: {error['ctx']['error']}"
    return f"{where}: {key}: {error['msg']}, not {error['input']!r:.80}"


def _fields_at(model: type[BaseModel], location: Sequence[Any]) -> list[str]:
    """The names of the fields of the table at `location` within `model`."""
    current: Any = model
    for part in location:
        if isinstance(current, type) and issubclass(current, BaseModel):
            current = current.model_fields[part].annotation if part in current.model_fields else None
        else:  # dict[str, X] or list[X]: the last argument is what is inside
            current = current.__args__[-1]
    candidates = [current, *getattr(current, "__args__", ())]
    return next((list(c.model_fields) for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)), [])


def _check_references(suite: Suite) -> None:
    """Names inside the file must exist: default split, runtime and policy, labels of maps, policies and gates."""
    file, where = suite.file, str(suite.path)
    problems: list[str] = []

    def known(key: str, name: str, valid: Iterable[str], what: str) -> None:
        names = list(valid)
        if name not in names:
            problems.append(f"{where}: {key}: unknown {name!r}. {valid_values(name, names, what=what)}")

    known("split", file.split, {split for dataset in file.datasets.values() for split in dataset.splits}, "splits")
    known("runtime", file.runtime, file.runtimes, "runtimes")
    if file.policy is not None:
        known("policy", file.policy, file.policies, "policies")
    for name, policy in file.policies.items():
        for label in (*policy.thresholds, *policy.disabled):
            known(f"policies.{name}", label, file.labels, "labels")
    for name, dataset in file.datasets.items():
        for raw, label in dataset.label_map.items():
            known(f"datasets.{name}.label_map.{raw}", label, file.labels, "labels")
    gates = [(f"gates[{i}]", gate) for i, gate in enumerate(file.gates)]
    gates += [(f"datasets.{name}.gates[{i}]", gate) for name, dataset in file.datasets.items() for i, gate in enumerate(dataset.gates)]
    for key, gate in gates:
        if gate.label is not None:
            known(f"{key}.label", gate.label, file.labels, "labels")
    if problems:
        raise SuiteError("\n".join(problems))


def read_policy(reference: str) -> tuple[str, PolicyEntry]:
    """Read `FILE:NAME`, where the file is TOML or YAML with a table of policies, perhaps under `policies`. Raises UsageProblem."""
    file, _, name = reference.rpartition(":")
    path = Path(file)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageProblem(f"--gpueval-policy {reference}: cannot read {path}: {error}") from None
    table = _parse_policies(path, text)
    policies = table.get("policies", table)
    if not isinstance(policies, dict) or name not in policies:
        names = policies if isinstance(policies, dict) else ()
        raise UsageProblem(f"{path}: there is no policy {name!r}. {valid_values(name, names, what='policies')}")
    return name, validated(PolicyEntry, policies[name], f"{path}: {name}")


def _parse_policies(path: Path, text: str) -> Mapping[str, Any]:
    if path.suffix == ".toml":
        try:
            return tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise UsageProblem(f"{path}: not valid TOML: {error}") from None
    if path.suffix not in (".yaml", ".yml"):
        raise UsageProblem(f"{path}: a policy file ends in .toml, .yaml or .yml")
    try:
        import yaml  # noqa: PLC0415 - an extra
    except ImportError:
        raise MissingExtra("pyyaml", needed_for=f"the policy file {path}", extra="policy") from None
    try:
        table = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UsageProblem(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(table, dict):
        raise UsageProblem(f"{path}: expected a table of policies, found {type(table).__name__}")
    return table
