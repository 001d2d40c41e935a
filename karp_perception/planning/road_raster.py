"""Where one may drive, and in which direction, as a picture of the road from above: questions are looked up in it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise

import cv2
import numpy as np

from karp_perception.core.compiled import njit
from karp_perception.core.errors import InvalidInput
from karp_perception.core.road import Lane

CELL = 0.25
"""m."""

SECTORS = 15
"""Of directions. A cell holds a bit for each sector in which some lane there runs, and one more."""

_SECTOR = 2.0 * math.pi / SECTORS
_PER_M = 1.0 / CELL
_LANES = np.uint16((1 << SECTORS) - 1)
_PAVED = np.uint16(1 << SECTORS)  # closed gaps between lanes: drivable, in no direction
_AGAINST = math.radians(115.0)  # between a direction and a lane's, from which on it goes the other way
_GAP = 0.8  # m between lanes that is closed
_BORDER = 4  # empty cells around
_PIECE = 24  # segments of a lane that are drawn at once: keeps what is touched for a bend small
_MOST_CELLS = 60_000_000
_SHIFT = 4  # bits of fractions of a pixel


class RoadRaster:
    """The lanes of a Road from above, cells of 0.25 m, in their frame. Outside of it nothing is drivable.

    Edges are right to within one and a half cells. Directions are told apart in steps of 24 degrees.

    Args:
        lanes: of a Road.

    Raises InvalidInput for lanes that spread over more than about 2 km by 2 km; see `Road.around`.
    """

    def __init__(self, lanes: Sequence[Lane]) -> None:
        low = np.min([lane.center.min(axis=0) - lane.width for lane in lanes], axis=0) if lanes else np.zeros(2)
        high = np.max([lane.center.max(axis=0) + lane.width for lane in lanes], axis=0) if lanes else np.zeros(2)
        columns, rows = (int(n) + 2 * _BORDER for n in np.ceil((high - low) / CELL))
        if rows * columns > _MOST_CELLS:
            size = " x ".join(f"{d:.0f}" for d in high - low)
            raise InvalidInput("lanes of a RoadRaster", "at most about 4 km²", f"{size} m", "use those of Road.around")
        self.origin = low - _BORDER * CELL
        """(2,) m, the outer corner of the first cell."""
        self.cells = np.zeros((rows, columns), np.uint16)
        """(rows along y, columns along x) bits of each cell."""
        for lane in lanes:
            for sector, quads in _pieces(lane):
                self._fill(quads, np.uint16(1 << sector))
        closed = cv2.morphologyEx(
            (self.cells != 0).astype(np.uint8), cv2.MORPH_CLOSE, np.ones((round(_GAP / CELL) + 1,) * 2, np.uint8)
        )
        self.cells |= _PAVED * closed
        # Of each sector that a direction may lie in: the lanes that run along with it, as bits.
        turn = np.abs((_SECTOR * np.arange(SECTORS) + math.pi) % (2 * math.pi) - math.pi)
        along = turn < _AGAINST
        sectors = np.arange(SECTORS)
        self._along = np.array(
            [np.bitwise_or.reduce(1 << sectors[along[(sectors - own) % SECTORS]]) for own in sectors], np.uint16
        )

    def drivable(self, points: np.ndarray) -> np.ndarray:
        """(...) bool, whether points (..., 2) m lie on a lane, or in a small gap between some."""
        flat = np.ascontiguousarray(points, np.float64).reshape(-1, 2)
        return _drivable(flat, self.cells, *self.origin).reshape(points.shape[:-1])

    def against(self, points: np.ndarray, yaw: np.ndarray) -> np.ndarray:
        """(...) bool, whether who moves along `yaw` (...) rad at points (..., 2) m goes against the traffic.

        That is where there are lanes and every one of them runs the other way, by more than about 115 degrees.
        """
        flat = np.ascontiguousarray(points, np.float64).reshape(-1, 2)
        yaws = np.ascontiguousarray(np.broadcast_to(yaw, points.shape[:-1]), np.float64).ravel()
        return _against(flat, yaws, self.cells, *self.origin, self._along).reshape(points.shape[:-1])

    def _fill(self, quads: np.ndarray, bit: np.uint16) -> None:
        """Set a bit in the cells of a strip: quads (K, 4, 2) m, each beside the next."""
        # Pixels are points at the middle of cells.
        pixels = (quads - self.origin) / CELL - 0.5
        low = np.maximum(np.floor(pixels.min(axis=(0, 1))).astype(int) - 1, 0)
        high = np.ceil(pixels.max(axis=(0, 1))).astype(int) + 2
        view = self.cells[low[1] : high[1], low[0] : high[0]]
        drawn = np.zeros(view.shape, np.uint8)
        corners = np.rint((pixels - low) * (1 << _SHIFT)).astype(np.int32)
        if _is_simple(quads):
            outline = np.concatenate([corners[:, 0], corners[-1:, 3], corners[-1:, 2], corners[::-1, 1]])
            cv2.fillPoly(drawn, [outline], 1, shift=_SHIFT)
        else:
            for quad in corners:
                cv2.fillConvexPoly(drawn, cv2.convexHull(quad), 1, shift=_SHIFT)
        view |= drawn * bit


def _pieces(lane: Lane) -> Iterator[tuple[int, np.ndarray]]:
    """Stretches of a lane that run in one sector of directions: which, and the strip as quads (K, 4, 2) m.

    Corners of a quad: right and left at its beginning, left and right at its end.
    """
    step = np.diff(lane.center, axis=0)
    yaw = np.arctan2(step[:, 1], step[:, 0])
    # Edges run along the mean of the directions before and behind.
    unit = step / np.linalg.norm(step, axis=1)[:, None]
    mean = np.concatenate([unit[:1], unit[:-1] + unit[1:], unit[-1:]])
    length = np.linalg.norm(mean, axis=1)
    mean = np.where(length[:, None] > 1e-6, mean / np.maximum(length, 1e-6)[:, None], np.r_[unit, unit[-1:]])
    # In a kink the edge lies farther out along the bisector; how far is bounded for hairpins.
    ahead = np.r_[unit, unit[-1:]]
    stretch = 1.0 / np.maximum(np.einsum("ni,ni->n", mean, ahead), 0.5)
    # OpenCV fills every cell that an outline touches, up to three quarters of a cell too much.
    half = 0.5 * max(lane.width - 1.5 * CELL, CELL)
    out = half * stretch[:, None] * np.column_stack([-mean[:, 1], mean[:, 0]])
    left, right = lane.center + out, lane.center - out
    quads = np.stack([right[:-1], left[:-1], left[1:], right[1:]], axis=1)
    sector = np.rint(yaw / _SECTOR).astype(int) % SECTORS
    cuts = np.flatnonzero(np.diff(sector)) + 1
    cuts = np.unique(np.r_[0, cuts, np.arange(0, len(step), _PIECE), len(step)])
    for a, b in pairwise(cuts):
        yield int(sector[a]), quads[a:b]


def _is_simple(quads: np.ndarray) -> bool:
    """Whether no edge of a strip runs backwards, as it does inside a bend tighter than half the width."""
    along = quads[:, 2] + quads[:, 3] - quads[:, 0] - quads[:, 1]
    right, left = quads[:, 3] - quads[:, 0], quads[:, 2] - quads[:, 1]
    return bool((np.einsum("ki,ki->k", right, along) > 0).all() and (np.einsum("ki,ki->k", left, along) > 0).all())


@njit(cache=True, nogil=True, error_model="numpy")
def _drivable(points: np.ndarray, cells: np.ndarray, x0: float, y0: float) -> np.ndarray:
    found = np.zeros(len(points), np.bool_)
    for p in range(len(points)):
        column, row = (points[p, 0] - x0) * _PER_M, (points[p, 1] - y0) * _PER_M
        if 0.0 <= column < cells.shape[1] and 0.0 <= row < cells.shape[0]:  # what is not finite is nowhere
            found[p] = cells[int(row), int(column)] != 0
    return found


@njit(cache=True, nogil=True, error_model="numpy")
def _against(
    points: np.ndarray, yaw: np.ndarray, cells: np.ndarray, x0: float, y0: float, along: np.ndarray
) -> np.ndarray:
    found = np.zeros(len(points), np.bool_)
    for p in range(len(points)):
        column, row = (points[p, 0] - x0) * _PER_M, (points[p, 1] - y0) * _PER_M
        if 0.0 <= column < cells.shape[1] and 0.0 <= row < cells.shape[0] and abs(yaw[p]) < 1e6:
            lanes = cells[int(row), int(column)] & _LANES
            sector = int(np.floor(yaw[p] / _SECTOR + 0.5)) % SECTORS
            found[p] = lanes != 0 and lanes & along[sector] == 0
    return found
