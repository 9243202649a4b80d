"""What a test can ask for. Importing this costs nothing: the work is imported when a fixture is used."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pytest_gpueval.datasets.parquet import ParquetSplit
    from pytest_gpueval.hosts.host import Host
    from pytest_gpueval.servers.pytriton import PyTritonServer
    from pytest_gpueval.servers.triton_server import TritonServer
    from pytest_gpueval.session.evaluation import Evaluation
    from pytest_gpueval.session.evaluation_run import EvaluationRun
    from pytest_gpueval.session.run import Run
    from pytest_gpueval.session.servers import OpenAIServers
    from pytest_gpueval.suites.model import Case


@pytest.fixture
def case(request: pytest.FixtureRequest) -> Case:
    """The case of this item. Suite files and `@pytest.mark.gpueval(suite=...)` provide it."""
    pytest.fail(f'{request.node.nodeid} uses the fixture "case" without @pytest.mark.gpueval(suite="...")', pytrace=False)


@pytest.fixture
def run(request: pytest.FixtureRequest, case: Case) -> Run:  # noqa: ARG001 - a run belongs to a case
    """The run of this item: its directory `run.path`, its evaluation or its program, and `run.judge()`, which lets the gates speak."""
    from pytest_gpueval.session.worker import RUN  # noqa: PLC0415

    found: Run = request.node.stash[RUN]
    found.fixture = request.getfixturevalue
    return found


@pytest.fixture
def split(run: EvaluationRun) -> ParquetSplit:
    """The rows of this item's case: `split.rows`, `split.read(columns)`."""
    return run.split


@pytest.fixture
def predictions(run: EvaluationRun) -> Evaluation:
    """An iterable of (sample, prediction) pairs. Reading it scores each pair and writes it to results.jsonl."""
    return run.predictions()


@pytest.fixture
def load_split(case: Case, request: pytest.FixtureRequest) -> Callable[[str, str], ParquetSplit]:
    """`load_split(dataset, split)`: any split of the case's suite."""
    from pytest_gpueval.session.start import DATA  # noqa: PLC0415

    return lambda dataset, name: request.config.stash[DATA].open(case, dataset, name)


@pytest.fixture(scope="session")
def triton_settings() -> Mapping[str, Any]:
    """What differs from the defaults of `servers.triton.TritonSettings`; override it in conftest.py: `return {"grpc_port": 8001}`."""
    return {}


@pytest.fixture(scope="session")
def triton_server(request: pytest.FixtureRequest, triton_settings: Mapping[str, Any]) -> Iterator[TritonServer]:
    """The Triton server of this worker, on its GPU. It starts with its first model: `triton_server.load(TritonModel(...))`."""
    from pytest_gpueval.session import servers  # noqa: PLC0415

    yield from servers.lent(request.session, "triton", servers.triton_server, triton_settings)


@pytest.fixture(scope="session")
def pytriton_server(request: pytest.FixtureRequest, triton_settings: Mapping[str, Any]) -> Iterator[PyTritonServer]:
    """The same through the library PyTriton, which has a server for each model: `pytriton_server.load(TritonModel(...))`."""
    from pytest_gpueval.session import servers  # noqa: PLC0415

    yield from servers.lent(request.session, "pytriton", servers.pytriton_server, triton_settings)


@pytest.fixture(scope="session")
def openai_settings() -> Mapping[str, Any]:
    """What differs from the suite's settings of its server, fields of `servers.openai.VllmSettings` or `CommandSettings`; override it in conftest.py."""
    return {}


@pytest.fixture(scope="session")
def openai_server(request: pytest.FixtureRequest, openai_settings: Mapping[str, Any]) -> Iterator[OpenAIServers]:
    """The language model server of this worker, on its GPU: `openai_server.serve(VllmSettings(model=...)).url`."""
    from pytest_gpueval.session import servers  # noqa: PLC0415

    yield from servers.lent(request.session, "openai", servers.OpenAIServers, openai_settings)


@pytest.fixture(scope="session")
def remote_host(request: pytest.FixtureRequest) -> Iterator[Callable[[str], Host]]:
    """`remote_host(name)`: a host of hosts.toml, of ssh_config or an address, connected when it is first asked for something: `run`, `put`, `get`."""
    from pytest_gpueval.hosts import declared  # noqa: PLC0415

    hosts: dict[str, Host] = {}
    with ExitStack() as open_hosts:

        def host(name: str) -> Host:
            if name not in hosts:
                hosts[name] = open_hosts.enter_context(declared.opened(declared.named(name, request.config.rootpath)))
            return hosts[name]

        yield host
