"""Settings of the controller."""

from __future__ import annotations

from dataclasses import dataclass

from karp_perception.core.settings import Settings, nested, setting
from karp_perception.planning.safety.limits import LimitSettings


@dataclass(frozen=True)
class LqrSettings(Settings):
    """What a deviation costs, by Bryson's rule: each of these weighs as much as the others."""

    lateral: float = setting(0.15, "deviation to the side", unit="m", low=0.01, high=5.0)
    heading: float = setting(0.1, "deviation of the heading", unit="rad", low=0.005, high=1.0)
    lateral_acceleration: float = setting(1.5, "spent on correcting them", unit="m/s2", low=0.05, high=10.0)


@dataclass(frozen=True)
class PursuitSettings(Settings):
    """How far ahead pure pursuit steers for."""

    lookahead_time: float = setting(0.45, "steers for the point this far ahead", unit="s", low=0.1, high=3.0)
    least_lookahead: float = setting(1.0, "and at least this far, in wheelbases", low=0.3, high=10.0)


@dataclass(frozen=True)
class SpeedSettings(Settings):
    """PI control of the speed around the plan's acceleration."""

    proportional: float = setting(0.8, "acceleration for each m/s that is missing", unit="1/s", low=0.0, high=5.0)
    station: float = setting(0.4, "speed for each m behind where the plan is", unit="1/s", low=0.0, high=3.0)
    integral: float = setting(0.15, "for each m/s that was missing for a second", unit="1/s2", low=0.0, high=3.0)
    most_integral: float = setting(1.0, "most that the integral holds", unit="m/s2", low=0.0, high=5.0)
    integral_band: float = setting(1.0, "a larger error is none to be learnt from", unit="m/s", low=0.05, high=10.0)
    standing: float = setting(0.05, "below it, where the plan stands, the vehicle is held", unit="m/s", low=0, high=0.5)


@dataclass(frozen=True)
class ControlSettings(Settings):
    """How plans become commands; `limits` are those of commands, whatever the plan asks for."""

    lateral: str = setting("lqr", "what steers", choices=("lqr", "pure_pursuit"))
    period: float = setting(0.1, "between two commands", unit="s", low=0.005, high=0.5)
    longest_age: float = setting(1.0, "an older plan is only followed to a stop", unit="s", low=0.1, high=10.0)
    lqr: LqrSettings = nested(LqrSettings)
    pursuit: PursuitSettings = nested(PursuitSettings)
    speed: SpeedSettings = nested(SpeedSettings)
    limits: LimitSettings = nested(LimitSettings)
