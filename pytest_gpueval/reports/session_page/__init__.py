"""report.html: a session as one file, which opens anywhere, works without a network, and lets one look at every sample."""

from .page import page
from .records import Bin, CasePage, Change, Comparison, Curve, Gate, Samples
from .samples import Budget, Collector, Given, Texts

__all__ = ["Bin", "Budget", "CasePage", "Change", "Collector", "Comparison", "Curve", "Gate", "Given", "Samples", "Texts", "page"]
