"""A CARLA server that is none: the part of its Python interface that CarlaWorld uses, over one straight road.

It records every call, can fail at any of them (before it has had its effect, or after), and decides what sensors
deliver: late, never, twice, in another order. Locations are CARLA's: y to the right, degrees.
"""

from __future__ import annotations

import copy
import fnmatch
import math
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from types import SimpleNamespace
from typing import Any

import numpy as np

ROAD_LENGTH = 300.0
ROADS = 3
LANE_WIDTH = 3.5
DEPTH = 20.0  # m that every pixel of a depth camera shows

_ROAD = """<road name="{n}" length="300" id="{n}" junction="-1">
<type s="0" type="town"><speed max="36" unit="km/h"/></type>
<planView/><lanes><laneSection s="0"><center><lane id="0" type="none"/></center><right>
<lane id="-1" type="driving"/><lane id="-2" type="driving"/><lane id="-3" type="sidewalk"/>
</right></laneSection></lanes></road>"""
XODR = "<OpenDRIVE>" + "".join(_ROAD.format(n=n + 1) for n in range(ROADS)) + "</OpenDRIVE>"


@dataclass
class Vector3D:
    x: float = 0.0
    y: float = 0.0
    z: float = 0.0


class Location(Vector3D):
    pass


@dataclass
class Rotation:
    pitch: float = 0.0
    yaw: float = 0.0
    roll: float = 0.0


@dataclass
class Transform:
    location: Location = field(default_factory=Location)
    rotation: Rotation = field(default_factory=Rotation)


def plain(transform: Any) -> Transform:
    """A copy of a transform, of the package's own type too."""
    place, turn = transform.location, transform.rotation
    return Transform(Location(place.x, place.y, place.z), Rotation(turn.pitch, turn.yaw, turn.roll))


@dataclass
class BoundingBox:
    location: Location = field(default_factory=Location)
    extent: Vector3D = field(default_factory=Vector3D)
    rotation: Rotation = field(default_factory=Rotation)


@dataclass
class WorldSettings:
    synchronous_mode: bool = False
    no_rendering_mode: bool = False
    fixed_delta_seconds: float | None = None
    substepping: bool = True
    max_substep_delta_time: float = 0.01
    max_substeps: int = 10
    deterministic_ragdolls: bool = False


@dataclass
class WeatherParameters:
    sun_azimuth_angle: float = 11.0
    sun_altitude_angle: float = 22.0
    cloudiness: float = 0.0
    precipitation: float = 0.0
    precipitation_deposits: float = 0.0
    wetness: float = 0.0
    fog_density: float = 0.0
    fog_distance: float = 0.0


@dataclass
class VehicleControl:
    throttle: float = 0.0
    steer: float = 0.0
    brake: float = 0.0
    reverse: bool = False


@dataclass
class VehicleAckermannControl:
    steer: float = 0.0
    speed: float = 0.0
    acceleration: float = 0.0


class Waypoint:
    """On lane `lane_id` of road `road_id`, which runs along x."""

    lane_width = LANE_WIDTH
    section_id = 0

    def __init__(self, road_id: int, lane_id: int, s: float) -> None:
        self.road_id, self.lane_id, self.s = road_id, lane_id, s
        self.lane_change = "Right" if lane_id == -1 else "Left"
        x, y = (road_id - 1) * ROAD_LENGTH + s, LANE_WIDTH * (abs(lane_id) - 0.5)
        self.transform = Transform(Location(x, y, 0.0), Rotation())

    def next(self, distance: float) -> list[Waypoint]:
        s, road = self.s + distance, self.road_id
        if s > ROAD_LENGTH:
            s, road = s - ROAD_LENGTH, road + 1
        return [Waypoint(road, self.lane_id, s)] if road <= ROADS else []

    def get_left_lane(self) -> Waypoint | None:
        return Waypoint(self.road_id, -1, self.s) if self.lane_id == -2 else None

    def get_right_lane(self) -> Waypoint | None:
        return Waypoint(self.road_id, -2, self.s) if self.lane_id == -1 else None


