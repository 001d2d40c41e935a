"""A box around an object of which the lidar sees the near sides, completed away from the sensor.

Directions come from the L-shape search (box_fit.py) and a coarse set of others, lengths and widths from what was seen
and what is usual, and each side of the points may be a side of the box. What they say is weighed against the points,
the rectangle in the image and usual sizes.
"""

from __future__ import annotations

import numpy as np

from karp_perception.detection.box_fit import BoxFitSettings, fit_directions
from karp_perception.detection.lifting.hypotheses import Hypotheses, Weighed, edge_cost, size_cost, weigh
from karp_perception.detection.lifting.size_priors import SizePrior
from karp_perception.detection.lifting.view import View

_FIT = BoxFitSettings()
_AROUND = np.radians([0.0, -4.0, 4.0, -9.0, 9.0])
_COARSE = np.arange(0.0, 180.0, 15.0) * (np.pi / 180)
_SPREADS = np.array([-1.6, -0.8, 0.0, 0.8, 1.6])
_OUTLIERS = 0.02  # of the points at each end of a side
_FACE_SIGMA_M, _FACE_MOST, _FACE_POINTS = 0.12, 4.0, 14.0
_STICKING_OUT_M = 0.08
_FAR_SIDE = 3.0  # cost of a box that begins behind its nearest points: it is hidden there
_ALONG_SIGMA_RAD = np.radians(60.0)
_MOST_POINTS = 300  # more say nothing new
_MOST_TRIED = 500  # hypotheses that are compared with the image


