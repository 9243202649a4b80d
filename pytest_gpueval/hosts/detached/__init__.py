"""Runs that go on when nobody is connected: submitted, looked at, read and stopped through any host's `run`."""
