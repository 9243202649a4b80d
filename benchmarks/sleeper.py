"""A model that takes its time without using the processor."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from typing import Any


class Sleeper:
    """Sleeps for each row as long as its text begins with, and answers with the text's last word.

    Time counts from the first batch of an item, so that what each sleep is late, and what scoring takes, does not add up: at a hundredth of the true
    time both would weigh a hundred times what they weigh in truth.
    """

    def __init__(self) -> None:
        self._item = ""
        self._until = 0.0

    def predict(self, batch: Sequence[Mapping[str, Any]]) -> list[str]:
        """One label for each row."""
        item = os.environ["PYTEST_CURRENT_TEST"]
        if item != self._item:
            self._item, self._until = item, time.perf_counter()
        self._until += sum(float(row["text"].partition(" ")[0]) for row in batch)
        sleep_until(self._until)
        return [row["text"].rpartition(" ")[2] for row in batch]


def sleep_until(until: float) -> None:
    """Sleep to a reading of `time.perf_counter`."""
    while (left := until - time.perf_counter()) > 0:
        time.sleep(left)
