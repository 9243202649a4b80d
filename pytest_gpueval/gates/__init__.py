"""Metrics, bounds and differences in, verdicts out. Pure: the caller decides what a failed verdict does."""

from .bounds import Verdict, judge
from .drops import Rules, judge_drops
from .message import failure_message

__all__ = ["Rules", "Verdict", "failure_message", "judge", "judge_drops"]
