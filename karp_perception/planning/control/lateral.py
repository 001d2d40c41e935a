"""Steering along a way: a linear-quadratic regulator of the deviations from it, or pure pursuit of a point on it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy.linalg import expm, solve_discrete_are

from karp_perception.core import Vehicle
from karp_perception.core.geometry import wrap_angle
from karp_perception.planning.control.reference import Reference
from karp_perception.planning.control.settings import LqrSettings, PursuitSettings

_LEAST_SPEED = 0.3  # m/s: slower, steering moves the vehicle too little for gains of its own
_LEAST_LAG = 0.02  # s
_PER_OCTAVE = 4  # speeds with gains of their own, between a speed and twice of it
_FAR = 3.0  # tolerances: a larger deviation to the side is steered against no harder


@dataclass(frozen=True)
class Moving:
    """The vehicle when the next command takes effect: its rear axle on the way's plane (m, rad), m/s and rad."""

    x: float
    y: float
    yaw: float
    speed: float
    angle: float
    near: float
    """m along the way, about where it is."""


class Steering(Protocol):
    """Finds the angle of the front wheels."""

    def angle(self, way: Reference, at: Moving) -> float:
        """rad, positive to the left."""


class Lqr:
    """Regulates the deviations (left m, heading rad, wheels rad) from the way of a kinematic bicycle.

    d(left) = v heading, d(heading) = v / L wheels, d(wheels) = (told - wheels) / lag, sampled with the period that a
    command is held for. The gain solves the discrete Riccati equation (scipy), for each speed once; between speeds it
    is interpolated. What the way itself needs is fed forward, by as much as the wheels are late.
    """

    def __init__(self, settings: LqrSettings, vehicle: Vehicle, period: float) -> None:
        self.settings, self.vehicle, self.period = settings, vehicle, period
        self._gains: dict[int, np.ndarray] = {}

    def angle(self, way: Reference, at: Moving) -> float:
        """See Steering."""
        vehicle, spot = self.vehicle, way.nearest(at.x, at.y, at.near, _window(at.speed))
        early = at.speed * (vehicle.steering_lag + 0.5 * self.period)
        needed, fed = (math.atan(vehicle.wheelbase * way.curvature_at(spot.distance + ahead)) for ahead in (0.0, early))
        far = _FAR * self.settings.lateral
        deviation = (
            min(max(spot.left, -far), far), float(wrap_angle(at.yaw - spot.heading)), at.angle - needed,
        )  # fmt: skip
        return fed - float(self.gain(at.speed) @ deviation)

    def gain(self, speed: float) -> np.ndarray:
        """(3,) rad per m, rad and rad, at a speed (m/s)."""
        octaves = _PER_OCTAVE * math.log2(max(speed, _LEAST_SPEED) / _LEAST_SPEED)
        k = int(octaves)
        share = octaves - k
        return (1.0 - share) * self._gain(k) + share * self._gain(k + 1)

    def _gain(self, index: int) -> np.ndarray:
        if index not in self._gains:
            self._gains[index] = self._solved(_LEAST_SPEED * 2.0 ** (index / _PER_OCTAVE))
        return self._gains[index]

    def _solved(self, speed: float) -> np.ndarray:
        settings, base = self.settings, self.vehicle.wheelbase
        lag = max(self.vehicle.steering_lag, _LEAST_LAG)
        continuous = np.zeros((4, 4))  # states, then the input that is held
        continuous[0, 1], continuous[1, 2] = speed, speed / base
        continuous[2, 2:] = -1.0 / lag, 1.0 / lag
        sampled = expm(continuous * self.period)
        A, B = sampled[:3, :3], sampled[:3, 3:]
        angle = min(0.5 * self.vehicle.largest_steering_angle(speed), base * settings.lateral_acceleration / speed**2)
        Q = np.diag([settings.lateral**-2, settings.heading**-2, 0.0])
        R = np.array([[angle**-2]])
        P = solve_discrete_are(A, B, Q, R)
        return np.linalg.solve(R + B.T @ P @ B, B.T @ P @ A)[0]


class PurePursuit:
    """Steers the arc through a point of the way ahead (Coulter 1992), from where the vehicle is once the wheels have
    turned.
    """

    def __init__(self, settings: PursuitSettings, vehicle: Vehicle, period: float) -> None:
        self.settings, self.vehicle = settings, vehicle
        self._late = vehicle.steering_lag + 0.5 * period

    def angle(self, way: Reference, at: Moving) -> float:
        """See Steering."""
        base = self.vehicle.wheelbase
        go, turn = at.speed * self._late, at.speed * self._late * math.tan(at.angle) / base
        x, y = at.x + go * math.cos(at.yaw + 0.5 * turn), at.y + go * math.sin(at.yaw + 0.5 * turn)
        spot = way.nearest(x, y, at.near + go, _window(at.speed))
        reach = max(self.settings.lookahead_time * at.speed, self.settings.least_lookahead * base)
        goal_x, goal_y = way.point_at(spot.distance + reach)
        bearing = float(wrap_angle(math.atan2(goal_y - y, goal_x - x) - at.yaw - turn))
        return math.atan(2.0 * base * math.sin(bearing) / max(math.hypot(goal_x - x, goal_y - y), 0.5 * reach))


def reach(settings: PursuitSettings, vehicle: Vehicle, speed: float) -> float:
    """m beyond the end of a plan that steering looks at."""
    return max(settings.lookahead_time * speed, settings.least_lookahead * vehicle.wheelbase, 1.0)


def _window(speed: float) -> float:
    """m around the place where the vehicle should be in which the nearest place is looked for."""
    return 3.0 + speed
