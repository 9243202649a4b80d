"""gpueval suites, gpueval init."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .output import Json, Pretty, form, show, user_errors

if TYPE_CHECKING:
    from pytest_gpueval.suites.load import AnySuite

_TEMPLATE = """description = "What this suite measures"
task = "classification"            # or "span_detection", "generation"
labels = ["negative", "positive"]
split = "fast"                     # default split
runtime = "cpu"                    # default runtime

[data]
directory = "data"                 # data/<dataset>/<split>.parquet with columns id, text, label

[runtimes.cpu]
kind = "inprocess"
target = "model.py:Model"

[[gates]]
metric = "accuracy"
min = 0.5

[datasets.example]
splits.fast = {{ rows = {rows} }}
"""

_MODEL = '''"""The model of this suite: replace `predict` by yours."""

from collections.abc import Mapping, Sequence


class Model:
    """Anything with `predict(batch) -> batch`; `warm_up()` and `close()` are called if they are there."""

    def predict(self, batch: Sequence[Mapping[str, str]]) -> list[str]:
        """One answer for each row, in their order."""
        return ["positive" if "good" in row["text"] else "negative" for row in batch]
'''

_ROWS = [("a good start", "positive"), ("nothing works", "negative"), ("good enough", "positive"), ("not great", "negative")]


def suites(json_: Json = False, pretty: Pretty = False) -> None:
    """List the suites that --gpueval-suite can name.

    Examples:
      gpueval suites

      gpueval suites --json
    """
    from pytest_gpueval.errors import GpuevalError, SuiteError
    from pytest_gpueval.suites import load

    rows: list[dict[str, Any]] = []
    wrong: list[GpuevalError] = []
    for name, path in load.available(Path.cwd()).items():
        try:
            rows.append(_row(name, load.read(path)))
        except GpuevalError as error:  # one broken file does not hide the others
            wrong.append(error)
    show(rows, ("suite", "kind", "datasets", "rows", "splits", "runtimes", "policies", "description"), form(json_, pretty))
    with user_errors():
        if wrong:
            raise SuiteError("\n".join(map(str, wrong)))


def _row(name: str, suite: AnySuite) -> dict[str, Any]:
    from pytest_gpueval.suites.sweep import Sweep

    base = {"suite": name, "kind": suite.file.kind, "description": suite.file.description, "path": str(suite.path)}
    if isinstance(suite, Sweep):
        return {**base, "datasets": 0, "rows": len(suite.points), "splits": "", "runtimes": "", "policies": ""}
    file = suite.file
    return {
        **base,
        "rows": 0,
        "datasets": len(file.datasets),
        "splits": ", ".join(sorted({split for dataset in file.datasets.values() for split in dataset.splits})),
        "runtimes": ", ".join(file.runtimes),
        "policies": ", ".join(file.policies),
    }


def init(name: Annotated[str, typer.Argument(help="Name of the new suite: a folder in suites/.")]) -> None:
    """Write a new suite that runs, to be changed into yours.

    Example:
      gpueval init sentiment && pytest --gpueval-suite sentiment
    """
    from pytest_gpueval.errors import Conflict, MissingExtra, StorageError, UsageProblem

    with user_errors():
        if not name.replace("_", "").replace("-", "").isalnum():
            raise UsageProblem(f"{name!r}: a suite's name is made of letters, digits, _ and -")
        try:
            import pyarrow as pa
            import pyarrow.parquet as pq
        except ImportError:
            raise MissingExtra("pyarrow", needed_for="writing the example split", extra="data") from None
        directory = Path("suites", name)
        if directory.exists():
            raise Conflict(f"{directory} exists already; choose another name")
        data = directory / "data" / "example"
        try:
            data.mkdir(parents=True)
        except OSError as error:
            raise StorageError(f"{directory}: cannot be written: {error.strerror or error}") from None
        (directory / "suite.toml").write_text(_TEMPLATE.format(rows=len(_ROWS)), encoding="utf-8")
        (directory / "model.py").write_text(_MODEL, encoding="utf-8")
        rows = [{"id": f"example-{number}", "text": text, "label": label} for number, (text, label) in enumerate(_ROWS)]
        pq.write_table(pa.Table.from_pylist(rows), data / "fast.parquet")
    print(f"{directory}/ written. Run it:  pytest --gpueval-suite {name}")
