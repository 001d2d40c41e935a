"""Which detection each truth takes in KITTI's evaluation, at any number of score thresholds at a time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from karp_perception.evaluation.matching import ragged_to_padded, turn_in_group

_NOBODY = -1


@dataclass(frozen=True)
class Candidates:
    """What may be assigned: P pairs of D detections and T truths that overlap enough.

    Attributes:
        found, truth: (P,) indices. iou: (P,) overlap.
        frame: (T,) int of each truth.
        score: (D,).
        ignored_truth, ignored_found: (T,) and (D,) 0 for what counts, 1 for what is neither hit nor miss.
    """

    found: np.ndarray
    truth: np.ndarray
    iou: np.ndarray
    frame: np.ndarray
    score: np.ndarray
    ignored_truth: np.ndarray
    ignored_found: np.ndarray


@dataclass(frozen=True)
class Assignment:
    """For each of H thresholds and D detections.

    Attributes:
        truth: (H, D) int, the truth that it hits, -1 for none.
        taken: (H, D) bool, whether a truth took it, be it one that counts or not.
    """

    truth: np.ndarray
    taken: np.ndarray


def assign(candidates: Candidates, thresholds: np.ndarray | None) -> Assignment:
    """Go through the truths in their order; each takes one of the detections that are left.

    With `thresholds` (H,): of the detections with at least that score, the one that counts and overlaps most, else the
    first that does not count. Without: of all of them the one with the highest score. Equal ones: the first.
    """
    rows = 1 if thresholds is None else len(thresholds)
    detections = len(candidates.score)
    hit = np.full((rows, detections), _NOBODY)
    taken = np.zeros((rows, detections + 1), bool)
    taken[:, -1] = True  # what the padding points at
    if len(candidates.found) == 0:
        return Assignment(hit, taken[:, :-1])
    order = np.lexsort((candidates.found, candidates.truth))
    pair_truth = candidates.truth[order]
    first, found, iou = ragged_to_padded(pair_truth, candidates.found[order], candidates.iou[order], detections)
    truth = pair_truth[first]
    turn = turn_in_group(candidates.frame[truth])
    score = np.r_[candidates.score, -np.inf]
    counts = np.r_[candidates.ignored_found == 0, False]
    # Overlaps are positive: all that count go before all that do not, the first of which is taken then.
    by_overlap = np.where(counts[found], iou, -1.0)
    value = score[found] if thresholds is None else by_overlap
    for now in range(turn.max() + 1):
        mine = np.flatnonzero(turn == now)  # at most one truth of each frame: they cannot be in each other's way
        free = ~taken[:, found[mine]]
        if thresholds is not None:
            free &= score[found[mine]] >= thresholds[:, None, None]
        choice = np.where(free, value[mine], -np.inf).argmax(axis=2)
        row, which = np.nonzero(np.take_along_axis(free, choice[..., None], axis=2)[..., 0])
        chosen, taker = found[mine[which], choice[row, which]], truth[mine[which]]
        taken[row, chosen] = True
        counted = (candidates.ignored_truth[taker] == 0) & counts[chosen]
        hit[row[counted], chosen[counted]] = taker[counted]
    return Assignment(hit, taken[:, :-1])


def recall_thresholds(scores: np.ndarray, positives: int, points: int) -> np.ndarray:
    """(H,) scores of hits, falling, at which recall comes nearest to the multiples of 1 / (points - 1).

    Args:
        scores: (N,) of the hits.
        positives: how many could be found.
        points: recall points, with 0 and 1.
    """
    thresholds = []
    recall, step = 0.0, 1.0 / (points - 1.0)
    falling = np.sort(scores)[::-1].tolist()
    for i, score in enumerate(falling):
        last = i == len(falling) - 1
        here, further = (i + 1) / positives, (i + 1 if last else i + 2) / positives
        if further - recall < recall - here and not last:
            continue  # the next hit comes nearer
        thresholds.append(score)
        recall += step
    return np.array(thresholds[:points])
