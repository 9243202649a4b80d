"""A suite and its cases, ready to run."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Protocol

from pytest_gpueval.errors import UsageProblem, valid_values

from .schema import ComparisonEntry, DatasetEntry, Gate, JudgeEntry, PolicyEntry, RuntimeEntry, SuiteFile

# How a run may end.
Status = Literal["passed", "failed", "error", "crashed", "oom", "timeout", "interrupted", "skipped"]
_SHARD = re.compile(r"-[0-9]+of[0-9]+$")


@dataclass(frozen=True, slots=True)
class Shard:
    """One of `count` pieces of consecutive rows; `number` counts from 1."""

    number: int
    count: int

    @property
    def id(self) -> str:
        """`2of4`."""
        return f"{self.number}of{self.count}"

    def bounds(self, rows: int) -> tuple[int, int]:
        """The first row and the row after the last, of `rows` rows. All shards together hold every row once."""
        return rows * (self.number - 1) // self.count, rows * self.number // self.count


def without_shard(id_: str) -> str:
    """The id of the whole of a case's id: `meddies-fast` of `meddies-fast-2of4`."""
    return _SHARD.sub("", id_)


@dataclass(frozen=True, slots=True)
class Judge:
    """The language model that says whether a case's answers are right: its runtime, what it is asked, and how its verdict is read."""

    runtime: RuntimeEntry
    entry: JudgeEntry

    @property
    def runtime_name(self) -> str:
        """Its runtime's name in the suite."""
        return self.entry.runtime

    def as_dict(self) -> dict[str, Any]:
        """All that decides its verdicts, as JSON; `model` is None where only the server knows."""
        runtime = self.runtime
        served = runtime.vllm or runtime.server
        return {
            "model": runtime.request.model or (served.served_name or served.model if served else None),
            "runtime": {"name": self.entry.runtime, **runtime.model_dump(mode="json", include={"kind", "vllm", "server", "url", "request"})},
            **self.entry.model_dump(mode="json", exclude={"runtime"}),
        }


class Unit(Protocol):
    """What one test item runs: a case of an evaluation, a row of a sweep."""

    @property
    def suite(self) -> str:
        """Name of the suite."""

    @property
    def directory(self) -> Path:
        """The suite's folder."""

    @property
    def id(self) -> str:
        """The parameter id, in node ids."""

    @property
    def whole_id(self) -> str:
        """The id without the shard."""

    @property
    def runtime_name(self) -> str:
        """What runs it, as sessions record it."""

    @property
    def gpus(self) -> int:
        """GPUs that it needs at once."""

    @property
    def rate(self) -> float | None:
        """Rows/s of one worker, as the suite says."""

    @property
    def startup_s(self) -> float | None:
        """Seconds before the first row, as the suite says."""

    @property
    def loads(self) -> str | None:
        """What a worker keeps loaded for the next unit that needs it, too."""

    @property
    def shards(self) -> int | Literal["auto"]:
        """Pieces that it may be cut into."""

    @property
    def shard(self) -> Shard | None:
        """Which piece it is."""

    @property
    def parts(self) -> int:
        """Pieces that it joins; 1 where it joins none."""


@dataclass(frozen=True, slots=True)
class Case:
    """One dataset's split, run by one runtime under one policy: what one test item evaluates.

    Whole, or one `shard` of it; with several `parts`, it joins the results of as many shards.
    """

    suite: str
    directory: Path
    dataset: str
    split: str
    task: str
    labels: tuple[str, ...]
    label_map: Mapping[str, str]
    runtime_name: str
    runtime: RuntimeEntry
    policy_name: str | None
    policy: PolicyEntry
    gates: tuple[Gate, ...]
    repo: str | None
    revision: str | None
    rows: int | None
    max_error_share: float
    task_options: Mapping[str, Any] = field(default_factory=dict)
    columns: Mapping[str, str] = field(default_factory=dict)
    gpus: int = 1
    rate: float | None = None
    shards: int | Literal["auto"] = "auto"
    shard: Shard | None = None
    parts: int = 1
    judge: Judge | None = None
    comparison: ComparisonEntry = field(default_factory=ComparisonEntry)
    # Gates against a baseline that all cases of the suite's split have: that many chances of a false alarm.
    comparisons: int = 0

    @property
    def id(self) -> str:
        """The parameter id: `meddies-fast`, and `meddies-fast-2of4` for a shard of it."""
        return self.whole_id if self.shard is None else f"{self.whole_id}-{self.shard.id}"

    @property
    def whole_id(self) -> str:
        """The id without the shard."""
        return f"{self.dataset}-{self.split}"

    @property
    def speed_gates(self) -> list[Gate]:
        """Its gates on changes of speed and memory, which need a baseline of the same machine."""
        return [gate for gate in self.gates if gate.is_speed and gate.is_paired]

    @property
    def startup_s(self) -> float | None:
        """Seconds to load the model, as the suite says."""
        return self.runtime.startup_s

    @property
    def loads(self) -> str:
        """The model."""
        return f"{self.suite}/{self.runtime_name}"

    def __repr__(self) -> str:
        return f"Case({self.suite}/{self.id})"


