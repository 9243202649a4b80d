"""Tests marked `gpu` need an NVIDIA GPU; they are the only ones that may be skipped."""

from __future__ import annotations

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs a GPU where there is none."""
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if marked:
        from pytest_gpueval.gpus import devices  # noqa: PLC0415 - only where a test asks

        if not devices.visible():
            for item in marked:
                item.add_marker(pytest.mark.skip(reason="needs an NVIDIA GPU"))