class Map:
    name = "Carla/Maps/Straight"

    def to_opendrive(self) -> str:
        return XODR

    def get_waypoint_xodr(self, road: int, lane: int, s: float) -> Waypoint | None:
        return Waypoint(road, lane, s) if 1 <= road <= ROADS and lane in (-1, -2) and 0 <= s <= ROAD_LENGTH else None

    def get_spawn_points(self) -> list[Transform]:
        return [Transform(Location(20.0 + 25.0 * k, LANE_WIDTH * (0.5 + k % 2), 0.1), Rotation()) for k in range(12)]


class Attribute:
    def __init__(self, value: str, recommended: tuple[str, ...] = ()) -> None:
        self.value, self.recommended_values = value, list(recommended)


class Blueprint:
    def __init__(self, identifier: str, **attributes: str) -> None:
        self.id = identifier
        self.attributes = {"role_name": Attribute("default")} | {k: Attribute(v) for k, v in attributes.items()}
        if identifier.startswith("walker"):
            self.attributes["speed"] = Attribute("0", ("0.0", "1.4", "2.7"))

    def has_attribute(self, name: str) -> bool:
        return name in self.attributes

    def get_attribute(self, name: str) -> Attribute:
        return self.attributes[name]

    def set_attribute(self, name: str, value: str) -> None:
        assert isinstance(value, str), f"{self.id}.{name}: CARLA takes text, got {value!r}"
        self.attributes[name].value = value


_CAMERA = {"image_size_x": "800", "image_size_y": "600", "fov": "90", "sensor_tick": "0", "lens_k": "-1"}
_LIDAR = dict.fromkeys(
    ("channels", "range", "points_per_second", "rotation_frequency", "upper_fov", "lower_fov", "noise_stddev"), "1"
)


class BlueprintLibrary(list):
    def filter(self, pattern: str) -> list[Blueprint]:
        return [copy.deepcopy(b) for b in self if fnmatch.fnmatch(b.id, pattern)]

    def find(self, identifier: str) -> Blueprint:
        return next(copy.deepcopy(b) for b in self if b.id == identifier)


def _library() -> BlueprintLibrary:
    return BlueprintLibrary(
        [
            Blueprint("vehicle.tesla.model3", base_type="car", number_of_wheels="4"),
            Blueprint("vehicle.carlamotors.carlacola", base_type="truck", number_of_wheels="4"),
            Blueprint("vehicle.diamondback.century", base_type="bicycle", number_of_wheels="2"),
            Blueprint("walker.pedestrian.0001"),
            Blueprint("controller.ai.walker"),
            Blueprint("sensor.camera.rgb", **_CAMERA, motion_blur_intensity="0.45"),
            Blueprint("sensor.camera.depth", **_CAMERA),
            Blueprint("sensor.lidar.ray_cast", **_LIDAR, sensor_tick="0"),
        ]
    )


_EXTENTS = {
    "vehicle.tesla.model3": (2.4, 1.0, 0.75),
    "vehicle.carlamotors.carlacola": (2.6, 1.3, 1.25),
    "vehicle.diamondback.century": (0.8, 0.0, 0.9),  # no width, as in several releases
    "walker": (0.2, 0.2, 0.9),
}


