"""Precision, score and errors as functions of recall, and what the nuScenes benchmark takes from them.

Definitions: nuScenes detection benchmark (Caesar et al., CVPR 2020) as its devkit computes them, on 101 recall points.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

RECALL = np.linspace(0.0, 1.0, 101)
"""The recall points of a curve."""


@dataclass(frozen=True)
class RecallCurve:
    """What a detector reaches at each point of RECALL.

    Attributes:
        precision: (101,), 0 where the recall is not reached.
        confidence: (101,) score threshold that gives this recall, 0 where it is not reached.
        errors: by name: (101,) mean error of the true positives down to that score; 1 where nothing was matched.
    """

    precision: np.ndarray
    confidence: np.ndarray
    errors: Mapping[str, np.ndarray] = field(default_factory=dict)

    @property
    def last(self) -> int:
        """Index of the highest recall that is reached."""
        reached = np.flatnonzero(self.confidence)
        return int(reached[-1]) if len(reached) else 0

    def average_precision(self, min_recall: float, min_precision: float) -> float:
        """Mean precision above `min_recall`, of which what exceeds `min_precision` counts, normalised to [0, 1]."""
        above = np.maximum(self.precision[_first(min_recall) :] - min_precision, 0.0)
        return float(above.mean() / (1.0 - min_precision))

    def mean_error(self, name: str, min_recall: float) -> float:
        """Mean of an error from `min_recall` to the highest recall reached; 1 where that lies below."""
        first = _first(min_recall)
        if self.last < first:
            return 1.0
        return float(self.errors[name][first : self.last + 1].mean())


def recall_curve(
    score: np.ndarray,
    hit: np.ndarray,
    positives: float,
    errors: Mapping[str, np.ndarray] | None = None,
    false_alarm: np.ndarray | None = None,
) -> RecallCurve:
    """The curve of detections in the order in which they were matched.

    Args:
        score: (D,) falling.
        hit: (D,) bool, true positives.
        positives: how many truths there are to find.
        errors: by name: (D,) error of each hit, NaN where it is not known; the rest is not read.
        false_alarm: (D,) how much each detection counts as a false positive; all that are no hits, once, by default.
    """
    names = list(errors or ())
    if positives == 0 or not hit.any():
        zero = np.zeros(len(RECALL))
        return RecallCurve(zero, zero, {name: np.ones(len(RECALL)) for name in names})
    true, false = np.cumsum(hit, dtype=float), np.cumsum(~hit if false_alarm is None else false_alarm, dtype=float)
    counted = true + false
    precision = np.divide(true, counted, out=np.zeros_like(true), where=counted > 0)
    recall = true / positives
    at_recall = np.interp(RECALL, recall, precision, right=0)
    confidence = np.interp(RECALL, recall, score, right=0)
    means = {}
    for name in names:
        mean = _cumulative_mean(errors[name][hit])  # type: ignore[index]
        # np.interp wants rising abscissae: both scores are turned round, and the result is turned back.
        means[name] = np.interp(confidence[::-1], score[hit][::-1], mean[::-1])[::-1]
    return RecallCurve(at_recall, confidence, means)


def _first(min_recall: float) -> int:
    """Index of the first recall point above `min_recall`."""
    return round(100 * min_recall) + 1


def _cumulative_mean(values: np.ndarray) -> np.ndarray:
    """(N,) mean of (N,) up to each place over what is not NaN; 0 before the first number, 1 where there is none."""
    known = ~np.isnan(values)
    if not known.any():
        return np.ones(len(values))
    count = np.cumsum(known)
    return np.divide(np.nancumsum(values), count, out=np.zeros(len(values)), where=count > 0)
