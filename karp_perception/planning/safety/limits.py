"""What the vehicle cannot do is not asked of it: trajectories and commands within its limits."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from karp_perception.core import Command, Trajectory, Vehicle
from karp_perception.core.settings import Settings, setting
from karp_perception.planning.safety.retimed import at_speeds

_FASTEST = 1e3  # m/s: nothing that is faster drives
_SLACK = 1e-6  # of each limit that rounding may take


@dataclass(frozen=True)
class LimitSettings(Settings):
    """Limits beside those of the vehicle itself."""

    enabled: bool = setting(True, "clamp trajectories and commands to what the vehicle can do")
    lateral_acceleration: float = setting(6.0, "most in a bend, by the tyres", unit="m/s2", low=0.5, high=15.0)
    over_limit: float = setting(1.0, "faster than the speed limit by at most", unit="m/s", low=0.0, high=10.0)


def largest_curvature(speed: np.ndarray | float, vehicle: Vehicle, settings: LimitSettings) -> np.ndarray:
    """Tightest bend (1/m) at speeds (m/s): by wheels, yaw rate and lateral acceleration."""
    v = np.clip(np.abs(speed), 1e-3, _FASTEST)
    by_tyres = settings.lateral_acceleration / v**2
    return np.minimum(np.minimum(vehicle.largest_curvature(), vehicle.max_yaw_rate / v), by_tyres)


def within_limits(
    way: Trajectory, vehicle: Vehicle, settings: LimitSettings, speed_limit: float = math.inf
) -> tuple[Trajectory, tuple[str, ...]]:
    """The trajectory that comes nearest to `way` and can be driven, and what was changed in words.

    A trajectory within the limits is given back itself. Speeds keep the vehicle's and the speed limit (from a speed
    above it they come down as they did), their changes what drive and brakes can do; bends what wheels, tyres and
    `steering_rate` allow at that speed.
    """
    if not settings.enabled or len(way) < 2:
        return way, ()
    notes, dt = [], np.diff(way.time)
    speed = _possible_speeds(way, dt, vehicle, settings, speed_limit)
    worst = float(np.abs(speed - way.speed).max())
    if worst > 0.0:
        notes.append(f"speed clamped by up to {worst:.1f} m/s")
        way = at_speeds(way, way.time, speed)
    low, high = float(way.acceleration.min()), float(way.acceleration.max())
    if low < -vehicle.max_deceleration * (1 + _SLACK) or high > vehicle.max_acceleration * (1 + _SLACK):
        notes.append(f"acceleration of {low:.1f} to {high:.1f} m/s² clamped")
        clipped = np.clip(way.acceleration, -vehicle.max_deceleration, vehicle.max_acceleration)
        way = Trajectory(way.time, way.x, way.y, way.yaw, way.speed, clipped, way.curvature)
    bend = _possible_bends(way, dt, vehicle, settings)
    worst = float(np.abs(bend - way.curvature).max())
    if worst > _SLACK:
        notes.append(f"curvature clamped by up to {worst:.3f} 1/m")
        way = _bent(way, bend)
    return way, tuple(notes)


def _possible_speeds(
    way: Trajectory, dt: np.ndarray, vehicle: Vehicle, settings: LimitSettings, speed_limit: float
) -> np.ndarray:
    """(T,) the speeds of `way`, or what comes next to them. The first is what it is: it can only be followed."""
    most = min(vehicle.max_speed, speed_limit + settings.over_limit)
    planned = np.clip(way.speed, 0.0, vehicle.max_speed)
    planned = np.minimum(planned, np.maximum(most, np.minimum.accumulate(planned)))
    change = np.diff(planned)
    slack = 1 + _SLACK
    if (change >= -vehicle.max_deceleration * dt * slack - 1e-9).all() and (
        change <= vehicle.max_acceleration * dt * slack + 1e-9
    ).all():
        return planned
    speed = planned.copy()
    for k, step in enumerate(dt.tolist()):
        low, high = speed[k] - vehicle.max_deceleration * step, speed[k] + vehicle.max_acceleration * step
        speed[k + 1] = max(min(planned[k + 1], high), low, 0.0)
    return speed


def _possible_bends(way: Trajectory, dt: np.ndarray, vehicle: Vehicle, settings: LimitSettings) -> np.ndarray:
    """(T,) the curvatures of `way`, or what comes next to them."""
    most = largest_curvature(way.speed, vehicle, settings)
    bend = np.clip(way.curvature, -most, most)
    angle = np.arctan(bend * vehicle.wheelbase)
    rate = vehicle.largest_steering_rate()
    if (np.abs(np.diff(angle)) <= rate * dt * (1 + _SLACK)).all():
        return bend
    turn = np.arctan(most * vehicle.wheelbase)
    for k, step in enumerate(dt.tolist()):
        near = min(max(angle[k + 1], angle[k] - rate * step), angle[k] + rate * step)
        angle[k + 1] = min(max(near, -turn[k + 1]), turn[k + 1])
    return np.tan(angle) / vehicle.wheelbase


def _bent(way: Trajectory, bend: np.ndarray) -> Trajectory:
    """The same speeds along a path of other curvatures (T,) from the same pose."""
    step = 0.5 * (way.speed[1:] + way.speed[:-1]) * np.diff(way.time)
    turn = 0.5 * (bend[1:] + bend[:-1]) * step
    yaw = way.yaw[0] + np.concatenate([[0.0], np.cumsum(turn)])
    middle = yaw[:-1] + 0.5 * turn
    x = way.x[0] + np.concatenate([[0.0], np.cumsum(step * np.cos(middle))])
    y = way.y[0] + np.concatenate([[0.0], np.cumsum(step * np.sin(middle))])
    return Trajectory(way.time, x, y, yaw, way.speed, way.acceleration, bend)


class CommandLimiter:
    """Clamps what a controller asks for to what the vehicle can do. Remembers the last steering angle for its rate."""

    def __init__(self, settings: LimitSettings, vehicle: Vehicle) -> None:
        self._settings, self._vehicle = settings, vehicle
        self._angle: float | None = None

    def reset(self) -> None:
        """Forget the last command."""
        self._angle = None

    def limited(
        self, steering_angle: float, speed: float, acceleration: float, driven: float, dt: float
    ) -> tuple[Command, tuple[str, ...]]:
        """The command for what is asked, and what was changed, in words.

        Args:
            steering_angle, speed, acceleration: as in Command; what is not a number ends in a comfortable stop.
            driven: the speed that is driven now, m/s.
            dt: s since the last command.
        """
        vehicle, notes = self._vehicle, []
        asked = (steering_angle, speed, acceleration)
        if not all(math.isfinite(value) for value in asked):
            notes.append("a command that is no number: stopping")
            kept = steering_angle if math.isfinite(steering_angle) else (self._angle or 0.0)
            asked = (kept, 0.0, -vehicle.comfortable_deceleration)
        if not self._settings.enabled:
            self._angle = asked[0]
            return Command(*asked), tuple(notes)
        driven = driven if math.isfinite(driven) else vehicle.max_speed
        tightest = float(largest_curvature(driven, vehicle, self._settings))
        most = min(math.atan(tightest * vehicle.wheelbase), vehicle.largest_steering_angle(driven))
        angle = min(max(asked[0], -most), most)
        rate = vehicle.largest_steering_rate()
        if self._angle is not None and math.isfinite(rate):
            turn = rate * max(dt, 0.0)
            angle = min(max(angle, self._angle - turn), self._angle + turn)
            angle = min(max(angle, -most), most)
        limited = (
            angle,
            min(max(asked[1], 0.0), vehicle.max_speed),
            min(max(asked[2], -vehicle.max_deceleration), vehicle.max_acceleration),
        )
        units = (("steering angle", "rad"), ("speed", "m/s"), ("acceleration", "m/s²"))
        for (name, unit), before, after in zip(units, asked, limited, strict=True):
            if abs(before - after) > _SLACK:
                notes.append(f"{name} of {before:.2f} {unit} clamped to {after:.2f}")
        self._angle = angle
        return Command(*limited), tuple(notes)
