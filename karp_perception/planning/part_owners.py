"""Which object each measured part is of."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from karp_perception.core import Boxes, Objects
from karp_perception.tracking.association import whole_pairs
from karp_perception.tracking.bodies import BodySettings, moving_bodies, parts_of_bodies
from karp_perception.tracking.visibility import near_pairs

_SAME = 0.3
"""How far beyond its box a measured part may still be of an object, m: boxes are known about as well."""


def owners(objects: Objects, obstacles: Boxes) -> np.ndarray:
    """(len(obstacles),) row of the object that each obstacle is, or -1."""
    owner = np.full(len(obstacles), -1)
    if len(objects) == 0 or len(obstacles) == 0:
        return owner
    grown = replace(objects.boxes, size=objects.boxes.size + np.array([2 * _SAME, 2 * _SAME, 0.0]))
    i, j = near_pairs(grown, obstacles, 0.0)
    pairs = whole_pairs(i, j, grown, obstacles, np.zeros((len(obstacles), 2, 2)))
    area = obstacles.size[pairs.box, 0] * obstacles.size[pairs.box, 1]
    whole = grown.size[pairs.track, 0] * grown.size[pairs.track, 1]
    on_it = pairs.overlap * np.minimum(area, whole) > 0.5 * area
    order = np.lexsort((-pairs.track[on_it], pairs.overlap[on_it]))
    owner[pairs.box[on_it][order]] = pairs.track[on_it][order]  # the largest overlap is written last
    known = (objects.obstacle_index >= 0) & (objects.obstacle_index < len(obstacles))
    owner[objects.obstacle_index[known]] = np.flatnonzero(known)
    return owner


def joined_to_bodies(
    objects: Objects, parts: Boxes, owner: np.ndarray, settings: BodySettings, hold: float
) -> tuple[np.ndarray, np.ndarray]:
    """(N,) object that each object is a part of, or -1, and the owners of `parts` then."""
    at = np.array([0, 1, 4, 5])
    covariance = objects.covariance[:, at[:, None], at]
    whole = objects.boxes.label >= 0
    bodies = moving_bodies(objects.boxes, covariance, whole, np.zeros(2), settings)
    bodies = bodies.take((whole | (objects.unseen <= hold))[bodies.row])
    part_of = parts_of_bodies(objects.boxes, covariance, whole, bodies, settings)
    owner = np.where((owner >= 0) & (part_of[owner] >= 0), part_of[owner], owner) if len(objects) else owner.copy()
    lone = np.flatnonzero(owner < 0)
    body = bodies.around(parts[lone])
    owner[lone[body >= 0]] = bodies.row[body[body >= 0]]
    return part_of, owner
