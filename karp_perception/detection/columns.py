"""Points above the ground as the sensor sees them from above: by direction of view and range, upright ones in one.

A wall returns the light of dozens of beams from places that are one above the other. For boxes on the ground these are
one thing, a column, with a number of points and a top. There are several times fewer of them than points, and in each
direction they are in the order in which light meets them: the first ones bound free space and make outlines.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_FIXED_POINT = 4096.0  # steps a metre; sums of whole numbers do not depend on the order of the points
_POINT_BITS, _DEPTH_BITS = 24, 16  # parts of the sorted keys


@dataclass(frozen=True)
class Columns:
    """K columns by direction and, in each direction, by range.

    Attributes:
        direction: (K,) index of the direction of view, ascending.
        distance: (K,) m from `base_link`.
        xy: (K, 2) mean of the points, m.
        top: (K,) height of the highest point above ground, m.
        count: (K,) points.
    """

    direction: np.ndarray
    distance: np.ndarray
    xy: np.ndarray
    top: np.ndarray
    count: np.ndarray

    @classmethod
    def of(cls, x: np.ndarray, y: np.ndarray, above: np.ndarray, directions: int, depth: float) -> Columns:
        """Columns of points at (N,) x, y, `above` m over the ground; `depth`: extent of one along its direction, m."""
        steps = np.minimum(np.hypot(x, y) * x.dtype.type(1 / depth), (1 << _DEPTH_BITS) - 1).astype(np.int64)
        key = (_direction_of(x, y, directions) << _DEPTH_BITS) | steps
        key <<= _POINT_BITS
        key |= np.arange(len(x))
        key.sort()
        point = key & ((1 << _POINT_BITS) - 1)
        key >>= _POINT_BITS
        start = run_starts(key)
        count = np.diff(start, append=len(key))
        xy = np.empty((len(start), 2))
        for i, column in enumerate((x, y)):
            whole = np.rint(column * column.dtype.type(_FIXED_POINT)).astype(np.int64)
            xy[:, i] = np.add.reduceat(whole[point], start) / (count * _FIXED_POINT)
        top = np.maximum.reduceat(above[point], start)
        first = key[start]
        distance = ((first & ((1 << _DEPTH_BITS) - 1)) + 0.5) * depth
        return cls(first >> _DEPTH_BITS, distance, xy, top, count)


def run_starts(keys: np.ndarray) -> np.ndarray:
    """First index of every run of equal keys."""
    return np.flatnonzero(np.diff(keys, prepend=keys[:1] - 1))


def direction_of(xy: np.ndarray, directions: int) -> np.ndarray:
    """(...) which of so many equal directions of view around `base_link` the places (..., 2) lie in."""
    return _direction_of(xy[..., 0], xy[..., 1], directions)


def _direction_of(x: np.ndarray, y: np.ndarray, directions: int) -> np.ndarray:
    turn = np.arctan2(y, x) * x.dtype.type(directions / (2 * np.pi))
    return np.floor(turn).astype(np.int64) % directions
