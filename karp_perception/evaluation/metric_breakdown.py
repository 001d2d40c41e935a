"""Average precision by distance and by the number of points: nuScenes' measure, in parts.

How false alarms are charged to a part decides what its AP means; each function says how it does it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from karp_perception.core import CLASS_NAMES, InvalidInput
from karp_perception.evaluation.matching import NO_MATCH, match_by_distance, score_order
from karp_perception.evaluation.nuscenes_config import CVPR_2019, NuscenesConfig, counted_tables
from karp_perception.evaluation.recall_curve import recall_curve
from karp_perception.evaluation.scored_frames import ScoredFrame, Table, mean_known, plain

DISTANCES_M = (0.0, 10.0, 20.0, 30.0, 40.0, 50.0)
"""Edges of the bins by distance, m from `base_link` along the ground."""

POINTS = (1, 5, 10, 20, 50, 200, np.inf)
"""Edges of the bins by lidar points in a truth."""


@dataclass(frozen=True)
class Breakdown:
    """Scores of B bins.

    Attributes:
        edges: (B + 1,); a bin reaches from its lower edge to just below the upper one.
        ap: by class: (B,) AP, mean over the distance thresholds; NaN where a bin has no truth.
        mean_ap: (B,) mean over the classes that have truth in the bin, NaN where none has.
        truths: by class: (B,) int.
    """

    edges: np.ndarray
    ap: dict[str, np.ndarray]
    mean_ap: np.ndarray
    truths: dict[str, np.ndarray]

    def to_json(self) -> dict[str, Any]:
        """The same in lists and plain numbers, None for NaN and for an edge that is infinite."""
        return plain({"edges": self.edges, "mean_ap": self.mean_ap, "ap": self.ap, "truths": self.truths})


def by_distance(
    frames: Sequence[ScoredFrame], edges: Sequence[float] = DISTANCES_M, config: NuscenesConfig = CVPR_2019
) -> Breakdown:
    """AP by distance from `base_link`, m.

    Detections are matched once, over all distances, as for the whole score. A true positive belongs to the bin of the
    truth that it took, so that none is lost at an edge; a false positive to the bin that it lies in.
    """
    return _broken_down(frames, edges, config, lambda truth, points: truth.distance, charge_where_it_lies=True)


def by_points(
    frames: Sequence[ScoredFrame], edges: Sequence[float] = POINTS, config: NuscenesConfig = CVPR_2019
) -> Breakdown:
    """AP by the number of points in a truth.

    Detections are matched once, over all truths; a true positive belongs to the bin of the truth that it took. False
    positives have no truth whose points could be counted: each is shared out among the bins in proportion to the
    truths of its class there. So bins of equal recall have equal precision, whatever their size: the normalised
    precision of Hoiem, Chodpathumwan, Dai, "Diagnosing error in object detectors", ECCV 2012.
    """
    return _broken_down(frames, edges, config, lambda truth, points: points.astype(float), charge_where_it_lies=False)


def ranked_average_precision(
    score: np.ndarray,
    hit: np.ndarray,
    positives: int,
    min_recall: float = CVPR_2019.min_recall,
    min_precision: float = CVPR_2019.min_precision,
) -> float:
    """AP of detections that are matched already: scores (D,), (D,) whether each is right, and how many could be found.

    NaN without any truth.
    """
    if positives == 0:
        return np.nan
    order = score_order(score)
    return recall_curve(score[order], hit[order], positives).average_precision(min_recall, min_precision)


def _broken_down(
    frames: Sequence[ScoredFrame],
    edges: Sequence[float],
    config: NuscenesConfig,
    quantity: Callable[[Table, np.ndarray], np.ndarray],
    charge_where_it_lies: bool,
) -> Breakdown:
    bounds = np.asarray(edges, float)
    if bounds.ndim != 1 or len(bounds) < 2 or not (np.diff(bounds) > 0).all():
        raise InvalidInput("edges of bins", "at least two rising numbers", edges)
    detections, truth, points = counted_tables(frames, config)
    bin_of_truth = _bins(quantity(truth, points), bounds)
    bins = len(bounds) - 1
    ap, truths = {}, {}
    for name in config.class_range:
        label = CLASS_NAMES.index(name)
        of_class = truth.boxes.label == label
        mine, there, bin_there = detections[detections.boxes.label == label], truth[of_class], bin_of_truth[of_class]
        number = np.bincount(bin_there[bin_there >= 0], minlength=bins)
        score, order = mine.boxes.score, score_order(mine.boxes.score)
        matched = match_by_distance(mine.xy, mine.frame, score, there.xy, there.frame, config.distances)[:, order]
        where = _bins(mine.distance, bounds)[order] if charge_where_it_lies else None
        values = np.full((len(config.distances), bins), np.nan)
        for (row, taken), k in product(enumerate(matched), np.flatnonzero(number)):
            hit = np.zeros(len(taken), bool)
            matches = taken != NO_MATCH
            hit[matches] = bin_there[taken[matches]] == k
            charge = (where == k).astype(float) if where is not None else np.full(len(taken), number[k] / len(there))
            false = np.where(matches, 0.0, charge)
            kept = hit | (false > 0)
            curve = recall_curve(score[order][kept], hit[kept], number[k], false_alarm=false[kept])
            values[row, k] = curve.average_precision(config.min_recall, config.min_precision)
        ap[name], truths[name] = values.mean(axis=0), number
    mean = np.array([mean_known([ap[name][k] for name in ap]) for k in range(bins)])
    return Breakdown(bounds, ap, mean, truths)


def _bins(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """(N,) index of the bin of (N,) values, -1 outside."""
    k = np.searchsorted(edges, values, side="right") - 1
    return np.where(k < len(edges) - 1, k, -1)
