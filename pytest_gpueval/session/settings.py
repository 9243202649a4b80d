"""The options of a session, from the command line or the ini file."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pytest_gpueval.errors import UsageProblem, valid_values

if TYPE_CHECKING:
    import pytest


@dataclass(frozen=True)
class Option:
    """One option; `--gpueval-on-bad-row` is `on_bad_row` in Settings and `gpueval_on_bad_row` in the ini file."""

    flag: str
    help: str
    default: str | None = None
    metavar: str | None = None
    switch: bool = False

    @property
    def name(self) -> str:
        """The ini key and argparse destination."""
        return self.flag.lstrip("-").replace("-", "_")

    @property
    def ini_type(self) -> Literal["bool", "string"]:
        """The type of the ini key."""
        return "bool" if self.switch else "string"

    @property
    def field(self) -> str:
        """The field of Settings."""
        return self.name.removeprefix("gpueval_")


OPTIONS = (
    Option("--gpueval-suite", "run these suites: names of folders in suites/", metavar="NAME[,NAME]"),
    Option("--gpus", "GPUs to use, one worker each: 0-7, 0,2,4, a UUID, all, auto (free GPUs, else CPU lanes) or none (CPU lanes)", metavar="SPEC"),
    Option("--gpus-wait", "wait so long for GPUs that another session holds", default="0", metavar="SECONDS"),
    Option("--gpus-shared", "use GPUs although other programs compute on them", switch=True),
    Option("--gpueval-hosts", "other machines whose GPUs take part: names of hosts.toml or ssh_config, ssh://..., local", metavar="HOST[,HOST]"),
    Option("--gpueval-split", "split to evaluate (default: the suite's)", metavar="NAME"),
    Option("--gpueval-runtime", "runtime that makes the predictions (default: the suite's)", metavar="NAME"),
    Option("--gpueval-policy", "policy of the suite, or of a TOML or YAML file of your own", metavar="NAME|FILE:NAME"),
    Option("--gpueval-workers", "samples in flight per item", default="16", metavar="N"),
    Option("--gpueval-data", "where rows come from: embedded, hub, or a directory with <dataset>/<split>.parquet", "embedded", "SOURCE"),
    Option("--gpueval-refresh", "fetch splits from the Hub anew, and look there for newer commits than datasets.lock names", switch=True),
    Option("--gpueval-triton-url", "ask the Triton server at this gRPC address instead of starting one", metavar="HOST:PORT"),
    Option("--gpueval-triton-python", "interpreter that runs Triton and its models (default: .venv-triton, else this one)", metavar="PATH"),
    Option("--vllm-bin", "the vllm command", default="vllm", metavar="PATH"),
    Option("--gpueval-model", "language model that is served and asked, instead of the suite's: a folder, a file or a name on the Hub", metavar="MODEL"),
    Option("--gpueval-output-dir", "sessions are written here", "reports/evaluations", "DIR"),
    Option("--gpueval-session", "name of the session; an existing one is finished (default: a new name)", metavar="NAME"),
    Option("--gpueval-force", "run again what an earlier run of this session left; its files are backed up", switch=True),
    Option("--gpueval-baseline", "compare with earlier results: a folder of baselines, a session, or what a commit has", metavar="PATH|SESSION|git:REF"),
    Option("--gpueval-baseline-intersect", "where the baseline is of other data, compare the samples that are still the same", switch=True),
    Option("--gpueval-update-baseline", "make what this session finds the baseline of its cases: baselines/<suite>/", switch=True),
    Option("--gpueval-limit", "evaluate only the first N rows of each split", metavar="N"),
    Option("--gpueval-shard-index", "run only part I (from 0 on) of --gpueval-shard-count parts, on one of several machines", metavar="I"),
    Option("--gpueval-shard-count", "the number of machines that share the items; `gpueval runs merge` joins their sessions", metavar="N"),
    Option("--gpueval-retries", "run an item again, up to N times, whose failure was one of the machines; what a gate said stands", "0", "N"),
    Option(
        "--gpueval-report-texts", "texts of samples in report.html: all, none, or those of errors: answered wrongly or not at all", "errors", "yes|no|errors"
    ),
    Option("--gpueval-dry-run", "print the plan, and run nothing", switch=True),
    Option("--gpueval-on-bad-row", "what a row that breaks its schema, or repeats an id, does: fail the case, or be skipped and counted", "fail", "fail|skip"),
)


# Names a runtime where neither the option nor the ini key does.
RUNTIME_VARIABLE = "GR_RUNTIME_MODE"

# Options that choose what runs where, and so are not part of the command that runs one item again.
_OF_THE_SESSION = (
    *("suite", "gpus", "gpus_wait", "gpus_shared", "hosts", "force", "refresh", "session", "output_dir"),
    *("shard_index", "shard_count", "retries", "dry_run", "update_baseline"),
)


@dataclass(frozen=True)
class Settings:
    """The options, checked. `runtime_source` is the environment variable that `runtime` is from; None where an option or the ini file says it.

    `here` is the directory that pytest was started in.
    """

    root: Path
    here: Path = Path()
    suite: tuple[str, ...] = ()
    gpus: str | None = None
    gpus_wait_s: float = 0.0
    gpus_shared: bool = False
    hosts: tuple[str, ...] = ()
    split: str | None = None
    runtime: str | None = None
    runtime_source: str | None = None
    policy: str | None = None
    workers: int = 16
    data: str = "embedded"
    refresh: bool = False
    triton_url: str | None = None
    triton_python: str | None = None
    vllm_bin: str = "vllm"
    model: str | None = None
    output_dir: Path = Path("reports/evaluations")
    session: str | None = None
    force: bool = False
    baseline: str | None = None
    baseline_intersect: bool = False
    update_baseline: bool = False
    limit: int | None = None
    part: tuple[int, int] | None = None
    retries: int = 0
    dry_run: bool = False
    on_bad_row: Literal["fail", "skip"] = "fail"
    report_texts: Literal["yes", "no", "errors"] = "errors"

    @classmethod
    def of(cls, config: pytest.Config) -> Settings:
        """Read and check the options. Raises UsageProblem."""
        return cls.read(config, config.option)

    @classmethod
    def read(cls, config: pytest.Config, given: Any) -> Settings:
        """As `of`, from options that pytest has not taken over yet. Raises UsageProblem."""
        raw = {option.field: _value(config, option, given) for option in OPTIONS}
        empty = [option for option in OPTIONS if raw[option.field] == ""]
        if empty:
            raise UsageProblem(f"{empty[0].flag} has an empty value; give {empty[0].metavar}, or leave the option out")
        runtime, source = runtime_of(raw["runtime"])
        limit = None if raw["limit"] is None else _count("--gpueval-limit", raw["limit"])
        if limit is not None and raw["update_baseline"]:
            raise UsageProblem("--gpueval-update-baseline needs all rows of each split: leave out --gpueval-limit")
        return cls(
            root=_root(config),
            here=config.invocation_params.dir,
            suite=_names(raw["suite"]),
            gpus=raw["gpus"],
            gpus_wait_s=_seconds("--gpus-wait", raw["gpus_wait"]),
            gpus_shared=bool(raw["gpus_shared"]),
            hosts=_names(raw["hosts"]),
            split=raw["split"],
            runtime=runtime,
            runtime_source=source,
            policy=raw["policy"],
            workers=_count("--gpueval-workers", raw["workers"]),
            data=raw["data"],
            refresh=bool(raw["refresh"]),
            triton_url=raw["triton_url"],
            triton_python=raw["triton_python"],
            vllm_bin=raw["vllm_bin"],
            model=_place_or_name(raw["model"], config.invocation_params.dir),
            output_dir=config.invocation_params.dir / raw["output_dir"],
            session=_session_name(raw["session"]),
            force=bool(raw["force"]),
            baseline=raw["baseline"],
            baseline_intersect=bool(raw["baseline_intersect"]),
            update_baseline=bool(raw["update_baseline"]),
            limit=limit,
            part=_part(raw["shard_index"], raw["shard_count"]),
            retries=_count("--gpueval-retries", raw["retries"], least=0),
            dry_run=bool(raw["dry_run"]),
            on_bad_row=_choice("--gpueval-on-bad-row", raw["on_bad_row"], ("fail", "skip")),
            report_texts=_choice("--gpueval-report-texts", raw["report_texts"], ("yes", "no", "errors")),
        )

    def arguments(self, config: pytest.Config) -> list[str]:
        """The options that were given, as command-line arguments; those that choose suites and devices excepted."""
        given: list[str] = []
        for option in OPTIONS:
            value = self.runtime if self.runtime_source and option.field == "runtime" else config.getoption(option.name)
            if value and option.field not in _OF_THE_SESSION:
                given.append(option.flag if option.switch else f"{option.flag}={value}")
        return given

    @property
    def runtime_words(self) -> str | None:
        """What to say of a runtime that a variable chose; None where none did."""
        return f"runtime {self.runtime}, from {self.runtime_source}" if self.runtime_source else None


def runtime_of(given: str | None, environment: Mapping[str, str] = os.environ) -> tuple[str | None, str | None]:
    """The runtime that was `given`, else the variable's; and the variable if it is from there."""
    named = environment.get(RUNTIME_VARIABLE, "").strip()
    return (named, RUNTIME_VARIABLE) if given is None and named else (given, None)


