"""Errors of ours as pytest's: one message, no traceback."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

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
