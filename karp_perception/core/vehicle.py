"""The vehicle's own shape and limits."""

from __future__ import annotations

from dataclasses import dataclass

from karp_perception.core.settings import Settings, setting


@dataclass(frozen=True)
class Vehicle(Settings):
    """Footprint around the origin of `base_link`, and what the vehicle can do.

    The defaults are a mid-size car whose `base_link` lies on the ground below its roof sensor. Where `base_link` is
    the middle of the rear axle, `front` is about 3.8 m and `rear` 1.0 m: set both, every distance depends on them.
    """

    front: float = setting(2.9, "from base_link to the front bumper", unit="m", low=0.0, high=20.0)
    rear: float = setting(1.9, "from base_link back to the rear bumper", unit="m", low=0.0, high=20.0)
    width: float = setting(1.9, "overall width", unit="m", low=0.1, high=5.0)
    height: float = setting(2.0, "what must fit under things, sensors included", unit="m", low=0.1, high=6.0)
    wheelbase: float = setting(2.8, "between the axles", unit="m", low=0.1, high=15.0)
    max_steering_angle: float = setting(0.55, "of the front wheels", unit="rad", low=0.05, high=1.5)
    max_deceleration: float = setting(8.0, "of an emergency stop", unit="m/s2", low=0.5, high=12.0)
