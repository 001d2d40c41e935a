"""Actors of a scenario: plain numbers that say what somebody is, where, and what they do when.

Their motion is closed-form wherever it can be: speeds go from one to the next at a constant acceleration, lateral
places along a quintic, each begun at a time or by what the vehicle under test does.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from karp_perception.core.errors import ConfigurationError
from karp_perception.world.actors import Actor
from karp_perception.world.geometry.scene import BRAKE, LEFT, RIGHT
from karp_perception.world.layout import Layout
from karp_perception.world.models.model import Model
from karp_perception.world.traffic.population import Draw
from karp_perception.world.vehicle import DrivenVehicle

_STRIDE = 1.4  # m that somebody walks in one period of a gait
_TURN_OF_PEDALS = 5.0  # m
_LEAST_AXLE = 0.3  # m: what has no axles turns about a point so far behind its middle
_NEVER = math.inf


@dataclass(frozen=True)
class Trigger:
    """When something begins: at the first moment at which all that is given holds.

    Attributes:
        time: s since the beginning.
        ego_distance: m; from the front of the vehicle under test to the actor, along the vehicle's route, at most.
        ego_arrival: s; the same distance over the vehicle's speed, at most.
        ego_at: m along the route that the vehicle under test has reached.
        gap: m; the vehicle's front is at least so far behind the actor's rear (for cutting in).
        after: s since the step before began.
    """

    time: float | None = None
    ego_distance: float | None = None
    ego_arrival: float | None = None
    ego_at: float | None = None
    gap: float | None = None
    after: float | None = None


@dataclass(frozen=True)
class Step:
    """Something an actor does from then on. What is not given stays as it is.

    Attributes:
        when: what begins it.
        speed: m/s to change to. acceleration: m/s² at which, of either sign; 0 for at once.
        lateral: m to the left of its path to change to. duration: s which that takes.
        stop_at: m along its path at which it comes to rest, at a constant deceleration.
        visible: whether it is there.
        say: bits of light to show while this step lasts (`geometry.scene.LEFT`, `RIGHT`); brake lights come by
            themselves.
    """

    when: Trigger = Trigger()
    speed: float | None = None
    acceleration: float = 2.0
    lateral: float | None = None
    duration: float = 3.0
    stop_at: float | None = None
    visible: bool | None = None
    say: int = 0


@dataclass(frozen=True)
class ScriptedActor:
    """Somebody in a scenario.

    Exactly one of `lane`, `points` and `route` says where the path is.

    Attributes:
        family: of `models.catalogue`. seed: draws the model. size: length, width, height (m) where they matter.
        first, second: RGB 0..255 of its paint, where they matter.
        lane: number of a lane, followed on to its (first) successors.
        points: polyline (x, y), m, in the world.
        route: polyline (s, d): m along the route of the vehicle under test from where the route begins, and m to its
            left. One pair only: the path follows the route from there, d m beside it.
        along: m along the path where it begins. lateral: m to the left of the path.
        speed: m/s at the beginning; negative drives (or walks) the path backwards without turning round.
        reverse: whether the path is followed against its direction (oncoming traffic, from its end).
        heading: rad, turned from the direction of the path (things that stand across).
        steps: what it does, in this order.
        visible: whether it is there from the beginning.
        lights: bits that are always on (`geometry.scene`).
    """

    family: str
    seed: int = 0
    size: tuple[float, float, float] | None = None
    first: tuple[float, float, float] | None = None
    second: tuple[float, float, float] | None = None
    lane: int | None = None
    points: tuple[tuple[float, float], ...] = ()
    route: tuple[tuple[float, float], ...] = ()
    along: float = 0.0
    lateral: float = 0.0
    speed: float = 0.0
    reverse: bool = False
    heading: float = 0.0
    steps: tuple[Step, ...] = ()
    visible: bool = True
    lights: int = 0

    def __post_init__(self) -> None:
        given = [name for name in ("lane", "points", "route") if getattr(self, name) not in (None, ())]
        if len(given) != 1:
            raise ConfigurationError(
                f"scripted {self.family}: expected one of lane, points or route, got {', '.join(given) or 'none'}"
            )
        if len(self.points) == 1:
            raise ConfigurationError(f"scripted {self.family}.points: expected two places or more, got one")

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any], where: str = "actor") -> ScriptedActor:
        """From nested keys, as in a YAML file. Raises ConfigurationError that names what is wrong and where."""
        values = _known(cls, values, where)
        if "family" not in values:
            raise ConfigurationError(f"{where}: expected a family of models, got {sorted(values)}")
        steps = []
        for k, step in enumerate(values.pop("steps", ())):
            step = _known(Step, step, f"{where}.steps[{k}]")
            when = _known(Trigger, step.pop("when", {}), f"{where}.steps[{k}].when")
            steps.append(Step(when=Trigger(**when), **step))
        try:
            for name in ("points", "route"):
                values[name] = tuple((float(a), float(b)) for a, b in values.get(name, ()))
            for name in ("size", "first", "second"):
                if values.get(name) is not None:
                    a, b, c = values[name]
                    values[name] = (float(a), float(b), float(c))
        except (TypeError, ValueError):
            raise ConfigurationError(f"{where}.{name}: expected lists of numbers, got {values[name]!r}") from None
        return cls(steps=tuple(steps), **values)


def _known(cls: type, values: object, where: str) -> dict[str, Any]:
    if not isinstance(values, Mapping):
        raise ConfigurationError(f"{where}: expected keys and values, got {values!r}")
    names = [field.name for field in fields(cls)]
    for key in values:
        if key not in names:
            raise ConfigurationError(f"{where}.{key}: no such key; there are {', '.join(names)}")
    for field in fields(cls):
        value = values.get(field.name)
        number = field.type in ("float", "float | None", "int", "int | None")
        if value is not None and number and (isinstance(value, (str, bool)) or not np.isscalar(value)):
            raise ConfigurationError(f"{where}.{field.name}: expected a number, got {value!r}")
        if number and value is not None and not math.isfinite(value):
            raise ConfigurationError(f"{where}.{field.name}: expected a finite number, got {value!r}")
    return dict(values)


class Script:
    """A scripted actor as it acts.

    Args:
        actor: what it is to do. number: its id.
        layout: the place whose lanes and route it may refer to.
        draw: makes its model.
    """

    def __init__(self, actor: ScriptedActor, number: int, layout: Layout, draw: Draw) -> None:
        self.actor, self.number, self._layout = actor, number, layout
        self.model = _model_of(actor, draw)
        self._route = _Path(layout.route_points[:, :2])
        self._path = _Path(_points_of(actor, layout, self._route))
        self.s, self.speed, self.lateral = actor.along, actor.speed, actor.lateral
        self.visible, self.acceleration, self._walked = actor.visible, 0.0, 0.0
        self._goal, self._rate, self._say = actor.speed, 0.0, 0
        self._shift: tuple[float, float, float, float] | None = None  # since, duration, from, to
        self._stop: float | None = None
        self._next, self._since, self._time = 0, 0.0, 0.0
        axle = -self.model.rear_axle if self.model.wheelbase else 0.0
        self._axle = max(axle, _LEAST_AXLE)
        self._pose()
        self.velocity, self.yaw_rate = self._motion()

    def step(self, dt: float, ego: DrivenVehicle | None) -> None:
        """Moves on by `dt` s."""
        while self._next < len(self.actor.steps) and self._begins(self.actor.steps[self._next].when, ego):
            self._begin(self.actor.steps[self._next])
            self._next += 1
        before = self.speed
        if self._stop is not None:
            rest = self._stop - self.s
            rate = 0.5 * self.speed**2 / rest if rest > 1e-3 else math.inf
            change = min(rate * dt, abs(self.speed))
            self.speed -= math.copysign(change, self.speed)
            way = 0.5 * (before + self.speed) * dt
            if self.speed == 0.0 or abs(rest) < 0.02:
                way, self.speed, self._goal, self._stop = rest if abs(rest) < 0.5 else way, 0.0, 0.0, None
        else:
            # Exact for a constant acceleration that ends within the step.
            rest = self._goal - self.speed
            if self._rate == 0.0 or abs(rest) <= self._rate * dt:
                ramp = abs(rest) / self._rate if self._rate > 0.0 else 0.0
                way = 0.5 * (before + self._goal) * ramp + self._goal * (dt - ramp)
                self.speed = self._goal
            else:
                self.speed += math.copysign(self._rate * dt, rest)
                way = 0.5 * (before + self.speed) * dt
        self.acceleration = (self.speed - before) / dt
        self.s += way
        self._walked += abs(way)
        self._time += dt
        self._pose()
        self.velocity, self.yaw_rate = self._motion()

    def body(self) -> Actor:
        """As it is now."""
        z = float(self._layout.ground.surface_height(np.array(self.x), np.array(self.y)))
        period = _STRIDE if self.model.wheelbase is None and self.model.size[0] < 1.2 else _TURN_OF_PEDALS
        lights = self.actor.lights | self._say
        if self.speed * self.acceleration < 0.0 and abs(self.acceleration) > 0.5:
            lights |= BRAKE
        return Actor(
            self.number, self.model, (self.x, self.y, z), self.yaw, self.velocity, self.yaw_rate,
            phase=2.0 * math.pi * self._walked / period % (2.0 * math.pi), lights=lights,
        )  # fmt: skip

    def _begins(self, when: Trigger, ego: DrivenVehicle | None) -> bool:
        if when.time is not None and self._time < when.time - 1e-9:
            return False
        if when.after is not None and self._time - self._since < when.after - 1e-9:
            return False
        if all(v is None for v in (when.ego_distance, when.ego_arrival, when.ego_at, when.gap)):
            return True
        if ego is None:
            return False
        front = self._route.project(ego.x, ego.y) + ego.vehicle.front
        place = self._route.project(self.x, self.y)
        distance = place - 0.5 * self.model.size[0] - front
        if when.ego_distance is not None and distance > when.ego_distance:
            return False
        if when.ego_arrival is not None and distance > when.ego_arrival * max(ego.speed, 0.0):
            return False
        if when.ego_at is not None and front - ego.vehicle.front < when.ego_at:
            return False
        return when.gap is None or distance >= when.gap

    def _begin(self, step: Step) -> None:
        self._since, self._say = self._time, step.say
        if step.speed is not None:
            self._goal, self._rate, self._stop = step.speed, abs(step.acceleration), None
        if step.stop_at is not None:
            self._stop = step.stop_at
        if step.lateral is not None:
            self._shift = (self._time, max(step.duration, 1e-3), self.lateral, step.lateral)
            if not step.say and self.model.wheelbase:
                self._say = LEFT if step.lateral > self.lateral else RIGHT
        if step.visible is not None:
            self.visible = step.visible

    def _pose(self) -> None:
        rate = 0.0
        if self._shift is not None:
            since, duration, begin, end = self._shift
            u = min((self._time - since) / duration, 1.0)
            self.lateral = begin + (end - begin) * u**3 * (10.0 - 15.0 * u + 6.0 * u * u)
            rate = (end - begin) * 30.0 * u * u * (1.0 - u) ** 2 / duration
            if u >= 1.0:
                self._shift, self._say = None, 0
        x, y, yaw = self._path.at(self.s)
        self.x, self.y = x - self.lateral * math.sin(yaw), y + self.lateral * math.cos(yaw)
        self._across = rate
        slant = math.atan2(rate, abs(self.speed)) if self.model.wheelbase and abs(self.speed) > 0.5 else 0.0
        self._course = yaw
        self.yaw = (yaw + slant + self.actor.heading + math.pi) % (2 * math.pi) - math.pi

    def _motion(self) -> tuple[tuple[float, float], float]:
        c, s = math.cos(self._course), math.sin(self._course)
        bend = self._path.curvature(self.s)
        along = self.speed * (1.0 - bend * self.lateral)
        return (along * c - self._across * s, along * s + self._across * c), self.speed * bend


class _Path:
    """A polyline with headings that turn smoothly from the middle of one piece to the middle of the next."""

    def __init__(self, points: np.ndarray) -> None:
        keep = np.concatenate([[True], np.linalg.norm(np.diff(points, axis=0), axis=1) > 1e-6])
        self.points = np.asarray(points, float)[keep]
        d = np.diff(self.points, axis=0)
        length = np.hypot(*d.T)
        self.along = np.concatenate([[0.0], np.cumsum(length)])
        self._yaw = np.unwrap(np.arctan2(d[:, 1], d[:, 0]))
        self._middle = 0.5 * (self.along[1:] + self.along[:-1])

    def at(self, s: float) -> tuple[float, float, float]:
        """x, y, yaw `s` m along; straight on before and after."""
        x, y = (float(np.interp(s, self.along, self.points[:, axis])) for axis in (0, 1))
        yaw = float(np.interp(s, self._middle, self._yaw))
        over = min(s, 0.0) + max(s - float(self.along[-1]), 0.0)
        return x + over * math.cos(yaw), y + over * math.sin(yaw), yaw

    def curvature(self, s: float) -> float:
        """1/m."""
        h = 1.0
        return float(np.interp(s + h, self._middle, self._yaw) - np.interp(s - h, self._middle, self._yaw)) / (2 * h)

    def project(self, x: float, y: float) -> float:
        """m along of the nearest place; before the beginning negative, beyond the end more than its length."""
        p, d = self.points[:-1], np.diff(self.points, axis=0)
        square = (d * d).sum(axis=1)
        u = ((np.array([x, y]) - p) * d).sum(axis=1) / square
        low = np.where(np.arange(len(u)) == 0, -np.inf, 0.0)
        high = np.where(np.arange(len(u)) == len(u) - 1, np.inf, 1.0)
        u = np.clip(u, low, high)
        off = np.hypot(*(p + u[:, None] * d - (x, y)).T)
        k = int(off.argmin())
        return float(self.along[k] + u[k] * math.sqrt(square[k]))


def _points_of(actor: ScriptedActor, layout: Layout, route: _Path) -> np.ndarray:
    """(N, 2) m, the path in the world."""
    if actor.points:
        points = np.array(actor.points, float)
    elif actor.route:
        s, d = np.array(actor.route, float).T
        if len(s) == 1:
            s = np.arange(s[0], max(route.along[-1], s[0] + 200.0), 1.0)
            d = np.full(len(s), d[0])
        places = [route.at(float(v)) for v in s]
        points = np.array(
            [(x - o * math.sin(yaw), y + o * math.cos(yaw)) for (x, y, yaw), o in zip(places, d, strict=True)]
        )
    else:
        number, lanes, seen = actor.lane, [], set()
        if number not in layout.lanes:
            known = ", ".join(map(str, sorted(layout.lanes)))
            raise ConfigurationError(f"scripted {actor.family}.lane: expected one of {known}, got {number!r}")
        while number is not None and number not in seen:
            seen.add(number)
            lanes.append(layout.lanes[number].center[:, :2])
            following = layout.lanes[number].successors
            on_route = [n for n in following if n in layout.route]
            number = (on_route or list(following) or [None])[0]
        points = np.concatenate(lanes)
    return points[::-1].copy() if actor.reverse else points


def _model_of(actor: ScriptedActor, draw: Draw) -> Model:
    model = draw(actor.family, actor.seed) if actor.size is None else draw(actor.family, actor.seed, actor.size)  # type: ignore[call-arg]
    if actor.first is None and actor.second is None:
        return model
    values: Sequence[tuple[float, float, float] | None] = (actor.first, actor.second)
    first, second = (given or own for given, own in zip(values, (model.first, model.second), strict=True))
    changed = {field.name: getattr(model, field.name) for field in fields(model)}
    return Model(**{**changed, "first": first, "second": second})
