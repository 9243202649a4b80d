"""The functions that every suite file collects."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_gpueval.session.evaluation import Evaluation
    from pytest_gpueval.session.evaluation_run import EvaluationRun


def test_eval(predictions: Evaluation, run: EvaluationRun) -> None:
    """Evaluate one case: score every prediction, then let the gates decide."""
    for _ in predictions:
        pass
    run.judge()
