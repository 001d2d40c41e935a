"""Which of the points in a rectangle's frustum are the object's own.

Through a rectangle a lidar sees the object, what stands behind it and, at its edges, what stands before it. Points are
grouped by gaps seen from above; the object's group is the one that covers most of the rectangle, seen from the sensor
and counted more in its middle, at a distance that goes with the height of the rectangle.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from karp_perception.core.settings import Settings, setting
from karp_perception.detection.lifting.size_priors import SizePrior

_BINS = (14, 10)  # across and down the rectangle
_MAX_CELLS = 1 << 20
_IMPOSSIBLE = np.exp(-0.5 * 2.5**2)
_BORDER_LINK = 0.5  # of the usual gap: beyond the border nothing else holds an object apart from the next one


@dataclass(frozen=True)
class OwnPointSettings(Settings):
    """How an object's points are told from others."""

    min_points: int = setting(3, "points that place an object", low=1, high=100)
    margin: float = setting(0.02, "of a rectangle's sides, added all around", low=0.0, high=0.2)
    link_growth: float = setting(0.006, "gap that is linked, added for each metre of distance", low=0.0, high=0.05)
    middle: float = setting(
        0.6, "half sides from the middle at which a part of a rectangle counts 60 %", low=0.1, high=5.0
    )
    least: float = setting(0.08, "weight of a group so near that the object must be partly hidden", low=0.0, high=1.0)
    hidden: float = setting(0.45, "least share of an object's height that a rectangle shows", low=0.1, high=1.0)
    reach: float = setting(1.3, "usual lengths that an object's points may extend", low=1.0, high=3.0)


def own_points(
    xyz: np.ndarray,
    pixels: np.ndarray,
    depth: np.ndarray,
    corners: np.ndarray,
    prior: SizePrior,
    usual_depth: tuple[float, float] | None,
    settings: OwnPointSettings,
) -> np.ndarray:
    """Indices of the object's points, none where there are too few.

    Args:
        xyz: (N, 3) m, points above the ground within the rectangle.
        pixels: (N, 2) where they appear. depth: (N,) m along the optical axis.
        corners: (4,) of the rectangle, px.
        prior: of the object's class.
        usual_depth: depth that goes with the rectangle's height, m, and the standard deviation of its logarithm; None
            where the height is not known.
        settings: see OwnPointSettings.
    """
    if len(xyz) < settings.min_points:
        return np.zeros(0, np.int64)
    gap = prior.link + settings.link_growth * float(np.median(depth))
    group, count = _groups(xyz, gap)
    share = _covered(group, count, pixels, depth, corners, settings)
    enough = np.bincount(group, minlength=count) >= settings.min_points
    share = share * enough
    middle_depth = np.array([np.median(depth[group == k]) for k in range(count)])
    if usual_depth is not None:
        off = np.log(np.maximum(middle_depth, 0.1) / usual_depth[0]) / usual_depth[1]
        likely = np.exp(-0.5 * off**2) + settings.least * (middle_depth > settings.hidden * usual_depth[0]) * (off < 0)
        # Nearer than its height says is what is partly hidden; what is farther would be a giant.
        share = np.where(likely > _IMPOSSIBLE, share * likely, 0.0)
    if not share.any():
        return np.zeros(0, np.int64)
    rows = np.flatnonzero(group == int(np.argmax(share)))
    return rows[_within_reach(xyz[rows], depth[rows], settings.reach * prior.size[0])]


def beyond_the_border(xyz: np.ndarray, outside: np.ndarray, prior: SizePrior, settings: OwnPointSettings) -> np.ndarray:
    """(M, 3) an object's points xyz (N, 3), and those of others (K, 3), outside of the image, that go on with them."""
    middle = np.median(xyz[:, :2], axis=0)
    gap = 2 * settings.link_growth * float(np.linalg.norm(middle))
    near = outside[np.linalg.norm(outside[:, :2] - middle, axis=1) <= settings.reach * prior.size[0]]
    if not len(near):
        return xyz
    group, count = _groups(np.concatenate([xyz, near]), _BORDER_LINK * prior.link + gap)
    own = np.bincount(group[: len(xyz)], minlength=count).argmax()
    return np.concatenate([xyz, near[group[len(xyz) :] == own]])


def _groups(xyz: np.ndarray, gap: float) -> tuple[np.ndarray, int]:
    """(N,) group of each point, and how many there are: cells of a grid that touch, seen from above."""
    cell = gap / 1.5
    low = xyz[:, :2].min(axis=0)
    span = xyz[:, :2].max(axis=0) - low
    cell = max(cell, float(np.sqrt(np.prod(span + cell) / _MAX_CELLS)))
    place = ((xyz[:, :2] - low) / cell).astype(np.int64)
    columns, rows = place.max(axis=0) + 1
    occupied = np.zeros((rows, columns), np.uint8)
    occupied[place[:, 1], place[:, 0]] = 1
    _, labels = cv2.connectedComponents(occupied, connectivity=8, ltype=cv2.CV_32S)
    found = labels[place[:, 1], place[:, 0]]
    _, group = np.unique(found, return_inverse=True)
    return group, int(group.max()) + 1


def _covered(
    group: np.ndarray, count: int, pixels: np.ndarray, depth: np.ndarray, corners: np.ndarray, s: OwnPointSettings
) -> np.ndarray:
    """(count,) weighted share of the rectangle's parts in which each group is seen first."""
    size = np.maximum(corners[2:] - corners[:2], 1.0)
    where = np.clip((pixels - corners[:2]) / size, 0.0, 1.0 - 1e-6)
    bins = (where * _BINS).astype(np.int64)
    part = bins[:, 1] * _BINS[0] + bins[:, 0]
    order = np.lexsort((depth, part))
    first = order[np.flatnonzero(np.diff(part[order], prepend=-1))]
    middles = (bins[first] + 0.5) / _BINS * 2 - 1
    weight = np.exp(-0.5 * np.square(middles / s.middle).sum(axis=1))
    return np.bincount(group[first], weight, count) / weight.sum()


def _within_reach(xyz: np.ndarray, depth: np.ndarray, reach: float) -> np.ndarray:
    """(N,) points no farther behind the nearest ones than an object is long: a wall may be joined to it."""
    near = np.partition(depth, min(len(depth) - 1, len(depth) // 20))[min(len(depth) - 1, len(depth) // 20)]
    within = (depth >= near - 0.5) & (depth <= near + reach)
    middle = np.median(xyz[within, :2], axis=0) if within.any() else np.median(xyz[:, :2], axis=0)
    return within & (np.linalg.norm(xyz[:, :2] - middle, axis=1) <= reach)