def box_from_points(
    xyz: np.ndarray,
    view: View,
    corners: np.ndarray,
    cut: np.ndarray,
    prior: SizePrior,
    ground: float,
) -> Weighed:
    """The box of an object.

    Args:
        xyz: (N, 3) its own points, m, at least one.
        view: the camera that saw it.
        corners: (4,) its rectangle, px. cut: (4,) edges that are not its own.
        prior: of its class.
        ground: height of the ground under it, m.
    """
    xyz = xyz[:: max(1, len(xyz) // _MOST_POINTS)].astype(np.float64)
    xy, depth = xyz[:, :2], max(0.5, float(np.quantile(view.pixels(xyz)[1], 0.1)))
    height = _height(xyz, view, corners, cut, prior, ground, depth)
    yaw = _directions(xy, view, prior)
    sensor = view.origin[None, :2]
    low, high = _extents(xy, yaw)  # (Y, 2): along the length, along the width
    extent = high - low
    eye = np.stack([_along(sensor, yaw)[:, 0], _across(sensor, yaw)[:, 0]], axis=1)
    # (Y, S, 2) sizes to try, each with the box beginning at the lower end of the points or ending at the higher one.
    sizes = np.stack([_sides(extent[:, i], prior.size[i], prior.spread[i]) for i in range(2)], axis=2)
    out = np.square(np.maximum(extent[:, None] - sizes, 0.0) / _STICKING_OUT_M)
    seen_low, seen_high = eye < low, eye > high
    longer = sizes > extent[:, None] + 0.1
    hidden = _FAR_SIDE * np.stack([seen_high[:, None] & longer, seen_low[:, None] & longer], axis=2)  # (Y, S, 2, 2)
    sides = out[:, :, None] + hidden
    by_size = size_cost(_pairs(sizes, height).reshape(-1, 3), prior).reshape(len(yaw), sizes.shape[1], -1)
    cost = by_size[:, :, :, None, None] + sides[:, :, None, :, None, 0] + sides[:, None, :, None, :, 1]
    cost += _face_cost(xy, yaw, eye, low, high)[:, None, None, None, None]
    if prior.directed:
        # Where nothing else decides, along the road rather than across: the own vehicle is on it, too.
        across = np.abs((yaw + np.pi / 2) % np.pi - np.pi / 2)
        cost += np.square(across / _ALONG_SIGMA_RAD)[:, None, None, None, None]
    # The image has the last word on those that are likely without it: it is what takes time.
    rows = np.argsort(cost, axis=None, kind="stable")[:_MOST_TRIED]
    y, i, j, a, b = np.unravel_index(rows, cost.shape)
    size = np.column_stack([sizes[y, i, 0], sizes[y, j, 1], np.full(len(rows), height)])
    ends = np.stack([a, b], axis=1).astype(bool)
    middle = np.where(ends, high[y] - 0.5 * size[:, :2], low[y] + 0.5 * size[:, :2])
    c, s = np.cos(yaw[y]), np.sin(yaw[y])
    place = np.stack([c * middle[:, 0] - s * middle[:, 1], s * middle[:, 0] + c * middle[:, 1]], axis=1)
    boxes = Hypotheses(place, np.full(len(rows), ground), size, yaw[y])
    by_edges = edge_cost(boxes.rectangles(view), corners, cut, _edge_sigma(view, corners, depth))
    return weigh(boxes, cost.reshape(-1)[rows] + by_edges, mean=not prior.directed)


def _pairs(sizes: np.ndarray, height: float) -> np.ndarray:
    """(Y, S, S, 3) all lengths with all widths of (Y, S, 2), and the height."""
    y, s, _ = sizes.shape
    pairs = np.empty((y, s, s, 3))
    pairs[..., 0], pairs[..., 1], pairs[..., 2] = sizes[:, :, None, 0], sizes[:, None, :, 1], height
    return pairs


def _height(
    xyz: np.ndarray, view: View, corners: np.ndarray, cut: np.ndarray, prior: SizePrior, ground: float, depth: float
) -> float:
    """Height of the object, m: of its rectangle at the points' depth, of its class, and no less than its points'."""
    usual, sigma = prior.size[2], prior.size[2] * prior.spread[2]
    top = float(np.quantile(xyz[:, 2], 0.99)) - ground
    if not cut[1]:
        middle = 0.5 * (corners[0] + corners[2])
        seen = float((view.origin + depth * view.rays(np.array([[middle, corners[1]]]))[0])[2]) - ground
        error = np.hypot(0.1, 3.0 * depth / view.focal[1])
        usual = (usual / sigma**2 + seen / error**2) / (1 / sigma**2 + 1 / error**2)
    return max(0.3 * prior.size[2], min(top, 2.0 * prior.size[2]), usual)


def _directions(xy: np.ndarray, view: View, prior: SizePrior) -> np.ndarray:
    """(Y,) directions of the length to try, rad; for what has none, the line of sight."""
    if not prior.directed:
        x, y = np.median(xy, axis=0) - view.origin[:2]
        return np.array([np.arctan2(y, x)])
    fitted = float(fit_directions(xy, np.zeros(1, np.int64), _FIT)[0])
    return np.concatenate([fitted + _AROUND, fitted + np.pi / 2 + _AROUND, _COARSE])


def _along(xy: np.ndarray, yaw: np.ndarray) -> np.ndarray:
    return np.cos(yaw)[:, None] * xy[None, :, 0] + np.sin(yaw)[:, None] * xy[None, :, 1]


def _across(xy: np.ndarray, yaw: np.ndarray) -> np.ndarray:
    return np.cos(yaw)[:, None] * xy[None, :, 1] - np.sin(yaw)[:, None] * xy[None, :, 0]


def _extents(xy: np.ndarray, yaw: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(Y, 2) where the points begin and end along the length and the width, but for outliers."""
    places = np.stack([_along(xy, yaw), _across(xy, yaw)])
    low, high = np.quantile(places, [_OUTLIERS, 1 - _OUTLIERS], axis=-1)
    return low.T, high.T


def _sides(extent: np.ndarray, usual: float, spread: float) -> np.ndarray:
    """(Y, S) lengths to try: usual ones, and what was seen, as far as an object can be so long."""
    tried = np.broadcast_to(usual * np.exp(spread * _SPREADS), (len(extent), len(_SPREADS)))
    seen = np.clip(extent + 0.05, usual * np.exp(-3 * spread), usual * np.exp(3 * spread))
    return np.column_stack([tried, seen])


def _face_cost(xy: np.ndarray, yaw: np.ndarray, eye: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """(Y,) how far the points are from the two sides that the sensor can see."""
    distance = []
    for axis, places in enumerate((_along(xy, yaw), _across(xy, yaw))):
        to_low, to_high = places - low[:, axis, None], high[:, axis, None] - places
        near = np.where((eye[:, axis] < low[:, axis])[:, None], to_low, to_high)
        between = ((eye[:, axis] >= low[:, axis]) & (eye[:, axis] <= high[:, axis]))[:, None]
        distance.append(np.abs(np.where(between, np.inf, near)))
    off = np.minimum(*distance) / _FACE_SIGMA_M
    return np.minimum(off**2, _FACE_MOST).mean(axis=1) * min(len(xy), _FACE_POINTS)


def _edge_sigma(view: View, corners: np.ndarray, depth: float) -> np.ndarray:
    """(4,) px: detectors' edges, and beneath an object the ground's height."""
    width, height = corners[2:] - corners[:2]
    across, down = max(2.0, 0.03 * width), max(2.0, 0.04 * height)
    return np.array([across, down, across, np.hypot(down, 0.15 * view.focal[1] / depth)])
