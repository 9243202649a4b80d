"""The model that Triton's python backend runs: a suite's class behind one tensor of rows and one of answers.

Linked into a model repository, or beside `servers/pytriton_program.py`, and run by another interpreter, where this package is not installed: it imports the
standard library, numpy, the backend's own module, and `gpueval_wire` and `gpueval_calls`, which are `runtimes/wire.py` and `calls.py` linked beside it.

    rows      BYTES [n, 1]  each element a mapping, as `predict` gets it; `null` asks only whether anybody is there
    answers   BYTES [n, 1]  `{"value": ...}`, `{"error": text}` for a row that fails, `{"fault": text}` when the model broke its contract;
                             the first of a request perhaps with `"note": text`, which the user is told
"""

from __future__ import annotations

import importlib
import importlib.util
import io
import json
import re
import sys
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

try:
    from gpueval_calls import close, describe, lacks_memory, line_of, take_fewer, wrong_answers
except ModuleNotFoundError:  # in this package's own interpreter
    from pytest_gpueval.runtimes.calls import close, describe, lacks_memory, line_of, take_fewer, wrong_answers

# Before the reason in the error of a model that does not start: `gpueval-usage: ...`. `servers/triton.py` looks for them.
USAGE, MISSING, RAISED = "gpueval-usage", "gpueval-missing", "gpueval-raised"


class BadTarget(Exception):
    """The target names nothing that can be a model."""


