"""What is asked of Slurm for a job: words of srun and sbatch. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Self

from pytest_gpueval.errors import UsageProblem, valid_values

ONE_GPU: Final = "gpu:1"
_GRES = re.compile(r"(?P<kind>gpu(?::[A-Za-z][A-Za-z0-9_.-]*)?):(?P<count>[1-9]\d{0,3})\Z")
_TIME = re.compile(r"(?:\d+|\d+:\d\d|\d+:\d\d:\d\d|\d+-\d+(?::\d\d){0,2})\Z")
# No blank, no quote, no $; constraints have & and |, lists of nodes have brackets.
_OPTION = re.compile(r"--(?P<name>[a-z][a-z-]*)(?:=[A-Za-z0-9_.,:@%+/&|*=\[\]()!<>-]+)?\Z")
# Options of both programs that choose where a job runs, and on what; what decides how it is started and followed is ours.
_PLACED: Final = (
    "batch bb bbf clusters comment constraint cores-per-socket cpu-freq cpus-per-gpu cpus-per-task delay-boot dependency exclude exclusive gpu-bind gpu-freq"
    " hint licenses mail-type mail-user mem mem-per-cpu mem-per-gpu mincpus nice nodelist oversubscribe power prefer priority qos reservation signal"
    " spread-job switches thread-spec threads-per-core tmp tres-per-task wckey"
)
_OPTIONS: Final = frozenset(_PLACED.split())
_OURS: Final = {
    "partition": "the address says it: slurm://PARTITION",
    "account": "the address says it: slurm://PARTITION?account=NAME",
    "gres": "it is `gres`",
    "gpus": "it is `gres`, as in 'gpu:2'",
    "gpus-per-node": "it is `gres`, as in 'gpu:2'",
    "gpus-per-task": "it is `gres`, as in 'gpu:2'",
    "time": "it is `time_limit`",
}


@dataclass(frozen=True, slots=True)
class JobOptions:
    """One task on one node. `partition` "" is the cluster's default one; no `gres` are no GPUs; no `time_limit` is the partition's own."""

    partition: str = ""
    account: str | None = None
    gres: str | None = ONE_GPU
    time_limit: str | None = None
    # Checked by `option`.
    more: tuple[str, ...] = ()

    def words(self) -> list[str]:
        """The options as srun and sbatch take them.

        >>> JobOptions("gpu", time_limit="30:00").words()
        ['--nodes=1', '--ntasks=1', '--partition=gpu', '--gres=gpu:1', '--time=30:00']
        """
        values = {"partition": self.partition, "account": self.account, "gres": self.gres, "time": self.time_limit}
        return ["--nodes=1", "--ntasks=1", *(f"--{name}={value}" for name, value in values.items() if value), *self.more]

    @property
    def gpus(self) -> int:
        """GPUs of a job."""
        found = _GRES.match(self.gres or "")
        return int(found["count"]) if found else 0

    def sized(self, gpus: int | None = None, time_limit: str | None = None) -> Self:
        """The same with another number of GPUs, of the same kind, or another limit. Raises UsageProblem."""
        made = self
        if gpus is not None:
            if gpus < 0:
                raise UsageProblem(f"{gpus}: a job has 0 GPUs or more")
            found = _GRES.match(self.gres or ONE_GPU)
            made = replace(made, gres=gres(f"{found['kind'] if found else 'gpu'}:{gpus}") if gpus else None)
        return made if time_limit is None else replace(made, time_limit=time(time_limit))


def gres(text: str) -> str | None:
    """GPUs of a job as Slurm counts them; None for "none". Raises UsageProblem."""
    if text == "none":
        return None
    if not _GRES.match(text):
        raise UsageProblem(f"{text!r} asks for no GPUs: write gpu:2, gpu:a100:2, or none")
    return text


def time(text: str) -> str:
    """A time limit. Raises UsageProblem."""
    if not _TIME.match(text):
        raise UsageProblem(f"{text!r} is no time limit: write minutes, MM:SS, HH:MM:SS, or D-HH:MM:SS")
    return text


def option(word: str) -> str:
    """An option that is passed on to srun and sbatch. Raises UsageProblem."""
    found = _OPTION.match(word)
    if found is None:
        raise UsageProblem(f"{word!r} is no option: write --NAME or --NAME=VALUE, one for each string, without blanks")
    name = found["name"]
    if name in _OURS:
        raise UsageProblem(f"{word!r} does not belong here: {_OURS[name]}")
    if name not in _OPTIONS:
        raise UsageProblem(f"{word!r} cannot be passed on. {valid_values(name, _OPTIONS, what='options')}")
    return word


def options(words: Sequence[str]) -> tuple[str, ...]:
    """Several of them, each once. Raises UsageProblem."""
    names = [option(word).partition("=")[0] for word in words]
    for name in names:
        if names.count(name) > 1:
            raise UsageProblem(f"{name} is there twice")
    return tuple(words)