def _root(config: pytest.Config) -> Path:
    """The directory that holds suites/: pytest's root, or the current directory.

    pytest takes the value of an option that it does not know yet for a test path, so `--gpueval-output-dir /elsewhere` moves its root.
    """
    return config.rootpath if (config.rootpath / "suites").is_dir() else config.invocation_params.dir


def check_words(config: pytest.Config) -> None:
    """Raise UsageProblem where pytest has taken an option's value for a test path, and looked for its root and its ini file there."""
    given = config.known_args_namespace
    words, here = [str(word) for word in config.invocation_params.args], config.invocation_params.dir
    if getattr(given, "rootdir", None) or getattr(given, "inifilename", None):
        return
    flags = {option.flag for option in OPTIONS if not option.switch}
    for flag, value in pairwise(words):
        path = here / value
        if flag in flags and path.exists() and not path.resolve().is_relative_to(here.resolve()):
            raise UsageProblem(f"{flag} {value}: pytest takes this path for a test of its own, and {config.rootpath} for its root. Write {flag}={value}")


def _value(config: pytest.Config, option: Option, given: Any) -> Any:
    value = getattr(given, option.name)
    if value is not None and value is not False:
        return value
    ini = config.getini(option.name)
    return ini if ini not in ("", None) else (False if option.switch else option.default)


