"""Terrain: gentle undulation everywhere, cambered roads, and the slopes and crests of a road in the country."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from karp_perception.world.layouts.curves import distances, headings

_BEYOND = 30.0  # m by which a road goes on, for the ground, beyond the edge of the map


@dataclass(frozen=True)
class Relief:
    """How the ground of a place goes up and down.

    Attributes:
        swell: m, amplitude of waves of 70 m, which roads share.
        bumps: m, amplitude of waves of 14 m beside roads; roads have `road_share` of them.
        camber: slope across a road, away from its middle.
        bank: slope of the ground beside a road, m per m (a falling one is negative), up to `bank_width` m.
        ditch: m, depth of a ditch whose middle is `ditch_at` m beside the road.
    """

    swell: float = 0.35
    bumps: float = 0.10
    road_share: float = 0.12
    camber: float = 0.02
    bank: float = 0.0
    bank_width: float = 12.0
    ditch: float = 0.0
    ditch_at: float = 2.4


def terrain(
    rng: np.random.Generator,
    relief: Relief,
    roads: Sequence[tuple[np.ndarray, float]],
    lower: np.ndarray,
    upper: np.ndarray,
    cell: float,
    heights: np.ndarray | None = None,
    paved: Sequence[np.ndarray] = (),
) -> np.ndarray:
    """Heights (H, W), m, at the nodes of a grid from `lower` to `upper` with `cell` m between nodes.

    Args:
        rng: draws the waves.
        relief: their sizes.
        roads: (middle (N, 2), half a width, m) of each road.
        lower, upper: (2,) m.
        cell: m.
        heights: (N,) m along the first road, None for a level one.
        paved: polygons (N, 2) that are level with roads, needed where there are several of them.
    """
    columns, rows = (np.ceil((upper - lower) / cell).astype(int) + 1).tolist()
    size = np.array([columns, rows]) * cell
    swell = _waves(rng, rows, columns, size, 70.0) * relief.swell
    bumps = _waves(rng, rows, columns, size, 14.0) * relief.bumps
    source = np.full((rows, columns), 255, np.uint8)
    longer = [_longer(points, [other for other, _ in roads if other is not points]) for points, _ in roads]
    middle = np.concatenate([points for points, _ in longer])
    half = np.concatenate([np.full(len(points), width) for (points, _), (_, width) in zip(longer, roads, strict=True)])
    angle = np.concatenate([headings(points) for points, _ in longer])
    along = np.concatenate([distances(points) - before for points, before in longer])
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
    camber = relief.camber * np.minimum(away, width)
    clear = away - width
    if len(roads) > 1:
        # Between roads the nearest one changes abruptly: measure from the asphalt, and round the step off.
        camber = cv2.GaussianBlur(camber, (0, 0), 1.2)
        solid = np.full((rows, columns), 255, np.uint8)
        for polygon in paved:
            cv2.fillPoly(solid, [np.round((polygon - lower) * (16.0 / cell)).astype(np.int32)], 0, shift=4)
        for (points, _), (_, width) in zip(longer, roads, strict=True):
            pixels = np.round((points - lower) * (16.0 / cell))
            cv2.polylines(solid, [pixels.astype(np.int32)], False, 0, max(round(2.0 * width / cell), 1), shift=4)
        clear = cv2.distanceTransform(solid, cv2.DIST_L2, 5).astype(np.float64) * cell
    beside = np.clip(clear / 6.0, 0.0, 1.0)
    ground = swell + bumps * (relief.road_share + (1.0 - relief.road_share) * beside)
    ground -= camber
    if relief.bank:
        ground += relief.bank * np.clip(clear - 1.0, 0.0, relief.bank_width)
    if relief.ditch:
        ground -= relief.ditch * np.clip(1.0 - np.abs(clear - relief.ditch_at) / 1.8, 0.0, 1.0)
    if heights is not None:
        first = roads[0][0]
        road = np.interp(along[nearest] + ahead, distances(first), heights)
        ground += cv2.GaussianBlur(road, (0, 0), 2.0)
    return ground


def _longer(points: np.ndarray, others: Sequence[np.ndarray]) -> tuple[np.ndarray, float]:
    """A road that goes on straight beyond those of its ends where no other road begins; m added at its beginning."""
    at = np.arange(3.0, _BEYOND + 1.0, 3.0)[:, None]
    parts, before = [points], 0.0
    for end, inner in ((points[0], points[1]), (points[-1], points[-2])):
        if any(min(np.hypot(*(other[k] - end)) for k in (0, -1)) < 3.0 for other in others):
            continue
        beyond = end + at * ((end - inner) / np.hypot(*(end - inner)))
        if (end == points[0]).all():
            parts.insert(0, beyond[::-1])
            before = float(at[-1, 0])
        else:
            parts.append(beyond)
    return np.concatenate(parts), before


def _waves(rng: np.random.Generator, rows: int, columns: int, size: np.ndarray, length: float) -> np.ndarray:
    """(rows, columns) smooth noise of about -1..1 with a wave length in m, over `size` (x, y) m."""
    nodes = np.maximum(np.ceil(size / (0.5 * length)).astype(int) + 1, 2)
    noise = rng.uniform(-1.0, 1.0, (int(nodes[1]), int(nodes[0]))).astype(np.float32)
    return cv2.resize(noise, (columns, rows), interpolation=cv2.INTER_CUBIC).astype(np.float64)
