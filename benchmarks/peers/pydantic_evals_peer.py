# mypy: disable-error-code="import-not-found, misc"
"""pydantic-evals on the benchmark's tickets: `python pydantic_evals_peer.py ROWS.jsonl`."""

import json
import sys
from pathlib import Path

from pydantic_evals import Case, Dataset
from pydantic_evals.evaluators import EqualsExpected


async def last_word(text: str) -> str:
    """The instant model."""
    return text.rpartition(" ")[2]


def main(path: Path) -> None:
    """Print the accuracy."""
    rows = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    cases = [Case(name=row["id"], inputs=row["text"], expected_output=row["label"]) for row in rows]
    report = Dataset(name="tickets", cases=cases, evaluators=[EqualsExpected()]).evaluate_sync(last_word, progress=False)
    averages = report.averages()
    assert averages is not None  # noqa: S101 - for the reader
    print(f"{averages.assertions:.6f}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
