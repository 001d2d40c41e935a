"""Short drives through the embedded world for tests of what comes after the sensors: a bare road, few actors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from karp_perception.core import SensorFrame
from karp_perception.world.embedded import EmbeddedWorld, Setup, WorldSettings
from karp_perception.world.interface import Truth
from karp_perception.world.recording import record_drive
from karp_perception.world.rig import Rig, mounted
from karp_perception.world.route_driver import RouteDriver
from karp_perception.world.sensors.camera import CameraModel
from karp_perception.world.sensors.lidar_models import lidar_named
from karp_perception.world.sensors.weather import Weather
from karp_perception.world.traffic.script import ScriptedActor, Step, Trigger

EMPTY = {"density": 0.0, "pedestrians": 0.0, "parking": 0.0, "roadworks": 0.0}
ROAD = {"bare": True, "oneway": True, "lanes": 2, "length": 400.0}
START = 20.0  # m along the route

STANDING_CAR = (ScriptedActor("sedan", 1, route=((START + 40.0, 0.0),)),)
"""Stands 40 m ahead of base_link in the lane."""

DRIVING_CAR = (ScriptedActor("sedan", 1, route=((START + 18.0, 0.0),), speed=7.0),)
"""Drives ahead at 7 m/s."""

BRAKING_CAR = (
    replace(DRIVING_CAR[0], steps=(Step(Trigger(time=2.0), speed=0.0, acceleration=2.5),)),
)  # fmt: skip
"""Drives ahead at 7 m/s and stops from the third second on."""


def rig(image: tuple[int, int] = (320, 180), lidar: str = "64x512") -> Rig:
    """One camera ahead, a lidar on the roof."""
    camera = CameraModel.pinhole("front", *image, 80.0, (0.3, 0.0, 1.55))
    return Rig("test", lidar_named(lidar), mounted(0.0, 0.0, 1.73), (camera,))


def open_world(
    actors: Sequence[ScriptedActor] = (),
    *,
    speed: float = 8.0,
    image: tuple[int, int] = (320, 180),
    lidar: str = "64x512",
    road: dict[str, object] | None = None,
    traffic: dict[str, float] | None = None,
    seed: int = 0,
) -> EmbeddedWorld:
    """A world at the beginning of a drive on a clear day."""
    settings = WorldSettings.from_mapping({"traffic": EMPTY if traffic is None else traffic})
    setup = Setup("straight", ROAD if road is None else road, 3, START, 0.0, speed, scripted=actors, weather=Weather())
    return EmbeddedWorld(setup, rig(image, lidar), settings, seed)


def frames(world: EmbeddedWorld, seconds: float) -> Iterator[tuple[SensorFrame, Truth]]:
    """What the sensors say and what is true, tick by tick, driven by one who knows the truth."""
    driver = RouteDriver(world.route)
    for _ in range(round(seconds / world.step_s)):
        sensors, truth = world.sensors(), world.truth()
        yield sensors, truth
        world.apply(driver.command(truth.ego, truth.boxes, truth.lights))
        world.tick()


def record(path: Path, seconds: float, actors: Sequence[ScriptedActor] = DRIVING_CAR, **world: object) -> Path:
    """A recording of a drive."""
    record_drive(open_world(actors, **world), path, seconds)
    return path
