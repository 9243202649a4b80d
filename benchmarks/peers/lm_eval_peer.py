# mypy: disable-error-code="import-not-found, misc"
"""lm-eval on the benchmark's tickets: `python lm_eval_peer.py ROWS.jsonl`."""

import sys
import tempfile
from pathlib import Path
from typing import Any

import lm_eval
from lm_eval.api.instance import Instance
from lm_eval.api.model import LM
from lm_eval.tasks import TaskManager

TASK = """
task: tickets
dataset_path: json
dataset_kwargs: {{data_files: {{test: {path}}}, cache_dir: {cache}}}
test_split: test
output_type: generate_until
doc_to_text: "{{{{text}}}}"
doc_to_target: "{{{{label}}}}"
generation_kwargs: {{until: ["\\n"]}}
metric_list: [{{metric: exact_match, aggregation: mean, higher_is_better: true}}]
"""


class LastWord(LM):
    """The instant model."""

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:  # noqa: FBT001, FBT002 - its signature there
        """Answer with the last word of each prompt."""
        del disable_tqdm
        return [request.args[0].rpartition(" ")[2] for request in requests]

    def loglikelihood(self, requests: list[Instance]) -> list[tuple[float, bool]]:
        """Not asked for."""
        raise NotImplementedError

    def loglikelihood_rolling(self, requests: list[Instance]) -> list[float]:
        """Not asked for."""
        raise NotImplementedError


def main(path: Path) -> None:
    """Print the accuracy."""
    with tempfile.TemporaryDirectory() as scratch:
        (Path(scratch) / "tickets.yaml").write_text(TASK.format(path=path, cache=scratch), encoding="utf-8")
        manager = TaskManager(include_path=scratch, include_defaults=False)
        result: Any = lm_eval.simple_evaluate(model=LastWord(), tasks=["tickets"], task_manager=manager)
        print(f"{result['results']['tickets']['exact_match,none']:.6f}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
