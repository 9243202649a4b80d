"""What changed between two runs of the same samples, and whether it is more than chance: differences with intervals and p values. Pure."""

from .columns import Scores, over_steps, ratios, taken
from .compare import differences
from .independent import beside_runs, independent
from .multiple import holm
from .records import Asked, Difference, Level, Sides

__all__ = ["Asked", "Difference", "Level", "Scores", "Sides", "beside_runs", "differences", "holm", "independent", "over_steps", "ratios", "taken"]
