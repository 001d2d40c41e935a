"""Overlap of rotated rectangles, N pairs at a time, by clipping one polygon with the other's edges.

Sutherland, Hodgman, "Reentrant polygon clipping", CACM 1974, on arrays: a rectangle clipped by four half-planes has at
most eight corners, so that all pairs fit into one array whose unused places repeat a corner, which adds no area.
"""

from __future__ import annotations

import numpy as np

from karp_perception.evaluation.footprints import rectangles

_MOST_PAIRS = 1 << 16  # at a time, which bounds the memory


def intersection_area(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(N,) m² that rectangles a (N, 5) and b (N, 5) share: x, y, length (along yaw), width, yaw, in m and rad."""
    a, b = np.asarray(a, float).reshape(-1, 5), np.asarray(b, float).reshape(-1, 5)
    area = np.zeros(len(a))
    reach = 0.5 * (np.hypot(a[:, 2], a[:, 3]) + np.hypot(b[:, 2], b[:, 3]))
    close = np.flatnonzero(np.hypot(*(a[:, :2] - b[:, :2]).T) < reach)
    for begin in range(0, len(close), _MOST_PAIRS):
        rows = close[begin : begin + _MOST_PAIRS]
        # Seen from the middle of b, far-away boxes lose no digits.
        here = np.zeros((len(rows), 2))
        clipped = _corners(a[rows], a[rows, :2] - b[rows, :2])
        clip = _corners(b[rows], here)
        for k in range(4):
            clipped = _clip(clipped, clip[:, k], clip[:, (k + 1) % 4])
        area[rows] = _area(clipped)
    return area


def _corners(boxes: np.ndarray, center: np.ndarray) -> np.ndarray:
    """(N, 4, 2) corners, counter-clockwise, of boxes (N, 5) put at `center` (N, 2)."""
    return rectangles(center, boxes[:, 4], np.abs(boxes[:, 2]), np.abs(boxes[:, 3]))


def _clip(polygon: np.ndarray, begin: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Convex polygons (N, K, 2), cut off right of the lines from `begin` to `end` (N, 2): (N, K + 1, 2).

    Corners keep their order; unused places repeat one. What is cut off altogether is one point throughout.
    """
    n, corners, _ = polygon.shape
    along = (end - begin)[:, None]
    offset = polygon - begin[:, None]
    side = along[..., 0] * offset[..., 1] - along[..., 1] * offset[..., 0]  # positive to the left
    inside = side >= 0
    following, side_next, inside_next = (np.roll(values, -1, axis=1) for values in (polygon, side, inside))
    crossing = inside != inside_next
    part = np.divide(side, side - side_next, out=np.zeros_like(side), where=crossing)
    cut = polygon + part[..., None] * (following - polygon)
    # For each corner: itself where it is inside, then where the edge to the next one crosses the line.
    points = np.stack([polygon, cut], axis=2).reshape(n, 2 * corners, 2)
    kept = np.stack([inside, crossing], axis=2).reshape(n, 2 * corners)
    order = np.argsort(~kept, axis=1, kind="stable")[:, : corners + 1]
    places = np.arange(corners + 1)
    order = np.where(places < kept.sum(axis=1)[:, None], order, order[:, :1])
    return np.take_along_axis(points, order[..., None], axis=1)


def _area(polygon: np.ndarray) -> np.ndarray:
    """(N,) area of counter-clockwise polygons (N, K, 2), by the shoelace formula."""
    x, y = polygon[..., 0], polygon[..., 1]
    twice = (x * np.roll(y, -1, axis=1) - np.roll(x, -1, axis=1) * y).sum(axis=1)
    return np.maximum(0.5 * twice, 0.0)
