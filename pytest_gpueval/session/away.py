"""The other hosts of a session: what is taken there before it begins, the lanes they give, and what their workers have to be told."""

from __future__ import annotations

import os
import re
import sys
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_gpueval import __version__
from pytest_gpueval.errors import GpuevalError, UsageProblem
from pytest_gpueval.gpus.devices import Device, parts
from pytest_gpueval.hosts import declared, workers
from pytest_gpueval.hosts.address import Local
from pytest_gpueval.hosts.bootstrap.prepare import prepare
from pytest_gpueval.hosts.declared import Declared
from pytest_gpueval.hosts.detached import OUTPUTS_VARIABLE
from pytest_gpueval.hosts.detached.submission import root_of
from pytest_gpueval.hosts.host import Host
from pytest_gpueval.hosts.keeping import Keeper, keep
from pytest_gpueval.hosts.slurm import SlurmHost
from pytest_gpueval.hosts.together import Grip, together
from pytest_gpueval.processes.command import supervised_there

from . import attempts, lanes, xdist_seam
from .courier import EVENTS, Receiver
from .lanes import GPUS, Lane
from .settings import RUNTIME_VARIABLE, Settings

if TYPE_CHECKING:
    from pytest_gpueval.suites.load import AnySuite

    from .controller import Controller

# What pytest itself reads from the environment decides what a worker collects.
_OF_PYTEST = ("PYTEST_ADDOPTS", "PYTEST_PLUGINS", "PYTEST_DISABLE_PLUGIN_AUTOLOAD")
# How long a host may take to give its GPUs back when we are interrupted while others are made ready.
_GIVE_BACK_S = 3.0
_EMBEDDED_OR_HUB = ("embedded", "hub")


@dataclass(frozen=True)
class Away:
    """A host of this session. `root` is where the repository is there, `here` what is the current directory here, `session_dir` where runs are written."""

    name: str
    host: Host
    supervisor: str
    python: Sequence[str]
    root: str
    here: str
    session_dir: str
    cores: int
    devices: tuple[Device, ...]
    guards: Mapping[str, str]
    data: str | None
    environment: Mapping[str, str]
    # Where a queue gives out the GPUs, with whatever job starts a worker: how many workers are asked for.
    queued: int | None
    keeper: Keeper = field(repr=False)

    def lanes(self, widths: Collection[int], processes: int | None, most: int) -> list[Lane]:
        """Its lanes. Raises UsageProblem where it has too few GPUs, or none."""
        if self.queued is not None:
            laid = [Lane(f"job{number}", (), {}, queued=True) for number in range(self.queued)]
        elif self.devices:
            laid = lanes.on_gpus(self.devices, widths)
        else:
            laid = lanes.on_cpu(processes, most, widths, cores=self.cores)
        label = re.sub(r"[^A-Za-z0-9._-]+", "-", self.name)  # execnet splits at //
        return [replace(lane, name=f"{lane.name}@{label}", host=self.name) for lane in laid]

    def command(self, lane: Lane) -> list[str]:
        """What starts a worker of this lane."""
        guards = [self.guards[device.uuid] for device in lane.gpus if device.uuid in self.guards]
        variables = [f"{name}={value}" for name, value in self.environment.items()]
        return self.host.worker_command(workers.below(self.here, supervised_there(self.supervisor, ["/usr/bin/env", *variables, *self.python], leases=guards)))

    def there(self, path: Path, root: Path) -> str:
        """Where a file of the repository is on the host."""
        return f"{self.root}/{path.relative_to(root).as_posix()}" if path.is_relative_to(root) else str(path)

    def argument(self, word: str, root: Path) -> str:
        """A word of the command line, with a path of the repository in it as it is there."""
        return re.sub(rf"(?:(?<==)|^){re.escape(str(root))}(?=[/:]|$)", lambda _: self.root, word)

    def close(self) -> None:
        """Give its GPUs back."""
        self.keeper.close()
        self.host.close()


@dataclass(frozen=True)
class Hosts:
    """The hosts that can be used, by their names, and why others cannot."""

    found: Mapping[str, Away] = field(default_factory=dict)
    notes: Sequence[str] = ()


