"""The embedded world: a generated place, traffic in it, a vehicle to drive and its sensors; numpy, OpenCV and numba."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from karp_perception.core import (
    Boxes,
    Command,
    EgoState,
    LightColor,
    Road,
    Route,
    SensorFrame,
    Settings,
    Vehicle,
    nested,
    setting,
)
from karp_perception.core.errors import ConfigurationError
from karp_perception.core.geometry import invert_pose
from karp_perception.world.actors import Actor, boxes_of
from karp_perception.world.geometry.cast import Carrier
from karp_perception.world.geometry.ground import GroundRays
from karp_perception.world.geometry.scene import (
    SIGNAL_GREEN,
    SIGNAL_RED,
    SIGNAL_YELLOW,
    Bodies,
    Body,
    Scene,
    SceneRays,
)
from karp_perception.world.interface import TrafficLight, Truth
from karp_perception.world.layout import Layout, Placement
from karp_perception.world.layout_road import road_of
from karp_perception.world.layouts.families import make_layout
from karp_perception.world.models.catalogue import draw
from karp_perception.world.rig import Rig, make_rig
from karp_perception.world.sensors.camera import Camera, Rendered, Surroundings, render_all
from karp_perception.world.sensors.lidar import Lidar, LidarReturns
from karp_perception.world.sensors.visibility import visibility
from karp_perception.world.sensors.weather import Weather
from karp_perception.world.traffic.script import ScriptedActor
from karp_perception.world.traffic.traffic import Traffic, TrafficSettings
from karp_perception.world.vehicle import DrivenVehicle, VehicleDynamics

_LAMPS = {LightColor.RED: SIGNAL_RED, LightColor.YELLOW: SIGNAL_YELLOW, LightColor.GREEN: SIGNAL_GREEN}
_START_NS = 1_700_000_000_000_000_000


@dataclass(frozen=True)
class WorldSettings(Settings):
    """How the world runs, whatever place it is."""

    step_s: float = setting(0.1, "length of a tick, that of a lidar's turn", unit="s", low=0.01, high=1.0)
    substeps: int = setting(2, "of traffic and vehicle in a tick", low=1, high=100)
    view: float = setting(120.0, "beyond it nothing is drawn or cast", unit="m", low=20.0, high=500.0)
    truth_range: float = setting(80.0, "within which actors and lights are told of", unit="m", low=5.0, high=300.0)
    threads: int = setting(2, "that lidar and cameras share", low=1, high=64)
    vehicle: Vehicle = nested(Vehicle)
    dynamics: VehicleDynamics = nested(VehicleDynamics)
    traffic: TrafficSettings = nested(TrafficSettings)


@dataclass(frozen=True)
class Setup:
    """What a drive begins with.

    Attributes:
        family: of the layout.
        parameters: of the family's generator.
        layout_seed: None draws the layout from the seed of each `reset`.
        start: m along the route; at its very beginning the road behind is missing.
        lateral: m to the left of its middle. speed: m/s, None for the speed limit.
        scripted: actors of a scenario. scenery: what stands there beside the layout's own.
        weather: None draws it.
        speed_limit: m/s, all along the route; None takes that of its lanes.
    """

    family: str = "straight"
    parameters: Mapping[str, Any] = field(default_factory=dict)
    layout_seed: int | None = None
    start: float = 40.0
    lateral: float = 0.0
    speed: float | None = None
    scripted: Sequence[ScriptedActor] = ()
    scenery: Sequence[Placement] = ()
    weather: Weather | None = None
    speed_limit: float | None = None


class EmbeddedWorld:
    """World in numpy, see `interface.World`.

    Args:
        setup: the place and the beginning.
        rig: sensors, or the name of a set of them.
        settings: of everything else.
        seed: of the first `reset`, which happens at once.
    """

    def __init__(
        self,
        setup: Setup = Setup(),
        rig: Rig | str = "nano",
        settings: WorldSettings = WorldSettings(),
        seed: int = 0,
    ) -> None:
        self.setup, self.settings = setup, settings
        self.rig = make_rig(rig) if isinstance(rig, str) else rig
        self._lidar = None if self.rig.lidar is None else Lidar(self.rig.lidar, self.rig.T_base_lidar, settings.threads)
        self._cameras = tuple(Camera(model) for model in self.rig.cameras)
        # Cosine of the largest angle from each camera's axis at which it sees anything.
        self._widest = [float(m.directions[..., 2][m.directions.any(axis=-1)].min()) for m in self.rig.cameras]
        self._layout_of: tuple[int, Layout, Bodies, tuple[tuple[Body, int], ...]] | None = None
        self.reset(seed)

    @property
    def step_s(self) -> float:
        """Length of a tick, s."""
        return self.settings.step_s

    @property
    def stamp_ns(self) -> int:
        """Time of the present state, ns."""
        return _START_NS + round(self._ticks * self.settings.step_s * 1e9)

    @property
    def time(self) -> float:
        """Since the reset, s."""
        return self._ticks * self.settings.step_s

    @property
    def route(self) -> Route:
        """Where to go, in `odom`, with the speed limit that holds where the vehicle is: the same until that changes."""
        limit = self._limit()
        if self._route_of is None or self._route_of[0] is not self.layout or self._route_of[1].speed_limit != limit:
            self._route_of = (self.layout, Route(self.layout.route_points[:, :2], limit))
        return self._route_of[1]

    _route_of: tuple[Layout, Route] | None = None

    @property
    def road(self) -> Road:
        """Lanes and stop lines of the whole layout, in `odom`, with what the lights show now."""
        if self._road_of is None or self._road_of[0] is not self.layout:
            limit, lanes = self.setup.speed_limit, self.layout.lanes
            if limit is not None:
                lanes = {number: replace(lane, speed_limit=limit) for number, lane in lanes.items()}
            self._road_of = (self.layout, road_of(lanes, self.layout.crossings, self.layout.bikeways))
        time = self.time
        return self._road_of[1].with_colors({n: signal.color(time) for n, signal in self.layout.signals.items()})

    _road_of: tuple[Layout, Road] | None = None

    @property
    def ego(self) -> EgoState:
        """The vehicle's state, exact."""
        return self.vehicle.ego_state(self.stamp_ns)

    def begin(self, setup: Setup, seed: int = 0) -> None:
        """Begin elsewhere with the same sensors, which take longer to make than a place."""
        self.setup, self._layout_of, self._road_of = setup, None, None
        self.reset(seed)

    def reset(self, seed: int = 0) -> None:
        """Begin again: layout, traffic, weather and noise are drawn from this seed."""
        setup = self.setup
        self.seed = seed
        self.layout, self._scenery, self._signals = self._place(
            seed if setup.layout_seed is None else setup.layout_seed
        )
        self.weather = setup.weather or Weather.draw(np.random.default_rng([seed, 1]))
        x, y, yaw = self._beginning()
        self._reached = int(np.argmin(np.hypot(*(self.layout.route_points[:, :2] - (x, y)).T)))
        speed = self._limit() if setup.speed is None else setup.speed
        self.vehicle = DrivenVehicle(self.settings.vehicle, self.settings.dynamics, x, y, yaw, speed)
        self.traffic = Traffic(self.layout, seed, self.settings.traffic, setup.scripted, ego=self.vehicle)
        self._ticks = 0
        self._forget()

    def tick(self) -> None:
        """One step of time for traffic and vehicle."""
        dt = self.settings.step_s / self.settings.substeps
        for _ in range(self.settings.substeps):
            self.traffic.step(dt, self.vehicle)
            self.vehicle.step(dt, self.layout.ground)
        self._advance()
        self._ticks += 1
        self._forget()

    def apply(self, command: Command, delay: float = 0.0) -> None:
        """What the vehicle is to do from `delay` s on."""
        self.vehicle.apply(command, delay)

    def sensors(self) -> SensorFrame:
        """What the sensors say now: the same object until the next tick."""
        if self._frame is None:
            returns = self.returns()
            cameras = {name: picture.frame for name, picture in self.pictures().items()}
            self._frame = SensorFrame(self.stamp_ns, cameras, None if returns is None else returns.sweep, self.ego)
        return self._frame

    def truth(self) -> Truth:
        """What is true now."""
        if self._truth is None:
            self._truth = self._tell()
        return self._truth

    def actors(self) -> list[Actor]:
        """Everything that has a label, wherever it is, in the world's frame."""
        return [*self.traffic.standing(), *self.traffic.moving()]

    def lights(self) -> tuple[TrafficLight, ...]:
        """The traffic lights in range, as they stand now."""
        return self._lights(invert_pose(self.vehicle.pose))

    def scene(self) -> tuple[SceneRays, GroundRays]:
        """What lasers and cameras meet around the vehicle."""
        if self._scene is None:
            moving = [actor.body() for actor in self.traffic.moving()]
            moving += [self._lit(body, number) for body, number in self._signals]
            x, y = self.vehicle.pose[:2, 3]
            scene = Scene(self.layout.ground, self._standing(), Bodies.of(moving))
            self._scene = scene.rays(float(x), float(y), self.settings.view)
        return self._scene

    def returns(self) -> LidarReturns | None:
        """The lidar's sweep with what a simulator knows about each point; None for a rig without one."""
        if self._lidar is not None and self._returns is None:
            scene, ground = self.scene()
            seed = _mixed(self.seed, self._ticks, 0)
            self._returns = self._lidar.sweep(scene, ground, self._carrier(), self.stamp_ns, seed, self.weather)
        return self._returns

    def pictures(self) -> Mapping[str, Rendered]:
        """Each camera's image with what a simulator knows about each pixel."""
        if self._pictures is None and not self._cameras:
            self._pictures = {}
        if self._pictures is None:
            scene, ground = self.scene()
            carrier, seed = self._carrier(), _mixed(self.seed, self._ticks, 1)
            around = Surroundings.of(scene, ground, carrier, self.weather, self.layout.ground)
            self._pictures = render_all(self._cameras, around, carrier, self.stamp_ns, seed, self.settings.threads)
        return self._pictures

    def close(self) -> None:
        """Nothing is held outside this process."""
        self._forget()

    def __enter__(self) -> EmbeddedWorld:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Beginning

    def _place(self, layout_seed: int) -> tuple[Layout, Bodies, tuple[tuple[Body, int], ...]]:
        """The layout, its scenery and its lights; kept while the seed stays."""
        if self._layout_of is None or self._layout_of[0] != layout_seed:
            layout = make_layout(self.setup.family, layout_seed, **self.setup.parameters)
            placements = (*layout.scenery, *self.setup.scenery)
            bodies = _stand(placements, layout)
            lit = [p.signal is not None for p in placements]
            scenery = Bodies.of([b for b, light in zip(bodies, lit, strict=True) if not light])
            signals = tuple((b, p.signal) for b, p in zip(bodies, placements, strict=True) if p.signal is not None)
            self._layout_of = (layout_seed, layout, scenery, signals)
        return self._layout_of[1:]

    def _beginning(self) -> tuple[float, float, float]:
        points = self.layout.route_points
        along = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(points[:, :2], axis=0), axis=1))])
        if not 0 <= self.setup.start < along[-1]:
            raise ConfigurationError(
                f"Setup.start: expected 0 to {along[-1]:.0f} m, the length of the route, got {self.setup.start}"
            )
        x, y = (float(np.interp(self.setup.start, along, points[:, axis])) for axis in (0, 1))
        k = min(int(np.searchsorted(along, self.setup.start, side="right")), len(points) - 1)
        dx, dy = points[k, :2] - points[k - 1, :2]
        yaw = math.atan2(dy, dx)
        return x - self.setup.lateral * math.sin(yaw), y + self.setup.lateral * math.cos(yaw), yaw

    # One moment

    def _limit(self) -> float:
        """The speed limit where the vehicle is, m/s."""
        limit = self.setup.speed_limit
        return float(self.layout.route_limits[self._reached]) if limit is None else limit

    def _advance(self) -> None:
        """Find the place on the route ahead of the last one: a route may cross itself."""
        points = self.layout.route_points[self._reached : self._reached + 40, :2]
        self._reached += int(np.argmin(np.hypot(*(points - self.vehicle.pose[:2, 3]).T)))

    def _forget(self) -> None:
        self._frame: SensorFrame | None = None
        self._truth: Truth | None = None
        self._scene: tuple[SceneRays, GroundRays] | None = None
        self._returns: LidarReturns | None = None
        self._pictures: Mapping[str, Rendered] | None = None

    def _carrier(self) -> Carrier:
        vx, vy = self.vehicle.velocity
        return Carrier(self.vehicle.pose, (float(vx), float(vy)), self.vehicle.yaw_rate)

    def _standing(self) -> Bodies:
        """Scenery and the actors that stand, placed once for as long as those are the same."""
        actors = self.traffic.standing()
        if self._placed is None or self._placed[0] is not actors:
            placed = Bodies.concatenate([self._scenery, Bodies.of([actor.body() for actor in actors])])
            self._placed = (actors, placed)
        return self._placed[1]

    _placed: tuple[object, Bodies] | None = None

    def _lit(self, body: Body, number: int) -> Body:
        color = self.layout.signals[number].color(self.time)
        return Body(body.shape, body.position, body.yaw, first=body.first, second=body.second, lights=_LAMPS[color])

    def _tell(self) -> Truth:
        pose = self.vehicle.pose
        actors, reach = self.actors(), self.settings.truth_range
        near = [a for a in actors if math.hypot(a.position[0] - pose[0, 3], a.position[1] - pose[1, 3]) < reach]
        near.sort(key=lambda actor: actor.number)
        numbers = np.array([a.number for a in near], np.int64)
        T_base_odom = invert_pose(pose)
        scene, ground = self.scene()
        boxes = boxes_of(near).transformed(T_base_odom, "base_link")
        origins, looks = self._eyes(boxes)
        seen = visibility(scene, ground, self._carrier(), origins, numbers, looks, threads=self.settings.threads)
        inside, returns = np.zeros(len(near), np.int64), self.returns()
        if returns is not None and near:
            row = np.minimum(np.searchsorted(numbers, returns.owner), len(numbers) - 1)
            inside = np.bincount(row[numbers[row] == returns.owner], minlength=len(near))
        return Truth(
            self.stamp_ns,
            self.ego,
            boxes,
            numbers,
            seen,
            inside,
            self._lights(T_base_odom),
            self._lanes(T_base_odom),
            self.route,
            {name: picture.mask for name, picture in self.pictures().items()},
        )

    def _eyes(self, boxes: Boxes) -> tuple[np.ndarray, np.ndarray]:
        """Where sensors are, (K, 3) m, and which actors each can see at all, (K, N): lidars look all around."""
        origins, looks = [], []
        for camera, widest in zip(self._cameras, self._widest, strict=True):
            T = camera.model.T_base_camera
            origins.append(T[:3, 3])
            away = boxes.center - T[:3, 3]
            along = away @ T[:3, 2] / np.maximum(np.linalg.norm(away, axis=1), 1e-6)
            looks.append(along > widest)
        if self._lidar is not None:
            origins.append(self._lidar.origin)
            looks.append(np.ones(len(boxes), bool))
        if self.rig.eye is not None:
            origins.append(np.array(self.rig.eye))
            looks.append(np.ones(len(boxes), bool))
        return np.array(origins), np.array(looks)

    def _lights(self, T_base_odom: np.ndarray) -> tuple[TrafficLight, ...]:
        lights = []
        for lane in self.layout.lanes.values():
            if lane.signal is None:
                continue
            stop = T_base_odom[:2, :2] @ lane.center[-1, :2] + T_base_odom[:2, 3]
            if np.hypot(*stop) < self.settings.truth_range:
                lights.append(TrafficLight(lane.signal, stop, self.layout.signals[lane.signal].color(self.time)))
        return tuple(lights)

    def _lanes(self, T_base_odom: np.ndarray) -> tuple[np.ndarray, ...]:
        lanes = []
        for lane in self.layout.lanes.values():
            middle = lane.center[:, :2] @ T_base_odom[:2, :2].T + T_base_odom[:2, 3]
            if (np.hypot(middle[:, 0], middle[:, 1]) < self.settings.truth_range).any():
                lanes.append(middle)
        return tuple(lanes)


def _stand(placements: Sequence[Placement], layout: Layout) -> list[Body]:
    x, y = np.array([(p.x, p.y) for p in placements], float).reshape(-1, 2).T
    z = layout.ground.surface_height(x, y)
    bodies = []
    for p, height in zip(placements, z, strict=True):
        model = draw(p.family, p.seed, p.size)
        place = (p.x, p.y, float(height) - p.sink)
        bodies.append(Body(model.shape, place, p.yaw, first=model.first, second=model.second))
    return bodies


def _mixed(*numbers: int) -> int:
    """One seed of 31 bits from several numbers."""
    return int(np.random.SeedSequence([n & 0xFFFFFFFF for n in numbers]).generate_state(1)[0] >> 1)
