"""Are probabilities what they say: expected calibration error, log loss, Brier score."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping

from .estimates import UNSCORED, Estimate, MeanMoments

BINS = 15
_EPS = sys.float_info.epsilon


def log_loss(gold: str, probabilities: Mapping[str, float]) -> float:
    """What one sample adds to the log loss, in nats."""
    return -math.log(max(probabilities.get(gold, 0.0), _EPS))


def brier_score(gold: str, probabilities: Mapping[str, float], labels: int) -> float:
    """What one sample of a task with `labels` labels adds to the Brier score."""
    squares = math.fsum(value * value for value in probabilities.values())
    return (squares - 2 * probabilities.get(gold, 0.0) + 1) / (2 if labels == 2 else 1)


class Calibration:
    """Sums over samples, exact and mergeable.

    The *expected calibration error* groups samples by the probability of the predicted label into 15 bins of equal width, each open below and closed
    above, and is the mean distance between a bin's mean probability and its accuracy, weighted by samples (Naeini, Cooper and Hauskrecht 2015,
    *Obtaining well calibrated probabilities using Bayesian binning*, AAAI; 15 bins as in Guo et al. 2017, *On calibration of modern neural networks*,
    ICML). It has no interval: it is biased upwards in small samples, and no interval for it is generally accepted.

    *Log loss* is the mean of -ln p of the gold label in nats, with p at least 2.2e-16 as in scikit-learn. The *Brier score* (Brier 1950) is the mean
    squared distance of the probabilities to 1 for the gold label and 0 for the others, halved for two labels as in scikit-learn. Both have the normal
    interval of a mean.
    """

    def __init__(self) -> None:
        self._confidences = [MeanMoments() for _ in range(BINS)]
        self._hits = [0] * BINS
        self._log_loss = MeanMoments()
        self._brier = MeanMoments()
        self._improper = False

    def add(self, confidence: float, hit: bool) -> None:  # noqa: FBT001 - right or wrong
        """Add the score that came with a predicted label. One outside [0, 1] is no probability: the calibration error is then unscored."""
        if 0 <= confidence <= 1:
            at = max(0, math.ceil(confidence * BINS) - 1)
            self._confidences[at].add(confidence)
            self._hits[at] += hit
        else:
            self._improper = True

    def add_distribution(self, gold: str, probabilities: Mapping[str, float], labels: int) -> None:
        """Add the probabilities of one sample; of `labels` labels, those that are not named have 0."""
        self._log_loss.add(log_loss(gold, probabilities))
        self._brier.add(brier_score(gold, probabilities, labels))

    def merge(self, other: Calibration) -> None:
        """Add another shard's sums."""
        for at in range(BINS):
            self._confidences[at].merge(other._confidences[at])
            self._hits[at] += other._hits[at]
        self._log_loss.merge(other._log_loss)
        self._brier.merge(other._brier)
        self._improper = self._improper or other._improper

    def error(self) -> Estimate:
        """The expected calibration error, without an interval."""
        n = sum(bin_.n for bin_ in self._confidences)
        if not n or self._improper:
            return UNSCORED
        filled = [(bin_.estimate().value or 0.0, hits, bin_.n) for bin_, hits in zip(self._confidences, self._hits, strict=True) if bin_.n]
        return Estimate(math.fsum(abs(mean * of - hits) for mean, hits, of in filled) / n, None, None, n)

    def log_loss(self) -> Estimate:
        """The mean negative log-likelihood of the gold label, in nats."""
        return self._log_loss.estimate()

    def brier(self) -> Estimate:
        """The mean squared distance to the gold; in [0, 1] for two labels, else in [0, 2]."""
        return self._brier.estimate()