def _names(text: str | None) -> tuple[str, ...]:
    return tuple(name.strip() for name in (text or "").split(",") if name.strip())


def _count(flag: str, text: str, least: int = 1) -> int:
    if not text.isdecimal() or int(text) < least:
        raise UsageProblem(f"{flag} {text}: expected a whole number from {least} on")
    return int(text)


def _seconds(flag: str, text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise UsageProblem(f"{flag} {text}: expected a number of seconds, 0 or more")
    return seconds


def _part(index: str | None, count: str | None) -> tuple[int, int] | None:
    """`--gpueval-shard-index` and `--gpueval-shard-count`: both or neither."""
    if index is None and count is None:
        return None
    if index is None or count is None:
        raise UsageProblem(
            "--gpueval-shard-index and --gpueval-shard-count belong together: --gpueval-shard-index 0 --gpueval-shard-count 4 is the first of four"
        )
    parts = _count("--gpueval-shard-count", count)
    if not index.isdecimal() or int(index) >= parts:
        raise UsageProblem(f"--gpueval-shard-index {index}: expected a whole number from 0 to {parts - 1}")
    return int(index), parts


def _choice(flag: str, value: str, valid: tuple[Any, ...]) -> Any:
    if value not in valid:
        raise UsageProblem(f"{flag} {value}: {valid_values(value, valid, what='values')}")
    return value


def _place_or_name(model: str | None, here: Path) -> str | None:
    """A file or folder by its full path, so that it is the same for all workers; anything else as it is."""
    if model is None:
        return None
    path = here / Path(model).expanduser()
    return str(path.resolve()) if path.exists() else model


def _session_name(name: str | None) -> str | None:
    if name is None:
        return None
    if len(name) > 150:
        raise UsageProblem("--gpueval-session: the name is longer than 150 characters")
    if name in (".", "..") or name.startswith("-") or not all(c.isalnum() or c in "._-" for c in name):
        raise UsageProblem(f"--gpueval-session {name!r}: a name is made of letters, digits and . _ -; it is a directory below --gpueval-output-dir")
    return name
