"""report.html: a session as one file, which opens anywhere, works without a network, and lets one look at every sample."""

from .page import page
from .parts import Part
from .records import Bin, CasePage, Change, Comparison, Curve, Gate, Samples
from .samples import CHUNK, MOST_ALIKE, Budget, Collector, Given, Texts

__all__ = ["CHUNK", "MOST_ALIKE", "Bin", "Budget", "CasePage", "Change", "Collector", "Comparison", "Curve", "Gate", "Given", "Part", "Samples", "Texts", "page"]
