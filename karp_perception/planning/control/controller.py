"""Plan and motion -> Command, for plans that are some tenths of a second old and wheels that are late."""

from __future__ import annotations

import math

import numpy as np

from karp_perception.core import Command, EgoState, MotionSource, Plan, Vehicle
from karp_perception.core.geometry import invert_pose, yaw_of
from karp_perception.core.validation import as_stamp
from karp_perception.planning.control.lateral import Lqr, Moving, PurePursuit, Steering, reach
from karp_perception.planning.control.longitudinal import SpeedControl
from karp_perception.planning.control.reference import Reference
from karp_perception.planning.control.settings import ControlSettings
from karp_perception.planning.control.steering import SteeringModel
from karp_perception.planning.safety.limits import CommandLimiter
from karp_perception.sensing.ego_motion import EgoMotion

_REMEMBERED = 3.0  # s of motion
_LONGEST_GAP = 1.0  # s between commands, after which nothing is known of the wheels
_MOST_CARRIED = 1.0  # s from the last motion state to now, over which it is carried on
_STEP = 0.02  # s, of that
_LEAST_SPEED = 0.5  # m/s, from which a yaw rate tells the wheels' angle

_Asked = tuple[float, float, float]


class Controller:
    """Drives the vehicle along plans: laterally by LQR or pure pursuit, longitudinally by PI with feed-forward.

    A plan begins where the vehicle was at its stamp. The controller finds where the vehicle is now on it, from odometry
    between the two and from the steering that is under way since the last odometry, and steers for where it will be
    when the command takes effect. It remembers motion, commands and the integral of the speed; a gap or a jump back in
    time makes it forget them.

    Attributes:
        notes: what of the last command was clamped to the vehicle's limits, a sentence each.
    """

    def __init__(self, settings: ControlSettings = ControlSettings(), vehicle: Vehicle = Vehicle()) -> None:
        self.settings, self.vehicle = settings, vehicle
        self._speed = SpeedControl(settings.speed, vehicle, settings.period)
        self._steering: Steering = (
            Lqr(settings.lqr, vehicle, settings.period)
            if settings.lateral == "lqr"
            else PurePursuit(settings.pursuit, vehicle, settings.period)
        )
        self._wheels = SteeringModel(vehicle)
        self._limiter = CommandLimiter(settings.limits, vehicle)
        self.reset()

    def reset(self) -> None:
        """Forget everything: a new drive begins."""
        self.notes: tuple[str, ...] = ()
        self._now_ns: int | None = None
        self._last = Command(0.0, 0.0, 0.0)
        self._motion = EgoMotion(history_s=_REMEMBERED)
        self._speed.reset()

    def observe(self, ego: EgoState) -> None:
        """A motion state from between the commands, such as that of a plan's stamp."""
        if ego.source is not MotionSource.NONE:
            self._motion.add(ego)

    def step(self, plan: Plan, ego: EgoState | None, now_ns: int) -> Command:
        """The command for now.

        Args:
            plan: the newest; an empty one asks for a comfortable stop, and so does one older than `longest_age`, along
                its way.
            ego: the newest motion state; None where there is none: then the vehicle is taken to be where the plan is.
            now_ns: ns, the time from which the command holds.

        Returns:
            finite and within the vehicle's limits.

        Raises:
            InvalidInput: for an impossible time.
        """
        now_ns = as_stamp("Controller.step now_ns", now_ns)
        if ego is not None and ego.source is MotionSource.NONE:
            ego = None
        self._carry_on(ego, now_ns)
        age = max(now_ns - plan.stamp_ns, 0) * 1e-9
        asked, driven = self._along(plan, ego, now_ns, age) if len(plan.trajectory) else self._stopped(ego)
        command, self.notes = self._limiter.limited(*asked, driven, self._gap)
        self._wheels.tell(now_ns, command.steering_angle)
        self._last = command
        return command

    def _carry_on(self, ego: EgoState | None, now_ns: int) -> None:
        """From the last command to this one."""
        gap = math.inf if self._now_ns is None else (now_ns - self._now_ns) * 1e-9
        if not 0.0 <= gap <= _LONGEST_GAP:
            self._motion = EgoMotion(history_s=_REMEMBERED)
            self._wheels.reset(now_ns, self._measured_angle(ego))
            self._speed.reset()
            self._last = Command(self._measured_angle(ego), 0.0, 0.0)
            self._limiter.reset()
            gap = 0.0
        else:
            self._wheels.advance(now_ns)
        self._gap = gap
        self._now_ns = now_ns
        if ego is not None:
            self._motion.add(ego)

    def _along(self, plan: Plan, ego: EgoState | None, now_ns: int, age: float) -> tuple[_Asked, float]:
        """Steering angle, speed and acceleration along a plan, and the speed that is driven."""
        vehicle, planned = self.vehicle, float(np.abs(plan.trajectory.speed).max())
        way = Reference(plan.trajectory, vehicle.axle, reach(self.settings.pursuit, vehicle, planned))
        now, then = self._places(way, plan.stamp_ns, ego, now_ns, age)
        stale = age > self.settings.longest_age
        if self._speed.stands(way, age, now.speed) or (stale and now.speed <= self.settings.speed.standing):
            return self._held(), now.speed
        angle = self._steering.angle(way, then)
        if stale:
            return (angle, *self._speed.stop(now.speed)), now.speed
        here = way.nearest(now.x, now.y, now.near, 3.0 + now.speed).distance
        return (angle, *self._speed.follow(way, age, now.speed, now.near - here)), now.speed

    def _places(
        self, way: Reference, stamp_ns: int, ego: EgoState | None, now_ns: int, age: float
    ) -> tuple[Moving, Moving]:
        """The vehicle in the plan's frame, now and when the wheels answer to the next command."""
        late = self.vehicle.steering_delay
        start_ns, pose = now_ns, None
        if ego is not None and abs(now_ns - ego.stamp_ns) * 1e-9 <= _MOST_CARRIED:
            start_ns, pose = min(ego.stamp_ns, now_ns), self._on_plan(stamp_ns, ego)
        begin = age - (now_ns - start_ns) * 1e-9
        speed = way.speed_at(age) if ego is None else max(ego.speed, 0.0)
        if pose is None:
            start_ns, begin, pose = now_ns, age, way.pose_at(age)
        count = max(2, math.ceil((age - begin) / _STEP) + 1)
        times = np.concatenate([np.linspace(begin, age, count), np.linspace(age, age + late, count)[1:]])
        speeds = np.maximum(speed + np.interp(times, way.time, way.speed) - way.speed_at(begin), 0.0)
        angles = self._wheels.angles(start_ns + np.round((times - begin) * 1e9).astype(np.int64))
        x, y, yaw = _driven(pose, times, speeds, angles, self.vehicle.wheelbase)
        return tuple(  # type: ignore[return-value]
            Moving(
                float(x[k]), float(y[k]), float(yaw[k]), float(speeds[k]), float(angles[k]),
                way.station_at(float(times[k])),
            )
            for k in (count - 1, len(times) - 1)
        )  # fmt: skip

    def _on_plan(self, stamp_ns: int, ego: EgoState) -> tuple[float, float, float] | None:
        """Rear axle (m, m, rad) in `base_link` at a stamp, by odometry; None where it does not reach back so far."""
        if stamp_ns == ego.stamp_ns:
            return -self.vehicle.axle, 0.0, 0.0
        then = self._motion.at(stamp_ns)
        if then is None:
            return None
        T = invert_pose(then.T_odom_base) @ ego.T_odom_base
        yaw = yaw_of(T)
        return T[0, 3] - self.vehicle.axle * math.cos(yaw), T[1, 3] - self.vehicle.axle * math.sin(yaw), yaw

    def _stopped(self, ego: EgoState | None) -> tuple[_Asked, float]:
        """A comfortable stop with the wheels as they are, and the speed that is driven."""
        speed = self._last.speed if ego is None else ego.speed
        if speed <= self.settings.speed.standing:
            return self._held(), speed
        return (self._last.steering_angle, *self._speed.stop(speed)), speed

    def _held(self) -> _Asked:
        """Standing still, as quickly as can be; wheels are not turned on the spot."""
        self._speed.reset()
        return self._last.steering_angle, 0.0, 0.0

    def _measured_angle(self, ego: EgoState | None) -> float:
        """Of the front wheels, by the yaw rate; 0 where that says nothing."""
        if ego is None or ego.speed < _LEAST_SPEED:
            return 0.0
        angle = math.atan(self.vehicle.wheelbase * ego.yaw_rate / ego.speed)
        most = self.vehicle.largest_steering_angle(ego.speed)
        return min(max(angle, -most), most)


def _driven(
    pose: tuple[float, float, float], times: np.ndarray, speeds: np.ndarray, angles: np.ndarray, wheelbase: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """x, y and heading (N,) of a bicycle's rear axle at times (N,) s, from a pose at the first, by chords of arcs."""
    way = 0.5 * (speeds[1:] + speeds[:-1]) * np.diff(times)
    curvature = np.tan(angles) / wheelbase
    turn = way * 0.5 * (curvature[1:] + curvature[:-1])
    yaw = pose[2] + np.concatenate([[0.0], np.cumsum(turn)])
    middle = yaw[:-1] + 0.5 * turn
    x = pose[0] + np.concatenate([[0.0], np.cumsum(way * np.cos(middle))])
    y = pose[1] + np.concatenate([[0.0], np.cumsum(way * np.sin(middle))])
    return x, y, yaw
