"""What stands: parked vehicles in their spaces, and roadworks."""

from __future__ import annotations

import math

import numpy as np

from karp_perception.core import ObjectClass
from karp_perception.world.actors import Actor
from karp_perception.world.geometry.ground import Ground
from karp_perception.world.layout import Layout, ParkingSpace
from karp_perception.world.models.model import Model
from karp_perception.world.traffic.population import Population

_YAW = math.radians(1.5)  # rad, how crooked people park
_ASIDE = 0.1  # m
_REVERSED = 0.35  # share of those beside each other that stand the other way round
Placed = tuple[Model, float, float, float]


def parked(layout: Layout, population: Population, rng: np.random.Generator, share: float) -> list[Placed]:
    """Model, x, y (m) and yaw of what stands in the parking spaces, each taken with the probability `share`."""
    found = []
    for space in layout.parking:
        if rng.random() >= share:
            continue
        model = population.parked_vehicle(space.length, space.width)
        if model is not None:
            found.append((model, *_in_space(space, model, rng)))
    return found


def _in_space(space: ParkingSpace, model: Model, rng: np.random.Generator) -> tuple[float, float, float]:
    """Where and how crooked: never beyond the space by more than mirrors are wide."""
    along = rng.uniform(-0.5, 0.5) * max(space.length - model.size[0] - 0.2, 0.0)
    aside = float(np.clip(rng.normal(0.0, _ASIDE), *(np.array([-0.5, 0.5]) * max(space.width - model.size[1], 0.1))))
    yaw = space.yaw + float(np.clip(rng.normal(0.0, _YAW), -2 * _YAW, 2 * _YAW))
    if model.label in (ObjectClass.BICYCLE, ObjectClass.MOTORCYCLE) and space.length > 4.0:
        yaw += math.pi / 2 * float(rng.choice([-1.0, 1.0])) * (1.0 if space.width > model.size[0] else 0.0)
    elif rng.random() < _REVERSED and space.width > 2.3:
        yaw += math.pi
    c, s = math.cos(space.yaw), math.sin(space.yaw)
    return space.x + along * c - aside * s, space.y + along * s + aside * c, yaw


def standing_actors(placed: list[Placed], ground: Ground, first_number: int) -> tuple[Actor, ...]:
    """Actors of what stands, on the ground, tilted as it is; numbered from `first_number`."""
    if not placed:
        return ()
    x, y, yaw = np.array([p[1:] for p in placed]).T
    half = 0.35 * np.array([p[0].size[0] for p in placed])
    ux, uy = np.cos(yaw), np.sin(yaw)
    z = ground.surface_height(x, y)
    rise = (ground.height(x + half * ux, y + half * uy) - ground.height(x - half * ux, y - half * uy)) / (2 * half)
    tilt = ground.height(x - 0.7 * uy, y + 0.7 * ux) - ground.height(x + 0.7 * uy, y - 0.7 * ux)
    return tuple(
        Actor(
            first_number + k, model, (float(x[k]), float(y[k]), float(z[k])), float(yaw[k]),
            pitch=-math.atan(float(rise[k])), roll=math.atan(float(tilt[k]) / 1.4),
        )
        for k, (model, *_) in enumerate(placed)
    )  # fmt: skip
