"""Terrain: gentle undulation everywhere, cambered roads, and the slopes and crests of a road in the country."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from karp_perception.world.layouts.curves import distances, headings


@dataclass(frozen=True)
class Relief:
    """How the ground of a place goes up and down.

    Attributes:
        swell: m, amplitude of waves of 70 m, which roads share.
        bumps: m, amplitude of waves of 14 m beside roads; roads have `road_share` of them.
        camber: slope across a road, away from its middle.
        bank: slope of the ground beside a road, m per m (a falling one is negative), up to `bank_width` m.
        ditch: m, depth of a ditch that begins `ditch_at` m beside the middle of the road, 2.4 m wide.
    """

    swell: float = 0.35
    bumps: float = 0.10
    road_share: float = 0.12
    camber: float = 0.02
    bank: float = 0.0
    bank_width: float = 12.0
    ditch: float = 0.0
    ditch_at: float = 6.0


def terrain(
    rng: np.random.Generator,
    relief: Relief,
    roads: Sequence[tuple[np.ndarray, float]],
    lower: np.ndarray,
    upper: np.ndarray,
    cell: float,
    heights: np.ndarray | None = None,
) -> np.ndarray:
    """Heights (H, W), m, at the nodes of a grid from `lower` to `upper` with `cell` m between nodes.

    Args:
        rng: draws the waves.
        relief: their sizes.
        roads: (middle (N, 2), half a width, m) of each road.
        lower, upper: (2,) m.
        cell: m.
        heights: (N,) m along the first road, None for a level one.
    """
    columns, rows = (np.ceil((upper - lower) / cell).astype(int) + 1).tolist()
    size = np.array([columns, rows]) * cell
    swell = _waves(rng, rows, columns, size, 70.0) * relief.swell
    bumps = _waves(rng, rows, columns, size, 14.0) * relief.bumps
    source = np.full((rows, columns), 255, np.uint8)
    middle = np.concatenate([points for points, _ in roads])
    half = np.concatenate([np.full(len(points), width) for points, width in roads])
    angle = np.concatenate([headings(points) for points, _ in roads])
    along = np.concatenate([distances(points) for points, _ in roads])
    j, i = np.clip(np.rint((middle - lower) / cell).astype(int), 0, (columns - 1, rows - 1)).T
    source[i, j] = 0
    _, label = cv2.distanceTransformWithLabels(source, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    nearest = np.zeros(int(label.max()) + 1, np.int64)
    nearest[label[i, j]] = np.arange(len(middle))
    nearest = nearest[label]
    dx = (lower[0] + cell * np.arange(columns))[None, :] - middle[nearest, 0]
    dy = (lower[1] + cell * np.arange(rows))[:, None] - middle[nearest, 1]
    c, s = np.cos(angle)[nearest], np.sin(angle)[nearest]
    ahead = np.clip(c * dx + s * dy, -cell, cell)
    away = np.hypot(c * dy - s * dx, np.maximum(np.abs(c * dx + s * dy) - cell, 0.0))
    width = half[nearest]
    beside = np.clip((away - width) / 6.0, 0.0, 1.0)
    ground = swell + bumps * (relief.road_share + (1.0 - relief.road_share) * beside)
    ground -= relief.camber * np.minimum(away, width)
    if relief.bank:
        ground += relief.bank * np.clip(away - width - 1.0, 0.0, relief.bank_width)
    if relief.ditch:
        ground -= relief.ditch * np.clip(1.0 - np.abs(away - relief.ditch_at) / 1.8, 0.0, 1.0)
    if heights is not None:
        first = roads[0][0]
        road = np.interp(along[nearest] + ahead, distances(first), heights)
        ground += cv2.GaussianBlur(road, (0, 0), 2.0) if away.size else road
    return ground


def _waves(rng: np.random.Generator, rows: int, columns: int, size: np.ndarray, length: float) -> np.ndarray:
    """(rows, columns) smooth noise of about -1..1 with a wave length in m, over `size` (x, y) m."""
    nodes = np.maximum(np.ceil(size / (0.5 * length)).astype(int) + 1, 2)
    noise = rng.uniform(-1.0, 1.0, (int(nodes[1]), int(nodes[0]))).astype(np.float32)
    return cv2.resize(noise, (columns, rows), interpolation=cv2.INTER_CUBIC).astype(np.float64)
