"""A box for an object that no lidar placed: by where its rectangle meets the ground, and by its usual size.

Either cue alone gives a distance; each has its own error, which grows with distance: a camera that nods by half a
degree for the one, people of different heights for the other. Boxes all along the line of sight are weighed by both.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from karp_perception.core.settings import Settings, setting
from karp_perception.detection.lifting.hypotheses import Hypotheses, Weighed, edge_cost, size_cost, weigh
from karp_perception.detection.lifting.size_priors import SizePrior
from karp_perception.detection.lifting.view import View

GroundHeight = Callable[[np.ndarray], np.ndarray]
"""(N, 2) m -> (N,) height of the ground, m."""

_YAWS = np.arange(0.0, 180.0, 15.0) * (np.pi / 180)
_LENGTHS = np.array([-1.0, 0.0, 1.0])
_STEPS = 41


@dataclass(frozen=True)
class GroundLiftSettings(Settings):
    """What is not known about the camera over the ground."""

    pitch_sigma: float = setting(0.4, "error of the camera's pitch against the ground", unit="deg", low=0.01, high=5.0)
    max_range: float = setting(90.0, "farthest distance of an object", unit="m", low=10.0, high=300.0)
    edge_sigma: float = setting(0.03, "error of an edge, of the rectangle's side", low=0.001, high=0.3)
    doubt: float = setting(1.5, "factor on standard deviations, as errors in the world demand", low=1.0, high=5.0)
    aligned: float = setting(
        40.0, "standard deviation of the directions of vehicles against the own one", unit="deg", low=5.0, high=1000.0
    )


def box_from_ground(
    view: View,
    corners: np.ndarray,
    cut: np.ndarray,
    prior: SizePrior,
    ground: GroundHeight,
    settings: GroundLiftSettings,
) -> Weighed:
    """The box of an object.

    Args:
        view: the camera that saw it.
        corners: (4,) its rectangle, px. cut: (4,) edges that are not its own.
        prior: of its class.
        ground: height of the ground.
        settings: see GroundLiftSettings.
    """
    width, height = corners[2:] - corners[:2]
    yaws = _YAWS if prior.directed else np.zeros(1)
    depths = _depths(view, corners, cut, prior, ground, settings)
    yaw, depth, spread = (g.ravel() for g in np.meshgrid(yaws, depths, _LENGTHS, indexing="ij"))
    boxes = _placed(view, corners, cut, prior, ground, yaw, depth, spread)
    sigma_across, sigma_down = max(2.0, settings.edge_sigma * width), max(2.0, settings.edge_sigma * height)
    pitch = np.radians(settings.pitch_sigma) * view.focal[1]
    sigma = np.array([sigma_across, sigma_down, sigma_across, np.hypot(sigma_down, pitch)])
    cost = edge_cost(boxes.rectangles(view), corners, cut, sigma) + size_cost(boxes.size, prior)
    if prior.directed:
        away = np.abs((yaw + np.pi / 2) % np.pi - np.pi / 2)
        cost += np.square(away / np.radians(settings.aligned))
    return weigh(boxes, cost, mean=True)


def _depths(
    view: View,
    corners: np.ndarray,
    cut: np.ndarray,
    prior: SizePrior,
    ground: GroundHeight,
    settings: GroundLiftSettings,
) -> np.ndarray:
    """(D,) depths to try, m, in equal ratios."""
    focal_across, focal_down = view.focal
    width, height = corners[2:] - corners[:2]
    cues = []
    if not (cut[1] or cut[3]):
        cues.append(focal_down * prior.size[2] / height)
    if not (cut[0] or cut[2]):
        cues += [focal_across * side / width for side in (prior.size[1], np.hypot(*prior.size[:2]))]
    if not cut[3]:
        ray = view.rays(np.array([[0.5 * (corners[0] + corners[2]), corners[3]]]))[0]
        level = float(ground((view.origin + (cues[0] if cues else 10.0) * ray)[None, :2])[0])
        if ray[2] < -1e-3:
            cues.append((level - view.origin[2]) / ray[2])
    cues = [float(np.clip(cue, 1.5, settings.max_range)) for cue in cues] or [3.0, 15.0]
    return np.geomspace(max(1.0, 0.6 * min(cues)), min(settings.max_range, 1.6 * max(cues)), _STEPS)


def _placed(
    view: View,
    corners: np.ndarray,
    cut: np.ndarray,
    prior: SizePrior,
    ground: GroundHeight,
    yaw: np.ndarray,
    depth: np.ndarray,
    spread: np.ndarray,
) -> Hypotheses:
    """Boxes at depths, each as high as its rectangle and beneath it as far as both sides go."""
    k = len(yaw)
    middle = np.array([0.5 * (corners[0] + corners[2]), 0.5 * (corners[1] + corners[3])])
    ray = view.rays(middle[None])[0]
    xy = view.origin[:2] + depth[:, None] * ray[:2]
    size = np.tile(prior.size, (k, 1))
    size[:, 0] *= np.exp(prior.spread[0] * spread)
    bottom = ground(xy)
    near = np.maximum(depth - 0.5 * np.minimum(size[:, 0], size[:, 1]), 0.7 * depth)
    if not cut[1]:
        top = view.rays(np.array([[middle[0], corners[1]]]))[0]
        seen = view.origin[2] + near * top[2] - bottom
        low, high = prior.size[2] * np.exp(np.array([-3, 3]) * prior.spread[2])
        size[:, 2] = np.clip(seen, low, high)
    right = np.array([view.T_base_camera[0, 0], view.T_base_camera[1, 0]])
    for _ in range(2):
        boxes = Hypotheses(xy, bottom, size, yaw)
        found = boxes.rectangles(view)
        open_sides = ~cut[[0, 2]]
        if open_sides.any():
            off = (corners[None, [0, 2]] - found[:, [0, 2]])[:, open_sides].mean(axis=1)
            xy = xy + (off * depth / view.focal[0])[:, None] * right
    return Hypotheses(xy, ground(xy), size, yaw)