class Rows:
    """A suite's class with `predict(batch) -> batch`, asked row by row where it raises for several."""

    def __init__(self, target: str, directory: Path, options: Mapping[str, Any], place: str) -> None:
        """Import, construct and warm up. Raises BadTarget, and whatever the model raises."""
        self._target = target
        self._most = sys.maxsize
        self._note: str | None = None
        self._model: Any = None
        model = load_object(target, directory, place)(**options)
        try:
            if not callable(getattr(model, "predict", None)):
                raise BadTarget(f"model {target} has no method predict(batch)")
            if hasattr(model, "warm_up"):
                model.warm_up()
        except BaseException:
            close(model)
            raise
        self._model = model

    def answers(self, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """An answer for each row: one call for all, unless fewer are known to be the most that memory holds."""
        found: list[dict[str, Any]] = []
        while len(found) < len(rows):
            found += self._answer(rows[len(found) : len(found) + self._most])
        if found and self._note is not None:
            found[0] = {**found[0], "note": self._note}
            self._note = None
        return found

    def close(self) -> None:
        """Close the model, if it can be closed."""
        model, self._model = self._model, None
        close(model)

    def _answer(self, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        try:
            values = self._model.predict(list(rows))
        except Exception as error:
            if len(rows) == 1:
                return [{"error": describe(error)}]
            smaller = lacks_memory(error)
        else:
            return self._checked(rows, values)
        if not smaller:
            return [answer for row in rows for answer in self._answer([row])]
        # Outside the handler, so that its traceback holds no tensor any more.
        self._most, note = take_fewer(len(rows))
        sys.stderr.write(f"gpueval: {note}\n")
        self._note = f"{self._note}; {note}" if self._note else note
        parts: list[dict[str, Any]] = []
        while len(parts) < len(rows):
            parts += self._answer(rows[len(parts) : len(parts) + self._most])
        return parts

    def _checked(self, rows: Sequence[Mapping[str, Any]], values: Any) -> list[dict[str, Any]]:
        fault = wrong_answers(values, len(rows), rows[0].get("id"), self._target)
        if fault is None:
            return [{"value": value} for value in values]
        return [{"fault": fault}] * len(rows)


class Elements:
    """A model behind the elements of two tensors: rows as JSON, answers as JSON. `wire` is `gpueval_wire`."""

    def __init__(self, given: Mapping[str, Any], wire: ModuleType) -> None:
        """Load the model that `given` names: `TritonModel.parameters`. Raises as `Rows` does."""
        self._wire = wire
        self._rows = Rows(given["target"], Path(given["directory"]), given["options"], given["place"])

    def answers(self, elements: Sequence[bytes]) -> list[bytes]:
        """An element for each, in their order: all rows in one call of the model."""
        encoded: list[bytes | None] = [None] * len(elements)
        rows, places = [], []
        for place, element in enumerate(elements):
            try:
                row = self._wire.decode(element)
            except ValueError as error:
                encoded[place] = self._wire.encode({"fault": f"a row is not JSON: {error}"})
                continue
            if row is None:
                encoded[place] = b'{"value":null}'
            else:
                rows.append(row)
                places.append(place)
        for place, answer in zip(places, self._rows.answers(rows), strict=True):
            encoded[place] = self._encoded(answer)
        return encoded  # type: ignore[return-value] # each place is filled

    def close(self) -> None:
        """Close the model. One that cannot be closed says so in the log."""
        try:
            self._rows.close()
        except Exception:
            traceback.print_exc()

    def _encoded(self, answer: Mapping[str, Any]) -> bytes:
        try:
            return self._wire.encode(answer)  # type: ignore[no-any-return]
        except (self._wire.NotSendable, ValueError, RecursionError) as error:
            return self._wire.encode({"error": describe(error)})  # type: ignore[no-any-return]


class TritonPythonModel:
    """What the python backend looks for. Its methods and their arguments are Triton's: the README of triton-inference-server/python_backend."""

    def initialize(self, args: Mapping[str, str]) -> None:
        """Load the model. Raises the backend's TritonModelException with the reason."""
        whole_lines()
        import gpueval_wire
        import numpy as np
        import triton_python_backend_utils as backend

        self._np, self._backend = np, backend
        given = gpueval_wire.decode(json.loads(args["model_config"])["parameters"]["gpueval"]["string_value"].encode("utf-8", "surrogatepass"))
        try:
            self._elements = Elements(given, gpueval_wire)
        except BaseException as error:
            reason = refusal(error, given["target"])
            if reason.startswith(RAISED):
                traceback.print_exc()
            raise backend.TritonModelException(reason) from None

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Answer requests: their rows together in one call of the model."""
        sizes, elements = [], []
        for request in requests:
            tensor = self._backend.get_input_tensor_by_name(request, "rows").as_numpy().ravel().tolist()
            sizes.append(len(tensor))
            elements += tensor
        answers = iter(self._elements.answers(elements))
        return [self._response([next(answers) for _ in range(size)]) for size in sizes]

    def finalize(self) -> None:
        """Close the model."""
        self._elements.close()

    def _response(self, answers: Sequence[bytes]) -> Any:
        tensor = self._np.array(answers, dtype=self._np.object_).reshape(len(answers), 1)
        return self._backend.InferenceResponse([self._backend.Tensor("answers", tensor)])


def whole_lines() -> None:
    """Let the last words of a process that is killed be read; the stub does not heed PYTHONUNBUFFERED."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(line_buffering=True, errors="backslashreplace")


def refusal(error: BaseException, target: str) -> str:
    """Why there is no model, for whoever asked for it. Called where `error` is handled."""
    if isinstance(error, BadTarget):
        text = f"{USAGE}: {error}"
    elif isinstance(error, ModuleNotFoundError):
        text = f"{MISSING}: {error.name or '?'}"
    elif getattr(error, "for_user", False):
        text = f"{USAGE}: model {target}: {error}"
    else:
        text = f"{RAISED}: {describe(error)}\n{traceback.format_exc()}"
    return text.encode("utf-8", "backslashreplace").decode()


def load_object(target: str, directory: Path, place: str) -> Any:
    """Import `file.py:Name` of a suite's folder, or `package.module:Name` with `place` as the last folder to look in.

    As `runtimes/inprocess.py` does, for the one suite whose model this process runs. Raises BadTarget, ModuleNotFoundError for what the target imports.
    """
    where, _, name = target.rpartition(":")
    if not where or not name:
        raise BadTarget(f"target {target!r} is not of the form 'file.py:Class' or 'package.module:Class'")
    module = _load_file(directory / where) if where.endswith(".py") else _import(where, target, place)
    if not hasattr(module, name):
        names = ", ".join(sorted(key for key in vars(module) if not key.startswith("_")))
        raise BadTarget(f"target {target!r}: {where} has no {name!r}. Valid names: {names}.")
    return getattr(module, name)


def _load_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise BadTarget(f"{path}: no such file")
    path = path.resolve()
    package = f"gpueval_suite_{re.sub(r'[^A-Za-z0-9_]', '_', path.parent.name)}"
    parent = ModuleType(package, f"The Python files of {path.parent}.")
    parent.__path__ = [str(path.parent)]
    sys.modules[package] = parent
    spec = importlib.util.spec_from_file_location(f"{package}.{path.stem}", path)
    if spec is None or spec.loader is None:
        raise BadTarget(f"{path}: not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    sys.path.insert(0, str(path.parent))
    try:
        spec.loader.exec_module(module)
    except ModuleNotFoundError:
        raise
    except Exception as error:
        raise BadTarget(f"{path}: cannot be imported: {describe(error)}{line_of(error, path)}") from error
    return module


def _import(where: str, target: str, place: str) -> ModuleType:
    if place not in sys.path:
        sys.path.append(place)
    try:
        return importlib.import_module(where)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{where}.".startswith(f"{error.name}."):
            raise  # the module is there; something that it imports is not
        raise BadTarget(f"target {target!r}: cannot import {where}: {error}") from None
    except Exception as error:
        raise BadTarget(f"target {target!r}: cannot import {where}: {describe(error)}") from error
