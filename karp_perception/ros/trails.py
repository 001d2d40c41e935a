"""Where tracked objects came from: the last seconds of each, kept in `odom` and drawn around the vehicle."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from karp_perception.core import EgoState, Objects
from karp_perception.core.geometry import invert_pose, transform_points

SECONDS = 3.0
"""What is kept of each."""

_MOVING_SPEED = 0.3  # m/s from which something without a class moves
_SPACING_M = 0.3  # nearer points tell the eye nothing


@dataclass(frozen=True)
class Trail:
    """One object's class and the places (N, 3) m in `base_link` where it was, the oldest first."""

    label: int
    points: np.ndarray


@dataclass
class _Story:
    label: int
    stamps: list[int] = field(default_factory=list)
    places: list[np.ndarray] = field(default_factory=list)


class Trails:
    """Remembers where objects were. A stamp before the last one begins anew."""

    def __init__(self) -> None:
        self._stories: dict[int, _Story] = {}
        self._last = -1

    def step(self, stamp_ns: int, objects: Objects, ego: EgoState) -> list[Trail]:
        """Takes in one moment; the trails of the objects that are there, have a class or a speed, and came some way."""
        if stamp_ns < self._last:
            self._stories.clear()
        self._last = stamp_ns
        boxes = objects.boxes
        rows = np.flatnonzero((boxes.label >= 0) | (np.hypot(*boxes.velocity.T) > _MOVING_SPEED))
        places = transform_points(ego.T_odom_base, boxes.center[rows])
        labelled = zip(boxes.label[rows].tolist(), places, strict=True)
        there = dict(zip(objects.track_id[rows].tolist(), labelled, strict=True))
        self._stories = {number: story for number, story in self._stories.items() if number in there}
        T, trails = invert_pose(ego.T_odom_base), []
        for number, (label, place) in there.items():
            story = self._stories.setdefault(number, _Story(label))
            story.label = label
            if not story.places or np.linalg.norm(place - story.places[-1]) >= _SPACING_M:
                story.stamps.append(stamp_ns)
                story.places.append(place)
            while (stamp_ns - story.stamps[0]) * 1e-9 > SECONDS and len(story.stamps) > 1:
                del story.stamps[0], story.places[0]
            points = np.array([*story.places, place])
            if np.ptp(points[:, :2], axis=0).max() >= _SPACING_M:
                trails.append(Trail(label, transform_points(T, points)))
        return trails
