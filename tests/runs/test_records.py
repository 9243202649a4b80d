"""The schemas that ship say what the models say, and real records keep to them."""

import json
import subprocess
import sys

import jsonschema
import pytest
from pydantic import ValidationError

from pytest_gpueval.runs import records, schemas
from pytest_gpueval.runs.records import MODELS, Figure, Summary, schema_of

FIGURE = {"value": 0.9, "low": 0.8, "high": None, "n": 5}
GATE = {"metric": "f1", "label": None, "bound": ">= 0.5", "value": 0.9, "low": 0.8, "high": 1, "n": 5, "outcome": "pass"}
RUN = {"run_id": "r", "nodeid": "n", "suite": "s", "case": "c", "worker": "w", "status": None, "ok": None}
REAL = {
    "summary.json": {
        "run_id": "r", "ok": True, "status": "passed", "metrics": {"f1": FIGURE}, "labels": {"A": {"f1": FIGURE}}, "gates": [GATE],
        "rows": {"total": 5, "scored": 5}, "latency": {"p50_ms": 1, "p95_ms": 2, "p99_ms": 3}, "gpu": {"peak_memory_mib": 5},
    },
    "run_metadata.json": {
        "run_id": "r", "nodeid": "n", "suite": "s", "case": "c", "task": "t", "dataset": {}, "runtime": {},
        "model": {}, "scoring": {}, "policy": {}, "gates": [], "code": {},
        "environment": {"HF_TOKEN": "<set>"}, "packages": {}, "python": "3", "host": "h", "platform": "p", "worker": "w", "gpus": [], "started_at": "now",
        "plugin_version": "0",
    },
    "results.jsonl": {"id": "a", "prediction": [1], "score": {"x": 1}, "latency_ms": 0.5},
    "session.json": {
        "session": "s", "argv": [], "suites": [], "data": "embedded", "lanes": [{}], "host": "h", "code": {}, "plugin_version": "0", "started_at": "now",
        "runs": [RUN],
    },
}  # fmt: skip


def shipped(file):
    return json.loads(schemas.path_of(file).read_text(encoding="utf-8"))


def test_every_file_of_the_contract_has_its_schema():
    assert {path.name for path in schemas.DIRECTORY.glob("*.json")} == {f"{file.partition('.')[0]}.v1.json" for file in MODELS}
    assert set(MODELS) == set(REAL)


@pytest.mark.parametrize("file", sorted(MODELS))
def test_what_ships_is_what_the_models_say(file):
    assert schemas.path_of(file).read_text(encoding="utf-8") == schema_of(file), "run: python -m pytest_gpueval.runs.schemas"


@pytest.mark.parametrize("file", sorted(MODELS))
def test_real_records_are_valid_and_others_are_not(file):
    jsonschema.Draft202012Validator.check_schema(shipped(file))
    validator = jsonschema.Draft202012Validator(shipped(file))
    validator.validate(REAL[file])
    validator.validate(MODELS[file].model_validate(REAL[file]).model_dump(mode="json"))
    for key in REAL[file]:
        wrong = {**REAL[file], key: object}
        assert list(validator.iter_errors(wrong)) or file == "results.jsonl", key
    assert list(validator.iter_errors({**REAL[file], "unknown": 1}))
    assert list(validator.iter_errors({}))


def test_statuses_are_closed():
    assert list(jsonschema.Draft202012Validator(shipped("summary.json")).iter_errors({**REAL["summary.json"], "status": "fine"}))
    with pytest.raises(ValidationError):
        Summary(run_id="r", ok=True, status="fine")


def test_an_undefined_number_does_not_become_null():
    assert str(Figure(value=float("nan"), low=None, high=None, n=1).model_dump(mode="json")["value"]) == "nan"


def test_the_command_writes_what_ships():
    before = {file: schemas.path_of(file).read_text(encoding="utf-8") for file in MODELS}
    done = subprocess.run([sys.executable, "-m", "pytest_gpueval.runs.schemas"], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [str(schemas.path_of(file)) for file in MODELS]
    assert {file: schemas.path_of(file).read_text(encoding="utf-8") for file in MODELS} == before
    assert records.SCHEMA_VERSION == 1
