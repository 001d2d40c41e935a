"""The world of a case: what `karp drive`, the node and Python code all begin a scenario with."""

from __future__ import annotations

from dataclasses import replace

from karp_perception.world.embedded import EmbeddedWorld, Setup, WorldSettings
from karp_perception.world.rig import Rig
from karp_perception.world.scenarios.staging import Staged
from karp_perception.world.sensors.weather import Weather

_SEED_STRIDE = 7919  # a prime, so that seeds of drives and of cases do not meet


def open_world(
    staged: Staged, rig: Rig | str, settings: WorldSettings = WorldSettings(), seed: int = 0
) -> EmbeddedWorld:
    """The embedded world at the beginning of a case.

    Args:
        staged: the case in its place.
        rig: sensors, or the name of a set of them.
        settings: of the world; what the case says of traffic goes before them.
        seed: of what the case leaves open: traffic and noise.

    Raises ConfigurationError for traffic or weather that cannot be.
    """
    case = staged.case
    setup = Setup(
        family=case.layout,
        parameters=case.layout_parameters,
        layout_seed=case.seed,
        start=staged.start,
        lateral=case.lateral,
        speed=staged.speed,
        scripted=staged.scripted,
        scenery=staged.scenery,
        weather=None if case.weather is None else Weather.from_mapping(case.weather, f"{case.source}: weather"),
        speed_limit=case.limit,
    )
    traffic = type(settings.traffic).from_mapping(case.traffic, f"{case.source}: traffic")
    return EmbeddedWorld(setup, rig, replace(settings, traffic=traffic), case.seed + _SEED_STRIDE * seed)
