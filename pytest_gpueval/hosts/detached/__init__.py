"""Runs that go on when nobody is connected: submitted, looked at, read and stopped through any host's `run`."""

from typing import Final

# Where runs are on a host, where no option says it.
OUTPUTS_VARIABLE: Final = "OPS_REMOTE_OUTPUTS_DIR"
