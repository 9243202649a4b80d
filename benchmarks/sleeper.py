"""A model that takes its time without using the processor."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from typing import Any


class Sleeper:
    """Sleeps as long as its dataset's rate says, and answers with the last word of the text.

    `rates` are samples/s by dataset; a row's id is `dataset:number`. Time counts from the first batch of an item, so that what each sleep is late, and
    what scoring takes, does not add up: at a hundredth of the true time both would weigh a hundred times what they weigh in truth.
    """

    def __init__(self, rates: Mapping[str, float]) -> None:
        self._rates = rates
        self._item = ""
        self._until = 0.0

    def predict(self, batch: Sequence[Mapping[str, Any]]) -> list[str]:
        """One label for each row."""
        item = os.environ["PYTEST_CURRENT_TEST"]
        if item != self._item:
            self._item, self._until = item, time.perf_counter()
        self._until += len(batch) / self._rates[batch[0]["id"].partition(":")[0]]
        sleep_until(self._until)
        return [row["text"].rpartition(" ")[2] for row in batch]


def sleep_until(until: float) -> None:
    """Sleep to a reading of `time.perf_counter`."""
    while (left := until - time.perf_counter()) > 0:
        time.sleep(left)