def check(settings: Settings, config: pytest.Config, *, alone: bool) -> list[Declared]:
    """The hosts of `--gpueval-hosts`. Raises UsageProblem for what cannot go with it."""
    found = [declared.named(name, settings.root) for name in settings.hosts]
    if len({one.name for one in found}) < len(found):
        raise UsageProblem(f"--gpueval-hosts {','.join(settings.hosts)}: a host is named twice")
    if alone:
        raise UsageProblem("--gpueval-hosts needs pytest-xdist's workers: leave out -n 0, --pdb and -p no:xdist")
    for word in map(str, config.invocation_params.args):
        path = Path(word.partition("::")[0])
        if path.is_absolute() and path.exists() and not path.is_relative_to(settings.root):
            raise UsageProblem(f"{word}: it is not part of {settings.root}, which is what other hosts have")
    return found


def check_suites(suites: Sequence[AnySuite], settings: Settings) -> None:
    """Raise UsageProblem for suites that other hosts do not get."""
    for suite in suites:
        if not suite.path.is_relative_to(settings.root.resolve()):
            raise UsageProblem(f"suite {suite.name!r} is not part of {settings.root}, which is what other hosts get; `gpueval init` makes one there.")


def take(found: Sequence[Declared], settings: Settings, processes: int | None, tell: Callable[[str], None]) -> Hosts:
    """Make these hosts ready and lease their GPUs, all at the same time; `tell` hears what that takes.

    Those that cannot be reached are left out; raises what the first said where none can.
    """

    def ask(one: Declared, grip: Grip) -> Away | GpuevalError:
        try:
            return _taken(one, settings, processes, tell, grip)
        except GpuevalError as error:
            return error

    try:
        answers = together(ask, found)
    except KeyboardInterrupt:  # pytest does not expect one this early
        tell("interrupted while hosts were made ready")
        raise SystemExit(int(pytest.ExitCode.INTERRUPTED)) from None
    here = {answer.name: answer for answer in answers if isinstance(answer, Away)}
    errors = [answer for answer in answers if isinstance(answer, GpuevalError)]
    refused = [error for error in errors if not error.infrastructure]
    if refused or not here:
        for away in here.values():
            away.close()
        raise (refused or errors)[0]
    return Hosts(here, [f"host left out: {str(error).splitlines()[0]}" for error in errors])


def _taken(one: Declared, settings: Settings, processes: int | None, tell: Callable[[str], None], grip: Grip) -> Away:
    with ExitStack() as undo:
        host = undo.enter_context(declared.opened(one))
        grip.hold(host.interrupt)
        python, directory, place = _ready(one, host, settings, tell)
        spec = one.entry.gpus or settings.gpus or "auto"
        queued = _queued(one.name, spec, processes) if isinstance(host, SlurmHost) else None
        keeper = keep(
            host.login if isinstance(host, SlurmHost) else host,
            python,
            directory,
            place=place,
            session=settings.session or "+".join(settings.suite) or "pytest",
            gpus=spec if queued is None else "none",
            wait_s=settings.gpus_wait_s,
            shared=settings.gpus_shared,
            on_wait=tell,
            on_start=lambda keeper: grip.hold(partial(keeper.close, _GIVE_BACK_S)),
        )
        undo.callback(keeper.close)
        have = keeper.have
        _same(one.name, have)
        if one.entry.data is None and settings.data not in _EMBEDDED_OR_HUB:
            raise UsageProblem(
                f"{one.name}: --gpueval-data {settings.data} is a directory of this machine: say where the data are there, as `data` in hosts.toml"
            )
        undo.pop_all()
    below = settings.here.relative_to(settings.root).as_posix() if settings.here.is_relative_to(settings.root) else "."
    return Away(
        name=one.name,
        host=host,
        supervisor=one.entry.python if one.name != "local" else sys.executable,
        python=python,
        root=have["root"],
        here=have["root"] if below == "." else f"{have['root']}/{below}",
        session_dir=have["session_dir"],
        cores=have["cores"],
        devices=tuple(Device(**device) for device in have["devices"]),
        guards=have["guards"],
        data=one.entry.data,
        environment=environment(settings),
        queued=queued,
        keeper=keeper,
    )


def _queued(name: str, spec: str, processes: int | None) -> int:
    """How many jobs `--gpus` means, where Slurm says which GPUs they have: one for each that it names. Raises UsageProblem."""
    if spec in ("all", "auto"):
        raise UsageProblem(
            f"{name}: --gpus {spec}: Slurm gives workers their GPUs; say how many workers there are, as in --gpus 0-3, or as `gpus` in hosts.toml"
        )
    if spec == "none":
        return processes or 1
    return sum(len(part) if isinstance(part, range) else 1 for part in parts(spec))


