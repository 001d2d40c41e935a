"""A plain driver who knows the truth: follows a route, keeps distance, stops at red lights. Not the planner under test.

It moves the vehicle through recordings and training data, where what counts is to be somewhere sensible at a sensible
speed, thousands of times, in a fraction of a millisecond.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from karp_perception.core import Boxes, Command, EgoState, LightColor, Route, Settings, Vehicle, nested, setting
from karp_perception.core.geometry import invert_pose
from karp_perception.planning.idm import IdmSettings, free_acceleration, interaction
from karp_perception.world.interface import TrafficLight


@dataclass(frozen=True)
class RouteDriverSettings(Settings):
    """Habits."""

    sight: float = setting(60.0, "way ahead that is looked at", unit="m", low=10.0, high=300.0)
    lookahead_time: float = setting(0.9, "steers for the point this far ahead", unit="s", low=0.1, high=3.0)
    least_lookahead: float = setting(5.0, "and at least this far", unit="m", low=1.0, high=50.0)
    lateral_acceleration: float = setting(2.0, "in curves", unit="m/s2", low=0.2, high=8.0)
    margin: float = setting(0.4, "kept beside what stands", unit="m", low=0.0, high=3.0)
    anticipation: tuple = setting((0.0, 1.0, 2.0), "times at which others must not be in the way", unit="s", low=0.0)
    speed_limit: float = setting(13.9, "where the route has none", unit="m/s", low=0.5, high=60.0)
    idm: IdmSettings = nested(IdmSettings)


class RouteDriver:
    """Route and truth in, a command out.

    Args:
        route: where to go, in the frame of `EgoState.T_odom_base`.
        vehicle: its footprint.
        settings: habits.
    """

    def __init__(
        self, route: Route, vehicle: Vehicle = Vehicle(), settings: RouteDriverSettings = RouteDriverSettings()
    ) -> None:
        self.vehicle, self.settings = vehicle, settings
        self._points = points = _resampled(route.points)
        limit = settings.speed_limit if route.speed_limit is None else route.speed_limit
        edges = np.diff(points, axis=0)
        step, heading = np.hypot(*edges.T), np.unwrap(np.arctan2(edges[:, 1], edges[:, 0]))
        turn = np.abs(np.diff(heading, append=heading[-1]))
        curvature = np.append(turn / np.maximum(step, 0.5), 0.0)
        self._speed = np.minimum(limit, np.sqrt(settings.lateral_acceleration / np.maximum(curvature, 1e-4)))
        self._step = step

    def command(self, ego: EgoState, boxes: Boxes, lights: Sequence[TrafficLight] = ()) -> Command:
        """What to do now, among `boxes` and `lights` in `base_link`. At the end of the route it stops."""
        settings, idm, speed = self.settings, self.settings.idm.model, max(ego.speed, 0.0)
        first = int(np.argmin(np.hypot(*(self._points - ego.T_odom_base[:2, 3]).T)))
        way = np.concatenate([[0.0], np.cumsum(self._step[first:])])
        count = int(np.searchsorted(way, settings.sight, side="right"))
        way = way[:count]
        T = invert_pose(ego.T_odom_base)
        path = self._points[first : first + count] @ T[:2, :2].T + T[:2, 3]

        # Slow down in time for the curves ahead.
        wanted = float(np.sqrt(self._speed[first : first + count] ** 2 + 2 * idm.deceleration * 0.5 * way).min())
        slowdown = max(
            (interaction(speed, gap, lead, idm) for gap, lead in self._leads(path, way, boxes, lights)), default=0.0
        )
        acceleration = max(free_acceleration(speed, wanted, idm) - slowdown, -self.vehicle.max_deceleration)
        steering = self._steering(path, way, speed)
        # Towards standstill or the wanted speed, whichever the acceleration leads to.
        return Command(steering, wanted if acceleration > 0 else 0.0, acceleration)

    def _steering(self, path: np.ndarray, way: np.ndarray, speed: float) -> float:
        """Pure pursuit (Coulter 1992)."""
        ahead = max(self.settings.least_lookahead, self.settings.lookahead_time * speed)
        x, y = (float(np.interp(ahead, way, path[:, axis])) for axis in (0, 1))
        distance = max(x * x + y * y, 1.0)
        limit = self.vehicle.max_steering_angle
        return min(max(math.atan(self.vehicle.wheelbase * 2 * y / distance), -limit), limit)

    def _leads(
        self, path: np.ndarray, way: np.ndarray, boxes: Boxes, lights: Sequence[TrafficLight]
    ) -> list[tuple[float, float]]:
        """(gap m, speed m/s along the path) of whatever is in the way, the end of the route included."""
        front, half = self.vehicle.front, 0.5 * self.vehicle.width + self.settings.margin
        found = []
        if way[-1] < self.settings.sight - 2.0:
            found.append((float(way[-1]) - front, 0.0))
        if len(path) < 2:
            return [(0.0, 0.0)]
        heading = np.arctan2(*np.gradient(path, axis=0).T[::-1])
        for light in lights:
            away = np.hypot(*(path - light.stop).T)
            k = int(away.argmin())
            if light.color is not LightColor.GREEN and away[k] < half and way[k] > front:
                found.append((float(way[k]) - front, 0.0))
        for seconds in self.settings.anticipation:
            center = boxes.center[:, :2] + seconds * np.nan_to_num(boxes.velocity)
            away = np.hypot(*(center[:, None] - path).transpose(2, 0, 1))
            k = away.argmin(axis=1)
            turned = boxes.yaw - heading[k]
            c, s = np.abs(np.cos(turned)), np.abs(np.sin(turned))
            length, width = 0.5 * boxes.size[:, 0], 0.5 * boxes.size[:, 1]
            beside = away[np.arange(len(k)), k] - (s * length + c * width)
            gap = way[k] - (c * length + s * width) - front
            along = boxes.velocity[:, 0] * np.cos(heading[k]) + boxes.velocity[:, 1] * np.sin(heading[k])
            # What is beside the vehicle already is no lead; a later place counts from where the vehicle is now.
            ahead = (beside < half) & (k > 0) & (k < len(path) - 1) & (gap > -2.0 if seconds == 0 else gap > 0.0)
            for i in np.flatnonzero(ahead):
                lead = float(along[i])
                found.append((max(float(gap[i]) - seconds * max(lead, 0.0), 0.1), max(lead, 0.0)))
        return found


def _resampled(points: np.ndarray) -> np.ndarray:
    """The polyline (N, 2) with points a metre apart, its end included."""
    way = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(points, axis=0).T))])
    at = np.linspace(0.0, way[-1], max(2, math.ceil(way[-1]) + 1))
    return np.stack([np.interp(at, way, points[:, axis]) for axis in (0, 1)], axis=1)
