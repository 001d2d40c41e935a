"""Groups of neighbouring points: connected cells of a grid.

Two things hold the points of one object together although a sensor's beams leave gaps between them. Touching cells are
linked, over gaps that grow with range as the angle between beams does. And along each direction of view, returns that
follow one another closely belong together: on a bonnet, a boot lid or a windscreen, seen at a flat angle, neighbouring
beams land far more apart in depth than on the upright faces.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from karp_perception.core.settings import Settings, setting

_FIXED_POINT = 4096.0  # steps a metre; sums of whole numbers do not depend on the order of the points
_OUTLINE_SKIPS, _OUTLINE_SHARE = 2, 3  # of the returns that follow one another, at most 2 and a third are passed over
_POINT_BITS, _CELL_BITS, _RANGE_BITS = 24, 24, 16  # parts of the sorted keys


@dataclass(frozen=True)
class ClusterSettings(Settings):
    """How far points are linked."""

    cell: float = setting(0.25, "cell of the grid", unit="m", low=0.05, high=1.0)
    near: float = setting(15.0, "up to here only touching cells are linked", unit="m", low=1.0, high=100.0)
    link_angle: float = setting(0.9, "farther away, gap that is linked, as an angle of view", unit="deg", low=0.1, high=5.0)
    max_link: float = setting(1.0, "widest gap that is linked", unit="m", low=0.1, high=3.0)
    depth_link: float = setting(0.8, "gap that is linked along a direction of view", unit="m", low=0.0, high=3.0)
    directions: int = setting(720, "directions of view around the vehicle", low=90, high=4000)


@dataclass(frozen=True)
class Cells:
    """Occupied cells, those of one group together.

    Attributes:
        xy: (C, 2) mean of the points of each cell, m.
        top: (C,) height of the highest point above ground, m.
        count: (C,) points in the cell.
        group: (C,) index of the group, ascending from 0 without gaps.
        points: (N,) indices of points, those of one cell together, in the order of the cells.
        outline: (K,) indices of the points that are the first of their group in a direction of view, those of one cell
            together, in the order of the cells.
        outline_count: (C,) how many of these are in the cell.
    """

    xy: np.ndarray
    top: np.ndarray
    count: np.ndarray
    group: np.ndarray
    points: np.ndarray
    outline: np.ndarray
    outline_count: np.ndarray

    @property
    def group_starts(self) -> np.ndarray:
        """(M,) first cell of each group."""
        return run_starts(self.group)

    def regrouped(self, group: np.ndarray) -> Cells:
        """The same cells in other groups (C,); those with a negative index are left out."""
        order = np.argsort(group, kind="stable")
        order = order[np.searchsorted(group[order], 0) :]
        dense = np.cumsum(np.diff(group[order], prepend=group[order[:1]]) != 0)
        points = self.points[_rows_of_runs(self.count, order)]
        outline = self.outline[_rows_of_runs(self.outline_count, order)]
        top, count, outline_count = self.top[order], self.count[order], self.outline_count[order]
        return Cells(self.xy[order], top, count, dense, points, outline, outline_count)


@dataclass(frozen=True)
class Returns:
    """Points by direction of view and, in each direction, by range.

    Attributes:
        direction: (N,) index of the direction, ascending.
        distance: (N,) m, in steps of 1 cm.
        point: (N,) index of the point.
    """

    direction: np.ndarray
    distance: np.ndarray
    point: np.ndarray


def run_starts(keys: np.ndarray) -> np.ndarray:
    """First index of every run of equal keys."""
    return np.flatnonzero(np.diff(keys, prepend=keys[:1] - 1))


def _rows_of_runs(lengths: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Rows of an array that consists of runs of these lengths, with the runs in another order."""
    length = lengths[order]
    shift = (np.cumsum(lengths) - lengths)[order] - (np.cumsum(length) - length)
    return np.repeat(shift, length) + np.arange(length.sum())


