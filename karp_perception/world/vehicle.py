"""The vehicle under test: a kinematic bicycle behind actuators that are late, slow and limited."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

import numpy as np

from karp_perception.core import Command, EgoState
from karp_perception.core.geometry import pose_from_rotation, wrap_angle
from karp_perception.core.settings import Settings, setting
from karp_perception.core.vehicle import Vehicle
from karp_perception.world.geometry.ground import Ground
from karp_perception.world.geometry.shape import rotation_matrix

_SUB_STEP = 0.01  # s: commands take effect to this accuracy, arcs are exact for constant curvature within
_STANDING = 1e-4  # m/s


@dataclass(frozen=True)
class VehicleDynamics(Settings):
    """What is true of a vehicle beyond what its own settings say of it."""

    lateness: float = setting(1.0, "true dead times and time constants, over the vehicle's own", low=0.0, high=5.0)
    max_jerk: float = setting(30.0, "change of acceleration", unit="m/s3", low=1.0, high=1000.0)
    max_reverse_speed: float = setting(3.0, "backwards", unit="m/s", low=0.0, high=10.0)
    speed_gain: float = setting(1.2, "acceleration per m/s that speed lacks", unit="1/s", low=0.05, high=10.0)


class DrivenVehicle:
    """A vehicle that does what a Command says as well as its actuators can; it moves in the plane, on the ground.

    The bicycle turns about the middle of its rear axle; its tyres do not slip. What a Command asks for is clamped to
    what the vehicle can do, and comes after a dead time, with a first-order lag and under limits of rate.

    A Command's `acceleration` is that at which to reach its `speed`: followed as it stands while there is speed to
    gain or lose in its direction, faded out over the last tenth of a second of it, and never exceeded in size (but
    at least `LEAST_AUTHORITY` is had for corrections). An acceleration of 0 leaves the choice to the vehicle, as in
    ackermann_msgs: `speed_gain` times the error, up to its limits. One that points away from the wanted speed is
    left aside: the speed counts. Braking ends at standstill; backwards is driven only for a negative speed.
    """

    LEAST_AUTHORITY = 0.5
    """m/s², what corrections of the speed may use however small the acceleration asked for."""
    FADE = 0.1
    """s of the asked acceleration before the wanted speed over which it is faded out."""

    def __init__(
        self,
        vehicle: Vehicle = Vehicle(),
        dynamics: VehicleDynamics = VehicleDynamics(),
        x: float = 0.0,
        y: float = 0.0,
        yaw: float = 0.0,
        speed: float = 0.0,
        ground: Ground | None = None,
    ) -> None:
        """`x`, `y` (m) and `yaw` (rad) of `base_link` in the world's frame; `speed` in m/s, held until a command."""
        self.vehicle, self.dynamics, self.ground = vehicle, dynamics, ground
        self.axle = vehicle.axle
        self._steering_delay = dynamics.lateness * vehicle.steering_delay
        self._steering_lag = dynamics.lateness * vehicle.steering_lag
        self._acceleration_delay = dynamics.lateness * vehicle.acceleration_delay
        self._acceleration_lag = dynamics.lateness * vehicle.acceleration_lag
        self.yaw, self.speed = float(wrap_angle(yaw)), float(speed)
        self._x, self._y = x - self.axle * math.cos(yaw), y - self.axle * math.sin(yaw)
        self.steering_angle, self.acceleration, self.time = 0.0, 0.0, 0.0
        first = Command(0.0, self.speed, 0.0)
        self._commands: deque[tuple[float, Command]] = deque([(-math.inf, first)])
        self._z, self._pitch, self._roll = 0.0, 0.0, 0.0
        self._lie(ground)

    def apply(self, command: Command, delay: float = 0.0) -> None:
        """What to do from `delay` s on, later than what was told before; takes effect after the dead times."""
        self._commands.append((self.time + delay, command))

    def step(self, dt: float, ground: Ground | None = None) -> None:
        """Moves on by `dt` s and comes to lie on `ground` (that of the constructor where None)."""
        count = max(1, math.ceil(dt / _SUB_STEP - 1e-9))
        h = dt / count
        start = self.time
        for k in range(count):
            self.time = start + k * h
            self._integrate(h)
        self.time = start + dt
        oldest = self.time - max(self._steering_delay, self._acceleration_delay)
        while len(self._commands) > 1 and self._commands[1][0] <= oldest:
            self._commands.popleft()
        self._lie(ground if ground is not None else self.ground)

    @property
    def x(self) -> float:
        """Of `base_link`, m."""
        return self._x + self.axle * math.cos(self.yaw)

    @property
    def y(self) -> float:
        """Of `base_link`, m."""
        return self._y + self.axle * math.sin(self.yaw)

    @property
    def curvature(self) -> float:
        """Of the rear axle's path, 1/m, positive to the left."""
        return math.tan(self.steering_angle) / self.vehicle.wheelbase

    @property
    def yaw_rate(self) -> float:
        """rad/s."""
        return self.speed * self.curvature

    @property
    def velocity(self) -> np.ndarray:
        """(2,) m/s over ground of `base_link`'s origin, along its x and y."""
        return np.array([self.speed, self.axle * self.yaw_rate])

    @property
    def pose(self) -> np.ndarray:
        """(4, 4) `base_link` in the world, lying on the ground below its wheels."""
        return pose_from_rotation(rotation_matrix(self._roll, self._pitch, self.yaw), (self.x, self.y, self._z))

    @property
    def center(self) -> np.ndarray:
        """(2,) m, the middle of its footprint in the world."""
        ahead = 0.5 * (self.vehicle.front - self.vehicle.rear)
        return np.array([self.x + ahead * math.cos(self.yaw), self.y + ahead * math.sin(self.yaw)])

    def ego_state(self, stamp_ns: int) -> EgoState:
        """Its exact motion, as of this stamp."""
        return EgoState(stamp_ns, self.pose, self.velocity, self.yaw_rate)

    def _command_of(self, delay: float) -> Command:
        """The latest command that is at least `delay` s old."""
        until = self.time - delay + 1e-9
        found = self._commands[0][1]
        for since, command in self._commands:
            if since > until:
                break
            found = command
        return found

    def _integrate(self, h: float) -> None:
        """One sub-step of `h` s: the lags are solved exactly, the way is an arc of the mean curvature."""
        lag, rate = self._steering_lag, self.vehicle.largest_steering_rate()
        most = self.vehicle.largest_steering_angle(self.speed)
        wanted = min(max(self._command_of(self._steering_delay).steering_angle, -most), most)
        share = 1.0 - math.exp(-h / lag) if lag > 0 else 1.0
        before = self.curvature
        self.steering_angle += min(max((wanted - self.steering_angle) * share, -rate * h), rate * h)
        curvature = 0.5 * (before + self.curvature)
        way = self._advance(h)
        # The chord of an arc of length `way` lies along the heading in its middle.
        half = 0.5 * way * curvature
        chord = way * (math.sin(half) / half if abs(half) > 1e-9 else 1.0)
        self._x += chord * math.cos(self.yaw + half)
        self._y += chord * math.sin(self.yaw + half)
        self.yaw = float((self.yaw + 2.0 * half + math.pi) % (2.0 * math.pi) - math.pi)

    def _advance(self, h: float) -> float:
        """Changes speed and acceleration over `h` s; the way driven, m."""
        most_jerk = self.dynamics.max_jerk
        command = self._command_of(self._acceleration_delay)
        goal = min(max(command.speed, -self.dynamics.max_reverse_speed), self.vehicle.max_speed)
        wanted = self._wanted_acceleration(goal, command.acceleration)
        lag, before, speed = self._acceleration_lag, self.acceleration, self.speed
        jerk = (wanted - before) / (lag if lag > 0 else h)
        if abs(jerk) > most_jerk:
            change = math.copysign(min(most_jerk * h, abs(wanted - before)), jerk)
            self.acceleration = before + change
            gained, way = (before + 0.5 * change) * h, speed * h + (before / 2 + change / 6) * h * h
        elif lag > 0:
            decay = 1.0 - math.exp(-h / lag)
            rest = before - wanted
            self.acceleration = before - rest * decay
            gained = wanted * h + rest * lag * decay
            way = speed * h + 0.5 * wanted * h * h + rest * lag * (h - lag * decay)
        else:
            self.acceleration = wanted
            gained, way = wanted * h, speed * h + 0.5 * wanted * h * h
        after = speed + gained
        # Brakes bring it to rest and hold it there; only a goal on the other side lets it pass through zero.
        if (speed > 0.0 or (speed == 0.0 and goal >= 0.0)) and after < 0.0 <= goal + _STANDING:
            after, way = 0.0, max(way, 0.0)
            self.acceleration = max(self.acceleration, 0.0)
        elif (speed < 0.0 or (speed == 0.0 and goal <= 0.0)) and after > 0.0 >= goal - _STANDING:
            after, way = 0.0, min(way, 0.0)
            self.acceleration = min(self.acceleration, 0.0)
        if goal == 0.0 and abs(after) < 0.02 and wanted * after <= 0.0:
            after = 0.0  # the last centimetres a second, which a lag alone would never lose
            self.acceleration = 0.0
        self.speed = after
        return way

    def _wanted_acceleration(self, goal: float, asked: float) -> float:
        """What drive and brakes are to give, m/s², within what they can."""
        error = goal - self.speed
        fed, bound = 0.0, math.inf
        if asked != 0.0 and asked * error > 0.0:
            fed = asked * min(1.0, abs(error) / (abs(asked) * self.FADE))
            bound = max(abs(asked), self.LEAST_AUTHORITY)
        wanted = min(max(fed + self.dynamics.speed_gain * error, -bound), bound)
        slowing = self.speed * wanted < 0.0
        most = self.vehicle.max_deceleration if slowing else self.vehicle.max_acceleration
        return min(max(wanted, -most), most)

    def _lie(self, ground: Ground | None) -> None:
        """Height, pitch and roll from the terrain below the four wheels (least squares of a plane)."""
        if ground is None:
            return
        base, track = self.vehicle.wheelbase, 0.8 * self.vehicle.width
        c, s = math.cos(self.yaw), math.sin(self.yaw)
        along = np.array([base, base, 0.0, 0.0])
        left = np.array([0.5, -0.5, 0.5, -0.5]) * track
        z = ground.height(self._x + along * c - left * s, self._y + along * s + left * c)
        rise = (z[0] + z[1] - z[2] - z[3]) / (2.0 * base)
        tilt = (z[0] - z[1] + z[2] - z[3]) / (2.0 * track)
        self._pitch, self._roll = -math.atan(rise), math.atan(tilt * math.cos(math.atan(rise)))
        self._z = float(z.mean()) + rise * (self.axle - 0.5 * base)
