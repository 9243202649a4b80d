# mypy: disable-error-code="import-not-found, misc"
"""inspect-ai on the benchmark's tickets: `python inspect_ai_peer.py ROWS.jsonl`."""

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from inspect_ai import Task, eval  # noqa: A004 - its name there
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.model import ModelAPI, ModelOutput, modelapi
from inspect_ai.scorer import exact
from inspect_ai.solver import generate


@modelapi(name="instant")
class LastWord(ModelAPI):
    """The instant model."""

    async def generate(self, input: Any, **_: Any) -> ModelOutput:  # noqa: A002 - its name there
        """Answer with the last word of the question."""
        return ModelOutput.from_content(self.model_name, input[-1].text.rpartition(" ")[2])


def main(path: Path) -> None:
    """Print the accuracy."""
    rows = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    samples = [Sample(id=row["id"], input=row["text"], target=row["label"]) for row in rows]
    with tempfile.TemporaryDirectory() as logs:
        task = Task(name="tickets", dataset=MemoryDataset(samples), solver=generate(), scorer=exact())
        (log,) = eval(task, model="instant/last-word", display="none", log_dir=logs)
    if log.results is None:
        sys.exit(str(log.error.message if log.error else log.status))
    metrics = log.results.scores[0].metrics
    print(f"{(metrics.get('accuracy') or metrics['mean']).value:.6f}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
