"""What a test can ask for. Importing this costs nothing: the work is imported when a fixture is used."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pytest_gpueval.datasets.parquet import ParquetSplit
    from pytest_gpueval.session.evaluation import Evaluation
    from pytest_gpueval.session.recorder import Run
    from pytest_gpueval.suites.model import Case


@pytest.fixture
def case(request: pytest.FixtureRequest) -> Case:
    """The case of this item. Suite files and `@pytest.mark.gpueval(suite=...)` provide it."""
    pytest.fail(f'{request.node.nodeid} uses the fixture "case" without @pytest.mark.gpueval(suite="...")', pytrace=False)


@pytest.fixture
def run(request: pytest.FixtureRequest, case: Case) -> Run:  # noqa: ARG001 - a run belongs to a case
    """The run of this item: its directory `run.path`, its evaluation, and `run.judge()`, which lets the gates speak."""
    from pytest_gpueval.session.worker import RUN  # noqa: PLC0415

    found: Run = request.node.stash[RUN]
    return found


@pytest.fixture
def split(run: Run) -> ParquetSplit:
    """The rows of this item's case: `split.rows`, `split.read(columns)`."""
    return run.split


@pytest.fixture
def predictions(run: Run) -> Evaluation:
    """An iterable of (sample, prediction) pairs. Reading it scores each pair and writes it to results.jsonl."""
    return run.predictions()


@pytest.fixture
def load_split(case: Case, request: pytest.FixtureRequest) -> Callable[[str, str], ParquetSplit]:
    """`load_split(dataset, split)`: any split of the case's suite."""
    from pytest_gpueval.session import cases  # noqa: PLC0415
    from pytest_gpueval.session.start import SETTINGS  # noqa: PLC0415

    return lambda dataset, name: cases.open_split(case, request.config.stash[SETTINGS], dataset, name)
