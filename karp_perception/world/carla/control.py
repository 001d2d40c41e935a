"""Command -> what a CARLA vehicle takes: its Ackermann controller, or pedals and a steering wheel of our own."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from karp_perception.core import Command
from karp_perception.core.settings import Settings, setting

_KMH = 3.6  # km/h in a m/s
_DEFAULT_STEERING = 70.0  # deg, of the front wheels of most of CARLA's cars


class Controller(Protocol):
    """Brings a command to the vehicle, once a tick."""

    def apply(self, vehicle: Any, command: Command, speed: float) -> None:
        """`speed` is the vehicle's own along its heading, m/s."""


class AckermannControl:
    """CARLA's own controller (0.9.14 and newer). Its steering is positive to the right, its acceleration a bound."""

    def __init__(self, carla: Any) -> None:
        self._carla = carla

    def apply(self, vehicle: Any, command: Command, speed: float) -> None:
        """Hand it over."""
        vehicle.apply_ackermann_control(
            self._carla.VehicleAckermannControl(
                steer=-command.steering_angle, speed=command.speed, acceleration=abs(command.acceleration)
            )
        )


@dataclass(frozen=True)
class PedalSettings(Settings):
    """A controller of speed for a mid-size car: what is asked for, corrected by what is missing."""

    proportional: float = setting(0.8, "acceleration for each m/s of difference", unit="1/s", low=0.0, high=10.0)
    integral: float = setting(0.15, "the same for each m/s that was missing for a second", unit="1/s2", low=0, high=5)
    windup: float = setting(4.0, "most that the integral holds", unit="m", low=0.0, high=50.0)
    full_throttle: float = setting(4.0, "acceleration of full throttle", unit="m/s2", low=0.5, high=20.0)
    full_brake: float = setting(8.0, "deceleration of full braking", unit="m/s2", low=0.5, high=20.0)
    rolling: float = setting(0.15, "deceleration of a car that rolls", unit="m/s2", low=0.0, high=2.0)
    drag: float = setting(0.0006, "deceleration by air, times the speed squared", unit="1/m", low=0.0, high=0.01)
    standing: float = setting(0.3, "below it, and with no speed wanted, the brakes hold", unit="m/s", low=0, high=2.0)


class PedalControl:
    """Throttle, brake and steering of a carla.VehicleControl: feed-forward of acceleration, PI on speed.

    Args:
        carla: the module.
        step_s: between two calls.
        max_steering: of the front wheels at full lock, rad.
        steering_curve: (N, 2) km/h and the part of full lock that the vehicle allows there (PhysX); None for all of it.
        settings: of the controller.
    """

    def __init__(
        self,
        carla: Any,
        step_s: float,
        max_steering: float = math.radians(_DEFAULT_STEERING),
        steering_curve: np.ndarray | None = None,
        settings: PedalSettings = PedalSettings(),
    ) -> None:
        self._carla, self._step, self._lock = carla, step_s, max_steering
        self._curve, self._settings = steering_curve, settings
        self._missing = 0.0

    @classmethod
    def of(cls, carla: Any, vehicle: Any, step_s: float) -> PedalControl:
        """For a vehicle, from its own physics."""
        physics = vehicle.get_physics_control()
        angles = [float(wheel.max_steer_angle) for wheel in physics.wheels]
        lock = max([angle for angle in angles if angle > 1.0], default=_DEFAULT_STEERING)
        curve = np.array([(point.x, point.y) for point in physics.steering_curve], float).reshape(-1, 2)
        return cls(carla, step_s, math.radians(lock), curve if len(curve) else None)

    def apply(self, vehicle: Any, command: Command, speed: float) -> None:
        """Work the pedals."""
        throttle, brake, reverse = self.pedals(command, speed)
        control = self._carla.VehicleControl(
            throttle=throttle, steer=self.steer(command.steering_angle, speed), brake=brake, reverse=reverse
        )
        vehicle.apply_control(control)

    def steer(self, angle: float, speed: float) -> float:
        """-1..1, positive to the right, for an angle of the front wheels (rad, positive to the left)."""
        lock = self._lock
        if self._curve is not None:
            lock *= max(float(np.interp(abs(speed) * _KMH, self._curve[:, 0], self._curve[:, 1])), 0.05)
        return min(max(-angle / lock, -1.0), 1.0)

    def pedals(self, command: Command, speed: float) -> tuple[float, float, bool]:
        """Throttle 0..1, brake 0..1, and whether the reverse gear is in."""
        settings = self._settings
        if abs(command.speed) < 0.05 and abs(speed) < settings.standing:
            self._missing = 0.0
            return 0.0, 1.0, False
        reverse = command.speed < -0.05 and speed < settings.standing
        direction = -1.0 if reverse else 1.0
        error = direction * (command.speed - speed)
        self._missing = min(max(self._missing + error * self._step, -settings.windup), settings.windup)
        asked = direction * command.acceleration
        if asked * error < 0.0:
            asked = 0.0  # it is past the wanted speed already
        wanted = asked + settings.proportional * error + settings.integral * self._missing
        wanted += settings.rolling + settings.drag * speed * speed
        if wanted >= 0.0:
            return min(wanted / settings.full_throttle, 1.0), 0.0, reverse
        return 0.0, min(-wanted / settings.full_brake, 1.0), reverse


def make_controller(carla: Any, vehicle: Any, step_s: float, how: str) -> Controller:
    """The controller called `how`: `ackermann`, `pedals`, or `auto` for the first that this CARLA has."""
    available = hasattr(carla, "VehicleAckermannControl") and hasattr(vehicle, "apply_ackermann_control")
    if how == "ackermann" or (how == "auto" and available):
        return AckermannControl(carla)
    return PedalControl.of(carla, vehicle, step_s)
