"""One drive on a CARLA server, from spawning to destroying: the vehicle, its sensors, traffic, lights, the route."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from karp_perception.core import Boxes, EgoState, Route
from karp_perception.core.geometry import yaw_of
from karp_perception.core.road import Road, StopKind
from karp_perception.core.road import StopLine as RoadStop
from karp_perception.maps.routes import make_route, nearest_lane, roaming_way, way_between
from karp_perception.world.carla.actors import LabelledBox, StopLine, level_boxes, own_box
from karp_perception.world.carla.client import CarlaError
from karp_perception.world.carla.coordinates import (
    pose_from_carla,
    transform_to_carla,
    vector_from_carla,
    yaw_rate_from_carla,
)
from karp_perception.world.carla.mailbox import Mailbox
from karp_perception.world.carla.population import (
    Spawner,
    let_drive,
    let_walk,
    set_attributes,
    spawn_ego,
    spawn_vehicles,
    spawn_walkers,
)
from karp_perception.world.carla.road_map import RoadMap
from karp_perception.world.carla.sensors import MountedRig, SensorOrder
from karp_perception.world.carla.settings import CarlaSettings
from karp_perception.world.carla.undo import Undo

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Episode:
    """What there is on the server during one drive.

    Attributes:
        ego: the vehicle's carla.Vehicle. own: its box in `base_link`.
        mailboxes: of the sensors, by the names of their orders.
        stop_lines: of the map's lights.
        standing: what stands in the map and has a label.
        road_map: its lanes.
        road: the same for planning, with the server's lights, whose colours `road_now` adds.
        route: to drive.
    """

    ego: Any
    own: Boxes
    mailboxes: Mapping[str, Mailbox]
    stop_lines: tuple[StopLine, ...]
    standing: tuple[LabelledBox, ...]
    road_map: RoadMap
    road: Road
    route: Route

    def road_now(self) -> Road:
        """The road with what the lights show now."""
        colors = {line.light: line.color for line in self.stop_lines}
        return self.road.with_colors({light: color for light, color in colors.items() if color is not None})

    def collect(self, frame: int, timeout: float) -> dict[str, Any | None]:
        """What each sensor has to say about a frame; all together are waited for `timeout` s."""
        deadline = time.monotonic() + timeout
        return {name: mailbox.take(frame, deadline) for name, mailbox in self.mailboxes.items()}


def begin_episode(
    carla: Any,
    client: Any,
    world: Any,
    undo: Undo,
    settings: CarlaSettings,
    rig: MountedRig,
    road_map: RoadMap,
    seed: int,
    role: str,
) -> Episode:
    """Spawn everything, drawn from `seed`; `undo` takes all of it back.

    Args:
        carla, client, world: the module, carla.Client and carla.World.
        undo: of this episode.
        settings: of the world.
        rig: the sensors.
        road_map: the loaded map.
        seed: of everything that is drawn.
        role: role name of all actors but the vehicle under test.

    Raises CarlaError where something has no place, NoWay where no way leads to the destination.
    """
    rng = np.random.default_rng([seed, 2])
    if hasattr(world, "set_pedestrians_seed"):
        world.set_pedestrians_seed(seed)
    if hasattr(world, "reset_all_traffic_lights"):
        world.reset_all_traffic_lights()
    spawner = Spawner(world, undo, frozenset({role, settings.role_name}))
    ego, place = spawn_ego(world, spawner, settings, rng)
    vehicles = spawn_vehicles(world, spawner, settings, rng, role, place)
    if vehicles:
        let_drive(client, undo, settings, seed, vehicles)
    walkers = spawn_walkers(carla, world, spawner, undo, settings, rng, role)
    mailboxes = {
        order.name: _listen(carla, world, spawner, undo, order, ego, role, settings.step_s) for order in rig.orders()
    }
    world.tick(settings.timeout)
    let_walk(world, walkers, settings.crossing)
    for _ in range(settings.settle - 1):
        world.tick(settings.timeout)
    stop_lines = tuple(_stop_lines(world, road_map))
    # The server's lights instead of the map's: it knows where they stop traffic, and what they show.
    signs = [stop for stop in road_map.road.stops if stop.kind is not StopKind.LIGHT]
    lights = [RoadStop(s.light, s.position[:2], StopKind.LIGHT, lane=road_map.index_of(s.lane)) for s in stop_lines]
    road = road_map.road.with_stops((*lights, *signs))
    route = _route(world, road, settings, place, rng)
    standing = tuple(level_boxes(carla, world))
    return Episode(ego, own_box(ego), mailboxes, stop_lines, standing, road_map, road, route)


def _listen(
    carla: Any, world: Any, spawner: Spawner, undo: Undo, order: SensorOrder, ego: Any, role: str, step_s: float
) -> Mailbox:
    """Spawn a sensor on the vehicle and receive what it sends."""
    blueprint = world.get_blueprint_library().find(order.blueprint)
    # A period below the step means every tick, whatever rounding does to the step.
    set_attributes(blueprint, role_name=role, sensor_tick=f"{0.5 * step_s:.6g}", **order.attributes)
    sensor = spawner.spawn(blueprint, transform_to_carla(carla, order.T_base_sensor), parent=ego)
    mailbox = Mailbox()
    if sensor is None:
        log.warning("CARLA: sensor %s (%s) could not be spawned: it stays silent", order.name, order.blueprint)
        return mailbox
    undo.add(f"listening to {order.name}", sensor.stop)
    sensor.listen(mailbox.put)
    return mailbox


def _stop_lines(world: Any, road_map: RoadMap) -> list[StopLine]:
    lights = sorted(world.get_actors().filter("traffic.traffic_light*"), key=lambda light: light.id)
    return [
        StopLine(int(light.id), light, road_map.at(waypoint), vector_from_carla(waypoint.transform.location))
        for light in lights
        for waypoint in light.get_stop_waypoints()
    ]


def _route(world: Any, road: Road, settings: CarlaSettings, place: int, rng: np.random.Generator) -> Route:
    points = list(world.get_map().get_spawn_points())
    start, along = _lane_at(road, points[place])
    if settings.destination < 0:
        way = roaming_way(road.lanes, start, along + settings.route_length, rng)
        return make_route(road.lanes, way, along)
    if settings.destination >= len(points):
        raise CarlaError(f"destination: expected -1 to {len(points) - 1} on this map, got {settings.destination}")
    goal, end = _lane_at(road, points[settings.destination])
    return make_route(road.lanes, way_between(road.lanes, (start, along), (goal, end)), along, end)


def _lane_at(road: Road, transform: Any) -> tuple[int, float]:
    T = pose_from_carla(transform)
    return nearest_lane(road.lanes, T[:2, 3], yaw_of(T))


def ego_state(state: Any, stamp_ns: int) -> EgoState:
    """The motion that a carla.ActorSnapshot (or the actor itself) tells of."""
    T = pose_from_carla(state.get_transform())
    velocity = T[:3, :3].T @ vector_from_carla(state.get_velocity())
    return EgoState(stamp_ns, T, velocity[:2], yaw_rate_from_carla(state.get_angular_velocity()))