class Actor:
    """Methods that change the server go through `Server.call`; what only reads does not."""

    def __init__(
        self, server: Server, identifier: int, blueprint: Blueprint, transform: Transform, parent: Any
    ) -> None:
        self.server, self.id, self.type_id, self.parent = server, identifier, blueprint.id, parent
        self.attributes = {name: attribute.value for name, attribute in blueprint.attributes.items()}
        self.transform, self.velocity, self.autopilot = plain(transform), Vector3D(), False
        self.control: Any = None
        self.callback: Callable[[Any], None] | None = None
        walker = blueprint.id.startswith("walker")
        extent = _EXTENTS.get("walker" if walker else blueprint.id, (0.0, 0.0, 0.0))
        self.bounding_box = BoundingBox(Location(0, 0, 0.0 if walker else extent[2]), Vector3D(*extent))

    @property
    def is_alive(self) -> bool:
        return self.id in self.server.actors

    def destroy(self) -> bool:
        return self.server.call("destroy", lambda: self.server.actors.pop(self.id, None) is not None)

    def get_transform(self) -> Transform:
        return self.transform

    def get_velocity(self) -> Vector3D:
        return self.velocity

    def get_angular_velocity(self) -> Vector3D:
        return Vector3D()

    # Vehicles

    def set_autopilot(self, on: bool, port: int) -> None:
        self.server.call("set_autopilot", lambda: setattr(self, "autopilot", on))

    def apply_ackermann_control(self, control: VehicleAckermannControl) -> None:
        self.server.call("apply_ackermann_control", lambda: setattr(self, "control", control))

    def apply_control(self, control: VehicleControl) -> None:
        self.server.call("apply_control", lambda: setattr(self, "control", control))

    def get_physics_control(self) -> Any:
        # Places of wheels are in cm, in the world.
        places = ((140, -80), (140, 80), (-140, -80), (-140, 80))
        wheels = [SimpleNamespace(max_steer_angle=70.0, position=Vector3D(x, y, 0)) for x, y in places]
        return SimpleNamespace(wheels=wheels, steering_curve=[SimpleNamespace(x=0, y=1), SimpleNamespace(x=120, y=0.5)])

    # Sensors and walkers' controllers

    def listen(self, callback: Callable[[Any], None]) -> None:
        self.server.call("listen", lambda: setattr(self, "callback", callback))

    def stop(self) -> None:
        self.server.call("stop", lambda: setattr(self, "callback", None))

    def start(self) -> None:
        self.server.call("start")

    def go_to_location(self, location: Location) -> None:
        self.server.call("go_to_location")

    def set_max_speed(self, speed: float) -> None:
        self.server.call("set_max_speed")


class TrafficLight(Actor):
    def __init__(self, server: Server, identifier: int) -> None:
        super().__init__(server, identifier, Blueprint("traffic.traffic_light"), Transform(), None)
        self.state = "Red"

    def get_state(self) -> str:
        return self.state

    def get_stop_waypoints(self) -> list[Waypoint]:
        return [Waypoint(1, -1, 290.0), Waypoint(1, -2, 290.0)]


class ActorList(list):
    def filter(self, pattern: str) -> ActorList:
        return ActorList(actor for actor in self if fnmatch.fnmatch(actor.type_id, pattern))


class World:
    def __init__(self, server: Server) -> None:
        self.server = server

    def get_map(self) -> Map:
        return Map()

    def get_settings(self) -> WorldSettings:
        return self.server.call("get_settings", lambda: copy.copy(self.server.settings))

    def apply_settings(self, settings: WorldSettings) -> int:
        self.server.call("apply_settings", lambda: setattr(self.server, "settings", copy.copy(settings)))
        return self.server.frame

    def get_weather(self) -> WeatherParameters:
        return self.server.call("get_weather", lambda: copy.copy(self.server.weather))

    def set_weather(self, weather: WeatherParameters) -> None:
        kept = WeatherParameters(**{part.name: getattr(weather, part.name) for part in fields(WeatherParameters)})
        self.server.call("set_weather", lambda: setattr(self.server, "weather", kept))

    def get_blueprint_library(self) -> BlueprintLibrary:
        return self.server.call("get_blueprint_library", _library)

    def get_actors(self) -> ActorList:
        return self.server.call("get_actors", lambda: ActorList(self.server.actors.values()))

    def get_environment_objects(self, label: str) -> list[Any]:
        box = BoundingBox(Location(60.0, 9.0, 0.8), Vector3D(2.2, 0.9, 0.8), Rotation(yaw=-90.0))
        parked = [SimpleNamespace(id=1 << 60, bounding_box=box)] if label == "Car" else []
        return self.server.call("get_environment_objects", lambda: parked)

    def try_spawn_actor(self, blueprint: Blueprint, transform: Transform, attach_to: Any = None) -> Actor | None:
        return self.server.call("try_spawn_actor", lambda: self.server.spawn(blueprint, transform, attach_to))

    def get_random_location_from_navigation(self) -> Location:
        place = self.server.module.Location(float(self.server.rng.uniform(0, 200)), 12.0, 1.0)
        return self.server.call("get_random_location_from_navigation", lambda: place)

    def set_pedestrians_seed(self, seed: int) -> None:
        self.server.call("set_pedestrians_seed", lambda: setattr(self.server, "rng", np.random.default_rng(seed)))

    def set_pedestrians_cross_factor(self, share: float) -> None:
        self.server.call("set_pedestrians_cross_factor")

    def reset_all_traffic_lights(self) -> None:
        self.server.call("reset_all_traffic_lights")

    def tick(self, timeout: float) -> int:
        return self.server.call("tick", self.server.tick)

    def get_snapshot(self) -> Any:
        actors = dict(self.server.actors)
        return self.server.call("get_snapshot", lambda: SimpleNamespace(frame=self.server.frame, find=actors.get))


