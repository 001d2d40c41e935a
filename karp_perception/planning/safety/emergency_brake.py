"""The emergency brake: full braking for what the geometric channel sees in the way, whatever anything else says.

Obstacles have no velocity. How fast each comes nearer follows from how the way to its nearest point changes from frame
to frame, along the path that is steered: nothing else is needed of the vehicle's motion, so that odometry may be wrong.
The free way itself would not do: it ends ever nearer on what comes in from the side.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from karp_perception.core import Boxes, Vehicle
from karp_perception.core.settings import Settings, setting
from karp_perception.planning.safety.swept_path import SweptPath

_MOST = 12  # nearest obstacles that are followed
_ACROSS = 1.5  # m to the side that the same thing may seem to jump
_GATE = 3.0  # deviations within which a measurement is of the same thing
_SURE = 1.5  # deviations by which it surely closes in
_OUTLIER = 2.0  # deviations beyond which a jump of the visible shape is not motion
_STANDING = 0.05  # m/s
_TOUCHING = 0.02  # m, so that what is as good as touched needs a finite braking
_LONGEST_GAP = 0.5  # s without frames after which nothing is followed any more
_SLOWING_TIME = 0.3  # s over which the braking of what is ahead is averaged
_SLOWING = 2.0  # m/s² from which it brakes
_HARDEST = 8.0  # m/s² with which anything brakes
_KNOWN = 4  # frames from which its motion is known so well
_MOVES = 1.0  # m/s along the path: slower obstacles stand
_BODY = 4.5  # m behind the near face of what is followed, within which something new is most likely a part of it
_ONCOMING = 3.0  # m/s faster than the vehicle itself


@dataclass(frozen=True)
class EmergencyBrakeSettings(Settings):
    """When the emergency brake acts. Shares are of the vehicle's `max_deceleration`."""

    enabled: bool = setting(True, "brake for obstacles of the geometric channel, independently of everything else")
    trigger: float = setting(0.7, "share of braking that is needed from which it acts", low=0.2, high=1.0)
    urgent: float = setting(0.87, "share from which fewer frames do", low=0.2, high=1.0)
    release: float = setting(0.25, "needed share below which it lets go", low=0.0, high=1.0)
    frames: int = setting(3, "frames in a row that must agree", low=1, high=20)
    urgent_frames: int = setting(2, "the same where it is urgent", low=1, high=20)
    release_time: float = setting(0.5, "for which nothing may be needed until it lets go", unit="s", low=0.0, high=5.0)
    reserve: float = setting(0.3, "kept free before an obstacle", unit="m", low=0.0, high=3.0)
    hold: float = setting(0.5, "standing, it holds as long as an obstacle is so near", unit="m", low=0.0, high=3.0)
    margin: float = setting(0.0, "beside the vehicle's own width", unit="m", low=-0.3, high=1.0)
    slowest: float = setting(0.5, "slower nothing is an emergency", unit="m/s", low=0.05, high=3.0)
    range: float = setting(100.0, "farther obstacles are not looked at", unit="m", low=10.0, high=200.0)
    deviation: float = setting(0.1, "of the free way to an obstacle", unit="m", low=0.01, high=2.0)
    manoeuvres: float = setting(4.0, "acceleration that the closing speed may have", unit="m/s2", low=0.1, high=20.0)
    memory: float = setting(0.25, "for which an obstacle that is not seen is remembered", unit="s", low=0.0, high=2.0)
    jerk: float = setting(40.0, "of full braking", unit="m/s3", low=1.0, high=200.0)


