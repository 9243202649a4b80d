"""The report of a sweep: rows of training runs that differ in their parameters. Pure: rows in, text out."""

from .explain import Importance, importance
from .page import html, section
from .records import Sweep, SweepRow
from .tables import Group, Groups, Table, export, groups, ranking
from .text import markdown

__all__ = ["Group", "Groups", "Importance", "Sweep", "SweepRow", "Table", "export", "groups", "html", "importance", "markdown", "ranking", "section"]
