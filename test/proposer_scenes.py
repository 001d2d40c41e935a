"""Streets, what is on them, and the moments that a proposer sees there."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from karp_perception.core import Boxes, EgoState, Lane, ObjectClass, Objects, Road, Route
from karp_perception.core.geometry import pose_from_xy_yaw
from karp_perception.planning.planner import Planner
from karp_perception.planning.proposals import Idea, Moment
from karp_perception.prediction.constant_velocity import constant_velocity_paths
from karp_perception.prediction.settings import PredictionSettings

ROUTE = Route(np.array([[-100.0, 0.0], [400.0, 0.0]]), 14.0)


def street(side: float = 1.0) -> Road:
    x = np.array([-100.0, 400.0])
    own, other = (np.column_stack([x, np.full(2, side * y)]) for y in (0.0, 3.5))
    left, right = (1, None) if side > 0 else (None, 1)
    lanes = (
        Lane(own, 4.5, 14.0, left=left, right=right),
        Lane(other, 3.5, 14.0, left=None if side > 0 else 0, right=0 if side > 0 else None),
    )
    return Road(lanes, ())


def objects_of(rows: np.ndarray, label: np.ndarray) -> Objects:
    """Rows of x, y, yaw, vx, vy."""
    n = len(rows)
    size = np.where((label == ObjectClass.PEDESTRIAN)[:, None], [0.6, 0.6, 1.7], [4.4, 1.8, 1.5])
    center = np.column_stack([rows[:, :2], np.full(n, 0.8)])
    boxes = Boxes(center, size, rows[:, 2], rows[:, 3:5], label, np.full(n, 0.9))
    paths, probability = constant_velocity_paths(center[:, :2], rows[:, 2], rows[:, 3:5], PredictionSettings())
    ids, known = np.arange(1, n + 1), np.tile(0.01 * np.eye(6), (n, 1, 1))
    return Objects(boxes, ids, known, np.full(n, 2.0), np.zeros(n), paths, probability)


def random_rows(rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    yaw = rng.choice([0.0, np.pi, np.pi / 2, -np.pi / 2], count)
    label = rng.choice([ObjectClass.CAR, ObjectClass.PEDESTRIAN], count)
    speed = rng.uniform(0, 10, count) * np.where(label == ObjectClass.PEDESTRIAN, 0.15, 1.0)
    place = np.column_stack([rng.uniform(6, 70, count), rng.uniform(-10, 10, count)])
    return np.column_stack([place, yaw, speed * np.cos(yaw), speed * np.sin(yaw)]), label


class Watching:
    """Has no ideas, and keeps the moment."""

    def propose(self, moment: Moment) -> Sequence[Idea]:
        self.moment = moment
        return ()


def moment_of(objects: Objects, speed: float = 9.0, y: float = 0.2, road: Road | None = None) -> Moment:
    watching = Watching()
    ego = EgoState(0, pose_from_xy_yaw(0.0, y, 0.0), np.array([speed, 0.0]), yaw_rate=0.05 * np.sign(y))
    Planner(proposer=watching).step(0, objects, Boxes.empty(), ego, ROUTE, 14.0, road)
    return watching.moment