@dataclass
class _Threat:
    """One obstacle in the way: a Kalman filter of the way to its nearest point and of its closing speed.

    Attributes:
        level: m until the front is level with its nearest point. inset: m that are free beyond. closing: m/s.
        offset: m to the left where it is touched.
        speed: its own along the path, m/s. slowing: how it brakes, m/s².
        level_variance, both, closing_variance: the filter's covariance.
        seen: frames. alarms: frames in a row in which braking was needed. unseen: s.
    """

    level: float
    inset: float
    closing: float
    offset: float
    level_variance: float
    closing_variance: float
    speed: float = 0.0
    slowing: float = 0.0
    both: float = 0.0
    seen: int = 1
    alarms: int = 0
    unseen: float = 0.0

    @property
    def free(self) -> float:
        """Free way, m."""
        return max(self.level + self.inset, 0.0)

    def carried_on(self, dt: float, manoeuvres: float) -> None:
        """Predicted by dt s."""
        noise = manoeuvres * manoeuvres
        self.level -= self.closing * dt
        self.level_variance += -2 * dt * self.both + dt * dt * self.closing_variance + 0.25 * dt**4 * noise
        self.both += -dt * self.closing_variance - 0.5 * dt**3 * noise
        self.closing_variance += dt * dt * noise
        self.unseen += dt

    def measured(self, free: float, level: float, offset: float, deviation: float, own: float) -> None:
        """Updated, at the vehicle's own speed; a jump that is too far to be motion counts as far as it may be."""
        variance = self.level_variance + deviation * deviation
        most = _OUTLIER * math.sqrt(variance)
        innovation = min(max(level - self.level, -most), most)
        gain, closing_gain = self.level_variance / variance, self.both / variance
        self.level += gain * innovation
        self.closing += closing_gain * innovation
        self.closing_variance -= closing_gain * self.both
        self.both *= 1 - gain
        self.level_variance *= 1 - gain
        before, self.speed = self.speed, own - self.closing
        if self.seen >= _KNOWN and self.unseen > 0.0:
            braking = min(max((before - self.speed) / self.unseen, -_HARDEST), _HARDEST)
            self.slowing += (braking - self.slowing) * self.unseen / (self.unseen + _SLOWING_TIME)
        self.inset, self.offset, self.unseen, self.seen = free - level, offset, 0.0, self.seen + 1


@dataclass(frozen=True)
class Alarm:
    """Why the emergency brake acts: free way (m), closing speed (m/s) and time to collision (s) of an obstacle."""

    free: float
    closing: float
    ttc: float | None

    def words(self) -> str:
        """As a person would say it."""
        text = f"an obstacle ahead, {self.free:.1f} m"
        return text if self.ttc is None else f"{text}, closing {self.closing:.1f} m/s, {self.ttc:.1f} s"


