"""Recorded objects staged again: models drawn to the size of each label, where the label is, before the same lidar.

What differs then is the models and the lidar, and no longer which objects happen to stand where.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from karp_perception.core import Boxes
from karp_perception.core.classes import TWO_WHEELERS
from karp_perception.evaluation.sweep_statistics import GROWN, KINDS, Quantity, Scan, distance_name, whole
from karp_perception.world.geometry.cast import Carrier
from karp_perception.world.geometry.ground import Ground
from karp_perception.world.geometry.scene import Bodies, Body, Scene
from karp_perception.world.models.family import Family
from karp_perception.world.sensors.lidar import Lidar
from karp_perception.world.sensors.lidar_models import LidarModel

_FOOT = 0.2  # m above a label's bottom from which on points are the object's, not the ground's
_CELL = np.radians(0.5)  # of the picture of what is nearest in the recording
_BEFORE = 1.5  # m by which something recorded lies in front of an object to hide it
_HIDDEN = 0.4  # share of an object behind others from which on it says nothing
_LIKE = np.log(1.7)  # by which sizes of a family and of a label may differ
_DEEP = -50.0  # m, ground out of the way


@dataclass(frozen=True)
class Restaged:
    """Labelled objects of both sides.

    Attributes:
        kind: of each, a key of KINDS. distance: (N,) m.
        real, world: (N,) points on each; in the world only those that nothing recorded lies in front of.
        real_shades, world_shades: (N,) median intensity.
    """

    kind: tuple[str, ...]
    distance: np.ndarray
    real: np.ndarray
    world: np.ndarray
    real_shades: np.ndarray
    world_shades: np.ndarray


def restage(
    scan: Scan, model: LidarModel, families: Mapping[str, Family], seed: int = 0, draws: int = 4, fewest: int = 5
) -> Restaged:
    """Every label of a recorded sweep with at least `fewest` points, staged `draws` times; counts are means of those.

    Args:
        scan: recorded. model: of its lidar.
        families: of models to draw from, by name.
        seed: of models and sweeps.
    """
    boxes = scan.boxes
    lidar = Lidar(model, _upright(scan.origin))
    nearest = _nearest(scan.points[:, :3] - scan.origin)
    recorded = _on(boxes, scan.points)
    kinds = [next((k for k, labels in KINDS.items() if int(label) in labels), None) for label in boxes.label]
    counts, hidden = np.zeros((draws, len(boxes))), np.zeros((draws, len(boxes)))
    shades = np.full((draws, len(boxes)), np.nan)
    ground = Ground(np.full((2, 2), _DEEP), (-1000.0, -1000.0), 2000.0)
    for draw in range(draws):
        stand_ins = [_stand_in(families, boxes, i, np.random.default_rng([seed, draw, i])) for i in range(len(boxes))]
        bodies = [body for body in stand_ins if body is not None]
        scene = Scene(ground, Bodies.of(bodies), Bodies.of([])).rays(0.0, 0.0, model.max_range)
        points = lidar.sweep(*scene, Carrier(np.eye(4)), 0, seed + draw).sweep.points
        offset = points[:, :3] - scan.origin
        distance = np.linalg.norm(offset, axis=1)
        free = distance < nearest[_cells(offset)] + _BEFORE
        for i, of in enumerate(_on(boxes, points)):
            counts[draw, i], hidden[draw, i] = (of & free).sum(), (of & ~free).sum()
            if (of & free).any():
                shades[draw, i] = np.median(points[of & free, 3])
    total = np.maximum(counts.sum(axis=0) + hidden.sum(axis=0), 1)
    real = recorded.sum(axis=1)
    use = (real >= fewest) & (hidden.sum(axis=0) / total < _HIDDEN) & np.array([k is not None for k in kinds], bool)
    use &= np.array([body is not None for body in stand_ins], bool)
    if scan.view is not None:
        use &= whole(boxes, scan.view)
    rows = np.flatnonzero(use)
    away = np.linalg.norm(boxes.center[:, :2] - scan.origin[:2], axis=1)
    return Restaged(
        tuple(str(kinds[i]) for i in rows),
        away[rows],
        real[rows],
        counts[:, rows].mean(axis=0),
        np.array([np.median(scan.points[recorded[i], 3]) for i in rows]),
        np.array([_middle(shades[:, i]) for i in rows]),
    )


def paired(sides: Sequence[Restaged]) -> tuple[dict[str, Quantity], dict[str, Quantity]]:
    """Quantities of the recorded and of the restaged objects by kind and distance: "restaged: car 10-20 m" points."""
    groups: dict[str, list[tuple[float, float]]] = {}
    shades: dict[str, list[tuple[float, float]]] = {}
    for side in sides:
        for i, kind in enumerate(side.kind):
            where = distance_name(float(side.distance[i]))
            if where is not None:
                groups.setdefault(f"restaged: {kind} {where}", []).append((side.real[i], side.world[i]))
                if np.isfinite(side.world_shades[i]):
                    pair = (side.real_shades[i], side.world_shades[i])
                    shades.setdefault(f"restaged: {kind} intensity", []).append(pair)
    found: tuple[dict[str, Quantity], dict[str, Quantity]] = ({}, {})
    for rows in (groups, shades):
        for name in sorted(rows):
            pairs = np.array(rows[name], float)
            for k in (0, 1):
                # Geometric means weigh every object's own factor the same, near or far.
                points = rows is groups
                value = np.exp(np.log(np.maximum(pairs[:, k], 0.5)).mean()) if points else np.median(pairs[:, k])
                found[k][name] = Quantity(float(value), len(pairs))
    return found


def _stand_in(families: Mapping[str, Family], boxes: Boxes, i: int, rng: np.random.Generator) -> Body | None:
    """A model in the place of a label, of one of the three families that are built most like it; None for none."""
    size, label = boxes.size[i], int(boxes.label[i])
    labels = TWO_WHEELERS if label in TWO_WHEELERS else {label}
    unlike = {
        name: np.abs(np.log(np.asarray(family.sizes.mean) / size))
        for name, family in families.items()
        if family.label is not None and int(family.label) in labels
    }
    like = sorted((name for name in unlike if unlike[name].max() < _LIKE), key=lambda name: unlike[name].sum())[:3]
    if not like:
        return None
    family = families[like[int(rng.integers(len(like)))]]
    model = family.make(rng, tuple(float(v) for v in size))
    place = boxes.center[i] - (0.0, 0.0, 0.5 * size[2])
    return Body(
        model.shape_at(float(rng.uniform(0, 2 * np.pi))), tuple(map(float, place)), float(boxes.yaw[i]), owner=i + 1,
        first=model.first, second=model.second,
    )  # fmt: skip


def _on(boxes: Boxes, points: np.ndarray) -> np.ndarray:
    """(N, M) points on each label, above its foot."""
    inside = boxes.contains(points[:, :3].astype(float), GROWN)
    return inside & (points[None, :, 2] > (boxes.center[:, 2] - 0.5 * boxes.size[:, 2])[:, None] + _FOOT)


def _cells(offset: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    azimuth = np.arctan2(offset[:, 1], offset[:, 0]) + np.pi
    elevation = np.arctan2(offset[:, 2], np.hypot(offset[:, 0], offset[:, 1])) + 0.5 * np.pi
    return (elevation / _CELL).astype(int), (azimuth / _CELL).astype(int)


def _nearest(offset: np.ndarray) -> np.ndarray:
    """Range (m) of what is nearest by cell of direction, infinity where nothing was met."""
    picture = np.full((int(np.pi / _CELL) + 2, int(2 * np.pi / _CELL) + 2), np.inf)
    distance = np.linalg.norm(offset, axis=1)
    far = distance > 1.5  # the rest are no returns
    np.minimum.at(picture, tuple(k[far] for k in _cells(offset)), distance[far])
    return picture


def _middle(values: np.ndarray) -> float:
    values = values[np.isfinite(values)]
    return float(np.median(values)) if len(values) else np.nan


def _upright(origin: np.ndarray) -> np.ndarray:
    T = np.eye(4)
    T[:3, 3] = origin
    return T
