"""What the `world` node needs to know, and the world that comes of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from karp_perception.core import Settings, Vehicle, nested, setting
from karp_perception.ros.command_input import COMMANDS
from karp_perception.world.carla.settings import CarlaSettings

if TYPE_CHECKING:
    from karp_perception.world.embedded import WorldSettings
    from karp_perception.world.interface import World

ANY_TIME = ("seed", "real_time_factor")
"""Parameters that may be changed while the world runs; a new seed begins a new drive."""


@dataclass(frozen=True)
class WorldNodeSettings(Settings):
    """The place, the pace and the topics."""

    world: str = setting("embedded", "the world to drive in", choices=("embedded", "carla"))
    family: str = setting("straight", "of the place: straight, intersection, roundabout, ...")
    scenario: str = setting("", "a case of a suite, or random:FAMILY:SEED, instead of family and seed")
    suite: str = setting("all", "of the scenario: all, the name of a group, or a file of one's own")
    seed: int = setting(0, "of place, traffic, weather and noise; a new one begins a new drive", low=0)
    rig: str = setting("demo", "set of sensors: nano, demo, surround, kitti, nuscenes, ...")
    duration: float = setting(0.0, "length of the drive, 0 for no end", unit="s", low=0.0, high=86400.0)
    exit_at_end: bool = setting(True, "end the process after `duration`")
    real_time_factor: float = setting(1.0, "speed: 1 real time, 0 as fast as possible", low=0.0, high=100.0)
    wait_for_command: float = setting(
        0.0, "wait for each frame's command before going on, this long at most; 0 never waits", unit="s", low=0, high=60
    )
    command: str = setting("ackermann", "type of ~/input/command", choices=tuple(COMMANDS))
    command_timeout: float = setting(
        0.5, "in the world's time: without a command for so long the vehicle is braked", unit="s", low=0.05, high=60.0
    )
    timeout_braking: float = setting(4.0, "deceleration of that braking", unit="m/s2", low=0.5, high=12.0)
    compressed: bool = setting(True, "publish images as JPEG instead of raw")
    jpeg_quality: int = setting(92, "of the JPEG images", low=1, high=100)
    truth: bool = setting(True, "publish ~/truth/objects, markers and lights")
    publish_clock: bool = setting(True, "publish the world's time on /clock")
    clock_period: float = setting(0.01, "of /clock between frames, wall time", unit="s", low=0.001, high=1.0)
    wait_for: tuple = setting(("",), "topics that must have subscribers before the first frame")
    subscribers: int = setting(1, "how many each of them must have", low=1, high=100)
    wait_limit: float = setting(60.0, "give up waiting for subscribers after", unit="s", low=0.0, high=3600.0)
    diagnostics_period: float = setting(1.0, "between two messages on /diagnostics", unit="s", low=0.1, high=60.0)
    vehicle: Vehicle = nested(Vehicle)
    carla: CarlaSettings = nested(CarlaSettings)


def make_world(settings: WorldNodeSettings) -> World:
    """The world that the settings ask for, begun.

    Raises ConfigurationError for what does not exist, KarpError where CARLA is not to be had.
    """
    if settings.world == "carla":
        from karp_perception.world.carla.world import CarlaWorld

        return CarlaWorld(settings.carla, settings.rig, settings.seed)
    from karp_perception.world.embedded import EmbeddedWorld, Setup, WorldSettings

    world_settings = replace(WorldSettings(), vehicle=settings.vehicle)
    if settings.scenario:
        world = _staged(settings, world_settings)
    else:
        world = EmbeddedWorld(Setup(family=settings.family), settings.rig, world_settings, settings.seed)
    # What of this rig has yet to be compiled is, before anybody takes the first frame for a running world.
    world.truth()
    world.tick()
    world.reset(settings.seed)
    return world


def _staged(settings: WorldNodeSettings, world_settings: WorldSettings) -> World:
    """The first case that the scenario's name fits; the seed decides what the case leaves open."""
    from karp_perception.world.scenarios.opening import open_world
    from karp_perception.world.scenarios.staging import stage
    from karp_perception.world.scenarios.suite import find_cases, load_suite

    case = find_cases([settings.scenario], load_suite(settings.suite))[0]
    return open_world(stage(case, settings.vehicle), settings.rig, world_settings, settings.seed)