class TrafficManager:
    def __init__(self, server: Server) -> None:
        self.server = server

    def set_synchronous_mode(self, on: bool) -> None:
        self.server.call("tm.set_synchronous_mode", lambda: setattr(self.server, "manager_in_step", on))

    def set_random_device_seed(self, seed: int) -> None:
        self.server.call("tm.set_random_device_seed", lambda: setattr(self.server, "manager_seed", seed))

    def set_hybrid_physics_mode(self, on: bool) -> None:
        self.server.call("tm.set_hybrid_physics_mode", lambda: setattr(self.server, "manager_hybrid", on))


class Client:
    def __init__(self, server: Server, host: str, port: int) -> None:
        self.server = server

    def set_timeout(self, seconds: float) -> None:
        pass

    def get_server_version(self) -> str:
        return self.server.call("get_server_version", lambda: "0.9.16")

    def get_client_version(self) -> str:
        return "0.9.16"

    def get_world(self) -> World:
        return self.server.call("get_world", lambda: World(self.server))

    def load_world(self, town: str) -> World:
        return self.server.call("load_world", lambda: self.server.reload(town))

    def reload_world(self, reset_settings: bool) -> World:
        assert reset_settings is False
        return self.server.call("reload_world", lambda: self.server.reload(""))

    def get_trafficmanager(self, port: int) -> TrafficManager:
        return self.server.call("get_trafficmanager", lambda: TrafficManager(self.server))


Delivery = Callable[[str, int], list[tuple[int, float]]]
"""Of a sensor's blueprint and a frame: the frames whose data is sent now, and after how many s."""


