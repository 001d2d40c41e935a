"""Scripts of a short drive: who is on the street, how each one moves, and how the vehicle itself drives behind them."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from itertools import pairwise

import numpy as np

from karp_perception.core.classes import ObjectClass
from karp_perception.core.errors import ConfigurationError
from karp_perception.core.vehicle import Vehicle
from karp_perception.world.street import Street


class Shape(str, Enum):
    """How a body is drawn and cast."""

    CAR = "car"
    VAN = "van"
    PEDESTRIAN = "pedestrian"


@dataclass(frozen=True)
class Course:
    """Motion along one street coordinate: a speed that is linear between knots, so that the way is exact.

    Attributes:
        start: m at time 0.
        knots: (time s, speed m/s) in order of time; before the first and after the last the speed stays.
    """

    start: float
    knots: tuple[tuple[float, float], ...] = ((0.0, 0.0),)

    def speed(self, t: float) -> float:
        """m/s at time t (s)."""
        times, speeds = zip(*self.knots, strict=True)
        return float(np.interp(t, times, speeds))

    def at(self, t: float) -> float:
        """m at time t (s): the start plus the integral of the speed."""
        times, _ = zip(*self.knots, strict=True)
        edges = [0.0, *(k for k in times if 0 < k < t), t]
        return self.start + sum((b - a) * 0.5 * (self.speed(a) + self.speed(b)) for a, b in pairwise(edges))


@dataclass(frozen=True)
class Actor:
    """A labelled object on the street.

    Attributes:
        label: its class.
        shape: its body.
        size: length, width, height, m.
        color: RGB.
        s, d: its course along and across the street.
        turn: rad added to the street's heading; pi for oncoming traffic, pi / 2 for somebody who walks to the left.
    """

    label: ObjectClass
    shape: Shape
    size: tuple[float, float, float]
    color: tuple[int, int, int]
    s: Course
    d: Course
    turn: float = 0.0

    def state(self, t: float, street: Street) -> tuple[np.ndarray, float, np.ndarray]:
        """Place of its foot (3,) m, yaw (rad) and velocity (2,) m/s in the street's frame at time t (s)."""
        s, d = self.s.at(t), self.d.at(t)
        x, y, heading = street.pose(np.float64(s), np.float64(d))
        # A metre of s is shorter on the inside of the bend.
        along, left = self.s.speed(t) * (1 - d / street.radius), self.d.speed(t)
        c, sn = np.cos(heading), np.sin(heading)
        velocity = np.array([c * along - sn * left, sn * along + c * left])
        return np.array([x, y, street.height(np.float64(d))]), float(heading + self.turn), velocity


@dataclass(frozen=True)
class Driver:
    """The intelligent driver model (Treiber, Hennecke, Helbing 2000), for the vehicle itself."""

    desired_speed: float = 8.0  # m/s
    min_gap: float = 3.0  # m
    headway: float = 1.3  # s
    acceleration: float = 1.5  # m/s²
    deceleration: float = 2.2  # m/s², comfortable
    hardest: float = 6.0  # m/s²

    def accelerate(self, speed: float, gap: float, closing: float) -> float:
        """m/s² at a speed (m/s) with free way `gap` (m, infinite for none) that shrinks at `closing` m/s."""
        wanted = self.min_gap + max(
            0.0, speed * self.headway + speed * closing / (2 * np.sqrt(self.acceleration * self.deceleration))
        )
        ratio = wanted / max(gap, 0.1)
        value = self.acceleration * (1 - (speed / self.desired_speed) ** 4 - ratio**2)
        return float(np.clip(value, -self.hardest, self.acceleration))