class EmergencyBrake:
    """Follows what is in the way, frame by frame, and says when only full braking is left."""

    def __init__(self, settings: EmergencyBrakeSettings, vehicle: Vehicle) -> None:
        self._settings, self._vehicle = settings, vehicle
        self.reset()

    def reset(self) -> None:
        """Forget everything, also that it is braking."""
        self._braking = False
        self._last: Alarm | None = None
        self.forget()

    def forget(self) -> None:
        """Forget what was followed, but go on braking: after a jump of time."""
        self._threats: list[_Threat] = []
        self._calm = 0.0

    def observed(
        self, obstacles: Boxes | None, path: SweptPath, speed: float, dt: float, age: float = 0.0
    ) -> Alarm | None:
        """The alarm, or None where there is none.

        Args:
            obstacles: of the geometric channel, `base_link`; None where it said nothing.
            path: that is steered. speed: of the vehicle, m/s.
            dt: s since the last call. age: s since the obstacles were measured.
        """
        settings = self._settings
        if dt > _LONGEST_GAP:
            self._threats = []
        for threat in self._threats:
            threat.carried_on(dt, settings.manoeuvres)
        if obstacles is not None and len(obstacles):
            self._join(self._in_the_way(obstacles, path), speed)
        self._threats = [threat for threat in self._threats if threat.unseen <= settings.memory]
        worst = self._judge(speed, age)
        self._release(worst, speed, dt, obstacles is not None)
        if not self._braking:
            return None
        if worst is not None:
            free, closing = max(worst.free - worst.closing * age, 0.0), worst.closing
            ttc = free / closing if closing > settings.slowest else None
            self._last = Alarm(free, closing, ttc)
        return self._last

    def _in_the_way(self, obstacles: Boxes, path: SweptPath) -> list[tuple[float, float, float]]:
        """Free way, way to the nearest point and offset (m) of obstacles on the path, nearest first."""
        free, level, offset = path.free(obstacles, np.full(len(obstacles), self._settings.margin))
        rows = np.flatnonzero(free < self._settings.range)
        # Pieces of one thing lie at one place: the nearest counts.
        rows = rows[np.lexsort((offset[rows], free[rows]))][:_MOST]
        return list(zip(free[rows].tolist(), level[rows].tolist(), offset[rows].tolist(), strict=True))

    def _join(self, left: list[tuple[float, float, float]], speed: float) -> None:
        """Gives each obstacle that is followed the measurement next to where it is expected; the rest is new."""
        settings = self._settings
        # What was seen a moment ago, and for longest, is surest of where it is: a bit that came and went must not take
        # the place of the thing it was of.
        for threat in sorted(self._threats, key=lambda threat: (threat.unseen, -threat.seen, threat.free)):
            gate = max(1.0, _GATE * math.sqrt(threat.level_variance + settings.deviation**2))
            near = [m for m in left if abs(m[1] - threat.level) < gate and abs(m[2] - threat.offset) < _ACROSS]
            if near:
                best = min(near, key=lambda m: abs(m[1] - threat.level))
                threat.measured(*best, settings.deviation, speed)
                left.remove(best)
        spread = max(1.0, 0.5 * speed)
        followed = [threat for threat in self._threats if threat.seen >= _KNOWN and threat.unseen <= 0.0]
        for free, level, offset in left:
            closing = max(speed, 0.0)  # it may well stand
            # Bits of the roof or of the far wheels of what drives ahead come and go: they most likely drive as well.
            for threat in followed:
                if 0.0 <= level - threat.level < _BODY and abs(offset - threat.offset) < _ACROSS:
                    closing = min(closing, threat.closing)
            self._threats.append(_Threat(level, free - level, closing, offset, settings.deviation**2, spread**2))

    def _judge(self, speed: float, age: float) -> _Threat | None:
        """Counts alarms, begins to brake where they suffice, and gives the threat that needs most braking."""
        settings, most = self._settings, self._vehicle.max_deceleration
        worst, needed = None, 0.0
        for threat in self._threats:
            if threat.unseen > 0.0:
                continue
            share = self._needed(threat, threat.closing, speed, age) / most
            if worst is None or share > needed:
                worst, needed = threat, share
            threat.alarms = threat.alarms + 1 if share >= settings.trigger and speed > settings.slowest else 0
            # A closing speed that is not known yet counts as low as it may well be.
            surely = threat.closing - _SURE * math.sqrt(max(threat.closing_variance, 0.0))
            certain = self._needed(threat, surely, speed, age) / most
            frames = settings.urgent_frames if certain >= settings.urgent else settings.frames
            if threat.closing > speed + _ONCOMING:
                frames += 1
            if certain >= settings.trigger and min(threat.alarms, threat.seen) >= frames:
                self._braking = True
        return worst

    def _release(self, worst: _Threat | None, speed: float, dt: float, seen: bool) -> None:
        """Lets go once nothing has been needed for a while, or the vehicle stands with room before it."""
        settings = self._settings
        if not self._braking:
            return
        if speed > _STANDING:
            calm = seen and (worst is None or self._resolved(worst, speed))
        else:
            calm = worst is None or worst.free > settings.hold
        self._calm = self._calm + dt if calm else 0.0
        if calm and self._calm >= settings.release_time:
            self._braking, self._last, self._calm = False, None, 0.0

    def _resolved(self, threat: _Threat, speed: float) -> bool:
        """Whether an obstacle that moves leaves enough room; what stands does only when it is out of the way."""
        moves = speed - threat.closing > _MOVES
        needed = self._needed(threat, threat.closing, speed, 0.0)
        return moves and needed < self._settings.release * self._vehicle.max_deceleration

    def _needed(self, threat: _Threat, closing: float, speed: float, age: float) -> float:
        """Braking (m/s²) that keeps the vehicle (m/s) off a threat seen `age` s ago, closing at `closing` (m/s).

        What comes towards the vehicle is met where it stands after the vehicle's own part of the way. What brakes is
        taken to do so until it stands.
        """
        if closing <= 0.0 or speed <= 0.0:
            return 0.0
        own, late = min(closing, speed), self._vehicle.acceleration_delay + self._vehicle.acceleration_lag
        free = threat.free - closing * age - self._settings.reserve
        needed = 0.5 * own * own / max(free * own / closing - own * late, _TOUCHING)
        if threat.slowing > _SLOWING and threat.speed > 0.0:
            room = free + 0.5 * threat.speed**2 / threat.slowing - speed * late
            needed = max(needed, 0.5 * speed * speed / max(room, _TOUCHING))
        return needed
