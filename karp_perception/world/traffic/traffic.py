"""All that has a label and is not the vehicle under test: what drives, walks, stands, and what a scenario asks for."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache, partial

import numpy as np

from karp_perception.core import LightColor, ObjectClass
from karp_perception.core.compiled import njit
from karp_perception.core.errors import ConfigurationError
from karp_perception.world.actors import Actor
from karp_perception.world.geometry.ground import GroundRays, surface_at, terrain_height
from karp_perception.world.geometry.rectangle import distance_to_rectangle
from karp_perception.world.geometry.scene import BRAKE, HEAD, LEFT, RIGHT
from karp_perception.world.layout import Layout
from karp_perception.world.models.model import Model
from karp_perception.world.traffic.driving import Driving
from karp_perception.world.traffic.fleet import Kind
from karp_perception.world.traffic.halted import halted
from karp_perception.world.traffic.parked import Placed, parked, standing_actors
from karp_perception.world.traffic.people import People
from karp_perception.world.traffic.population import Draw, Population, mix_of
from karp_perception.world.traffic.roadworks import roadworks
from karp_perception.world.traffic.script import Script, ScriptedActor
from karp_perception.world.traffic.settings import TrafficSettings
from karp_perception.world.traffic.sight import Thing
from karp_perception.world.vehicle import DrivenVehicle

__all__ = ["Traffic", "TrafficSettings"]

_SQUARE = 16.0  # m, within which the ground's rasters are the same
_THING = {ObjectClass.PEDESTRIAN: Thing.PERSON, ObjectClass.BICYCLE: Thing.BICYCLE}
_BRAKING = -0.5  # m/s², at which brake lights go on
_HEADLIGHTS = 0.45  # share of drivers with lights on by day


@lru_cache(maxsize=2048)
def _catalogue(family: str, seed: int, size: tuple[float, float, float] | None = None, spread: float = 1.0) -> Model:
    from karp_perception.world.models.catalogue import draw

    return draw(family, seed, size, spread)


class Traffic:
    """Traffic of a place, from a seed.

    Args:
        layout: the place.
        seed: of everything that is drawn.
        settings: how much of what.
        scripted: actors of a scenario; nothing else begins within their reach.
        ego: the vehicle under test, so that nothing begins where it stands.
        draw: makes models, with sizes of its own; the catalogue where None.
    """

    def __init__(
        self,
        layout: Layout,
        seed: int = 0,
        settings: TrafficSettings = TrafficSettings(),
        scripted: Sequence[ScriptedActor] = (),
        *,
        ego: DrivenVehicle | None = None,
        draw: Draw | None = None,
    ) -> None:
        self.layout, self.settings, self.time = layout, settings, 0.0
        self._last_number = 0
        # Who is scripted is as large as the scenario says or the family usually is.
        drawn = draw or partial(_catalogue, spread=settings.sizes)
        draw = draw or _catalogue
        self._scripts = [Script(actor, self._next_number(), layout, draw) for actor in scripted]
        rng = np.random.default_rng([seed, 7])
        mix = mix_of(layout.family).enriched(settings.uncommon)
        mix = replace(mix, evened=settings.evened, towing=settings.towing)
        population = Population(mix, rng, drawn, settings.models)
        placed = parked(layout, population, rng, min(settings.parking * mix.parked, 1.0))
        placed += roadworks(layout, population, rng, settings.roadworks)
        placed += halted(layout, population, rng, settings.halted, placed)
        self.people = People(layout, settings, population, rng, self._next_number)
        bystanders = self.people.fill()
        scripts = self._script_obstacles()
        things = [p for p in placed if not _touches(p, scripts)]
        self.people.keep_off(things)
        self._standing = standing_actors(things + bystanders, layout.ground, self._last_number + 1)
        self._last_number += len(self._standing)
        self._fixed = _near_lanes(self._standing[: len(things)], layout)
        self.driving = Driving(layout, settings, population, rng, self._next_number)
        self.driving.place_ego(ego)
        self.driving.fill(np.concatenate([self._fixed, scripts]))
        self._moving: list[Actor] | None = None
        self._view = (0.0, 0.0) if ego is None else (ego.x, ego.y)
        self._ground: tuple[tuple[int, int], GroundRays] | None = None

    def step(self, dt: float, ego: DrivenVehicle | None = None) -> None:
        """Moves everything on by `dt` s (at most 0.1); `ego` is seen as it is now."""
        if not 0.0 < dt <= 0.1 + 1e-9:
            raise ConfigurationError(f"Traffic.step: expected dt from 0 to 0.1 s, got {dt}; take smaller steps")
        for script in self._scripts:
            script.step(dt, ego)
        others = np.concatenate([self._fixed, self._script_obstacles(), self.people.on_road()])
        self.driving.step(dt, self.time, self.people.demand(), others, ego)
        self.people.step(dt, self.time, self.driving, None if ego is None else (ego.x, ego.y))
        self.time += dt
        self._moving = None
        if ego is not None:
            self._view = (ego.x, ego.y)

    def actors(self) -> list[Actor]:
        """Everything with a label but the vehicle under test."""
        return [*self.standing(), *self.moving()]

    def standing(self) -> tuple[Actor, ...]:
        """What never moves: the same tuple for as long as it is the same things."""
        return self._standing

    def moving(self) -> list[Actor]:
        """What moves or could."""
        if self._moving is None:
            scripted = [script.body() for script in self._scripts if script.visible]
            self._moving = scripted + self._drivers() + self.people.actors(self._level)
        return self._moving

    def lights(self, t: float | None = None) -> Mapping[int, LightColor]:
        """What each light shows at time t (s; now where None), by number."""
        t = self.time if t is None else t
        return {number: signal.color(t) for number, signal in self.layout.signals.items()}

    def _next_number(self) -> int:
        self._last_number += 1
        return self._last_number

    def _script_obstacles(self) -> np.ndarray:
        """(K, 9) for `sight.gather`."""
        rows = []
        for script in self._scripts:
            if script.visible:
                length, width, _ = script.model.size
                c, s = math.cos(script.yaw), math.sin(script.yaw)
                thing = _THING.get(script.model.label, Thing.STANDING if script.speed == 0.0 else Thing.VEHICLE)
                rows.append((script.x, script.y, c, s, 0.5 * length, 0.5 * width, *script.velocity, float(thing)))
        return np.array(rows, float).reshape(-1, 9)

    def _level(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Heights (m) of what people stand on, by the rasters that the sensors use near the vehicle under test."""
        square = (round(self._view[0] / _SQUARE), round(self._view[1] / _SQUARE))
        if self._ground is None or self._ground[0] != square:
            self._ground = (square, self.layout.ground.rays(*self._view))
        return ground_levels(self._ground[1], x, y)

    def _drivers(self) -> list[Actor]:
        f, rows = self.driving.fleet, self.driving.rows()
        if not rows:
            return []
        r = np.array(rows)
        parts = [(f.rear_x[r], f.rear_y[r], f.yaw[r], f.wheelbase[r], f.middle[r], f.yaw_rate[r])]
        parts.append((f.trailer_x[r], f.trailer_y[r], f.trailer_yaw[r], f.trailer[r], f.trailer_middle[r],
                      f.trailer_yaw_rate[r]))  # fmt: skip
        x, y, yaw, base, middle, rate = (np.concatenate(column) for column in zip(*parts, strict=True))
        half = 0.5 * np.concatenate([2.0 * f.half_width[r], 2.0 * f.trailer_half_width[r]])
        c, s = np.cos(yaw), np.sin(yaw)
        height = self.layout.ground.height
        z = height(
            np.concatenate([x + base * c, x, x - half * s, x + half * s]),
            np.concatenate([y + base * s, y, y + half * c, y - half * c]),
        ).reshape(4, -1)
        pitch = np.arctan2(z[1] - z[0], np.maximum(base, 0.5))
        roll = np.arctan2(z[2] - z[3], np.maximum(2.0 * half, 0.3))
        cx, cy, cz = x + middle * c, y + middle * s, z[1] - np.tan(pitch) * middle
        v = np.concatenate([f.rear_v[r], f.trailer_v[r]])
        vx, vy = v * c - middle * rate * s, v * s + middle * rate * c
        actors, n = [], len(rows)
        for k, row in enumerate(rows):
            unit, (number, trailer_number) = self.driving.units[row], self.driving.numbers[row]
            lights = BRAKE if f.a[row] < _BRAKING or f.v[row] < 0.1 else 0
            lights |= (0, LEFT, RIGHT)[int(f.blinker[row])]
            if (number * 0.618034) % 1.0 < _HEADLIGHTS or unit.kind == Kind.MOTORCYCLE:
                lights |= HEAD
            if unit.kind == Kind.BICYCLE:
                lights &= HEAD
            phase = float(f.q[row] * 2.0 * math.pi / 5.0 % (2.0 * math.pi)) if unit.model.gait is not None else 0.0
            parts = ((k, unit.model, number), (k + n, unit.trailer, trailer_number))
            for m, model, identity in parts:
                if model is not None:
                    actors.append(Actor(
                        identity, model, (float(cx[m]), float(cy[m]), float(cz[m])), float(yaw[m]),
                        (float(vx[m]), float(vy[m])), float(rate[m]), float(pitch[m]), float(roll[m]), phase, lights,
                    ))  # fmt: skip
        return actors


