"""Speed: the plan's acceleration fed forward, PI on what is missing of its speed and place."""

from __future__ import annotations

from karp_perception.core import Vehicle
from karp_perception.planning.control.reference import Reference
from karp_perception.planning.control.settings import SpeedSettings

_HELD = 0.1  # s: a speed that is nearer is faded in by vehicle interfaces
_SOON = 1.0  # s: a plan that still stands then is one to stand


class SpeedControl:
    """Speed and acceleration to ask for.

    The speed is what the acceleration leads to by the time that drive and brakes answer to the next command: one that
    is nearer is reached before they are up, and never braked for in full.
    """

    def __init__(self, settings: SpeedSettings, vehicle: Vehicle, period: float) -> None:
        self.settings, self.vehicle, self.period = settings, vehicle, period
        self._lead = vehicle.acceleration_delay + vehicle.acceleration_lag + period + _HELD
        self.reset()

    def reset(self) -> None:
        """Forget what was learnt."""
        self._integral = 0.0

    def stands(self, way: Reference, age: float, speed: float) -> bool:
        """Whether the vehicle (m/s) is to be held where it stands, `age` s after the plan's stamp."""
        soon = max(way.speed_at(age), way.speed_at(age + _SOON))
        return abs(speed) <= self.settings.standing and soon <= self.settings.standing

    def follow(self, way: Reference, age: float, speed: float, behind: float) -> tuple[float, float]:
        """Speed (m/s) and acceleration (m/s²) for a vehicle `behind` m short of where the plan is after `age` s."""
        settings, vehicle = self.settings, self.vehicle
        missing = way.speed_at(age) - speed
        late = age + vehicle.acceleration_delay + vehicle.acceleration_lag
        fed = (way.speed_at(late + self.period) - way.speed_at(late)) / self.period
        if way.speed_at(late) <= 0.0:  # what stands by then brakes until then as hard as it says, not as it stands
            fed = min(fed, -way.speed_at(age) / (late - age))
        # Half a second's worth of distance at most: who is far behind plans anew, and does not race.
        behind = min(max(behind, -0.5 * max(speed, 1.0)), 0.5 * max(speed, 1.0))
        wanted = fed + settings.proportional * (missing + settings.station * behind) + self._integral
        most, least = vehicle.max_acceleration, -vehicle.max_deceleration
        # Learnt from small errors only, and not from those that limits make.
        if least < wanted < most and abs(missing) < settings.integral_band and speed > settings.standing:
            learnt = self._integral + settings.integral * missing * self.period
            self._integral = min(max(learnt, -settings.most_integral), settings.most_integral)
        wanted = min(max(wanted, least), most)
        then = max(speed + way.speed_at(age + vehicle.acceleration_delay) - way.speed_at(age), 0.0)
        return self._asked(then, missing, wanted)

    def stop(self, speed: float) -> tuple[float, float]:
        """The same for a comfortable stop from a speed (m/s)."""
        self.reset()
        return self._asked(max(speed, 0.0), 0.0, -self.vehicle.comfortable_deceleration if speed > 0.0 else 0.0)

    def _asked(self, speed: float, missing: float, acceleration: float) -> tuple[float, float]:
        """A speed on the acceleration's side of the present one: ahead of it, and no less far than the plan's."""
        correction = max(missing, 0.0) if acceleration > 0.0 else min(missing, 0.0)
        goal = speed + self._lead * acceleration + correction
        return min(max(goal, 0.0), self.vehicle.max_speed), acceleration
