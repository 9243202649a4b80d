"""The files of the contract as models. Their JSON Schemas ship in `schemas/`; a change of shape raises SCHEMA_VERSION."""

from __future__ import annotations

import json
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from pytest_gpueval.suites.model import Status

SCHEMA_VERSION: Final = 1


class Record(BaseModel):
    """Base: no unknown keys."""

    model_config = ConfigDict(extra="forbid", ser_json_inf_nan="constants")


class Figure(Record):
    """A metric with its 95 % interval; all null where it is unscored."""

    value: float | None
    low: float | None
    high: float | None
    n: int


class ChangeRecord(Record):
    """What lies between a figure and its baseline's, over the samples that both have."""

    baseline: float | None
    difference: float
    low: float | None
    high: float | None
    p: float | None = Field(description="of a change for the worse that is within the bound; null where so few samples changed that nobody can tell")
    p_adjusted: float | None = Field(description="beside the suite's other gates against a baseline")
    changed: int = Field(description="samples that count otherwise than they did")
    detectable: float | None = Field(description="the smallest change for the worse that is found with 80 % power")
    method: str
    tolerated: bool = Field(description="whether the case passes where the outcome is inconclusive")


class VerdictRecord(Record):
    """What one gate said."""

    metric: str
    label: str | None
    bound: str
    value: float | None
    low: float | None
    high: float | None
    n: int
    outcome: Literal["pass", "fail", "unscored", "improved", "inconclusive"]
    change: ChangeRecord | None = Field(None, description="of a gate against a baseline, where both sides have the metric")
    note: str | None = Field(None, description="why there was nothing to judge by, where the outcome is inconclusive without a change")
    tolerated: bool = Field(False, description="whether the case passes then")
    unit: str | None = Field(None, description="of a figure of speed or memory")


class RowCounts(Record):
    """Rows of the split: `total` = `scored` + `errors` + `skipped` once a run is complete."""

    total: int | None = None
    scored: int = 0
    errors: int = 0
    skipped: int = 0


class Latency(Record):
    """Percentiles of the calls that served the rows, in milliseconds."""

    p50_ms: float
    p95_ms: float
    p99_ms: float


class Speed(Record):
    """How fast a run was, and what that depends on beside the model. Of each figure `n` counts what told its interval: blocks of calls, or calls."""

    device: str = Field(description="model of the GPU, or 'cpu: <model> (<cores> cores)'; or 'a server elsewhere'")
    gpus: int = Field(description="GPUs of one worker; 0 on the CPU")
    workers: int = Field(description="workers of the session, which share a machine")
    runtime: str = Field(description="name of the runtime in the suite")
    batch: dict[str, Any] = Field(description="settings that decide how many rows are on their way together")
    rows: int = Field(description="rows that were measured: all, unless the run was continued or limited")
    samples_per_s: Figure | None = None
    latency_p95_ms: Figure | None = None
    gpu_peak_memory_mib: float | None = None

    @property
    def key(self) -> str:
        """What must be equal for two speeds to be compared, in words; those of one GPU model sort together."""
        many = f" x {self.gpus}" if self.gpus > 1 else ""
        batch = "".join(f", {name} {value}" for name, value in sorted(self.batch.items()))
        return f"{self.device}{many}, {self.workers} worker{'s' if self.workers != 1 else ''}, runtime {self.runtime}{batch}"


class Tokens(Record):
    """What a language model read and wrote for all rows."""

    prompt: int
    completion: int
    completion_per_s: float | None = Field(None, description="of the rows that this run computed, start-up excluded")


class Attempt(Record):
    """How one attempt at a run ended."""

    outcome: str = Field(
        description="a status; of a program: passed, stopped, interrupted, exit, cuda_oom, host_oom, signal, timeout, diverged, missing_file or not_started"
    )
    reason: str | None = None
    exit_code: int | None = Field(None, description="minus the signal that ended it; null where no program was started")
    seconds: float


class Summary(Record):
    """summary.json: written last, atomically; a run without one did not end."""

    schema_version: Literal[1] = SCHEMA_VERSION
    run_id: str
    ok: bool
    status: Status
    reason: str | None = Field(None, description="why the run was skipped, interrupted or failed")
    failure: Literal["gate", "infrastructure", "other"] | None = Field(
        None, description="whose failure it is, where the run failed: of a gate, of the machines, or of anything else"
    )
    headline: str | None = None
    metrics: dict[str, Figure] = {}
    labels: dict[str, dict[str, Figure]] = {}
    tables: dict[str, dict[str, dict[str, int]]] = Field(
        {}, description="counts by name, row and column; 'confusion': gold label -> predicted label -> samples, or label -> tp, fp, fn, tn"
    )
    gates: list[VerdictRecord] = []
    rows: RowCounts = RowCounts()
    complete: bool = Field(True, description="false: the test ended before it had read all predictions, or a shard was missing; never reused")
    seconds: float = 0.0
    samples_per_s: float | None = Field(None, description="of the rows that this run computed, start-up excluded")
    startup_s: float | None = Field(None, description="seconds to load the model, where this run was the one that did")
    latency: Latency | None = None
    speed: Speed | None = None
    tokens: Tokens | None = None
    judge_tokens: Tokens | None = Field(None, description="what a language model read and wrote that judged the rows")
    gpu: dict[str, float] | None = Field(None, description="peak memory, utilisation and energy, where sampled")
    attempts: int = 1
    ends: list[Attempt] = Field([], description="how the attempts of this session ended, of a row of a sweep, and where there were several")
    notes: list[str] = Field([], description="what went otherwise than meant, and changed no answer, such as batches that were halved for lack of memory")
    error: str | None = None