class Server:
    """The server's state; `module` is what `import carla` would give.

    Args:
        fail_at: the call that fails, counted from 1; 0 for none. `after` lets it have its effect first.
        lasting: every later call fails too: the server is gone.
        delivery: what sensors send at a tick.
        error: what a failing call raises.
        ackermann: whether this CARLA has VehicleAckermannControl.
        package: the real `carla`, whose data types are used then.
    """

    def __init__(
        self,
        fail_at: int = 0,
        *,
        after: bool = False,
        lasting: bool = False,
        delivery: Delivery = lambda sensor, frame: [(frame, 0.0)],
        error: BaseException | None = None,
        ackermann: bool = True,
        package: Any = None,
    ) -> None:
        self.fail_at, self.after, self.lasting, self.delivery = fail_at, after, lasting, delivery
        self.error = error or RuntimeError("time-out of 2000ms while waiting for the simulator")
        self.calls: list[str] = []
        self.settings, self.weather, self.frame = WorldSettings(), WeatherParameters(), 1000
        self.manager_in_step, self.manager_seed, self.manager_hybrid = False, None, True
        self.rng = np.random.default_rng(0)
        self._next = 100
        self.actors: dict[int, Actor] = {}
        self.ever: list[Actor] = []
        self._timers: list[threading.Timer] = []
        self.reload("")
        self.foreign = dict(self.actors)
        self.module = SimpleNamespace(
            Client=lambda host, port: Client(self, host, port),
            Location=Location, Rotation=Rotation, Transform=Transform, Vector3D=Vector3D,
            WeatherParameters=WeatherParameters, VehicleControl=VehicleControl,
            CityObjectLabel=SimpleNamespace(Car="Car", Truck="Truck", Bus="Bus"),
        )  # fmt: skip
        if ackermann:
            self.module.VehicleAckermannControl = VehicleAckermannControl
        if package is not None:
            names = ("Location", "Rotation", "Transform", "Vector3D", "VehicleControl", "WeatherParameters")
            for name in (*names, "VehicleAckermannControl"):
                setattr(self.module, name, getattr(package, name))

    def call(self, name: str, effect: Callable[[], Any] = lambda: None) -> Any:
        self.calls.append(name)
        number = len(self.calls)
        failing = self.fail_at and (number == self.fail_at or (self.lasting and number > self.fail_at))
        if failing and not self.after:
            raise self.error
        result = effect()
        if failing:
            raise self.error
        return result

    def reload(self, town: str) -> World:
        """A fresh map: its light, and a vehicle of somebody else's."""
        self.actors = {7: TrafficLight(self, 7)}
        other = Actor(self, 8, Blueprint("vehicle.tesla.model3"), Transform(Location(500.0, 1.75, 0)), None)
        other.attributes["role_name"] = "somebody"
        self.actors[8] = other
        return World(self)

    def spawn(self, blueprint: Blueprint, transform: Transform, parent: Any) -> Actor | None:
        place = transform.location
        for actor in self.actors.values():
            there = actor.transform.location
            blocks = parent is None and actor.type_id.startswith("vehicle") and blueprint.id.startswith("vehicle")
            if blocks and math.hypot(there.x - place.x, there.y - place.y) < 4.0:
                return None
        self._next += 1
        actor = self.actors[self._next] = Actor(self, self._next, blueprint, transform, parent)
        self.ever.append(actor)
        return actor

    def foreigner(self, blueprint: Blueprint, transform: Transform) -> Actor:
        """Somebody else's actor, which must stay."""
        actor = self.spawn(blueprint, transform, None)
        assert actor is not None
        self.ever.remove(actor)
        self.foreign[actor.id] = actor
        return actor

    def tick(self) -> int:
        assert self.settings.synchronous_mode, "tick without synchronous mode would hang"
        self.frame += 1
        step = self.settings.fixed_delta_seconds
        for actor in list(self.actors.values()):
            if hasattr(actor.control, "speed"):
                actor.velocity = Vector3D(actor.control.speed)
            if actor.autopilot:
                actor.velocity = Vector3D(5.0)
            actor.transform.location.x += actor.velocity.x * step
        for actor in list(self.actors.values()):
            if actor.callback is not None and actor.type_id.startswith("sensor"):
                for frame, delay in self.delivery(actor.type_id, self.frame):
                    self._send(actor, actor.callback, frame, delay)
        return self.frame

    def _send(self, sensor: Actor, callback: Callable[[Any], None], frame: int, delay: float) -> None:
        data = sensor_data(sensor, frame)
        if not delay:
            callback(data)
            return
        timer = threading.Timer(delay, callback, [data])
        timer.daemon = True
        timer.start()
        self._timers.append(timer)

    def check_untouched(self) -> None:
        """Nothing of ours is left, everything is as it was."""
        left = {actor.type_id for number, actor in self.actors.items() if number not in self.foreign}
        assert not left, f"left behind: {left}"
        assert set(self.foreign) <= set(self.actors), "somebody else's actors were destroyed"
        assert self.settings == WorldSettings()
        assert self.weather == WeatherParameters()
        assert not self.manager_in_step
        for timer in self._timers:
            timer.join()
        assert [actor.type_id for actor in self.ever if actor.callback is not None and actor.is_alive] == []


def sensor_data(sensor: Actor, frame: int) -> Any:
    """What a sensor sends: points, a picture of one colour, or a wall at 20 m."""
    if sensor.type_id == "sensor.lidar.ray_cast":
        # Ahead to the right, on its axis, and inside the own vehicle.
        points = np.array([[12.0, 3.0, -1.0, 0.5], [30.0, 0.0, 0.0, 0.9], [0.5, 0.1, -1.0, 0.1]], np.float32)
        return SimpleNamespace(frame=frame, raw_data=points.tobytes())
    width, height = int(sensor.attributes["image_size_x"]), int(sensor.attributes["image_size_y"])
    if sensor.type_id == "sensor.camera.depth":
        count = round(DEPTH / 1000.0 * (256**3 - 1))
        pixel = (count >> 16 & 255, count >> 8 & 255, count & 255, 255)
    else:
        pixel = (10, 20, 30, 255)
    raw = np.tile(np.array(pixel, np.uint8), (height, width, 1)).tobytes()
    return SimpleNamespace(frame=frame, width=width, height=height, raw_data=raw)
