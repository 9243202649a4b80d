"""Any Python class with `predict(batch) -> batch`, in this process."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import os
import re
import sys
import time
import traceback
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import Any

from pytest_gpueval.errors import MissingExtra, ModelFault, RuntimeFault, UsageProblem, valid_values

from . import calls
from .base import A, Answer
from .calls import close, describe, line_of

# The folders of suites whose files were imported, in that order.
_DIRECTORIES: dict[str, None] = {}


class InProcess:
    """Runs a model given as `file.py:Class` (relative to the suite's folder) or `package.module:Class`.

    `predict` gets a list of mappings (`id` and the task's inputs) and returns as many answers. A batch that raises is tried again row by row, so
    that one bad row is one error; one that is too much for the memory by halves, and so are all after it. `warm_up()` and `close()` are called if
    the class has them.
    """

    def __init__(self, target: str, options: Mapping[str, Any], directory: Path, batch_size: int, extra: str | None = None) -> None:
        self._target = target
        self._options = dict(options)
        self._directory = directory
        self._batch_size = batch_size
        self._extra = extra
        self._model: Any = None

    def start(self) -> None:
        """Import, construct and warm up the model.

        Raises UsageProblem for a target that is not there, and for an exception of the model whose `for_user` is true; RuntimeFault for any other.
        """
        model: Any = None
        try:
            model = load_object(self._target, self._directory)(**self._options)
            if not callable(getattr(model, "predict", None)):
                raise UsageProblem(f"model {self._target} has no method predict(batch)")
            if hasattr(model, "warm_up"):
                model.warm_up()
            self._model, model = model, None
        except UsageProblem:
            raise
        except ModuleNotFoundError as error:
            if self._extra is None:
                raise ModelFault(f"model {self._target} did not start: {describe(error)}") from error
            raise MissingExtra(error.name or "?", needed_for=f"model {self._target}", extra=self._extra) from error
        except Exception as error:
            if getattr(error, "for_user", False):  # the model's author has written what to do
                raise UsageProblem(f"model {self._target}: {error}") from error
            raise ModelFault(f"model {self._target} did not start: {describe(error)}\n{traceback.format_exc()}") from error
        finally:
            with suppress(Exception):  # a model that did not start gives its GPU back; why it did not start is the news
                close(model)

    def answers(self, samples: Iterable[A]) -> Iterator[Answer[A]]:
        """Answer batch by batch. Raises RuntimeFault for a wrong number of predictions, or a model that was not started."""
        if self._model is None:
            raise RuntimeFault(f"model {self._target} is asked before it was started")
        iterator = iter(samples)
        while batch := list(islice(iterator, self._batch_size)):
            yield from self._answer(batch)

    def close(self) -> None:
        """Close the model, if it can be closed."""
        model, self._model = self._model, None
        close(model)

    def _answer(self, batch: list[A]) -> Iterator[Answer[A]]:
        begin = time.perf_counter()
        try:
            values = self._model.predict([sample.inputs for sample in batch])
        except Exception as error:  # noqa: BLE001 - whatever a model raises is its answer
            if len(batch) == 1:
                yield Answer(batch[0], None, describe(error), _ms_since(begin))
                return
            too_much = calls.lacks_memory(error)
        else:
            yield from self._checked(batch, values, _ms_since(begin))
            return
        # Outside the handler, whose traceback holds what the call had made.
        if too_much:
            yield from self._by_halves(batch)
        else:
            for sample in batch:
                yield from self._answer([sample])

    def _by_halves(self, batch: list[A]) -> Iterator[Answer[A]]:
        """Answer a batch that was too much for the memory; the first answer says so."""
        self._batch_size, note = calls.take_fewer(len(batch))
        told = False
        while batch:
            part, batch = batch[: self._batch_size], batch[self._batch_size :]
            for answer in self._answer(part):
                if not told:
                    answer.note = f"{note}; {answer.note}" if answer.note else note
                    told = True
                yield answer

    def _checked(self, batch: list[A], values: Any, latency_ms: float) -> Iterator[Answer[A]]:
        """The answers, as many as there are rows. Raises RuntimeFault."""
        wrong = calls.wrong_answers(values, len(batch), batch[0].id, self._target)
        if wrong is not None:
            raise ModelFault(wrong)
        for sample, value in zip(batch, values, strict=True):
            yield Answer(sample, value, None, latency_ms)


def load_object(target: str, directory: Path) -> Any:
    """Import `file.py:Name` from a suite's folder, or `package.module:Name`. Raises UsageProblem, ModuleNotFoundError for what the target imports."""
    place, _, name = target.rpartition(":")
    if not place or not name:
        raise UsageProblem(f"target {target!r} is not of the form 'file.py:Class' or 'package.module:Class'")
    module = load_file(directory / place) if place.endswith(".py") else _import(place, target)
    try:
        return getattr(module, name)
    except AttributeError:
        public = [key for key in vars(module) if not key.startswith("_")]
        raise UsageProblem(f"target {target!r}: {place} has no {name!r}. {valid_values(name, public, what='names')}") from None


def load_file(path: Path) -> ModuleType:
    """Import a Python file of a suite's folder under a name of its own; files beside it can be imported by it.

    Raises UsageProblem, ModuleNotFoundError for what the file imports.
    """
    if not path.is_file():
        raise UsageProblem(f"{path}: no such file")
    path = path.resolve()
    name = f"{_package_of(path.parent)}.{path.stem}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UsageProblem(f"{path}: not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        with _beside(path.parent):
            spec.loader.exec_module(module)
    except BaseException as error:
        del sys.modules[name]
        if isinstance(error, ModuleNotFoundError) or not isinstance(error, Exception):
            raise
        raise UsageProblem(f"{path}: cannot be imported: {describe(error)}{line_of(error, path)}") from error
    return module


def _package_of(directory: Path) -> str:
    """A package whose folder is the suite's, so that its files can import each other relatively without meeting another suite's."""
    digest = hashlib.sha256(str(directory).encode("utf-8", "surrogateescape")).hexdigest()[:8]  # two places may hold suites of one name
    name = f"gpueval_suite_{re.sub(r'[^A-Za-z0-9_]', '_', directory.name)}_{digest}"
    if name not in sys.modules:
        package = ModuleType(name, f"The Python files of {directory}.")
        package.__path__ = [str(directory)]
        sys.modules[name] = package
    return name


@contextmanager
def _beside(directory: Path) -> Iterator[None]:
    """Let `import rows` find the directory's own rows.py, also where an earlier suite's files include a rows.py.

    The directory stays first on sys.path, for imports that a model makes later.
    """
    own = str(directory)
    others = [other for other in _DIRECTORIES if other != own]
    hidden = {name: module for name, module in list(sys.modules.items()) if _lies_in(module, others) and _offers(directory, name)}
    for name in hidden:
        del sys.modules[name]
    if own in sys.path:
        sys.path.remove(own)
    sys.path.insert(0, own)
    _DIRECTORIES[own] = None
    try:
        yield
    finally:
        names = {name.partition(".")[0] for name in hidden}
        for name, module in list(sys.modules.items()):
            if name.partition(".")[0] in names and _lies_in(module, [own]):
                del sys.modules[name]  # its importers keep it
        sys.modules.update(hidden)


def _lies_in(module: Any, directories: Iterable[str]) -> bool:
    file = getattr(module, "__dict__", {}).get("__file__")  # asking a lazy module for an attribute would import it
    return isinstance(file, str) and any(file.startswith(directory + os.sep) for directory in directories)


def _offers(directory: Path, name: str) -> bool:
    first = name.partition(".")[0]
    return (directory / f"{first}.py").exists() or (directory / first).is_dir()


def _import(place: str, target: str) -> ModuleType:
    if str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))
    try:
        return importlib.import_module(place)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{place}.".startswith(f"{error.name}."):
            raise  # the module is there; something that it imports is not
        raise UsageProblem(f"target {target!r}: cannot import {place}: {error}") from None
    except Exception as error:
        raise UsageProblem(f"target {target!r}: cannot import {place}: {describe(error)}") from error


def _ms_since(begin: float) -> float:
    return (time.perf_counter() - begin) * 1000
