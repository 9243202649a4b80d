"""What is asked of a host: a command and its surroundings, without a secret in it. Pure."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from pytest_gpueval.errors import UsageProblem
from pytest_gpueval.runs.redact import Redactor, arguments, is_secret_name

from .agent.files import RUN_ID, RUN_ID_WORDS

DEFAULT_ROOT: Final = "~/gpueval-runs"
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True, slots=True)
class JobRequest:
    """How Slurm is to run it: words of sbatch, the interpreter on the nodes, and whether a node that fails, or a preemption, puts it back into the queue."""

    options: tuple[str, ...]
    python: str = "python3"
    requeue: bool = True


@dataclass(frozen=True, slots=True)
class Submission:
    """A run to be. `secrets` are names of variables: their values go through stdin, and nowhere else."""

    run_id: str
    command: tuple[str, ...]
    directory: str
    environment: Mapping[str, str]
    secrets: tuple[str, ...]
    job: JobRequest | None = None

    @property
    def unsure(self) -> str:
        """What is left to say where no answer came."""
        return f"{self.run_id}: nobody knows whether it was started. Submit it again with --run-id {self.run_id}: it starts once"

    def request(self, label: str) -> dict[str, Any]:
        """What is sent and written down on the host. `label` is the host as the user calls it."""
        slurm = {} if self.job is None else {"slurm": {"options": list(self.job.options), "python": self.job.python, "requeue": self.job.requeue}}
        return {
            "run_id": self.run_id,
            "command": list(self.command),
            "directory": self.directory,
            "environment": dict(self.environment),
            "secrets": list(self.secrets),
            "label": label,
            **slurm,
        }


def submission(
    command: Sequence[str], *, directory: str, run_id: str | None, variables: Sequence[str], secrets: Sequence[str], own: Mapping[str, str], now: datetime
) -> Submission:
    """Check what the user gave; `own` is the user's environment, from which the values of secrets come. Raises UsageProblem."""
    if not command:
        raise UsageProblem("there is no command: give it after --, as in: gpueval runs submit -- pytest --gpueval-suite guardrails_ru --gpus all")
    if not _placed(directory):
        raise UsageProblem(f"--remote-repo {directory}: give an absolute path on the host, or one that begins with ~/")
    environment = {}
    for variable in variables:
        name, equals, value = variable.partition("=")
        if not equals or not _VARIABLE.fullmatch(name):
            raise UsageProblem(f"--env {name}: give NAME=VALUE")
        if is_secret_name(name):
            raise UsageProblem(f"--env {name}: that is a secret; say --secret {name}, and its value is taken from your environment")
        environment[name] = value
    for name in secrets:
        if not _VARIABLE.fullmatch(name) or name not in own:
            raise UsageProblem(
                f"--secret {name if _VARIABLE.fullmatch(name) else '...'}: give the name of a variable of your environment; its value goes with it"
            )
    redactor = Redactor.of({**own, **{f"{name}_SECRET": own[name] for name in secrets}})
    words = [*command, *(f"{name}={value}" for name, value in environment.items()), directory]
    for number, (word, clean) in enumerate(zip(words, arguments(words, redactor), strict=True), start=1):
        if word != clean:
            where = f"word {number} of the command" if number <= len(command) else "a value of --env" if number < len(words) else "--remote-repo"
            raise UsageProblem(
                f"{where} looks like a secret ({clean}), and would be seen by everybody on the host. Say --secret NAME; the program reads $NAME."
            )
    return Submission(checked(run_id) if run_id else new_id(command, now), tuple(command), directory, environment, tuple(sorted(set(secrets))))


def checked(run_id: str) -> str:
    """The run id, if it is one. Raises UsageProblem."""
    if not RUN_ID.fullmatch(run_id):
        raise UsageProblem(f"--run-id {run_id!r}: {RUN_ID_WORDS}")
    return run_id


def root_of(given: str | None) -> str:
    """The directory of runs on a host. Raises UsageProblem."""
    root = given or DEFAULT_ROOT
    if not _placed(root):
        raise UsageProblem(f"--remote-outputs-dir {root}: give an absolute path on the host, or one that begins with ~/")
    return root


def _placed(path: str) -> bool:
    return posixpath.isabs(path) or path == "~" or path.startswith("~/")


def new_id(command: Sequence[str], now: datetime) -> str:
    """A run id after what is run and when: `guardrails_ru-20260131-120000`."""
    words = " ".join(command)
    suite = re.search(r"--gpueval-suite[= ]([A-Za-z0-9_.-]+)", words)
    name = suite[1] if suite else posixpath.basename(command[0])
    return f"{re.sub(r'[^A-Za-z0-9_-]+', '-', name)[:40].strip('-_') or 'run'}-{now:%Y%m%d-%H%M%S}"