@dataclass(frozen=True)
class Script:
    """One scenario: the actors and the vehicle's start and driver."""

    actors: tuple[Actor, ...]
    driver: Driver = field(default_factory=Driver)
    start_speed: float = 8.0  # m/s
    lane_d: float = -1.75  # m, where the vehicle keeps to

    def ego_motion(self, street: Street, duration: float, step: float) -> tuple[np.ndarray, np.ndarray]:
        """The vehicle's s (m) and ds/dt (m/s) at multiples of `step` up to `duration` s."""
        count = int(np.ceil(duration / step)) + 2
        way, speed = np.zeros(count), np.full(count, self.start_speed)
        front = Vehicle().front
        for k in range(1, count):
            t, s, v = (k - 1) * step, way[k - 1], speed[k - 1]
            gap, closing = np.inf, 0.0
            for actor in self.actors:
                # What is, or is about to step, within the vehicle's width and half a metre.
                reach = 1.45 + 0.5 * (actor.size[1] if abs(np.cos(actor.turn)) > 0.5 else actor.size[0])
                d, d_soon = actor.d.at(t) - self.lane_d, actor.d.at(t + 1.0) - self.lane_d
                if min(abs(d), abs(d_soon)) > reach and d * d_soon > 0:
                    continue
                half = 0.5 * (actor.size[0] if abs(np.cos(actor.turn)) > 0.5 else actor.size[1])
                free = actor.s.at(t) - half - s - front
                if 0 < free < gap:
                    gap, closing = free, v - actor.s.speed(t)
            a = self.driver.accelerate(v, gap, closing)
            after = max(0.0, v + a * step)
            # Speed is linear within a step, so way and speed agree exactly.
            way[k], speed[k] = s + 0.5 * (v + after) * step, after
        return way, speed


def _lane_car(s: Course, d: float, color: tuple[int, int, int], turn: float = 0.0) -> Actor:
    return Actor(ObjectClass.CAR, Shape.CAR, (4.4, 1.8, 1.5), color, s, Course(d), turn)


def _walker(s: Course, d: Course, color: tuple[int, int, int], turn: float) -> Actor:
    return Actor(ObjectClass.PEDESTRIAN, Shape.PEDESTRIAN, (0.7, 0.6, 1.75), color, s, d, turn)


_SILVER, _RED, _BLUE, _WHITE = (196, 200, 204), (158, 34, 36), (38, 76, 136), (226, 226, 222)


def _street() -> Script:
    """A slower car ahead brakes for somebody on the zebra crossing, waits and drives on; an oncoming one too."""
    lead = Course(28.0, ((0.0, 6.8), (1.8, 6.8), (5.6, 0.0), (9.2, 0.0), (13.2, 6.0)))
    oncoming = Course(106.0, ((0.0, -7.6), (2.2, -7.6), (7.0, 0.0), (10.2, 0.0), (14.0, -6.0)))
    crossing = Course(-6.4, ((0.0, 0.0), (2.8, 0.0), (3.1, 1.4), (12.0, 1.4), (12.3, 0.0)))
    return Script(
        (
            _lane_car(lead, -1.75, _RED),
            _lane_car(Course(58.0, ((0.0, -9.0),)), 1.75, _WHITE, np.pi),
            Actor(ObjectClass.TRUCK, Shape.VAN, (6.8, 2.3, 2.9), _WHITE, oncoming, Course(1.75), np.pi),
            _walker(Course(62.0), crossing, (206, 168, 74), np.pi / 2),
            _walker(Course(20.0, ((0.0, 1.3),)), Course(-7.6), (52, 84, 140), 0.0),
            _walker(Course(48.0, ((0.0, -1.2),)), Course(7.4), (186, 62, 48), np.pi),
        )
    )


def _standing_car() -> Script:
    """A car stands in the lane; nobody else is there."""
    return Script((_lane_car(Course(52.0), -1.75, _BLUE),))


def _follow() -> Script:
    """A car ahead keeps 6 m/s."""
    return Script((_lane_car(Course(20.0, ((0.0, 6.0),)), -1.75, _SILVER),), start_speed=6.0)


def _crossing() -> Script:
    """Somebody steps onto the crossing from the right, in good time to stop for."""
    course = Course(-6.4, ((0.0, 0.0), (1.6, 0.0), (1.9, 1.4), (11.5, 1.4), (11.8, 0.0)))
    return Script((_walker(Course(62.0), course, (186, 62, 48), np.pi / 2),))


def _free() -> Script:
    """Nobody in the lane."""
    return Script(())


_SCRIPTS = {
    "street": _street, "standing_car": _standing_car, "follow": _follow, "crossing": _crossing, "free": _free,
}  # fmt: skip
SCENARIOS = tuple(_SCRIPTS)
"""Names of the scenarios."""


def script(name: str) -> Script:
    """The script of a scenario. Raises ConfigurationError for a name that does not exist."""
    if name not in _SCRIPTS:
        raise ConfigurationError(f"scenario {name!r}: there is none of that name, only {', '.join(SCENARIOS)}")
    return _SCRIPTS[name]()
