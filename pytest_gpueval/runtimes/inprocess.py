"""Any Python class with `predict(batch) -> batch`, in this process."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import time
import traceback
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from pytest_gpueval.errors import MissingExtra, RuntimeFault, UsageProblem

from .base import A, Answer

T = TypeVar("T")


class InProcess:
    """Runs a model given as `file.py:Class` (relative to the suite's folder) or `package.module:Class`.

    `predict` gets a list of mappings (`id` and the task's inputs) and returns as many answers. A batch that raises is tried again row by row, so
    that one bad row is one error. `warm_up()` and `close()` are called if the class has them.
    """

    def __init__(self, target: str, options: Mapping[str, Any], directory: Path, batch_size: int, extra: str | None = None) -> None:
        self._target = target
        self._options = dict(options)
        self._directory = directory
        self._batch_size = batch_size
        self._extra = extra
        self._model: Any = None

    def start(self) -> None:
        """Import, construct and warm up the model. Raises UsageProblem for a target that is not there, RuntimeFault if it raises."""
        try:
            self._model = load_object(self._target, self._directory)(**self._options)
            if hasattr(self._model, "warm_up"):
                self._model.warm_up()
        except UsageProblem:
            raise
        except ModuleNotFoundError as error:
            if self._extra is None:
                raise RuntimeFault(f"model {self._target} did not start: {describe(error)}") from error
            raise MissingExtra(error.name or "?", needed_for=f"model {self._target}", extra=self._extra) from error
        except Exception as error:
            raise RuntimeFault(f"model {self._target} did not start: {describe(error)}\n{traceback.format_exc()}") from error
        if not callable(getattr(self._model, "predict", None)):
            raise UsageProblem(f"model {self._target} has no method predict(batch)")

    def answers(self, samples: Iterable[A]) -> Iterator[Answer[A]]:
        """Answer batch by batch."""
        for batch in batched_lists(samples, self._batch_size):
            yield from self._answer(batch)

    def close(self) -> None:
        """Close the model, if it can be closed."""
        if hasattr(self._model, "close"):
            self._model.close()
        self._model = None

    def _answer(self, batch: list[A]) -> Iterator[Answer[A]]:
        begin = time.perf_counter()
        try:
            values = self._model.predict([sample.inputs for sample in batch])
        except Exception as error:  # noqa: BLE001 - whatever a model raises is its answer
            if len(batch) == 1:
                yield Answer(batch[0], None, describe(error), _ms_since(begin))
            else:
                for sample in batch:
                    yield from self._answer([sample])
            return
        latency_ms = _ms_since(begin)
        count = len(values) if hasattr(values, "__len__") else None
        if count != len(batch):
            found = f"{count} predictions" if count is not None else f"a {type(values).__name__}"
            raise RuntimeFault(
                f"model {self._target} returned {found} for a batch of {len(batch)} (first row: {batch[0].id!r}).\n"
                "predict(batch) must return a list with one prediction for each row, in their order."
            )
        for sample, value in zip(batch, values, strict=True):
            yield Answer(sample, value, None, latency_ms)


def batched_lists(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of `size` items, the last one perhaps shorter."""
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch


def describe(error: BaseException) -> str:
    """`ValueError: no such label`, on one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:500]


def load_object(target: str, directory: Path) -> Any:
    """Import `file.py:Name` from a suite's folder, or `package.module:Name`. Raises UsageProblem."""
    place, _, name = target.rpartition(":")
    if not place or not name:
        raise UsageProblem(f"target {target!r} is not of the form 'file.py:Class' or 'package.module:Class'")
    module = load_file(directory / place) if place.endswith(".py") else _import(place, target)
    try:
        return getattr(module, name)
    except AttributeError:
        raise UsageProblem(f"target {target!r}: {place} has no {name!r}") from None


def load_file(path: Path) -> ModuleType:
    """Import a Python file of a suite's folder under a name of its own; files beside it can be imported by it. Raises UsageProblem."""
    if not path.is_file():
        raise UsageProblem(f"{path}: no such file")
    package = _package_of(path.parent)
    name = f"{package}.{path.stem}"
    if name in sys.modules:
        return sys.modules[name]
    if str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UsageProblem(f"{path}: not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except ModuleNotFoundError:
        del sys.modules[name]
        raise
    except Exception as error:
        del sys.modules[name]
        raise UsageProblem(f"{path}: cannot be imported: {describe(error)}") from error
    return module


def _package_of(directory: Path) -> str:
    """A package whose folder is the suite's, so that its files can import each other relatively without meeting another suite's."""
    name = f"gpueval_suite_{directory.name}_{blake2b(str(directory.resolve()).encode(), digest_size=4).hexdigest()}"
    if name not in sys.modules:
        package = ModuleType(name, f"The Python files of {directory}.")
        package.__path__ = [str(directory)]
        sys.modules[name] = package
    return name


def _import(place: str, target: str) -> ModuleType:
    if str(Path.cwd()) not in sys.path:
        with suppress(OSError):
            sys.path.append(str(Path.cwd()))
    try:
        return importlib.import_module(place)
    except ImportError as error:
        raise UsageProblem(f"target {target!r}: cannot import {place}: {error}") from None


def _ms_since(begin: float) -> float:
    return (time.perf_counter() - begin) * 1000
