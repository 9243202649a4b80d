"""The JSON Schemas of the contract, one file each. `python -m pytest_gpueval.runs.schemas` writes them anew from the models."""

from __future__ import annotations

from pathlib import Path

from pytest_gpueval.runs.records import MODELS, SCHEMA_VERSION, schema_of

DIRECTORY = Path(__file__).parent


def path_of(file: str) -> Path:
    """Where the schema of a file of the contract ships: `summary.v1.json` for summary.json."""
    return DIRECTORY / f"{Path(file).stem}.v{SCHEMA_VERSION}.json"


def write() -> list[Path]:
    """Write all schemas from the models; returns their paths."""
    paths = [path_of(file) for file in MODELS]
    for file, path in zip(MODELS, paths, strict=True):
        path.write_text(schema_of(file), encoding="utf-8")
    return paths
