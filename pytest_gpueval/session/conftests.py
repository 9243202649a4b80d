"""The tasks that conftest.py files add, for a command that is no pytest session: their own function is called, and nothing else of them."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_gpueval.errors import UsageProblem

if TYPE_CHECKING:
    from .tasks import TaskFactory

_HOOK = "pytest_gpueval_tasks"
_FILE = "conftest.py"


def tasks_of(root: Path, suite: str) -> dict[str, TaskFactory]:
    """The tasks of a suite's conftest.py files, from `root` down to its folder: a deeper one wins, as in a session. Raises UsageProblem for a broken file."""
    found: dict[str, TaskFactory] = {}
    for file in _files(root, suite):
        function = getattr(_module(file), _HOOK, None)
        if function is None:
            continue
        try:
            answer = function()
        except Exception as error:  # noqa: BLE001 - the user's code
            raise UsageProblem(f"{file}: {_HOOK} raised {type(error).__name__}: {error}") from None
        if not isinstance(answer, Mapping):
            raise UsageProblem(f"{file}: {_HOOK} gave a {type(answer).__name__}; it must give a mapping of names and factories")
        found.update(answer)
    return found


def _files(root: Path, suite: str) -> Iterator[Path]:
    folders = [root, root / "suites"]
    if suite == Path(suite).name:  # a name, and no way to elsewhere: it is read from files
        folders.append(root / "suites" / suite)
    return (folder / _FILE for folder in folders if (folder / _FILE).is_file())


def _module(file: Path) -> Any:
    """The module of a conftest.py, whose folder is in sys.path, as pytest has it by default. Raises UsageProblem."""
    name = f"conftest_of_{'_'.join(file.resolve().parent.parts[1:])}"
    if name in sys.modules:
        return sys.modules[name]
    folder = str(file.resolve().parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None and spec.loader is not None  # noqa: PT018, S101 - for the type checker
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - the user's code
        del sys.modules[name]
        raise UsageProblem(f"{file}: cannot be imported: {type(error).__name__}: {error}") from None
    return module
