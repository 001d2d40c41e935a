"""Rectangles around groups of points seen from above, by search over their direction.

After Zhang, Xu, Dong, Dolan: "Efficient L-shape fitting for vehicle detection using laser scanners" (IV 2017), with the
closeness criterion: in the right direction the points lie close to two of the rectangle's edges. All groups and all
directions are searched at once, first in coarse steps, then in finer ones around the best.

Groups are given as runs: rows of one group stand together, and `starts` holds the first row of each.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from karp_perception.core.settings import Settings, setting
from karp_perception.detection.columns import run_lengths

# The second search goes half a step of the first to both sides. The best so far comes first, so that it wins a draw.
_FINER = np.array([0, 1, -1, 2, -2, 3, -3, 4, -4]) / 8

_STEPS, _OFFSET = 1000.0, float(1 << 31)  # places are sorted in steps of 1 mm


@dataclass(frozen=True)
class BoxFitSettings(Settings):
    """How directions are searched."""

    directions: int = setting(12, "directions of the first search, over 90 degrees", low=4, high=90)
    closeness: float = setting(0.2, "distance to an edge at which a point counts half", unit="m", low=0.01, high=0.5)


@dataclass(frozen=True)
class Rectangles:
    """M rectangles: center (M, 2) m, size (M, 2) m with length >= width, yaw (M,) rad along the length."""

    center: np.ndarray
    size: np.ndarray
    yaw: np.ndarray

    def __getitem__(self, rows: np.ndarray) -> Rectangles:
        """Some of them, by their numbers."""
        return Rectangles(self.center[rows], self.size[rows], self.yaw[rows])


def group_of_row(starts: np.ndarray, rows: int) -> np.ndarray:
    """(rows,) index of the group that each row belongs to."""
    return np.repeat(np.arange(len(starts)), run_lengths(starts, rows))


def fit_directions(xy: np.ndarray, starts: np.ndarray, settings: BoxFitSettings) -> np.ndarray:
    """(M,) direction of each group's rectangle in rad, in [0, pi/2) give or take half a step; xy is (N, 2), m."""
    if not len(starts):
        return np.zeros(0)
    counts = run_lengths(starts, len(xy))
    # Near the middle of its group: float32 keeps millimetres, and rectangles do not depend on where they stand.
    middle = np.add.reduceat(xy, starts, axis=0) / counts[:, None]
    x, y = np.ascontiguousarray((xy - np.repeat(middle, counts, axis=0)).T, np.float32)
    step = np.pi / 2 / settings.directions
    direction = np.zeros(1)
    for offsets in (np.arange(settings.directions) * step, _FINER * step):
        score = _closeness(x, y, starts, counts, direction + offsets[:, None], settings.closeness)
        direction = direction + offsets[np.argmax(np.ascontiguousarray(score.T), axis=1)]
    return direction


def bounding_rectangles(
    xy: np.ndarray, starts: np.ndarray, direction: np.ndarray, strays: np.ndarray | None = None
) -> Rectangles:
    """The smallest rectangles along `direction` (M,) rad that hold each group's points (N, 2), m.

    `strays`: (M,) how many points of each group may lie outside of each side; none unless given.
    """
    if not len(starts):
        return Rectangles(np.zeros((0, 2)), np.zeros((0, 2)), np.zeros(0))
    counts = run_lengths(starts, len(xy))
    c, s = np.cos(direction), np.sin(direction)
    low, high = np.empty((len(starts), 2)), np.empty((len(starts), 2))
    x, y = np.ascontiguousarray(xy[:, 0]), np.ascontiguousarray(xy[:, 1])
    cosine, sine = np.repeat(c.astype(xy.dtype), counts), np.repeat(s.astype(xy.dtype), counts)
    for i, along in enumerate((x * cosine + y * sine, y * cosine - x * sine)):
        if strays is None:
            low[:, i], high[:, i] = np.minimum.reduceat(along, starts), np.maximum.reduceat(along, starts)
        else:
            # Sorting numbers of group and place is several times as fast as sorting places with their groups.
            key = (np.repeat(np.arange(len(starts)), counts) << 32) | np.rint(
                along * np.float64(_STEPS) + _OFFSET
            ).astype(np.int64)
            key.sort()
            low[:, i] = ((key[starts + strays] & 0xFFFFFFFF) - _OFFSET) / _STEPS
            high[:, i] = ((key[starts + counts - 1 - strays] & 0xFFFFFFFF) - _OFFSET) / _STEPS
    middle, size = 0.5 * (low + high), high - low
    center = np.stack([c * middle[:, 0] - s * middle[:, 1], s * middle[:, 0] + c * middle[:, 1]], axis=1)
    turned = size[:, 1] > size[:, 0]
    return Rectangles(center, np.where(turned[:, None], size[:, ::-1], size), direction + turned * (np.pi / 2))


def _closeness(
    x: np.ndarray, y: np.ndarray, starts: np.ndarray, counts: np.ndarray, directions: np.ndarray, closest: float
) -> np.ndarray:
    """(A, M) sum over each group's points of 1 / distance to the nearest edge; directions (A, M), or (A, 1) for all."""
    cosine, sine = np.cos(directions).astype(np.float32), np.sin(directions).astype(np.float32)
    if directions.shape[1] > 1:
        cosine, sine = np.repeat(cosine, counts, axis=1), np.repeat(sine, counts, axis=1)
    # Places along the sides of all rectangles, then across.
    place = np.concatenate([x * cosine + y * sine, y * cosine - x * sine])
    to_low = place - np.repeat(np.minimum.reduceat(place, starts, axis=1), counts, axis=1)
    to_high = np.repeat(np.maximum.reduceat(place, starts, axis=1), counts, axis=1) - place
    nearest = np.minimum(to_low, to_high, out=to_low)
    nearest = np.minimum(*np.split(nearest, 2))
    # The paper cuts distances off at `closest`, which leaves many directions equally good; added, none are.
    nearest += np.float32(closest)
    return np.add.reduceat(np.reciprocal(nearest, out=nearest), starts, axis=1)
