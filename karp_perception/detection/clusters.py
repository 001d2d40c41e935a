"""Groups of neighbouring columns: connected cells of a grid.

Two things hold one object together although a sensor's beams leave gaps in it. Touching cells are linked, over gaps
that grow with range as the distance between beams does. And along each direction of view, returns that follow one
another closely belong together: on a bonnet, a boot lid or a windscreen, seen at a flat angle, neighbouring beams land
far more apart in depth than on upright faces.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from karp_perception.core.settings import Settings, setting
from karp_perception.detection.columns import Columns, run_lengths, run_starts, stable_order

# Of the returns of a group in one direction, up to 2 and at most a third are passed over for the outline.
_OUTLINE_SKIPS, _OUTLINE_SHARE = 2, 3


@dataclass(frozen=True)
class ClusterSettings(Settings):
    """How far points are linked."""

    directions: int = setting(1080, "directions of view around the vehicle", low=90, high=4000)
    column_depth: float = setting(
        0.04, "extent of a column of points along its direction", unit="m", low=0.01, high=0.5
    )
    cell: float = setting(0.25, "cell of the grid", unit="m", low=0.05, high=1.0)
    near: float = setting(15.0, "up to here only touching cells are linked", unit="m", low=1.0, high=100.0)
    link_angle: float = setting(
        0.9, "farther away, gap that is linked, as an angle of view", unit="deg", low=0.1, high=5.0
    )
    max_link: float = setting(1.0, "widest gap that is linked", unit="m", low=0.1, high=3.0)
    depth_link: float = setting(0.6, "gap that is linked along a direction of view", unit="m", low=0.0, high=3.0)
    over_link: float = setting(1.4, "the same, to what is seen over the nearer one's top", unit="m", low=0.0, high=3.0)


@dataclass(frozen=True)
class Contents:
    """What lies in each of C cells: lists of indices, all of them in one array.

    Attributes:
        indices: (K,) those of one cell together.
        start: (C,) where in `indices` the cell's begin.
        count: (C,) how many they are.
    """

    indices: np.ndarray
    start: np.ndarray
    count: np.ndarray

    def of_cells(self, cells: np.ndarray) -> Contents:
        """The contents of some of the cells, by their numbers."""
        return Contents(self.indices, self.start[cells], self.count[cells])

    def in_order(self) -> np.ndarray:
        """Indices in the order of the cells."""
        shift = self.start - (np.cumsum(self.count) - self.count)
        return self.indices[np.repeat(shift, self.count) + np.arange(self.count.sum())]


@dataclass(frozen=True)
class Cells:
    """Occupied cells, those of one group together.

    Attributes:
        xy: (C, 2) mean of the columns of each cell, m.
        top: (C,) height of the highest point above ground, m.
        count: (C,) points in the cell.
        group: (C,) index of the group, ascending from 0 without gaps.
        columns: the columns in each cell.
        outline: those of them in which a group is seen first from some direction.
    """

    xy: np.ndarray
    top: np.ndarray
    count: np.ndarray
    group: np.ndarray
    columns: Contents
    outline: Contents

    @property
    def group_starts(self) -> np.ndarray:
        """(M,) first cell of each group."""
        return run_starts(self.group)

    def regrouped(self, group: np.ndarray) -> Cells:
        """The same cells in other groups (C,); those with a negative index are left out."""
        order = stable_order(group)
        ordered = group[order]
        order, ordered = order[ordered >= 0], ordered[ordered >= 0]
        names = np.zeros(len(order), np.int64)
        np.cumsum(ordered[1:] != ordered[:-1], out=names[1:])
        return Cells(
            self.xy[order],
            self.top[order],
            self.count[order],
            names,
            self.columns.of_cells(order),
            self.outline.of_cells(order),
        )


class CellGrid:
    """The grid in which columns are linked; its images are made once."""

    def __init__(self, settings: ClusterSettings, max_range: float) -> None:
        self.settings = settings
        self.side = 2 * int(np.ceil(max_range / settings.cell)) + 8
        self._bands = self._link_bands()
        self._occupied = np.zeros((self.side, self.side), np.uint8)

    def _link_bands(self) -> list[np.ndarray]:
        """Masks of where gaps of 1, 2, 3... cells are closed."""
        s = self.settings
        axis = (np.arange(self.side, dtype=np.float32) + 0.5 - self.side / 2) * s.cell
        distance = np.hypot(axis[:, None], axis[None, :])
        gap = np.minimum(np.radians(s.link_angle) * distance, s.max_link)
        cells = np.where(distance < s.near, 0, np.ceil(gap / s.cell)).astype(np.int32)
        return [(cells == n).astype(np.uint8) for n in range(1, int(cells.max()) + 1)]

    def link(self, columns: Columns) -> Cells:
        """Groups of columns, all within the reach of the grid. There must be at least one."""
        place = (columns.xy * (1 / self.settings.cell) + self.side / 2).astype(np.int64)
        index = place[:, 1] * self.side + place[:, 0]
        order = stable_order(index)
        start = run_starts(index[order])
        column_count = run_lengths(start, len(order))
        cell = np.empty(len(order), np.int64)
        cell[order] = np.repeat(np.arange(len(start)), column_count)
        xy = np.stack([np.bincount(cell, column) for column in columns.xy.T], axis=1) / column_count[:, None]
        top = np.maximum.reduceat(columns.top[order], start)
        count = np.add.reduceat(columns.count[order], start)
        label = self._linked_in_depth(self._labels(index[order[start]]), cell, columns)
        seen_first = _outline(label[cell], columns)
        outline = seen_first[stable_order(cell[seen_first])]
        outline_count = np.bincount(cell[outline], minlength=len(start))
        outline_start = np.cumsum(outline_count) - outline_count
        contents = Contents(order, start, column_count), Contents(outline, outline_start, outline_count)
        return Cells(xy, top, count, label, *contents).regrouped(label)

    def _labels(self, index: np.ndarray) -> np.ndarray:
        """(C,) label of the connected region that each occupied cell lies in; linked over gaps by range."""
        grown = self._occupied
        grown.fill(0)
        grown.reshape(-1)[index] = 1
        linked = grown.copy()
        # Cells grown by a gap towards one side touch when they were so many empty cells apart.
        for mask in self._bands:
            grown[1:] |= grown[:-1]
            grown[:, 1:] |= grown[:, :-1]
            linked |= grown & mask
        _, labels = cv2.connectedComponents(linked, connectivity=8, ltype=cv2.CV_32S)
        return labels.reshape(-1)[index]

    def _linked_in_depth(self, label: np.ndarray, cell: np.ndarray, columns: Columns) -> np.ndarray:
        """(C,) labels joined where one follows the other closely along a direction of view; `cell` (K,) by column."""
        seen = label[cell]
        follows = (columns.direction[1:] == columns.direction[:-1]) & (seen[1:] != seen[:-1])
        gap = columns.distance[1:] - columns.distance[:-1]
        over = columns.top[1:] > columns.top[:-1]
        follows &= gap < np.where(over, self.settings.over_link, self.settings.depth_link)
        pair = np.flatnonzero(follows)
        n = int(label.max()) + 1
        return _joined(*np.divmod(np.unique(seen[pair] * n + seen[pair + 1]), n), n)[label]


def _outline(group: np.ndarray, columns: Columns) -> np.ndarray:
    """(O,) rows of the columns in which groups are seen first, a group and direction each; `group` (K,) by column.

    Where there are more, the very first returns are passed over: they are often a towing hitch, spray, or the glare of
    a lamp on the road, and a single one would turn the box.
    """
    start = run_starts(group, columns.direction)
    until = np.cumsum(columns.count)
    before = until[start] - columns.count[start]
    points = np.diff(before, append=until[-1])
    skipped = np.minimum((points - 1) // _OUTLINE_SHARE, _OUTLINE_SKIPS)
    return np.searchsorted(until, before + skipped, side="right")


def _joined(one: np.ndarray, other: np.ndarray, n: int) -> np.ndarray:
    """(n,) the least of the numbers below n that each is joined to, through any others, by pairs `one`, `other`."""
    least = np.arange(n)
    while True:
        low, high = np.minimum(least[one], least[other]), np.maximum(least[one], least[other])
        if np.array_equal(low, high):
            return least
        np.minimum.at(least, high, low)
        while not np.array_equal(least, least[least]):
            least = least[least]