def _outline_rows(group: np.ndarray, returns: Returns) -> np.ndarray:
    """Rows of `returns` that make the outline; `group` (N,) belongs to these rows.

    It is nearly the first return of a group in each direction: where there are more, the very first ones are passed over.
    They are often a towing hitch, spray, or the glare of a lamp on the road, and a single one would turn the box.
    """
    start = np.flatnonzero((np.diff(group, prepend=-1) != 0) | (np.diff(returns.direction, prepend=-1) != 0))
    length = np.diff(start, append=len(group))
    return start + np.minimum((length - 1) // _OUTLINE_SHARE, _OUTLINE_SKIPS)


def direction_of(xy: np.ndarray, directions: int) -> np.ndarray:
    """(...) which of so many equal directions of view around `base_link` the places (..., 2) lie in."""
    turn = np.arctan2(xy[..., 1], xy[..., 0]) * xy.dtype.type(directions / (2 * np.pi))
    return np.floor(turn).astype(np.int64) % directions


def sort_returns(xy: np.ndarray, directions: int) -> Returns:
    """The points (N, 2) of `base_link`, m, in the order in which the beams of each direction meet them."""
    steps = np.minimum(np.hypot(xy[:, 0], xy[:, 1]) * 100, (1 << _RANGE_BITS) - 1).astype(np.int64)
    key = (direction_of(xy, directions) << (_RANGE_BITS + _POINT_BITS)) | (steps << _POINT_BITS) | np.arange(len(xy))
    key.sort()
    distance = ((key >> _POINT_BITS) & ((1 << _RANGE_BITS) - 1)) * 0.01
    return Returns(key >> (_RANGE_BITS + _POINT_BITS), distance, key & ((1 << _POINT_BITS) - 1))


class CellGrid:
    """The grid in which points are linked; its images are made once."""

    def __init__(self, settings: ClusterSettings, max_range: float) -> None:
        self.settings = settings
        self.side = 2 * int(np.ceil(max_range / settings.cell)) + 8
        self._bands = self._link_bands()
        self._occupied = np.zeros((self.side, self.side), np.uint8)

    def _link_bands(self) -> list[tuple[int, np.ndarray]]:
        """(gap in cells, mask of where it holds) for every gap but none."""
        s = self.settings
        axis = (np.arange(self.side, dtype=np.float32) + 0.5 - self.side / 2) * s.cell
        distance = np.hypot(axis[:, None], axis[None, :])
        gap = np.minimum(np.radians(s.link_angle) * distance, s.max_link)
        cells = np.where(distance < s.near, 0, np.ceil(gap / s.cell)).astype(np.int32)
        return [(int(n), (cells == n).astype(np.uint8)) for n in np.unique(cells) if n > 0]

    def link(self, xy: np.ndarray, above: np.ndarray, returns: Returns) -> Cells:
        """Groups of (N, 2) points within reach of the grid, m, that stand `above` (N,) m over the ground."""
        scale, middle = np.float32(1 / self.settings.cell), np.float32(self.side / 2)
        column = (xy * scale + middle).astype(np.int64)
        index = column[:, 1] * self.side + column[:, 0]
        key = (index << _POINT_BITS) | np.arange(len(index))
        key.sort()
        points, index = key & ((1 << _POINT_BITS) - 1), key >> _POINT_BITS
        starts = run_starts(index)
        count = np.diff(starts, append=len(index))
        mean = np.empty((len(starts), 2))
        for i in range(2):
            whole = np.rint(xy[:, i][points] * np.float32(_FIXED_POINT)).astype(np.int64)
            mean[:, i] = np.add.reduceat(whole, starts) / (count * _FIXED_POINT)
        top = np.maximum.reduceat(above[points], starts)
        label = self._labels(index[starts])
        cell_of_point = np.empty(len(points), np.int64)
        cell_of_point[points] = np.repeat(np.arange(len(starts)), count)
        cell = cell_of_point[returns.point]
        label = self._linked_in_depth(label, cell, returns)
        first = _outline_rows(label[cell], returns)
        cell_of_outline = np.sort((cell[first] << _POINT_BITS) | returns.point[first])
        outline_count = np.bincount(cell_of_outline >> _POINT_BITS, minlength=len(starts))
        outline = cell_of_outline & ((1 << _POINT_BITS) - 1)
        return Cells(mean, top, count, label, points, outline, outline_count).regrouped(label)

    def _labels(self, index: np.ndarray) -> np.ndarray:
        """(C,) label of the connected region that each occupied cell lies in; linked over gaps by range."""
        image = self._occupied
        image.fill(0)
        image.reshape(-1)[index] = 1
        linked = image.copy()
        for gap, mask in self._bands:
            # Cells grown by `gap` towards one side touch when they were `gap` empty cells apart.
            grown = cv2.dilate(image, np.ones((gap + 1, gap + 1), np.uint8), anchor=(gap, gap))
            cv2.max(linked, cv2.multiply(grown, mask), dst=linked)
        _, labels = cv2.connectedComponents(linked, connectivity=8, ltype=cv2.CV_32S)
        return labels.reshape(-1)[index]

    def _linked_in_depth(self, label: np.ndarray, cell: np.ndarray, returns: Returns) -> np.ndarray:
        """(C,) labels joined where one follows the other closely along a direction of view; `cell` is that of each return."""
        seen = label[cell]
        follows = (returns.direction[1:] == returns.direction[:-1]) & (seen[1:] != seen[:-1])
        follows &= returns.distance[1:] - returns.distance[:-1] < self.settings.depth_link
        pair = np.flatnonzero(follows)
        n = int(label.max()) + 1
        graph = coo_array((np.ones(len(pair), np.int8), (seen[pair], seen[pair + 1])), shape=(n, n))
        return connected_components(graph, directed=False)[1][label]
