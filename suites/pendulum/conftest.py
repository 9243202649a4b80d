"""One row is hopeless on purpose: it shows what a diverged run looks like. The session fails if it ever does not diverge."""

from __future__ import annotations

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks the one row."""
    for item in items:
        if item.path.parent.name == "pendulum" and item.name.endswith("[hopeless-lr1e6]"):
            item.add_marker(pytest.mark.xfail(strict=True, reason="a learning rate of a million: diverges"))
