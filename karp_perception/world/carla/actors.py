"""CARLA's actors, parked vehicles and lights as truth: boxes, numbers, velocities, what lights show."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from karp_perception.core import Boxes, LightColor
from karp_perception.core.classes import ObjectClass
from karp_perception.core.geometry import transform_points, yaw_of
from karp_perception.world.carla.coordinates import pose_from_carla, vector_from_carla
from karp_perception.world.carla.labels import LEVEL_LABELS, label_of, size_or_fallback

LEVEL_NUMBERS = 1 << 24
"""From here on are the numbers of what stands in the map; CARLA counts its actors from 1."""

_LIGHTS = {"Red": LightColor.RED, "Yellow": LightColor.YELLOW, "Green": LightColor.GREEN}


@dataclass(frozen=True)
class LabelledBox:
    """One thing with a label, in the world's frame.

    Attributes:
        number: its own, positive.
        label: ObjectClass.
        center: (3,) m. size: length, width, height, m. yaw: rad.
        velocity: (2,) m/s.
    """

    number: int
    label: ObjectClass
    center: np.ndarray
    size: tuple[float, float, float]
    yaw: float
    velocity: np.ndarray


def own_box(actor: Any) -> Boxes:
    """The box of a vehicle in its own frame, one row."""
    box = actor.bounding_box
    label = label_of(str(actor.type_id), actor.attributes)
    size = size_or_fallback(_size(box.extent), label)
    column = np.zeros(1)
    return Boxes(vector_from_carla(box.location)[None], [size], column, np.zeros((1, 2)), [int(label)], np.ones(1))


def actor_box(actor: Any, state: Any) -> LabelledBox | None:
    """An actor's box at a moment (its carla.ActorSnapshot, or itself); None for what has no class of ours.

    A box's own location is that of its middle in the actor's frame: half the height above the ground for vehicles, 0
    for people, whose origin is their middle.
    """
    label = label_of(str(actor.type_id), actor.attributes)
    if label is ObjectClass.UNKNOWN:
        return None
    T = pose_from_carla(state.get_transform())
    box = actor.bounding_box
    center = transform_points(T, vector_from_carla(box.location)[None])[0]
    velocity = vector_from_carla(state.get_velocity())[:2]
    return LabelledBox(int(actor.id), label, center, size_or_fallback(_size(box.extent), label), yaw_of(T), velocity)


def level_boxes(carla: Any, world: Any) -> list[LabelledBox]:
    """Parked vehicles that belong to the map and are no actors; none where this CARLA does not tell."""
    labels = getattr(carla, "CityObjectLabel", None)
    if labels is None or not hasattr(world, "get_environment_objects"):
        return []
    found: list[LabelledBox] = []
    for name, label in LEVEL_LABELS.items():
        if not hasattr(labels, name):
            continue
        things = world.get_environment_objects(getattr(labels, name))
        for thing in sorted(things, key=lambda thing: int(thing.id)):
            box = thing.bounding_box  # in the world, other than an actor's
            number = LEVEL_NUMBERS + len(found)
            size = size_or_fallback(_size(box.extent), label)
            yaw = -np.radians(float(box.rotation.yaw))
            found.append(LabelledBox(number, label, vector_from_carla(box.location), size, float(yaw), np.zeros(2)))
    return found


def boxes_in_base(things: Iterable[LabelledBox], T_base_odom: np.ndarray, reach: float) -> tuple[Boxes, np.ndarray]:
    """Those within `reach` m of `base_link`, in its frame, ordered by number; and their numbers (N,)."""
    chosen = sorted(things, key=lambda thing: thing.number)
    boxes = Boxes(
        np.array([thing.center for thing in chosen], float).reshape(-1, 3),
        np.array([thing.size for thing in chosen], float).reshape(-1, 3),
        np.array([thing.yaw for thing in chosen], float),
        np.array([thing.velocity for thing in chosen], float).reshape(-1, 2),
        np.array([int(thing.label) for thing in chosen], np.int64),
        np.ones(len(chosen)),
        frame="odom",
    ).transformed(T_base_odom, "base_link")
    near = np.hypot(boxes.center[:, 0], boxes.center[:, 1]) <= reach
    return boxes[near], np.array([thing.number for thing in chosen], np.int64)[near]


@dataclass(frozen=True)
class StopLine:
    """Where a light stops traffic on one lane: the light's number, and (3,) m in the world's frame."""

    light: int
    actor: Any
    lane: int | None
    position: np.ndarray

    @property
    def color(self) -> LightColor | None:
        """What it shows; None for a light that is off."""
        return _LIGHTS.get(str(self.actor.get_state()))


def _size(extent: Any) -> tuple[float, float, float]:
    return 2.0 * float(extent.x), 2.0 * float(extent.y), 2.0 * float(extent.z)
