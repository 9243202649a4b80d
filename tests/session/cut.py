"""Sessions whose datasets are cut into shards, and what tests compare of them."""

from __future__ import annotations

import json
from pathlib import Path

from tests.session.test_again import untimed, untimed_summary

# Two CPU lanes, each a worker of xdist.
LANES = ("--gpus", "none", "-n", "2")
# The only part of one: shards as the suite fixes them, in this process, which is quick.
ALONE = ("--gpueval-shard-index", "0", "--gpueval-shard-count", "1")
FILE = "suites/toy/suite.toml"

# A model that writes down what it is asked for, and fails, or waits for others, on demand.
WATCHED = """
import os, signal, time
from pathlib import Path
HERE = Path(__file__).parent
class Model:
    def predict(self, batch):
        if (HERE / "meet").exists():  # so many processes begin together
            (HERE / f"begun-{os.getpid()}").touch()
            end = time.monotonic() + 60
            while len(list(HERE.glob("begun-*"))) < int((HERE / "meet").read_text()) and time.monotonic() < end:
                time.sleep(0.01)
        time.sleep(float(os.environ.get("TOY_SECONDS", "0")))
        with (HERE / "asked").open("a") as file:
            file.write("".join(item["id"] + "\\n" for item in batch))
        for item in batch:
            if (HERE / "die").exists() and item["id"] == (HERE / "die").read_text():
                os.kill(os.getpid(), signal.SIGKILL)
            if (HERE / "raise").exists() and item["id"] == (HERE / "raise").read_text():
                return []  # breaks the contract: the item fails, not a row
        return [[(0, 3, "A", 0.9)] for item in batch]
"""


def shards(toy, count: int | str) -> None:
    """Have the toy suite cut its datasets."""
    toy.edit('split = "fast"', f'split = "fast"\nshards = {json.dumps(count)}')


def gate(toy, dataset: str = "one", least: float = 0.99) -> None:
    toy.append(f'[[datasets.{dataset}.gates]]\nmetric = "strict.f1"\nmin = {least}\n')


def asked(toy) -> list[str]:
    """The ids that the watched model was asked for, and forget them."""
    file = toy.root / "suites/toy/asked"
    ids = file.read_text().split() if file.exists() else []
    file.unlink(missing_ok=True)
    return ids


def runs(toy, session: str | None = None) -> dict[str, str | None]:
    """Run id -> status, of all directories of a session."""
    found = {}
    for directory in sorted(path for path in toy.session(session).iterdir() if path.is_dir()):
        file = directory / "summary.json"
        found[directory.name] = json.loads(file.read_text())["status"] if file.exists() else None
    return found


def record(toy, session: str | None = None) -> dict:
    return json.loads((toy.session(session) / "session.json").read_text())


def ran(toy, session: str | None = None, *, reused: bool = False) -> list[str]:
    """The cases that the last invocation of a session ran, or reused."""
    return sorted(run["case"] for run in record(toy, session)["runs"] if run["reused"] == reused)


def outcome(toy, session: str, run: str = "toy-one-fast") -> tuple[dict, list[dict]]:
    """All that must not depend on the cut."""
    return untimed_summary(toy.summary(run, session)), untimed(toy.lines(run, session))


def said(result) -> str:
    return result.stdout.str() + result.stderr.str()


def metadata(path: Path) -> dict:
    return json.loads((path / "run_metadata.json").read_text())
