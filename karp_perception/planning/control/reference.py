"""A plan as the way of the middle of the rear axle: over time, and over distance for what deviates from it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from karp_perception.core import Plan, Trajectory

_APART = 1e-3  # m: nearer points are one place
_MOST_TURN = 1.5  # rad: beyond its end the way turns on so far at most
_BEYOND = 12  # points after the end


@dataclass(frozen=True)
class Spot:
    """A place on the way: distance along it (m), its heading (rad), and how far to its left something is (m)."""

    distance: float
    heading: float
    left: float


class Reference:
    """Where the middle of the rear axle is to be, in `base_link` at the plan's stamp.

    A rear axle's way is what a bicycle steers along: its heading is the vehicle's. After its last point the way goes on
    with the last curvature: who stops in a bend does not straighten the wheels first.

    Args:
        way: at least one point; `yaw` is the heading of the vehicle.
        axle: m from the rear axle forward to `base_link`.
        beyond: m that the way goes on after its end.
    """

    def __init__(self, way: Trajectory, axle: float, beyond: float) -> None:
        self.time, self.speed = way.time, np.maximum(way.speed, 0.0)
        yaw = np.unwrap(way.yaw)
        self._yaw = yaw
        self._x, self._y = way.x - axle * np.cos(yaw), way.y - axle * np.sin(yaw)
        steps = np.hypot(np.diff(self._x), np.diff(self._y))
        self._station = np.concatenate([[0.0], np.cumsum(steps)])
        keep = np.concatenate([[True], steps > _APART])
        places = np.stack([self._station, self._x, self._y, yaw, way.curvature])[:, keep]
        self.distance, self._px, self._py, self._heading, self._curvature = np.column_stack(
            [places, _continued(places[:, -1], beyond)]
        )

    def speed_at(self, time: float) -> float:
        """m/s at a time (s from the stamp)."""
        return float(np.interp(time, self.time, self.speed))

    def station_at(self, time: float) -> float:
        """m along the way at a time (s)."""
        return float(np.interp(time, self.time, self._station))

    def pose_at(self, time: float) -> tuple[float, float, float]:
        """x (m), y (m) and heading (rad) at a time (s)."""
        x, y, yaw = (float(np.interp(time, self.time, column)) for column in (self._x, self._y, self._yaw))
        return x, y, yaw

    def curvature_at(self, distance: float) -> float:
        """1/m at a distance along the way (m)."""
        return float(np.interp(distance, self.distance, self._curvature))

    def point_at(self, distance: float) -> tuple[float, float]:
        """x and y (m) at a distance along the way (m)."""
        x, y = (float(np.interp(distance, self.distance, column)) for column in (self._px, self._py))
        return x, y

    def nearest(self, x: float, y: float, near: float, window: float) -> Spot:
        """The place of the way nearest to a point (m), within `window` m of the distance `near`: ways may cross."""
        low = max(int(np.searchsorted(self.distance, near - window)) - 1, 0)
        high = max(int(np.searchsorted(self.distance, near + window)) + 1, low + 2)
        px, py, at = self._px[low:high], self._py[low:high], self.distance[low:high]
        dx, dy, length = np.diff(px), np.diff(py), np.diff(at)
        ahead = np.clip(((x - px[:-1]) * dx + (y - py[:-1]) * dy) / length**2, 0.0, 1.0)
        if low == 0:  # before its beginning the way is straight
            ahead[0] = min(((x - px[0]) * dx[0] + (y - py[0]) * dy[0]) / length[0] ** 2, 1.0)
        away = np.hypot(x - px[:-1] - ahead * dx, y - py[:-1] - ahead * dy)
        k = int(np.argmin(away))
        along = ahead[k] * length[k]
        distance = float(at[k] + along)
        left = (dx[k] * (y - py[k]) - dy[k] * (x - px[k])) / length[k]
        # Between two points the way is an arc: it lies to the right of its chord where it turns left.
        bulge = 0.5 * self.curvature_at(distance) * max(along, 0.0) * (length[k] - along)
        return Spot(distance, float(np.interp(distance, self.distance, self._heading)), float(left + bulge))


def planned(plan: Plan, ahead: float = 0.1) -> tuple[float, float, float]:
    """Speed (m/s), acceleration (m/s²) and curvature (1/m) of a plan `ahead` s from its stamp; zeros if empty."""
    way = plan.trajectory
    if not len(way):
        return 0.0, 0.0, 0.0
    columns = (way.speed, way.acceleration, way.curvature)
    return tuple(float(np.interp(ahead, way.time, column)) for column in columns)  # type: ignore[return-value]


def _continued(last: np.ndarray, beyond: float) -> np.ndarray:
    """(5, K) distance, x, y, heading and curvature of the arc after a place (5,)."""
    distance, x, y, heading, curvature = last
    way = np.linspace(0.0, beyond, _BEYOND + 1)[1:]
    bend = np.clip(curvature, -_MOST_TURN / beyond, _MOST_TURN / beyond)
    chord, middle = way * np.sinc(0.5 * way * bend / np.pi), heading + 0.5 * way * bend
    places = (x + chord * np.cos(middle), y + chord * np.sin(middle), heading + way * bend)
    return np.stack([distance + way, *places, np.full(_BEYOND, bend)])
