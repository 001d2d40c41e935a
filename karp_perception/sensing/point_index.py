"""Points sorted into squares of ground, so that finding those in boxes costs what is near the boxes and no more."""

from __future__ import annotations

import numpy as np

from karp_perception.core import Boxes

_CELL_M = 2.0  # about a car's width: its box touches few squares, and they hold little else
_CELLS = 128  # along a side; what lies beyond belongs to the outermost squares


class PointIndex:
    """Points of a sweep, found by place.

    Args:
        points: (N, 3 or more) x, y, z in m.

    Attributes:
        points: the same array.
    """

    def __init__(self, points: np.ndarray) -> None:
        self.points = points
        cell = _cell(points[:, 0])
        cell *= _CELLS
        cell += _cell(points[:, 1])
        # Numpy sorts 16-bit integers by their digits: in linear time.
        self._order = np.argsort(cell, kind="stable")
        self._start = np.concatenate([[0], np.cumsum(np.bincount(cell, minlength=_CELLS * _CELLS))])

    def near(self, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Points in the squares that rectangles touch.

        Args:
            low, high: (M, 2) x, y of the rectangles' corners, m.

        Returns:
            numbers of rectangles and of points, (K,) each, one pair for each point in the squares of a rectangle.
        """
        first, last = (_cell(edge.astype(np.float32)).astype(np.int64) for edge in (low, high))
        rows = last[:, 0] - first[:, 0] + 1
        owner = np.repeat(np.arange(len(low)), rows)
        row = _ramps(rows) + first[owner, 0]
        begin = self._start[row * _CELLS + first[owner, 1]]
        count = self._start[row * _CELLS + last[owner, 1] + 1] - begin
        place = _ramps(count) + np.repeat(begin, count)
        return np.repeat(owner, count), self._order[place]

    def inside(self, boxes: Boxes, margin: float = 0.0, most: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Numbers of boxes and of points, (K,) each: one pair for each point in a box grown by `margin` m.

        The same pairs as `Boxes.contains` has ones, those of the first box first. Where the squares that a box touches
        hold more than `most` points, only as many of them are looked at, evenly.
        """
        if not len(boxes):
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        half = 0.5 * boxes.size + margin
        c, s = np.cos(boxes.yaw), np.sin(boxes.yaw)
        reach = np.stack([abs(c) * half[:, 0] + abs(s) * half[:, 1], abs(s) * half[:, 0] + abs(c) * half[:, 1]], axis=1)
        # Squares are looked up in float32: a hair more on each side loses no point to rounding.
        reach += 1e-3
        owner, point = self.near(boxes.center[:, :2] - reach, boxes.center[:, :2] + reach)
        if most is not None:
            owner, point = thinned(owner, point, most, len(boxes))
        dx, dy, dz = (self.points[point, k] - boxes.center[owner, k] for k in range(3))
        c, s, half = c[owner], s[owner], half[owner]
        hit = (abs(c * dx + s * dy) <= half[:, 0]) & (abs(-s * dx + c * dy) <= half[:, 1]) & (abs(dz) <= half[:, 2])
        return owner[hit], point[hit]

    def count(self, boxes: Boxes) -> np.ndarray:
        """(N,) points in each box."""
        return np.bincount(self.inside(boxes)[0], minlength=len(boxes))


def thinned(owner: np.ndarray, row: np.ndarray, most: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Of pairs of owner (M,), rising, one of `count`, and row, at most `most` of each owner, evenly."""
    total = np.bincount(owner, minlength=count)
    if total.max(initial=0) <= most:
        return owner, row
    # Place p of n is kept where p * most / n passes a whole number.
    first = np.cumsum(total) - total
    share = np.minimum(most / np.maximum(total, 1), 1.0)
    past = ((np.arange(len(owner)) - first[owner] + 1) * share[owner] + 1e-9).astype(np.int32)
    kept = np.diff(past, prepend=0) != 0
    begins = first[total > 0]
    kept[begins] = past[begins] != 0
    return owner[kept], row[kept]


def _cell(x: np.ndarray) -> np.ndarray:
    """Row or column of the square at x m, as uint16."""
    return (x * np.float32(1 / _CELL_M) + np.float32(_CELLS / 2)).clip(0, _CELLS - 1).astype(np.uint16)


def _ramps(count: np.ndarray) -> np.ndarray:
    """0, 1, ..., count[0] - 1, 0, 1, ..., count[1] - 1, ..."""
    end = np.cumsum(count)
    return np.arange(end[-1] if len(end) else 0) - np.repeat(end - count, count)
