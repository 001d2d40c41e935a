"""Who is out on the roads of a CARLA world: the vehicle under test, other vehicles, people. All drawn from a seed."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np

from karp_perception.world.carla.client import CarlaError
from karp_perception.world.carla.settings import CarlaSettings
from karp_perception.world.carla.undo import Undo

log = logging.getLogger(__name__)

_RUNNING = 0.1  # share of people who run
_ATTEMPTS = 4  # places tried for a person


def set_attributes(blueprint: Any, **values: str) -> Any:
    """The blueprint with those of the attributes that it has."""
    for name, value in values.items():
        if blueprint.has_attribute(name):
            blueprint.set_attribute(name, value)
    return blueprint


class Spawner:
    """Spawns actors and sees to it that all of them go again, those of a spawn that failed half-way too.

    Args:
        world: carla.World.
        undo: where each spawn is noted.
        roles: role names that only actors of ours have.
    """

    def __init__(self, world: Any, undo: Undo, roles: frozenset[str]) -> None:
        self._world, self._undo, self._roles = world, undo, roles
        self._before = {int(actor.id) for actor in world.get_actors()}
        self._gone: set[int] = set()
        undo.add("actors that were spawned half-way", self._sweep)

    def spawn(self, blueprint: Any, transform: Any, parent: Any = None) -> Any | None:
        """An actor, or None where something stands in the way."""
        attached = {} if parent is None else {"attach_to": parent}
        actor = self._world.try_spawn_actor(blueprint, transform, **attached)
        if actor is not None:
            self._undo.add(f"actor {actor.id} ({actor.type_id})", lambda: self._destroy(actor))
        return actor

    def _destroy(self, actor: Any) -> None:
        if actor.is_alive:
            actor.destroy()
        self._gone.add(int(actor.id))

    def _sweep(self) -> None:
        """A call that timed out may have spawned something all the same."""
        for actor in self._world.get_actors():
            number = int(actor.id)
            if number not in self._before | self._gone and actor.attributes.get("role_name") in self._roles:
                self._destroy(actor)


def spawn_ego(world: Any, spawner: Spawner, settings: CarlaSettings, rng: np.random.Generator) -> tuple[Any, int]:
    """The vehicle under test and the number of the spawn point it stands on.

    Raises CarlaError for a blueprint or spawn point that does not exist, and where no place is free.
    """
    found = sorted(world.get_blueprint_library().filter(settings.blueprint), key=lambda blueprint: blueprint.id)
    if not found:
        raise CarlaError(f"blueprint: this CARLA has no {settings.blueprint!r}; vehicle.* are its vehicles")
    blueprint = set_attributes(found[0], role_name=settings.role_name)
    points = list(world.get_map().get_spawn_points())
    order = _order(points, settings.spawn_point, rng)
    for number in order:
        actor = spawner.spawn(blueprint, points[number])
        if actor is not None:
            return actor, number
    tried = f"spawn point {order[0]}" if len(order) == 1 else f"any of {len(order)} spawn points"
    raise CarlaError(f"{blueprint.id} cannot be put on {tried}: something stands there; choose another spawn_point")


def _order(points: Sequence[Any], chosen: int, rng: np.random.Generator) -> list[int]:
    if not points:
        raise CarlaError("the map has no spawn points; load one of CARLA's towns (setting town)")
    if chosen >= len(points):
        raise CarlaError(f"spawn_point: expected -1 to {len(points) - 1} on this map, got {chosen}")
    return [chosen] if chosen >= 0 else [int(i) for i in rng.permutation(len(points))]


def spawn_vehicles(
    world: Any, spawner: Spawner, settings: CarlaSettings, rng: np.random.Generator, role: str, taken: int
) -> list[Any]:
    """Other vehicles at spawn points but the one that is `taken`; as many as there is room for."""
    blueprints = sorted(world.get_blueprint_library().filter("vehicle.*"), key=lambda blueprint: blueprint.id)
    points = list(world.get_map().get_spawn_points())
    vehicles: list[Any] = []
    for number in rng.permutation(len(points)):
        if len(vehicles) >= settings.vehicles or not blueprints:
            break
        blueprint = set_attributes(blueprints[int(rng.integers(len(blueprints)))], role_name=role)
        if blueprint.has_attribute("color"):
            colors = blueprint.get_attribute("color").recommended_values
            if colors:
                blueprint.set_attribute("color", str(colors[int(rng.integers(len(colors)))]))
        actor = None if int(number) == taken else spawner.spawn(blueprint, points[int(number)])
        if actor is not None:
            vehicles.append(actor)
    if len(vehicles) < settings.vehicles:
        log.info("CARLA: room for %d of %d vehicles", len(vehicles), settings.vehicles)
    return vehicles


def let_drive(client: Any, undo: Undo, settings: CarlaSettings, seed: int, vehicles: Sequence[Any]) -> None:
    """Give vehicles to the traffic manager: seeded, in step with the world, with full physics everywhere."""
    port = settings.traffic_manager_port
    manager = client.get_trafficmanager(port)
    undo.add("the traffic manager's synchronous mode", lambda: manager.set_synchronous_mode(False))
    manager.set_synchronous_mode(True)
    manager.set_random_device_seed(seed)
    manager.set_hybrid_physics_mode(False)
    for vehicle in vehicles:
        vehicle.set_autopilot(True, port)
        if hasattr(manager, "update_vehicle_lights"):
            manager.update_vehicle_lights(vehicle, True)


def spawn_walkers(
    carla: Any, world: Any, spawner: Spawner, undo: Undo, settings: CarlaSettings, rng: np.random.Generator, role: str
) -> list[tuple[Any, float]]:
    """People on the pavements: the controller of each and the speed at which it is to walk, m/s."""
    if not settings.walkers:
        return []
    blueprints = sorted(world.get_blueprint_library().filter("walker.pedestrian.*"), key=lambda b: b.id)
    mind = set_attributes(world.get_blueprint_library().find("controller.ai.walker"), role_name=role)
    walkers: list[tuple[Any, float]] = []
    for _ in range(settings.walkers if blueprints else 0):
        blueprint = set_attributes(
            blueprints[int(rng.integers(len(blueprints)))], role_name=role, is_invincible="false"
        )
        running = rng.random() < _RUNNING
        body = None
        for _ in range(_ATTEMPTS):
            place = world.get_random_location_from_navigation()
            body = None if place is None else spawner.spawn(blueprint, carla.Transform(place, carla.Rotation()))
            if body is not None:
                break
        if body is None:
            continue
        controller = spawner.spawn(mind, carla.Transform(), parent=body)
        if controller is not None:
            undo.add(f"the walk of actor {body.id}", controller.stop)
            walkers.append((controller, _speed(blueprint, running)))
    return walkers


def let_walk(world: Any, walkers: Sequence[tuple[Any, float]], crossing: float) -> None:
    """Send people on their ways; after the first tick with them."""
    if walkers:
        world.set_pedestrians_cross_factor(crossing)
    for controller, speed in walkers:
        controller.start()
        goal = world.get_random_location_from_navigation()
        if goal is not None:
            controller.go_to_location(goal)
        controller.set_max_speed(speed)


def _speed(blueprint: Any, running: bool) -> float:
    """m/s: the blueprint recommends three speeds, standing, walking and running."""
    if not blueprint.has_attribute("speed"):
        return 1.4
    recommended = list(blueprint.get_attribute("speed").recommended_values)
    return float(recommended[min(2 if running else 1, len(recommended) - 1)]) if recommended else 1.4
