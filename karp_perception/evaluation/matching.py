"""Greedy matching of detections to truth by the distance of their centres, best score first, each truth taken once.

The rule of the nuScenes detection benchmark (Caesar et al., "nuScenes: a multimodal dataset for autonomous driving",
CVPR 2020, and its devkit): detections of all frames are gone through by falling score; each takes the nearest truth of
its frame that is still free, if that is nearer than a threshold.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.spatial import cKDTree

NO_MATCH = -1


def score_order(score: np.ndarray) -> np.ndarray:
    """(D,) indices by falling score (D,); of equal scores the later goes first, as in the devkit."""
    return np.lexsort((np.arange(len(score)), score))[::-1]


def match_by_distance(
    center: np.ndarray,
    frame: np.ndarray,
    score: np.ndarray,
    truth_center: np.ndarray,
    truth_frame: np.ndarray,
    thresholds: Sequence[float],
) -> np.ndarray:
    """The truth that each detection takes.

    Args:
        center: (D, 2) of the detections of all frames, m.
        frame: (D,) int, the frame of each.
        score: (D,).
        truth_center: (T, 2), m.
        truth_frame: (T,) int.
        thresholds: H distances (m) that a match has to stay below.

    Returns:
        (H, D) int index of a truth for each threshold, NO_MATCH where a detection takes none.
    """
    limits = np.asarray(thresholds, float)
    matched = np.full((len(limits), len(center)), NO_MATCH)
    row, column, distance = pairs_within(center, frame, truth_center, truth_frame, limits.max(initial=0.0))
    if len(row) == 0:
        return matched
    # Detections in the order in which they choose, with their truths from near to far (equally near: the earlier).
    rank = np.empty(len(score), int)
    rank[score_order(score)] = np.arange(len(score))
    by_turn = np.lexsort((column, distance, rank[row], frame[row]))
    row, column, distance = row[by_turn], column[by_turn], distance[by_turn]
    first, candidates, near = ragged_to_padded(row, column, distance, len(truth_center))
    chooser, turn = row[first], turn_in_group(frame[row[first]])
    free = np.ones((len(limits), len(truth_center) + 1), bool)
    free[:, -1] = False  # what the padding points at
    for now in range(turn.max() + 1):
        mine = np.flatnonzero(turn == now)  # at most one detection of each frame: they cannot be in each other's way
        possible = free[:, candidates[mine]] & (near[mine] < limits[:, None, None])
        choice = possible.argmax(axis=2)
        limit, which = np.nonzero(np.take_along_axis(possible, choice[..., None], axis=2)[..., 0])
        truth = candidates[mine[which], choice[limit, which]]
        free[limit, truth] = False
        matched[limit, chooser[mine[which]]] = truth
    return matched


def pairs_within(
    a: np.ndarray, frame_a: np.ndarray, b: np.ndarray, frame_b: np.ndarray, reach: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pairs of centres a (N, 2) and b (M, 2), m, of one frame that are nearer than `reach` m.

    Returns (P,) indices into a, (P,) into b, and (P,) distances, m.
    """
    none = np.zeros(0, int)
    if len(a) == 0 or len(b) == 0 or reach <= 0:
        return none, none, np.zeros(0)
    apart = 4.0 * reach  # along a third axis, so that boxes of other frames are out of reach
    trees = [cKDTree(np.column_stack([xy, apart * f])) for xy, f in ((a, frame_a), (b, frame_b))]
    # A hair wider than asked: the test is made on the distance as computed below.
    found = trees[0].sparse_distance_matrix(trees[1], reach * (1 + 1e-9), output_type="ndarray")
    row, column = found["i"].astype(int), found["j"].astype(int)
    distance = np.sqrt(((a[row] - b[column]) ** 2).sum(axis=1))
    near = distance < reach
    return row[near], column[near], distance[near]


def ragged_to_padded(
    row: np.ndarray, column: np.ndarray, value: np.ndarray, filler: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pairs whose equal rows stand together, as a table.

    Args:
        row: (P,) int; column: (P,) int; value: (P,) float.
        filler: column of the cells that hold no pair; their value is inf.

    Returns:
        (R,) index of the first pair of each row in order of appearance, (R, K) columns and (R, K) values.
    """
    first = np.flatnonzero(np.r_[True, row[1:] != row[:-1]])
    group = np.cumsum(np.r_[False, row[1:] != row[:-1]])
    place = np.arange(len(row)) - first[group]
    columns = np.full((len(first), place.max() + 1), filler)
    values = np.full(columns.shape, np.inf)
    columns[group, place], values[group, place] = column, value
    return first, columns, values


def turn_in_group(group: np.ndarray) -> np.ndarray:
    """(N,) 0, 1, 2, ... within each run of equal numbers of (N,)."""
    starts = np.flatnonzero(np.r_[True, group[1:] != group[:-1]])
    return np.arange(len(group)) - np.repeat(starts, np.diff(np.r_[starts, len(group)]))