class RunMetadata(Record):
    """run_metadata.json: what was run, on what, where."""

    schema_version: Literal[1] = SCHEMA_VERSION
    run_id: str
    nodeid: str
    suite: str
    case: str
    shard: str | None = Field(None, description="'2of4' where the run is one shard of its case")
    shards: list[str] | None = Field(None, description="where the run joins shards: their run ids")
    task: str
    dataset: dict[str, Any]
    runtime: dict[str, Any]
    model: dict[str, Any] = Field(description="hash of the code that makes the predictions, and of its options, secrets included")
    judge: dict[str, Any] | None = Field(None, description="where a language model judges: its runtime, model, template, and how its verdict is read")
    scoring: dict[str, Any] = Field(description="labels, label map, options of the task, share of errors allowed, metrics of the user's own")
    policy: dict[str, Any]
    gates: list[dict[str, Any]]
    baseline: dict[str, Any] | None = Field(None, description="what the case was compared with: where it is from, its commit, the hash of its samples")
    limit: int | None = None
    code: dict[str, Any] = Field(description="commit and hash of the uncommitted difference")
    environment: dict[str, str] = Field(description="allow-listed variables; the value of a secret is '<set>'")
    packages: dict[str, str]
    python: str
    host: str
    platform: str
    worker: str
    gpus: list[str] = Field(description="UUIDs")
    gpu: dict[str, str | None] | None = Field(None, description="their model and the driver, or null on the CPU")
    seed: int | None = None
    parameters: dict[str, Any] | None = Field(None, description="of a row of a sweep")
    program: dict[str, Any] | None = Field(None, description="of a row of a sweep: its command, where it runs and what it is given")
    attempt: int | None = Field(None, description="of a row of a sweep: the number of the last attempt, earlier sessions included")
    started_at: str
    plugin_version: str


class ResultLine(Record):
    """One line of results.jsonl. Exactly one of `score`, `error` and `skipped` is there."""

    id: str
    prediction: Any = None
    score: dict[str, Any] | None = None
    latency_ms: float | None = None
    tokens: list[int] | None = Field(None, description="read and written by a language model")
    judge_tokens: list[int] | None = Field(None, description="read and written by one that judged")
    error: str | None = None
    skipped: str | None = None


class SessionRun(Record):
    """What became of one item."""

    run_id: str
    nodeid: str
    suite: str
    case: str
    worker: str
    status: Status | None
    ok: bool | None
    reused: bool = False
    seconds: float | None = None
    rows: int | None = Field(None, description="rows that were scored")
    samples_per_s: float | None = None
    startup_s: float | None = None
    runtime: str | None = None
    gpu: str | None = Field(None, description="name of the GPU model, or null on the CPU")
    begin_s: float | None = Field(None, description="seconds from the session's start to the run's")


class SessionShard(Record):
    """The part of the items that one machine ran."""

    index: int = Field(ge=0)
    count: int = Field(ge=1)


class SessionRecord(Record):
    """session.json."""

    schema_version: Literal[1] = SCHEMA_VERSION
    session: str
    argv: list[str]
    suites: list[str]
    data: str
    lanes: list[dict[str, Any]]
    host: str
    code: dict[str, Any]
    plugin_version: str
    started_at: str
    ended_at: str | None = None
    exit_status: int | None = None
    runs: list[SessionRun] = []
    cuts: dict[str, int] = Field({}, description="datasets that were cut, and into how many shards; a continued session keeps to it")
    plan: dict[str, Any] | None = Field(None, description="what was expected to run where and when")
    gpus: dict[str, Any] | None = Field(None, description="per GPU: series of utilisation, memory and power over the session")
    shard: SessionShard | None = Field(None, description="where the session ran one part of the items")
    shards: list[SessionShard] = Field([], description="of a merged session: the parts it was joined from")
    merged_from: list[str] = Field([], description="of a merged session: the sessions it was joined from")
    differences: list[str] = Field([], description="of a merged session: what differed between them, and was allowed")
    report_texts: Literal["yes", "errors", "no"] | None = Field(
        None, description="texts of samples that report.html may hold; of a merged session: the least that one of the sessions said"
    )


MODELS: dict[str, type[Record]] = {
    "summary.json": Summary,
    "run_metadata.json": RunMetadata,
    "results.jsonl": ResultLine,
    "session.json": SessionRecord,
}


def schema_of(file: str) -> str:
    """The JSON Schema of one file of the contract, as text."""
    return json.dumps(MODELS[file].model_json_schema(), indent=1, sort_keys=True) + "\n"
