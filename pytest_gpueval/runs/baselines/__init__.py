"""Baselines: what a case's results were, kept in the user's repository as `baselines/<suite>/<case>.json` and `.parquet`.

The first is for people and for merges, the second has each sample's score parts. The same results give the same files, and nothing is in them that changes
without the results: no dates, no host.
"""

from .alignment import Alignment, align
from .baseline import Baseline, from_run, from_session
from .files import DIRECTORY, ENDINGS, cases_of, read, remembered, write
from .records import BaselineRecord, DatasetRecord, differences
from .samples import Samples, text_hash, text_hashes
from .scores import Measured, Scores, measured, of_samples, scored

__all__ = [
    "DIRECTORY",
    "ENDINGS",
    "Alignment",
    "Baseline",
    "BaselineRecord",
    "DatasetRecord",
    "Measured",
    "Samples",
    "Scores",
    "align",
    "cases_of",
    "differences",
    "from_run",
    "from_session",
    "measured",
    "of_samples",
    "read",
    "remembered",
    "scored",
    "text_hash",
    "text_hashes",
    "write",
]
