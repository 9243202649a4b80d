"""Figures of the project, each measured side by side with what it is compared with: `python -m benchmarks`."""
