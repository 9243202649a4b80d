"""Metrics, bounds and differences in, verdicts out. Pure: the caller decides what a failed verdict does."""

from .bounds import UNSCORED, Verdict, bounds_of, judge
from .drops import Rules, bound_of, judge_drops
from .message import failure_message
from .speed import exact, of_machine, unjudged

__all__ = ["UNSCORED", "Rules", "Verdict", "bound_of", "bounds_of", "exact", "failure_message", "judge", "judge_drops", "of_machine", "unjudged"]
