"""Errors of ours as pytest's, one message, no traceback; and those of messages, which nobody else would tell."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest

from pytest_gpueval.errors import GpuevalError


@contextmanager
def user_errors() -> Iterator[None]:
    """Give errors of ours to pytest as usage errors."""
    try:
        yield
    except GpuevalError as error:
        raise pytest.UsageError(str(error)) from None


@contextmanager
def collect_errors() -> Iterator[None]:
    """Show errors of ours in the user's test files as errors of their collection."""
    try:
        yield
    except GpuevalError as error:
        raise pytest.Collector.CollectError(str(error)) from None


def taken_in(hear: Callable[[Mapping[str, Any]], None], failed: Callable[[str], None]) -> Callable[[Mapping[str, Any]], None]:
    """`hear` as a channel's callback; `failed` gets words for what it raises.

    execnet itself would say nothing and close the channel, and the worker would take the session for gone: "keyboard-interrupt".
    """

    def heard(message: Mapping[str, Any]) -> None:
        try:
            hear(message)
        except Exception as error:  # noqa: BLE001 - ours to tell
            what = f"{message.get('worker', 'a worker')}: a message ({message.get('event')}) could not be taken in"
            failed(f"{what}: {type(error).__name__}: {error}")

    return heard
