"""What a judge is shown of a sample, and what it said: pure, so that every verdict can be found again in the texts that were written down."""

from __future__ import annotations

import re
from collections.abc import Collection

from .matching import LONGEST
from .task import Sample


class Verdicts:
    """Reads verdicts: the last match of `pattern` in the last LONGEST characters of a text; right if it is one of `right`, letter case and space apart."""

    def __init__(self, pattern: str, right: Collection[str]) -> None:
        self._pattern = re.compile(pattern)
        self._right = frozenset(_plain(word) for word in right)

    def of(self, text: str) -> bool | None:
        """Whether the judge says right; None without a verdict."""
        verdict = None
        for match in self._pattern.finditer(text[-LONGEST:]):
            found = match[1] if self._pattern.groups else match[0]
            verdict = verdict if found is None else found
        return None if verdict is None else _plain(verdict) in self._right


def question(sample: Sample, text: str) -> dict[str, str]:
    """What a judge is shown of one text that a model said: `prompt`, `answer` (the accepted ones, one on each line), `prediction`."""
    return {"id": sample.id, "prompt": _prompt(sample), "answer": "\n".join(sample.gold.texts), "prediction": text}


def _prompt(sample: Sample) -> str:
    """The prompt as one text; of a conversation of several turns, each after its role."""
    messages = sample.inputs.get("messages")
    if messages is None:
        return str(sample.inputs["prompt"])
    return messages[0]["content"] if len(messages) == 1 else "\n".join(f"{turn['role']}: {turn['content']}" for turn in messages)


def _plain(word: str) -> str:
    return word.strip().casefold()
