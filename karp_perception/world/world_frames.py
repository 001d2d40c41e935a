"""Labelled frames without end, from drives through ever new places: what a detector is trained and scored on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from karp_perception.core import Boxes, EgoState, SensorFrame
from karp_perception.core.errors import ConfigurationError
from karp_perception.core.geometry import invert_pose
from karp_perception.sensing.labelled_frame import LabelledFrame
from karp_perception.world.interface import Truth, World
from karp_perception.world.route_driver import RouteDriver

HELD_OUT_FAMILY = "roundabout"
"""No network is trained on this family of places: what is scored there is scored on a kind of place never seen."""

_NEAR = 60.0  # m around the vehicle within which its driver looks
_STANDING = 0.1  # share of drives that begin at standstill
_FLOWING = 0.5  # share of drives that begin at the speed limit
_SLOW = (1.0, 14.0)  # m/s, the others
_START = (0.0, 60.0)  # m along the route
_BESIDE = 0.25  # m, standard deviation from the lane's middle


@dataclass(frozen=True)
class Beginning:
    """Where and how a drive begins: `seed` decides the place and all that is in it.

    `start` is m along the route, `lateral` m to the left of its middle, `speed` in m/s, None for the speed limit.
    """

    family: str
    seed: int
    start: float
    lateral: float
    speed: float | None


OpenWorld = Callable[[Beginning], World]
"""Gives a world at the beginning of a drive. The one that it gave before may be the same object."""


class EmbeddedPlaces:
    """OpenWorld of embedded worlds, all with the same sensors, which are made once."""

    def __init__(self, rig: str, threads: int = 1) -> None:
        self._rig, self._threads = rig, threads
        self._world: World | None = None

    def __call__(self, beginning: Beginning) -> World:
        """The world, begun anew."""
        from karp_perception.world.embedded import EmbeddedWorld, Setup, WorldSettings

        setup = Setup(beginning.family, start=beginning.start, lateral=beginning.lateral, speed=beginning.speed)
        if self._world is None:
            self._world = EmbeddedWorld(setup, self._rig, WorldSettings(threads=self._threads), beginning.seed)
        else:
            self._world.begin(setup, beginning.seed)
        return self._world

    def __getstate__(self) -> dict[str, object]:
        return {"_rig": self._rig, "_threads": self._threads, "_world": None}


class WorldFrames:
    """Frames and their truth, numbered: frame i is the same whoever asks for it, and whatever was asked for before.

    Every `per_drive` frames belong to one drive, `spacing` apart; each drive has a place, traffic, weather and a speed
    of its own, drawn from (seed, number of the drive).

    Args:
        seed: of everything.
        families: of places, drawn evenly.
        rig: name of a set of sensors.
        per_drive: frames of a drive.
        spacing: s between two of them.
        open_world: makes the worlds; by default embedded ones.
    """

    def __init__(
        self,
        seed: int,
        families: Sequence[str],
        rig: str = "nano",
        *,
        per_drive: int = 8,
        spacing: float = 1.0,
        open_world: OpenWorld | None = None,
    ) -> None:
        if not families or per_drive < 1 or not spacing > 0 or seed < 0:
            raise ConfigurationError(
                f"WorldFrames: expected a seed of at least 0, families, and more than 0 frames and seconds, "
                f"got {seed}, {list(families)}, {per_drive}, {spacing}"
            )
        self.seed, self.families, self.rig = seed, tuple(families), rig
        self.per_drive, self.spacing = per_drive, spacing
        self._open = open_world or EmbeddedPlaces(rig)

    def beginning(self, drive: int) -> Beginning:
        """How a drive begins."""
        rng = np.random.default_rng([self.seed, drive])
        family = self.families[int(rng.integers(len(self.families)))]
        place = int(rng.integers(2**31))
        sort, slow = rng.random(), float(rng.uniform(*_SLOW))
        speed = 0.0 if sort < _STANDING else None if sort < _STANDING + _FLOWING else slow
        return Beginning(family, place, float(rng.uniform(*_START)), float(rng.normal(0.0, _BESIDE)), speed)

    def open(self, drive: int) -> World:
        """The world at the beginning of a drive; it is valid until the next one is opened."""
        return self._open(self.beginning(drive))

    def drive(self, number: int) -> Iterator[tuple[SensorFrame, Truth]]:
        """The frames of a drive, in order of time; those after the last one that is taken cost nothing."""
        world = self.open(number)
        driver = RouteDriver(world.route)
        ticks = max(1, round(self.spacing / world.step_s))
        for k in range(self.per_drive):
            for _ in range(ticks if k else 0):
                ego, boxes = surroundings(world)
                world.apply(driver.command(ego, boxes))
                world.tick()
            yield world.sensors(), world.truth()

    def from_drive(self, first: int, stride: int = 1) -> Iterator[tuple[SensorFrame, Truth]]:
        """Frames without end, of the drives `first`, `first + stride`, ...: a share for one of several processes."""
        number = first
        while True:
            yield from self.drive(number)
            number += stride

    def __iter__(self) -> Iterator[tuple[SensorFrame, Truth]]:
        """All frames in order, without end."""
        return self.from_drive(0)


def labelled(sensors: SensorFrame, truth: Truth) -> LabelledFrame:
    """A frame of a world with its truth: labels all around, hidden objects included."""
    return LabelledFrame(
        sensors,
        truth.boxes,
        truth.points_inside,
        np.zeros((0, 3)),
        sector=False,
        object_id=truth.object_id,
        visibility=truth.visibility,
        masks=truth.masks,
    )


def surroundings(world: World) -> tuple[EgoState, Boxes]:
    """The vehicle's state and what is around it, in `base_link`: as cheaply as the world can tell."""
    if not hasattr(world, "actors"):
        truth = world.truth()
        return truth.ego, truth.boxes
    from karp_perception.world.actors import boxes_of

    ego = world.ego
    x, y = ego.T_odom_base[:2, 3]
    near = [a for a in world.actors() if abs(a.position[0] - x) < _NEAR and abs(a.position[1] - y) < _NEAR]
    return ego, boxes_of(near).transformed(invert_pose(ego.T_odom_base), "base_link")
