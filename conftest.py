"""Tests marked `gpu` need an NVIDIA GPU; they are the only ones that may be skipped. And an example of a logger: runs go to MLflow where that is asked for."""

from __future__ import annotations

import importlib
import os
from typing import Any

import pytest

from pytest_gpueval.hookspecs import RunFinished


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs a GPU where there is none."""
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if marked:
        from pytest_gpueval.gpus import devices  # noqa: PLC0415 - only where a test asks

        if not devices.visible():
            for item in marked:
                item.add_marker(pytest.mark.skip(reason="needs an NVIDIA GPU"))


def pytest_gpueval_run_finished(run: RunFinished) -> None:
    """Log a run to the server or directory that MLFLOW_TRACKING_URI names (pip install mlflow-skinny), once: its metrics, parameters and summary.json."""
    if "MLFLOW_TRACKING_URI" not in os.environ or run.reused or run.shard:  # told before; or a part, whose whole is told too
        return
    mlflow: Any = importlib.import_module("mlflow")
    with mlflow.start_run(run_name=f"{run.session}/{run.run_id}"):
        mlflow.log_params({"suite": run.suite, "case": run.case, "commit": run.provenance["code"].get("commit"), **run.parameters})
        mlflow.log_metrics({name.replace("@", "_at_"): figure.value for name, figure in run.metrics.items() if figure.value is not None})
        mlflow.set_tags({"status": run.status, "failure": run.failure, "worker": run.worker})
        mlflow.log_artifact(f"{run.path}/summary.json")
