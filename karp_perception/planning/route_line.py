"""The line to follow at a moment: the part of the route around the vehicle, or the path that the vehicle is on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from karp_perception.core import EgoState, MotionSource, Route, Vehicle
from karp_perception.core.geometry import invert_pose, transform_points
from karp_perception.core.settings import Settings, setting
from karp_perception.planning.reference_line import ReferenceLine, nearest_distance, polyline_distance

_BEHIND = 10.0  # m of the line that are kept behind the rear bumper
_FARTHEST = 1e7  # m, where a route's points may lie
_ALONG = 0.2  # cosine between the vehicle and a route that it can follow


@dataclass(frozen=True)
class RouteLineSettings(Settings):
    """Which routes can be followed, and where to go without one."""

    farthest_route: float = setting(8.0, "a route farther away is not followed", unit="m", low=0.5, high=100.0)
    arc_speed: float = setting(1.0, "below it, without a route, the path is straight", unit="m/s", low=0.1, high=10.0)
    arc_turn: float = setting(0.8, "an arc goes straight on after turning so far", unit="rad", low=0.0, high=3.0)
    arc_memory: float = setting(0.5, "time over which the arc's curvature is averaged", unit="s", low=0.0, high=5.0)


class RouteLine:
    """Finds the line from moment to moment; remembers how far along the route the vehicle is, and how it turned."""

    def __init__(self, settings: RouteLineSettings, vehicle: Vehicle) -> None:
        self.settings, self.vehicle = settings, vehicle
        self.reset()

    def reset(self) -> None:
        """Forget everything about earlier moments."""
        self._route: Route | None = None
        self._progress: float | None = None
        self._curvature: float | None = None

    @property
    def progress(self) -> float:
        """m along the route where the vehicle is, as of the last call of `along`."""
        return self._progress or 0.0

    def along(self, route: Route, ego: EgoState, length: float) -> ReferenceLine | str:
        """The route around the vehicle in `base_link`, `length` m ahead; or why it cannot be followed."""
        if route is not self._route:
            self._route, self._progress = route, None
        points = np.column_stack([route.points, np.full(len(route.points), ego.T_odom_base[2, 3])])
        points = transform_points(invert_pose(ego.T_odom_base), points)[:, :2]
        if np.abs(points).max() > _FARTHEST:
            return "the route has points more than 10,000 km away"
        origin, away = nearest_distance(points, polyline_distance(points), self._progress)
        if away > self.settings.farthest_route:
            return f"the route is {away:.0f} m away"
        line = ReferenceLine.from_polyline(points, origin, self.vehicle.rear + _BEHIND, length)
        if np.cos(line.at(np.zeros(1))[1][0]) < _ALONG:
            return "the route leads another way than the vehicle points"
        self._progress = origin
        return line

    def straight_on(self, ego: EgoState | None, length: float, dt: float) -> ReferenceLine:
        """The path that the vehicle is on, in `base_link`: an arc as it turns now, straight when it hardly moves.

        Without `ego` as it turned when that was last known. `dt` s have passed since the last call.
        """
        settings = self.settings
        if ego is not None:
            speed = ego.speed
            known = ego.source != MotionSource.NONE and speed >= settings.arc_speed
            curvature = float(np.clip(ego.yaw_rate, -3.0, 3.0)) / max(speed, settings.arc_speed) if known else 0.0
            most = self.vehicle.largest_curvature()
            curvature = float(np.clip(curvature, -most, most))
            first = self._curvature is None or settings.arc_memory == 0
            share = 1.0 if first else 1 - np.exp(-dt / settings.arc_memory)
            before = self._curvature or 0.0
            self._curvature = before + share * (curvature - before)
        behind = self.vehicle.rear + _BEHIND
        return ReferenceLine.arc(self._curvature or 0.0, behind, length, settings.arc_turn)
