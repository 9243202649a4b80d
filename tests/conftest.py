"""What all tests share."""

from __future__ import annotations

from contextlib import suppress

import pytest

# pytest loads this file for evaluations in this repository, too, before anything that tests need is installed.
with suppress(ModuleNotFoundError):
    from hypothesis import HealthCheck, settings

    # How long an example takes says how busy the machine is; and a run decides on a change, not on luck: `pytest --hypothesis-profile default` looks further.
    settings.register_profile("steady", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("steady")

# Plugins of the tests' own environment, which no session that a test starts makes use of. Hypothesis alone takes longer to import, at the end of
# every session, than many a session takes.
UNUSED = "-p no:anyio -p no:cov -p no:hypothesispytest"


@pytest.fixture
def pytester(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """pytest's own; its sessions do without plugins that they do not need."""
    monkeypatch.setenv("PYTEST_ADDOPTS", UNUSED)
    return pytester
