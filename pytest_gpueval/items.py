"""The functions that suite files collect: one for evaluations, one for sweeps."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_gpueval.session.evaluation import Evaluation
    from pytest_gpueval.session.evaluation_run import EvaluationRun
    from pytest_gpueval.session.sweep_run import SweepRun


def test_eval(predictions: Evaluation, run: EvaluationRun) -> None:
    """Evaluate one case: score every prediction, then let the gates decide."""
    for _ in predictions:
        pass
    run.judge()


def test_sweep(run: SweepRun) -> None:
    """Run one row's program to its end, then let the gates decide."""
    run.execute()
    run.judge()
