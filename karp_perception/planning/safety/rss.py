"""Responsibility-Sensitive Safety: whether a plan keeps the distances that nobody can be blamed for.

Shalev-Shwartz, Shammah, Shashua: On a Formal Model of Safe and Scalable Self-driving Cars (arXiv 1708.06374, 2017):
definition 1 (safe distance behind something), 2 (against oncoming) and 6 (beside). They are measured along and across
the path that is driven instead of a lane. Two things differ from the paper, both because a plan is checked and not a
driver: in the response time the vehicle does what the plan says, and the proper response brakes no harder than it takes
to keep off the object as it moves now. The paper's response would brake for every car that cuts in and drives away.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from karp_perception.core import Boxes, Objects, Trajectory, Vehicle, class_name
from karp_perception.core.settings import Settings, setting
from karp_perception.planning.collision import Things, touches
from karp_perception.planning.safety.swept_path import SweptPath

_FASTEST = 100.0  # m/s: what is faster is an error
_MOST_BRAKING_SHARE = 0.5  # of what the vehicle can do, for vehicles that can do little
_HELD = 1.3  # times the safe distance up to which a response that has begun goes on
_MOVES = 0.2  # m/s
_AHEAD = 4.0  # s, how far the plan is compared with where objects will be


@dataclass(frozen=True)
class RssSettings(Settings):
    """What everybody on the road is taken to do at worst."""

    enabled: bool = setting(True, "check every plan by RSS, and brake where it is needed")
    response_time: float = setting(0.5, "until the vehicle, or another, reacts", unit="s", low=0.05, high=3.0)
    acceleration: float = setting(
        3.5, "most that others accelerate by while they react; of the plan, that much counts at most", unit="m/s2",
        low=0.0, high=10.0,
    )  # fmt: skip
    braking: float = setting(4.0, "least braking of a proper response, and the most here", unit="m/s2", low=0.5)
    others_braking: float = setting(8.0, "hardest braking of what is ahead", unit="m/s2", low=0.5, high=12.0)
    lateral_acceleration: float = setting(0.2, "most across, while reacting", unit="m/s2", low=0.0, high=5.0)
    lateral_braking: float = setting(0.8, "least braking across", unit="m/s2", low=0.1, high=10.0)
    lateral_fluctuation: float = setting(0.1, "room for swaying", unit="m", low=0.0, high=1.0)
    reserve: float = setting(0.3, "kept free when braking for something", unit="m", low=0.0, high=5.0)
    jerk: float = setting(10.0, "with which the response is built up", unit="m/s3", low=0.5, high=100.0)
    closing: float = setting(0.3, "slower approach is none", unit="m/s", low=0.0, high=5.0)
    frames: int = setting(2, "frames in which the same object is in danger until it is braked for", low=1, high=10)
    settled: float = setting(0.2, "age of a track from which it counts", unit="s", low=0.0, high=5.0)
    unclassed_settled: float = setting(0.5, "the same for one without a class", unit="s", low=0.0, high=5.0)
    significance: float = setting(
        2.5, "motion towards the vehicle or its path in deviations, from which it is believed", low=0.0, high=10.0
    )


def distance_behind(
    rear: np.ndarray | float, front: np.ndarray | float, acceleration: np.ndarray | float, settings: RssSettings
) -> np.ndarray:
    """Safe distance behind something that moves the same way, m (definition 1).

    Args:
        rear: own speed, m/s. front: the other's, m/s.
        acceleration: most of the own vehicle within the response time, m/s².
    """
    t = settings.response_time
    after = np.maximum(rear + t * np.asarray(acceleration), 0.0)
    own = 0.5 * (rear + after) * t + after**2 / (2 * settings.braking)
    return np.maximum(own - np.asarray(front) ** 2 / (2 * settings.others_braking), 0.0)


def distance_oncoming(
    own: np.ndarray | float, other: np.ndarray | float, acceleration: np.ndarray | float, settings: RssSettings
) -> np.ndarray:
    """Safe distance (m) to what comes the other way at the speed `other` (m/s, not negative), definition 2."""
    t, total = settings.response_time, 0.0
    for speed, most in ((own, acceleration), (other, settings.acceleration)):
        after = np.maximum(speed + t * np.asarray(most), 0.0)
        total = total + 0.5 * (speed + after) * t + after**2 / (2 * settings.braking)
    return np.asarray(total)


def distance_beside(towards: np.ndarray | float, braking: np.ndarray | float, settings: RssSettings) -> np.ndarray:
    """Safe distance beside a path that is kept, to something that moves towards it at a speed (m/s), m (definition 6).

    What moves away (negative) may turn round while it reacts; the own vehicle sways as much as it may.
    """
    t, most = settings.response_time, settings.lateral_acceleration
    total: np.ndarray | float = settings.lateral_fluctuation
    for speed, brakes in ((0.0, settings.lateral_braking), (towards, braking)):
        after = np.asarray(speed) + t * most
        way = 0.5 * (np.asarray(speed) + after) * t + np.maximum(after, 0.0) ** 2 / (2 * np.asarray(brakes))
        total = total + np.maximum(way, 0.0)
    return np.asarray(total)


@dataclass(frozen=True)
class Danger:
    """An object that is nearer than it should be.

    Attributes:
        track_id, name: of it.
        gap: free way to it along the path, m. safe: the distance by RSS, m.
        closing: m/s, positive where the gap gets smaller. speed: its own along the path, m/s.
        braking: what the vehicle has to brake with now, m/s²; 0 where the plan copes, or nothing gets nearer.
    """

    track_id: int
    name: str
    gap: float
    safe: float
    closing: float
    speed: float
    braking: float = 0.0

    def note(self) -> str:
        """In words."""
        text = f"RSS: {self.gap:.1f} m to {self.name}, {self.safe:.1f} m needed"
        return f"{text}; braking with {self.braking:.1f} m/s²" if self.braking else text


class RssCheck:
    """Checks plans, and remembers for how many frames which objects have been in danger."""

    def __init__(self, settings: RssSettings, vehicle: Vehicle) -> None:
        self._settings, self._vehicle = settings, vehicle
        self._frames: dict[int, int] = {}

    def reset(self) -> None:
        """Forget earlier frames."""
        self._frames = {}

    def reach(self, speed: float) -> float:
        """How far ahead anything can matter at a speed (m/s), m."""
        return float(distance_behind(speed, 0.0, self._settings.acceleration, self._settings)) + 10.0

    def dangers(
        self, way: Trajectory, path: SweptPath, objects: Objects, speed: float, age: float = 0.0
    ) -> list[Danger]:
        """Objects to which the safe distance is not kept, the worst first.

        Args:
            way: the plan. path: what it sweeps. objects: in `base_link`. speed: of the vehicle, m/s.
            age: s since the objects were where they are.
        """
        settings = self._settings
        boxes = objects.boxes
        if len(boxes) == 0:
            self._frames = {}
            return []
        d, heading = path.nearest(boxes)
        velocity = np.clip(boxes.velocity, -_FASTEST, _FASTEST)
        c, sn = np.cos(heading), np.sin(heading)
        along, across = c * velocity[:, 0] + sn * velocity[:, 1], c * velocity[:, 1] - sn * velocity[:, 0]
        along, across = self._surely(objects, c, sn, along, across)
        # What goes across brakes along its own axis, as well as anything does.
        share = np.minimum(np.abs(across) / np.maximum(np.hypot(along, across), 1e-6), 1.0)
        brakes = settings.lateral_braking + share * (settings.braking - settings.lateral_braking)
        gap, _, _ = path.free(boxes, distance_beside(-np.sign(d) * across, brakes, settings))
        gap = np.maximum(gap - np.maximum(speed - along, 0.0) * age, 0.0)
        starts = float(np.clip(way.acceleration[0], 0.0, settings.acceleration)) if len(way) else 0.0
        safe = np.where(
            along >= 0.0,
            distance_behind(speed, np.maximum(along, 0.0), starts, settings),
            distance_oncoming(speed, np.maximum(-along, 0.0), starts, settings),
        )
        held = np.array([self._frames.get(number, 0) >= settings.frames for number in objects.track_id.tolist()])
        found = np.flatnonzero(gap < np.where(held, _HELD * safe + settings.reserve, safe))
        if len(found) == 0:
            self._frames = {}
            return []
        going = np.column_stack([c * along - sn * across, sn * along + c * across])
        conflict = self._conflicts(way, going, boxes, found)
        unclassed = boxes.label < 0
        old = objects.age >= np.where(unclassed, settings.unclassed_settled, settings.settled)
        old &= ~unclassed | (objects.unseen <= 0.0)
        frames: dict[int, int] = {}
        result = []
        for i, meets in zip(found.tolist(), conflict.tolist(), strict=True):
            number, closing = int(objects.track_id[i]), speed - float(along[i])
            braking = 0.0
            if meets and closing > (0.0 if held[i] else settings.closing) and old[i]:
                frames[number] = self._frames.get(number, 0) + 1
                if frames[number] >= settings.frames:
                    braking = self._needed(float(gap[i]), speed, float(along[i]))
            label = int(boxes.label[i])
            name = f"{class_name(label) if label >= 0 else 'obstacle'} {number}"
            result.append(Danger(number, name, float(gap[i]), float(safe[i]), closing, float(along[i]), braking))
        self._frames = frames
        return sorted(result, key=lambda danger: (-danger.braking, danger.gap - danger.safe))

    def _surely(
        self, objects: Objects, c: np.ndarray, s: np.ndarray, along: np.ndarray, across: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Velocities along and across the path (N,), without motion against it or across that may well be none."""
        covariance = objects.covariance[:, 4:6, 4:6]
        xx, xy, yy = covariance[:, 0, 0], covariance[:, 0, 1], covariance[:, 1, 1]
        least = self._settings.significance
        along_deviation = np.sqrt(np.clip(c * c * xx + 2 * c * s * xy + s * s * yy, 0.0, _FASTEST**2))
        across_deviation = np.sqrt(np.clip(s * s * xx - 2 * c * s * xy + c * c * yy, 0.0, _FASTEST**2))
        surely = np.abs(across) > least * across_deviation
        return np.where(-along > least * along_deviation, along, np.maximum(along, 0.0)), np.where(surely, across, 0.0)

    def _needed(self, gap: float, speed: float, other: float) -> float:
        """Braking (m/s²) that takes off what closes the gap (m), within what a proper response may be."""
        vehicle = self._vehicle
        own = min(speed, speed - other)  # towards an oncoming one all that can be taken off is the own speed
        late = vehicle.acceleration_delay + vehicle.acceleration_lag
        room = gap * own / max(speed - other, 1e-6) - self._settings.reserve - own * late
        most = min(self._settings.braking, _MOST_BRAKING_SHARE * self._vehicle.max_deceleration)
        return min(0.5 * own * own / max(room, 0.05), most)

    def _conflicts(self, way: Trajectory, velocity: np.ndarray, boxes: Boxes, rows: np.ndarray) -> np.ndarray:
        """(len(rows),) whether the plan would meet the objects if they went on with velocities (N, 2)."""
        if len(way) < 2:
            return np.ones(len(rows), bool)
        until, step = int(np.searchsorted(way.time, _AHEAD)) + 1, float(way.time[1] - way.time[0])
        pose = np.column_stack([way.x, way.y, way.yaw])[None, :until]
        start = np.column_stack([boxes.center[rows, :2], boxes.yaw[rows]])
        margin = np.full(len(rows), self._settings.lateral_fluctuation)
        paths = np.repeat(start[:, None, None], pose.shape[1] - 1, axis=2)
        paths[..., :2] += velocity[rows, None, None] * step * np.arange(1, pose.shape[1])[:, None]
        things = Things(
            np.column_stack([start, 0.5 * boxes.size[rows, :2], margin]), np.arange(len(rows)), start, paths,
            np.ones((len(rows), 1)), np.ones(len(rows), bool),
        )  # fmt: skip
        moves = np.maximum(way.speed[None, :until], _MOVES)  # who is still to move may meet as well
        found = touches(pose, moves, step, np.zeros(1, bool), things, self._vehicle, 0.0, 0.0)
        return found.probability[0] > 0.0
