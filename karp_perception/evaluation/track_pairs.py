"""Truth and results of tracking as tables over all frames, and how well each pair of one frame agrees."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from karp_perception.evaluation.rotated_iou import intersection_area


@dataclass(frozen=True)
class Pairs:
    """P pairs of a truth and a result of one frame, by rows of their tables.

    Attributes:
        truth, found: (P,) int.
        similarity: (P,) larger is better.
    """

    truth: np.ndarray
    found: np.ndarray
    similarity: np.ndarray

    def take(self, rows: np.ndarray) -> Pairs:
        """Those pairs alone (mask or index)."""
        return Pairs(self.truth[rows], self.found[rows], self.similarity[rows])


def same_moment(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows (P,) of a and (P,) of b of all pairs with equal numbers, for a (N,) and b (M,) int."""
    order = np.argsort(b, kind="stable")
    first = np.searchsorted(b[order], a, side="left")
    count = np.searchsorted(b[order], a, side="right") - first
    row = np.repeat(np.arange(len(a)), count)
    place = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
    return row, order[np.repeat(first, count) + place]


def iou_3d_pairs(
    moment: np.ndarray,
    boxes: tuple[np.ndarray, np.ndarray],
    found: np.ndarray,
    found_boxes: tuple[np.ndarray, np.ndarray],
) -> Pairs:
    """Pairs of one moment that touch, with the common volume as part of the joint one.

    Args:
        moment, found: (N,) and (M,) int, the frame of each truth and each result.
        boxes, found_boxes: footprints (N, 5) x, y, length, width, yaw and heights (N, 2) bottom, top; (M, ...) alike.
    """
    i, j = same_moment(moment, found)
    (ground, heights), (found_ground, found_heights) = boxes, found_boxes
    reach = 0.5 * (np.hypot(*ground[:, 2:4].T)[i] + np.hypot(*found_ground[:, 2:4].T)[j])
    near = np.hypot(*(ground[i, :2] - found_ground[j, :2]).T) < reach
    i, j = i[near], j[near]
    top = np.minimum(heights[i, 1], found_heights[j, 1])
    bottom = np.maximum(heights[i, 0], found_heights[j, 0])
    common = intersection_area(ground[i], found_ground[j]) * np.maximum(top - bottom, 0.0)
    volume = _volume(ground, heights)[i] + _volume(found_ground, found_heights)[j]
    iou = common / np.maximum(volume - common, 1e-12)
    return Pairs(i, j, iou).take(iou > 0)


def numbered(*columns: np.ndarray) -> np.ndarray:
    """(N,) int from 0, equal where all columns (N,) are equal."""
    if len(columns[0]) == 0:
        return np.zeros(0, int)
    return np.unique(np.column_stack(columns), axis=0, return_inverse=True)[1].reshape(-1)


def _volume(ground: np.ndarray, heights: np.ndarray) -> np.ndarray:
    return ground[:, 2] * ground[:, 3] * (heights[:, 1] - heights[:, 0])
