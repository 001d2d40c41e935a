"""What the sensor can see of a scene of boxes: which ends of a box are its own, and what stands in front of what.

A measured obstacle ends where the thing ends, where something nearer hides the rest, or where the clustering happened
to cut. Only the first kind of end says where the thing is, so only those may tell a tracker about motion.
"""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from karp_perception.core import Boxes

FACES = 4
"""Faces of a footprint, counter-clockwise: front, left, rear, right."""

_BINS = 720
_PROBE = 0.4
"""How far beyond a face to look for a neighbour or a shadow, m."""
_TOUCH = 0.3
"""How much a box is grown before it counts as touching the probe, m."""
_SHADOW = 1.0
"""How much nearer an occluder must be than what it hides, m."""
_FEW_PAIRS = 20000
"""Up to here all distances are computed sooner than two trees are built."""


class Skyline:
    """Distance of the nearest box in each of 720 directions around the sensor: a one-row depth image."""

    def __init__(self, boxes: Boxes, sensor: np.ndarray) -> None:
        """Looks at `boxes` from `sensor` (2,), both in one frame."""
        self.sensor = sensor
        self._depth = np.full(_BINS, np.inf)
        if len(boxes) == 0:
            return
        offset = boxes.footprint() - sensor
        to_center = boxes.center[:, :2] - sensor
        middle = np.arctan2(to_center[:, 1], to_center[:, 0])
        around = np.arctan2(offset[..., 1], offset[..., 0]) - middle[:, None]
        around = (around + np.pi) % (2 * np.pi) - np.pi
        near = np.hypot(offset[..., 0], offset[..., 1]).min(axis=1)
        first = np.floor(_BINS * (middle + around.min(axis=1)) / (2 * np.pi)).astype(np.int64)
        last = np.floor(_BINS * (middle + around.max(axis=1)) / (2 * np.pi)).astype(np.int64)
        count = np.minimum(last - first + 1, _BINS)
        box = np.repeat(np.arange(len(boxes)), count)
        step = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
        np.minimum.at(self._depth, (first[box] + step) % _BINS, near[box])

    def hides(self, points: np.ndarray) -> np.ndarray:
        """(N,) mask: is something clearly nearer in the direction of each point (N, 2)."""
        offset = points - self.sensor
        direction = np.arctan2(offset[:, 1], offset[:, 0])
        index = np.floor(_BINS * direction / (2 * np.pi)).astype(np.int64) % _BINS
        return self._depth[index] < np.hypot(offset[:, 0], offset[:, 1]) - _SHADOW


def own_ends(boxes: Boxes, skyline: Skyline) -> np.ndarray:
    """(N, 4) mask, faces as in FACES: does the thing itself end there, as far as can be told?

    False where another box continues just beyond the face, and where what lies beyond it is in a shadow.
    """
    n = len(boxes)
    if n == 0:
        return np.zeros((0, FACES), bool)
    direction = boxes.yaw[:, None] + np.arange(FACES) * (np.pi / 2)
    outward = np.stack([np.cos(direction), np.sin(direction)], axis=-1)
    half = 0.5 * boxes.size[:, [0, 1, 0, 1]]
    probe = boxes.center[:, None, :2] + (half + _PROBE)[..., None] * outward
    own = ~skyline.hides(probe.reshape(-1, 2)).reshape(n, FACES)
    box, other = near_pairs(boxes, boxes, 2 * _PROBE)
    different = box != other
    box, other = box[different], other[different]
    offset = probe[box] - boxes.center[other, None, :2]
    c, s = np.cos(boxes.yaw[other])[:, None], np.sin(boxes.yaw[other])[:, None]
    along, across = c * offset[..., 0] + s * offset[..., 1], -s * offset[..., 0] + c * offset[..., 1]
    reach = 0.5 * boxes.size[other] + _TOUCH
    touching = (np.abs(along) <= reach[:, :1]) & (np.abs(across) <= reach[:, 1:2])
    pair, face = np.nonzero(touching)
    own[box[pair], face] = False
    return own


def near_pairs(a: Boxes, b: Boxes, reach: float | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows (i of a, j of b), sorted, whose footprints' circles come within `reach` m (or (len(a),) m) of each other."""
    none = np.zeros(0, np.int64)
    if len(a) == 0 or len(b) == 0:
        return none, none
    reach = np.broadcast_to(np.asarray(reach, float), (len(a),))
    radius_a = 0.5 * np.hypot(a.size[:, 0], a.size[:, 1]) + reach
    radius_b = 0.5 * np.hypot(b.size[:, 0], b.size[:, 1])
    if len(a) * len(b) <= _FEW_PAIRS:
        x, y = (a.center[:, axis, None] - b.center[None, :, axis] for axis in (0, 1))
        return np.nonzero(x * x + y * y <= np.square(radius_a[:, None] + radius_b))
    farthest = float(radius_a.max() + radius_b.max())
    tree_a, tree_b = cKDTree(a.center[:, :2]), cKDTree(b.center[:, :2])
    found = tree_a.sparse_distance_matrix(tree_b, farthest, output_type="ndarray")
    i, j = found["i"], found["j"]
    keep = found["v"] <= radius_a[i] + radius_b[j]
    i, j = i[keep], j[keep]
    order = np.lexsort((j, i))
    return i[order], j[order]