def _ready(one: Declared, host: Host, settings: Settings, tell: Callable[[str], None]) -> tuple[Sequence[str], str, str | None]:
    """The interpreter that has all that is needed there, the directory of the repository, and the one for sessions. This machine is ready as it is."""
    if isinstance(one.address, Local):
        return [one.entry.python if one.name != "local" else sys.executable], one.entry.workdir or str(settings.root), None
    prepared = prepare(one, host, settings.root, rules=declared.code_rules(settings.root), runs=root_of(os.environ.get(OUTPUTS_VARIABLE)), tell=tell)
    assert prepared.python is not None and prepared.directory is not None  # noqa: S101, PT018 - but for dry runs they are there
    return prepared.python, prepared.directory, f"{prepared.synced.base}/sessions"


def _same(name: str, have: Mapping[str, Any]) -> None:
    if have["version"] != __version__:
        raise UsageProblem(f"{name}: pytest-gpueval {have['version']} is there, {__version__} is here. `gpueval hosts bootstrap {name}` brings it.")


def environment(settings: Settings, own: Mapping[str, str] = os.environ) -> dict[str, str]:
    """What a worker elsewhere needs of this process's environment: what decides which items there are."""
    found = {name: own[name] for name in _OF_PYTEST if own.get(name)}
    if settings.runtime_source and settings.runtime:
        found[RUNTIME_VARIABLE] = settings.runtime
    return found


class Elsewhere:
    """The controller's part: what workers on other hosts are told, and what comes from them."""

    def __init__(self, controller: Controller, hosts: Mapping[str, Away], laid: Sequence[Lane]) -> None:
        self._controller, self._hosts = controller, hosts
        self._lanes = {lane.name: lane for lane in laid}
        self._lock = threading.Lock()  # workers of several jobs say at the same time what they have
        self._receiver = Receiver(controller.session_dir, controller.fail)

    def host_of(self, lane: str) -> str:
        """The host of a lane."""
        return self._lanes[lane].host

    def arguments(self, lane: str) -> list[str] | None:
        """The command line of this session for a worker on this lane; None where it is here."""
        away = self._hosts.get(self.host_of(lane))
        words = map(str, self._controller.config.invocation_params.args)
        return None if away is None else [away.argument(word, self._controller.settings.root) for word in words]

    def configure(self, node: Any, lane: str, reply: Callable[[Any], None]) -> Callable[[Mapping[str, Any]], None]:
        """Tell a worker what is different there. Returns what hears it."""
        away, settings, told = self._hosts[self.host_of(lane)], self._controller.settings, node.workerinput
        xdist_seam.on_another_host(node)
        again = {"python": [sys.executable], "root": str(settings.root), "options": self._options(self._lanes[lane])}
        told["gpueval"] |= {
            "session_dir": away.session_dir,
            "finds_gpus": away.queued is not None,
            "away": {"session_dir": str(self._controller.session_dir), "data": away.data, "again": again, "last_failed": self._last_failed()},
        }
        told["gpueval_pins"] = [((away.there(Path(key[0]), settings.root), *key[1:]), pin) for key, pin in told["gpueval_pins"]]
        told["gpueval_suites"] = {}  # read there, by their names there

        def hear(message: Mapping[str, Any]) -> None:
            if message["event"] == GPUS:
                self._gpus_of(lane, message["gpus"])
            elif message["event"] in EVENTS:
                self._receiver.hear(message, away.name, reply)
            else:
                self._controller.hear(message)

        return hear

    def _gpus_of(self, lane: str, gpus: Sequence[Mapping[str, Any]]) -> None:
        """A worker says which GPUs the job has that it runs in."""
        with self._lock:
            self._lanes[lane] = replace(self._lanes[lane], gpus=tuple(Device(**device) for device in gpus))
            self._controller.lay(list(self._lanes.values()))

    def changed(self, run_id: str) -> None:
        """A run's directory, and the list of its attempts, were changed here."""
        self._receiver.changed(run_id, attempts.file_of(run_id))

    def _last_failed(self) -> Mapping[str, bool] | None:
        """What `--lf` and `--ff` go by, which pytest keeps here; None without them."""
        config = self._controller.config
        if getattr(config, "cache", None) is None or not (config.getoption("lf", default=False) or config.getoption("failedfirst", default=False)):
            return None
        found: Mapping[str, bool] = config.cache.get("cache/lastfailed", {})
        return found

    @staticmethod
    def _options(lane: Lane) -> list[str]:
        gpus = ",".join(device.uuid for device in lane.gpus) or "none"
        return [f"--gpueval-hosts={lane.host}", f"--gpus={gpus}"]
