"""Metrics and bounds in, verdicts out. Pure: the caller decides what a failed verdict does."""

from .bounds import Verdict, failure_message, judge

__all__ = ["Verdict", "failure_message", "judge"]
