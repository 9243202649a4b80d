"""The .json of a baseline: read with words for what is wrong, written with one figure a line so that git merges it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any, Final, Literal, TypeVar

import orjson
from pydantic import Field, ValidationError

from pytest_gpueval.errors import DataError
from pytest_gpueval.runs.records import Figure, Record, RowCounts, RunMetadata, Summary

Kind = TypeVar("Kind", bound=Record)
SCHEMA_VERSION: Final = 1
AGAIN: Final = "Write it anew: run its suite with --gpueval-update-baseline"

# Score parts of runs that differ in these do not mean the same, so their difference says nothing about the model.
_MEASURE: Final = ("task", "labels", "label_map", "task_options", "columns", "judge")
# These are part of what is compared: a policy or runtime that costs quality is what a gate is there to find.
_COMPARED: Final = ("policy", "runtime")


class DatasetRecord(Record):
    """The split that the results are of. `sha256` is its content hash, `rows` all its rows."""

    repo: str | None
    name: str
    split: str
    revision: str | None
    rows: int
    sha256: str


class BaselineRecord(Record):
    """What a case's results were. `commit` alone may stay behind: it is of the run that first had these results."""

    schema_version: Literal[1] = SCHEMA_VERSION
    suite: str
    case: str
    task: str
    dataset: DatasetRecord
    runtime: str = Field(description="name of the runtime in the suite")
    model: dict[str, Any] = Field(description="hash of the code that makes the predictions, and of its options; the name of a language model")
    policy: dict[str, Any]
    labels: list[str]
    label_map: dict[str, str]
    task_options: dict[str, Any]
    columns: dict[str, str]
    judge: dict[str, Any] | None
    headline: str | None
    metrics: dict[str, Figure]
    label_metrics: dict[str, dict[str, Figure]]
    rows: RowCounts
    samples: int = Field(description="samples in the .parquet: one for each id, those without a score included")
    samples_sha256: str = Field(description="of the ids, text hashes and score parts, whatever version of a library wrote the file")
    commit: str | None
    dirty: bool | None = Field(description="whether there were changes that the commit does not have")

    @property
    def name(self) -> str:
        """`guardrails_ru/meddies-fast`."""
        return f"{self.suite}/{self.case}"

    def as_text(self) -> str:
        """The file: keys sorted, a figure on one line."""
        return pretty(self.model_dump(mode="json"), 0) + "\n"

    def same_results(self, other: BaselineRecord) -> bool:
        """Whether all but the commit is equal."""
        return self.model_copy(update={"commit": other.commit, "dirty": other.dirty}) == other


def of_run(metadata: RunMetadata, summary: Summary, where: str) -> BaselineRecord:
    """The record of a run, its samples not counted yet. Raises DataError for a run of unknown data, or with figures that are not finite."""
    dataset, scoring = metadata.dataset, metadata.scoring
    if dataset.get("sha256") is None or dataset.get("rows") is None:
        raise DataError(f"{where}: run_metadata.json does not say which data the run was of (dataset.sha256), so it cannot be a baseline")
    found = BaselineRecord(
        suite=metadata.suite,
        case=metadata.case,
        task=metadata.task,
        dataset=DatasetRecord(**{key: dataset.get(key) for key in DatasetRecord.model_fields}),
        runtime=str(metadata.runtime.get("name")),
        model={**metadata.model, **_served(metadata.runtime)},
        policy=metadata.policy,
        labels=list(scoring.get("labels", ())),
        label_map=dict(scoring.get("label_map", {})),
        task_options=dict(scoring.get("task_options", {})),
        columns=dict(scoring.get("columns", {})),
        judge=metadata.judge,
        headline=summary.headline,
        metrics=summary.metrics,
        label_metrics=summary.labels,
        rows=summary.rows,
        samples=0,
        samples_sha256="",
        commit=metadata.code.get("commit"),
        dirty=metadata.code.get("dirty"),
    )
    _require_finite(found, where)
    return found


