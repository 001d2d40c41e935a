"""The vehicle's own shape, what it can do, and how late it does it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from karp_perception.core.settings import Settings, setting

_LARGEST_ANGLE = 1.5  # rad: a differential drive's turning, as front wheels that a bicycle's tangent can still take


@dataclass(frozen=True)
class Vehicle(Settings):
    """Footprint around the origin of `base_link`, what the vehicle can do, and how late its actuators are.

    The defaults are a mid-size car whose `base_link` lies on the ground below its roof sensor. Where `base_link` is
    the middle of the rear axle, `front` is about 3.8 m, `rear` and `rear_overhang` 1.0 m: every distance depends on
    them.

    Both kinds move as a bicycle that turns about the middle of its rear axle, and a Command steers both by the angle of
    front wheels `wheelbase` before it. A differential drive has no such wheels: it turns about the axle of its two
    driven ones, as tightly as `max_yaw_rate` lets it, and its `wheelbase` is only the unit that the angle is given in
    (`max_steering_angle` and `steering_rate` mean nothing to it).
    """

    front: float = setting(2.9, "from base_link to the front bumper", unit="m", low=0.0, high=20.0)
    rear: float = setting(1.9, "from base_link back to the rear bumper", unit="m", low=0.0, high=20.0)
    width: float = setting(1.9, "overall width", unit="m", low=0.1, high=5.0)
    height: float = setting(2.0, "what must fit under things, sensors included", unit="m", low=0.1, high=6.0)
    wheelbase: float = setting(2.8, "between the axles", unit="m", low=0.1, high=15.0)
    max_steering_angle: float = setting(0.55, "of the front wheels", unit="rad", low=0.05, high=1.5)
    max_deceleration: float = setting(8.0, "of an emergency stop", unit="m/s2", low=0.5, high=12.0)
    kind: str = setting(
        "ackermann", "front wheels that steer, or two driven wheels", choices=("ackermann", "differential")
    )
    rear_overhang: float = setting(0.95, "from the rear axle back to the rear bumper", unit="m", low=0.0, high=10.0)
    max_speed: float = setting(55.0, "forwards", unit="m/s", low=0.1, high=100.0)
    max_acceleration: float = setting(3.0, "of the drive", unit="m/s2", low=0.1, high=15.0)
    comfortable_deceleration: float = setting(2.0, "of a stop that is not urgent", unit="m/s2", low=0.1, high=6.0)
    steering_rate: float = setting(0.6, "most the front wheels turn by", unit="rad/s", low=0.05, high=10.0)
    max_yaw_rate: float = setting(2.0, "most it may turn by", unit="rad/s", low=0.05, high=10.0)
    steering_delay: float = setting(0.08, "dead time of the steering", unit="s", low=0.0, high=1.0)
    steering_lag: float = setting(0.12, "time constant of the steering", unit="s", low=0.0, high=2.0)
    acceleration_delay: float = setting(0.08, "dead time of drive and brakes", unit="s", low=0.0, high=1.0)
    acceleration_lag: float = setting(0.18, "time constant of drive and brakes", unit="s", low=0.0, high=2.0)

    @property
    def length(self) -> float:
        """From bumper to bumper, m."""
        return self.front + self.rear

    @property
    def axle(self) -> float:
        """From the middle of the rear axle, about which the vehicle turns, forward to `base_link`, m."""
        return self.rear - self.rear_overhang

    def largest_steering_angle(self, speed: float = 0.0) -> float:
        """Most that a Command's steering angle can be at a speed (m/s), rad: by the wheels and by `max_yaw_rate`."""
        wheels = self.max_steering_angle if self.kind == "ackermann" else _LARGEST_ANGLE
        return min(wheels, math.atan(self.wheelbase * self.max_yaw_rate / max(abs(speed), 1e-3)))

    def largest_curvature(self, speed: float = 0.0) -> float:
        """Curvature (1/m) of the tightest way of the rear axle at a speed (m/s)."""
        return math.tan(self.largest_steering_angle(speed)) / self.wheelbase

    def largest_steering_rate(self) -> float:
        """Most that a Command's steering angle changes by, rad/s; infinite where no wheel has to turn for it."""
        return self.steering_rate if self.kind == "ackermann" else math.inf
