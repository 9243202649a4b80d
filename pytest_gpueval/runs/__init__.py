"""The run-artifact contract: write, read, resume, redact, capture, validate."""