def parse(data: bytes, where: str) -> BaselineRecord:
    """Read a file's bytes. Raises DataError for what is no baseline, is of another schema, or holds a figure that is not finite."""
    value = document(data, where)
    version = value.get("schema_version") if isinstance(value, dict) else None
    if not isinstance(version, int) or isinstance(version, bool):
        raise DataError(f"{where}: not a baseline: it has no schema_version.\n{AGAIN}.")
    if version > SCHEMA_VERSION:
        raise DataError(f"{where}: has schema {version}; this pytest-gpueval knows schemas up to {SCHEMA_VERSION}: update it (pip install -U pytest-gpueval).")
    if version < SCHEMA_VERSION:
        raise DataError(f"{where}: has schema {version}, which is too old to be read; {SCHEMA_VERSION} is needed.\n{AGAIN}.")
    found = validated(BaselineRecord, value, where)
    _require_finite(found, where)
    return found


def document(data: bytes, where: str) -> Any:
    """The JSON of a file. Raises DataError."""
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise DataError(f"{where}: not JSON ({error}).\nA conflict of a merge, NaN, or a part that is missing? {AGAIN}.") from None


def validated(model: type[Kind], value: Any, where: str) -> Kind:
    """The record that a document is. Raises DataError for the first thing that is wrong."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        raise DataError(f"{where}: {'.'.join(map(str, first['loc']))}: {first['msg']}.\n{AGAIN}.") from None


def differences(baseline: BaselineRecord, now: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """How the case of `now` differs from a baseline's, as lines: what forbids a comparison, and what a reader should know of it.

    `now` has any of the keys `task`, `labels`, `label_map`, `task_options`, `columns`, `judge`, `policy` and `runtime`, as JSON. Other labels, options
    of the task or another judge are another ruler: refused. Another policy, runtime or model is what may well be compared: a change of policy that costs
    quality must not escape its gate by being one.
    """
    there = baseline.model_dump(mode="json")
    refused, told = ([_difference(key, there[key], now[key]) for key in keys if key in now and there[key] != now[key]] for keys in (_MEASURE, _COMPARED))
    return refused, told


def _difference(key: str, there: Any, now: Any) -> str:
    if isinstance(there, Mapping) and isinstance(now, Mapping):
        names = [name for name in dict.fromkeys([*there, *now]) if there.get(name) != now.get(name)]
        return "; ".join(_difference(f"{key}.{name}", there.get(name), now.get(name)) for name in names[:3]) + ("; ..." if len(names) > 3 else "")
    return f"{key}: {_short(there)} in the baseline, {_short(now)} now"


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 120 else text[:117] + "..."


def _served(runtime: Mapping[str, Any]) -> dict[str, str]:
    """The name of the language model that a runtime asks; of a folder its last part, since others have it elsewhere."""
    for place in ("vllm", "server", "request"):
        name = (runtime.get(place) or {}).get("model")
        if name:
            return {"name": PurePath(name).name if PurePath(name).is_absolute() else name}
    return {}


def _require_finite(record: BaselineRecord, where: str) -> None:
    for label, figures in [("", record.metrics), *record.label_metrics.items()]:
        for name, figure in figures.items():
            for key in ("value", "low", "high"):
                number = getattr(figure, key)
                if number is not None and not math.isfinite(number):
                    of = f" of label {label!r}" if label else ""
                    raise DataError(f"{where}: {key} of metric {name!r}{of} is {number}, not a finite number (null is for what has no meaning).\n{AGAIN}.")


def pretty(value: Any, depth: int = 0) -> str:
    """JSON with sorted keys; a figure, a list of scalars and what is empty stand on one line."""
    if isinstance(value, dict) and value and not set(value) <= set(Figure.model_fields):
        inner = ",\n".join(f"{' ' * (depth + 1)}{_scalar(key)}: {pretty(value[key], depth + 1)}" for key in sorted(value))
        return f"{{\n{inner}\n{' ' * depth}}}"
    return _scalar(value)


def _scalar(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True, allow_nan=False)
