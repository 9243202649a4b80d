"""A partition of Slurm: what is asked of it happens on its login node, what is started as a worker in jobs of its own."""

from __future__ import annotations

import secrets
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

from pytest_gpueval.processes.command import carried, supervised_there

from . import slurm_step
from .host import NOTHING, Done, Stdin
from .local import LocalHost
from .slurm_options import JobOptions
from .ssh import SshHost

_STEP = Path(slurm_step.__file__)


class SlurmHost:
    """A partition of Slurm. `login` is where jobs are submitted: this machine, or one that is reached through SSH.

    `run`, `put` and `get` happen on the login node. `worker_command` is a job of one task, with the GPUs of `options`: its directory, and what it reads and
    writes by path, must be on a file system that the nodes share.
    """

    def __init__(
        self,
        name: str,
        login: LocalHost | SshHost,
        options: JobOptions,
        *,
        directory: str | None = None,
        environment: Mapping[str, str] = NOTHING,
        python: str = "python3",
    ) -> None:
        """`directory` and `environment` are those of `login`; `python` runs on the nodes."""
        self.name, self.login, self.options, self.python = name, login, options, python
        self._directory, self._environment = directory, dict(environment)

    def sized(self, gpus: int) -> Self:
        """The same, by the same connection, with so many GPUs for each worker. Raises UsageProblem."""
        options = self.options.sized(gpus)
        return type(self)(self.name, self.login, options, directory=self._directory, environment=self._environment, python=self.python)

    def run(
        self, argv: Sequence[str], *, stdin: Stdin = b"", timeout_s: float = 60.0, environment: Mapping[str, str] = NOTHING, directory: str | None = None
    ) -> Done:
        """As Host says, on the login node. Raises Unreachable, AccessDenied."""
        return self.login.run(argv, stdin=stdin, timeout_s=timeout_s, environment=environment, directory=directory)

    def put(self, source: Path, target: str, *, timeout_s: float = 3600.0) -> None:
        """As Host says, on the login node. Raises StorageError, Unreachable, AccessDenied."""
        self.login.put(source, target, timeout_s=timeout_s)

    def get(self, source: str, target: Path, *, offset: int = 0, timeout_s: float = 3600.0) -> int:
        """As Host says, on the login node. Raises StorageError, Unreachable, AccessDenied."""
        return self.login.get(source, target, offset=offset, timeout_s=timeout_s)

    def worker_command(self, argv: Sequence[str]) -> list[str]:
        """As Host says: one job, which waits until Slurm has room for it; a supervisor around the program there, and around srun what cancels the job."""
        name = f"gpueval-{secrets.token_hex(8)}"
        inner = supervised_there(self.python, argv, grace_s=slurm_step.STEP_GRACE_S)
        # -u: else lines wait in srun until they are many. Its own remarks are left out, but errors.
        srun = ["srun", "--quiet", "--unbuffered", "--kill-on-bad-exit=1", f"--job-name={name}", *self.options.words(), *inner]
        if isinstance(self.login, SshHost):  # it knows the directory and the environment
            return self.login.worker_command(carried(self.login.python, _STEP, [name, "--", *srun]))
        around = [f"--chdir={Path(self._directory).expanduser()}"] if self._directory else []
        around += [f"{variable}={value}" for variable, value in self._environment.items()]
        step = [sys.executable, "-I", "-S", str(_STEP), name, "--", *srun]
        return ["/usr/bin/env", *around, *step] if around else step

    def interrupt(self) -> None:
        """As Host says, on the login node."""
        self.login.interrupt()

    def close(self) -> None:
        """As Host says."""
        self.login.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