@dataclass(frozen=True)
class Suite:
    """A validated suite file and where it lies."""

    name: str
    path: Path
    file: SuiteFile

    @property
    def directory(self) -> Path:
        """The suite's folder."""
        return self.path.parent

    def cases(self, split: str | None = None, runtime: str | None = None, policy: tuple[str, PolicyEntry] | str | None = None) -> list[Case]:
        """One case for each dataset that has the split.

        Raises UsageProblem for an unknown split, runtime or policy, and for a judge that cannot be there beside the runtime.
        """
        split = split or self.file.split
        runtime = runtime or self.file.runtime
        known = {name for dataset in self.file.datasets.values() for name in dataset.splits}
        self._known(split, known, "split", "splits")
        self._known(runtime, self.file.runtimes, "runtime", "runtimes")
        policy_name, rules = self._policy(policy)
        common = {
            "suite": self.name,
            "directory": self.directory,
            "split": split,
            "task": self.file.task,
            "labels": tuple(self.file.labels),
            "runtime_name": runtime,
            "runtime": self.file.runtimes[runtime],
            "policy_name": policy_name,
            "policy": rules,
            "comparison": self.file.comparison,
        }
        cases = [self._case(name, dataset, common) for name, dataset in self.file.datasets.items() if split in dataset.splits]
        comparisons = sum(gate.is_tested for case in cases for gate in case.gates)
        return [replace(case, comparisons=comparisons) for case in cases]

    def _case(self, name: str, dataset: DatasetEntry, common: Mapping[str, Any]) -> Case:
        gates: list[Gate] | None = common["policy"].gates
        share = dataset.max_error_share
        return Case(
            **common,
            dataset=name,
            label_map=dataset.label_map,
            task_options=self.options_of(dataset),
            columns=dataset.columns,
            judge=self._judge(common["runtime_name"]) if self.is_judged(dataset) else None,
            gates=_under(_merged(self.file.gates, dataset.gates), gates),
            repo=dataset.repo,
            revision=dataset.revision,
            rows=dataset.splits[common["split"]].rows,
            max_error_share=self.file.max_error_share if share is None else share,
            gpus=dataset.gpus or common["runtime"].gpus,
            rate=dataset.rate or self.file.rate,
            shards=dataset.shards or self.file.shards,
        )

    def options_of(self, dataset: DatasetEntry) -> dict[str, Any]:
        """The options of the task for a dataset."""
        return {**self.file.task_options, **dataset.task_options}

    def is_judged(self, dataset: DatasetEntry) -> bool:
        """Whether a judge says what is right there."""
        return self.file.task == "generation" and self.options_of(dataset).get("match") == "judge"

    def _judge(self, runtime: str) -> Judge | None:
        """The judge of what `runtime` answers. Raises UsageProblem for one whose server would need the GPU that the runtime has."""
        entry = self.file.judge
        if entry is None:
            return None
        judge = Judge(self.file.runtimes[entry.runtime], entry)
        own = next((name for name in ("vllm", "server") if getattr(judge.runtime, name) is not None), None)
        if own is not None and entry.runtime != runtime:
            raise UsageProblem(
                f"suite {self.name!r}: judge.runtime: {entry.runtime!r} starts a server of its own (`{own}`), and runtime {runtime!r} makes the answers: "
                "a worker has its GPU for one model at a time.\n"
                f"Let the judge run elsewhere: in runtimes.{entry.runtime}, `url` instead of `{own}`, or neither, and VLLM_BASE_URL or OPENAI_API_BASE set.\n"
                f"Or let the model judge itself: --gpueval-runtime {entry.runtime}, or a judge.runtime that makes the answers too.\nSuite file: {self.path}"
            )
        return judge

    def _policy(self, policy: tuple[str, PolicyEntry] | str | None) -> tuple[str | None, PolicyEntry]:
        if isinstance(policy, tuple):
            self._check_policy_labels(*policy)
            return policy
        name = policy or self.file.policy
        if name is None:
            return None, PolicyEntry()
        self._known(name, self.file.policies, "policy", "policies")
        return name, self.file.policies[name]

    def _check_policy_labels(self, name: str, rules: PolicyEntry) -> None:
        for label in (*rules.thresholds, *rules.disabled):
            if label not in self.file.labels:
                hint = valid_values(label, self.file.labels, what="labels")
                raise UsageProblem(f"policy {name}: suite {self.name!r} has no label {label!r}. {hint}")

    def _known(self, name: str, valid: Iterable[str], what: str, plural: str) -> None:
        names = list(valid)
        if name not in names:
            raise UsageProblem(f"suite {self.name!r} has no {what} {name!r}. {valid_values(name, names, what=plural)}\nSuite file: {self.path}")


def _merged(general: Iterable[Gate], own: Iterable[Gate]) -> tuple[Gate, ...]:
    """The suite's gates without those that the dataset's own of the same key replace, then the dataset's."""
    mine = list(own)
    replaced = {gate.key for gate in mine}
    return (*(gate for gate in general if gate.key not in replaced), *mine)


def _under(gates: tuple[Gate, ...], policys: list[Gate] | None) -> tuple[Gate, ...]:
    """Under a policy with gates of its own: those, and of the others drops and speed; a change of policy must not escape the gates that see what it costs."""
    if policys is None:
        return gates
    own = {gate.key for gate in policys}
    return (*policys, *(gate for gate in gates if (gate.is_paired or gate.is_speed) and gate.key not in own))
