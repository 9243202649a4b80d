"""Configuration files and ``--key=<python literal>`` arguments -> ``Settings``. Pure but for reading the files.

nanoGPT's configurator (https://github.com/karpathy/nanoGPT/blob/master/configurator.py) takes what is no literal for a string. So
``--wandb_log=false`` becomes the text 'false', which is true. Here it is an error.
"""

from __future__ import annotations

import ast
import difflib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, cast, get_type_hints

Literal = bool | int | float | str

DEFAULTS = Path(__file__).resolve().parent.parent / "config.py"

_CHOICES: Mapping[str, tuple[str, ...]] = {"model": ("base", "hc"), "dataset": ("auto", "topics", "fineweb"), "device": ("auto", "cpu", "gpu")}
_AT_LEAST_ONE = ("n_layer", "n_head", "n_embd", "n_streams", "block_size", "shards", "steps", "batch_size", "eval_batches")
_NOT_NEGATIVE = ("learning_rate", "warmup_steps", "weight_decay", "grad_clip", "seed", "checkpoint_every", "eval_every")
_SHARES = ("min_lr_share", "beta1", "beta2")
_WHAT = {bool: "True or False", int: "an integer", float: "a number", str: "a string"}

# What may differ between a checkpoint and the run that continues it, since no result depends on it.
INCIDENTAL = frozenset({"device", "out_dir", "checkpoint_every", "eval_every", "resume", "wandb_log", "wandb_project"})


class TrainingError(Exception):
    """What the user can put right: one message, no traceback."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Every key of config.py, which describes them."""

    model: str
    n_layer: int
    n_head: int
    n_embd: int
    n_streams: int
    block_size: int
    dataset: str
    shards: int
    steps: int
    batch_size: int
    learning_rate: float
    warmup_steps: int
    min_lr_share: float
    weight_decay: float
    beta1: float
    beta2: float
    grad_clip: float
    seed: int
    device: str
    out_dir: str
    checkpoint_every: int
    eval_every: int
    eval_batches: int
    resume: bool
    wandb_log: bool
    wandb_project: str

    def essentials(self) -> dict[str, Literal]:
        """What the result depends on."""
        return {key: value for key, value in asdict(self).items() if key not in INCIDENTAL}


TYPES: Mapping[str, type] = {field.name: get_type_hints(Settings)[field.name] for field in fields(Settings)}


def settings(arguments: Sequence[str]) -> Settings:
    """Of config.py, of the configuration files among ``arguments``, then of ``--key=value`` among them; what comes later wins.

    Raises:
        TrainingError: a file that is not there or not made of literals, an unknown key, a value of a wrong type or out of bounds, or the same
            argument twice.
    """
    values = read_file(DEFAULTS)
    if missing := sorted(set(TYPES) - set(values)):
        raise TrainingError(f"{DEFAULTS}: {', '.join(missing)} not set. config.py gives every key a value")
    files = [argument for argument in arguments if not argument.startswith("-")]
    for file in files:
        values |= read_file(Path(file))
    values |= parse_overrides(argument for argument in arguments if argument.startswith("-"))
    found = Settings(**values)  # type: ignore[arg-type]  # `_checked` has seen to each
    _check_bounds(found)
    return found


def read_file(path: Path) -> dict[str, Literal]:
    """``key = literal`` lines of a Python file, which is not executed.

    Raises:
        TrainingError: see ``settings``.
    """
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise TrainingError(f"{path}: {error.strerror}. Name a configuration file, or give --key=value arguments") from None
    except (SyntaxError, UnicodeDecodeError, ValueError) as error:
        raise TrainingError(f"{path}: not Python: {error}") from None
    values: dict[str, Literal] = {}
    for node in tree.body:
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            continue
        where = f"{path}:{node.lineno}"
        if not (isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name)):
            raise TrainingError(f"{where}: only lines like `steps = 600` may stand in a configuration")
        try:
            value = ast.literal_eval(node.value)
        except (ValueError, TypeError):
            raise TrainingError(f"{where}: {ast.unparse(node.value)!r} is no literal. {_expected(node.targets[0].id, where)}") from None
        values[node.targets[0].id] = _checked(node.targets[0].id, value, where)
    return values


def parse_overrides(arguments: Iterable[str]) -> dict[str, Literal]:
    """``--key=<python literal>``; a text needs no quotes where a text is due.

    Raises:
        TrainingError: see ``settings``.
    """
    values: dict[str, Literal] = {}
    for argument in arguments:
        key, equals, text = argument.removeprefix("--").partition("=")
        if not argument.startswith("--") or not equals:
            raise TrainingError(f"{argument!r}: arguments are --key=value, or the path of a configuration file")
        if key in values:
            raise TrainingError(f"--{key} is given twice: {values[key]!r} and {text}. Leave one out")
        expected = _expected(key, "--" + key)
        try:
            value = ast.literal_eval(text)
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            if TYPES[key] is not str:
                raise TrainingError(f"--{key}={text}: not a Python literal. {expected}") from None
            value = text
        values[key] = _checked(key, value, argument)
    return values


def _expected(key: str, where: str) -> str:
    """Raises TrainingError for an unknown key."""
    if key not in TYPES:
        near = difflib.get_close_matches(key, TYPES, n=1)
        hint = f"Did you mean {near[0]}? " if near else ""
        raise TrainingError(f"{where}: unknown key {key!r}. {hint}Keys are {', '.join(TYPES)}")
    return f"{key} is {' or '.join(repr(choice) for choice in _CHOICES[key])}" if key in _CHOICES else f"{key} is {_WHAT[TYPES[key]]}"


def _checked(key: str, value: Any, where: str) -> Literal:
    expected = _expected(key, where)
    wanted = TYPES[key]
    if wanted is float and type(value) is int:
        value = float(value)
    if type(value) is not wanted or (isinstance(value, float) and not math.isfinite(value)):
        raise TrainingError(f"{where}: {expected}, found the {type(value).__name__} {value!r}")
    if key in _CHOICES and value not in _CHOICES[key]:
        raise TrainingError(f"{where}: {expected}, found {value!r}")
    return cast("Literal", value)


def _check_bounds(found: Settings) -> None:
    """Raises TrainingError for values that no training can have."""
    values = asdict(found)
    for key in _AT_LEAST_ONE:
        if values[key] < 1:
            raise TrainingError(f"{key} = {values[key]}: at least 1")
    for key in _NOT_NEGATIVE:
        if values[key] < 0:
            raise TrainingError(f"{key} = {values[key]}: at least 0")
    for key in _SHARES:
        if not 0 <= values[key] <= 1:
            raise TrainingError(f"{key} = {values[key]}: between 0 and 1")
    if found.n_embd % found.n_head:
        raise TrainingError(f"n_embd = {found.n_embd} is no multiple of n_head = {found.n_head}: each head has n_embd / n_head dimensions")
    if found.model == "base" and found.n_streams != 1:
        raise TrainingError(f"n_streams = {found.n_streams} with model 'base', which has one stream: --n_streams=1, or --model='hc'")