def _near_lanes(actors: Sequence[Actor], layout: Layout) -> np.ndarray:
    """(K, 9) for `sight.gather`: those that stand and reach into a lane."""
    rows = []
    lanes = np.concatenate([lane.center[:, :2] for lane in layout.lanes.values()])
    half = np.concatenate([np.full(len(lane.center), 0.5 * lane.width) for lane in layout.lanes.values()])
    for actor in actors:
        length, width, _ = actor.model.size
        away = distance_to_rectangle(lanes, *actor.position[:2], actor.yaw, length, width)
        if (away < half + 0.5).any():
            c, s = math.cos(actor.yaw), math.sin(actor.yaw)
            rows.append((*actor.position[:2], c, s, 0.5 * length, 0.5 * width, 0.0, 0.0, 3.0))
    return np.array(rows, float).reshape(-1, 9)


def _touches(placed: Placed, others: np.ndarray) -> bool:
    """Whether something that is to stand comes within half a metre of what a scenario has put there."""
    model, x, y, _ = placed
    radius = 0.5 * math.hypot(*model.size[:2]) + 0.5
    return any(math.hypot(row[0] - x, row[1] - y) < radius + math.hypot(row[4], row[5]) for row in others)


@njit(cache=True, nogil=True)
def ground_levels(ground, x, y):
    """Heights (m) of terrain and the surfaces on it, without their roughness."""
    z = np.empty(len(x))
    for i in range(len(x)):
        z[i] = terrain_height(ground, x[i], y[i]) + ground.rise[surface_at(ground, x[i], y[i])]
    return z
