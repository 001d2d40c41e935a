"""CARLA as a World: a client in synchronous mode, everything seeded, everything taken back at the end.

What repeats: the same seed spawns the same actors at the same places, and CARLA's physics and traffic manager run at a
fixed step in synchronous mode with the map reloaded at each reset, which is what its documentation asks of repeatable
runs. Pictures come from a GPU and may differ in a few bits from run to run.
"""

from __future__ import annotations

import itertools
import logging
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from karp_perception.core import Command, EgoState, Road, Route, SensorFrame, Vehicle
from karp_perception.world.carla import exit_guard
from karp_perception.world.carla.client import CarlaError, connect, load_carla
from karp_perception.world.carla.control import Controller, make_controller
from karp_perception.world.carla.episode import Episode, begin_episode, ego_state
from karp_perception.world.carla.mailbox import Mailbox
from karp_perception.world.carla.road_map import RoadMap, road_map_of
from karp_perception.world.carla.sensors import MountedRig
from karp_perception.world.carla.settings import CarlaSettings
from karp_perception.world.carla.truth import tell_truth
from karp_perception.world.carla.undo import Undo
from karp_perception.world.carla.weather import weather_to_carla
from karp_perception.world.interface import Truth
from karp_perception.world.sensors.weather import Weather

if TYPE_CHECKING:
    from karp_perception.world.rig import Rig

log = logging.getLogger(__name__)

_START_NS = 1_700_000_000_000_000_000  # time of the first frame of a drive, as in the embedded world
_SUBSTEP = 0.01  # s of physics at most
_GOODBYE = 2.0  # s that an answer may take while everything is taken back
_CENTIMETRES = 0.01
_WHEELBASES = (1.0, 8.0)  # m that a wheelbase may have
_serial = itertools.count()


class CarlaWorld:
    """See `interface.World`. The drive of `seed` has begun when the constructor returns.

    On every way out (close, the end of a `with` block, an exception in here, Ctrl-C, SIGTERM) what it spawned is
    destroyed and the server's settings and weather are what they were.

    Args:
        settings: of server, vehicle, traffic and truth.
        rig: sensors, or the name of a set of them.
        seed: of the first drive.
        weather: None draws it from the seed.
        carla: the module; None imports it.

    Raises:
        CarlaError: carla is not installed, no server answers, or the settings ask for what it does not have.
        NoWay: no way leads to the destination.
    """

    def __init__(
        self,
        settings: CarlaSettings = CarlaSettings(),
        rig: Rig | str = "nano",
        seed: int = 0,
        weather: Weather | None = None,
        carla: Any = None,
    ) -> None:
        if isinstance(rig, str):
            from karp_perception.world.rig import make_rig

            rig = make_rig(rig)
        self.settings, self.rig, self.weather = settings, rig, weather
        self._rig = MountedRig.of(rig, settings.step_s, masks=settings.masks)
        self._carla = load_carla() if carla is None else carla
        self._undo, self._drive = Undo(self._answers), Undo(self._answers)
        self._role = f"karp-{os.getpid()}-{next(_serial)}"
        self._road_map: tuple[str, RoadMap] | None = None
        self._episode: Episode | None = None
        self._client: Any = None
        self._closed = False
        exit_guard.guard(self.close)
        try:
            with _said("connecting"):
                self._connect()
            self.reset(seed)
        except BaseException:
            self.close()
            raise

    @property
    def step_s(self) -> float:
        """Length of a tick, s."""
        return self.settings.step_s

    @property
    def stamp_ns(self) -> int:
        """Time of the present state, ns."""
        return _START_NS + round(self._ticks * self.settings.step_s * 1e9)

    @property
    def route(self) -> Route:
        """Where to go, in `odom`: CARLA's map with y to the left."""
        return self._present.route

    @property
    def road(self) -> Road:
        """The map's lanes, signs and lights, in `odom`, with what the lights show now."""
        return self._present.road_now()

    @property
    def counters(self) -> Mapping[str, Mailbox]:
        """Mailboxes of the sensors: what became of their data."""
        return self._present.mailboxes

    @property
    def ego(self) -> EgoState:
        """The vehicle's state, exact."""
        return self._ego

    @property
    def vehicle(self) -> Vehicle:
        """The shape of the vehicle under test, from CARLA's own box and physics."""
        box, ego = self._present.own, self._present.ego
        front, rear = box.center[0, 0] + 0.5 * box.size[0, 0], 0.5 * box.size[0, 0] - box.center[0, 0]
        wheels = ego.get_physics_control().wheels
        places = np.array([(w.position.x, w.position.y) for w in wheels], float).reshape(-1, 2) * _CENTIMETRES
        base = 0.0
        if len(places) >= 4:  # front left, front right, rear left, rear right
            base = float(np.linalg.norm(places[:2].mean(axis=0) - places[2:4].mean(axis=0)))
        if not _WHEELBASES[0] <= base <= _WHEELBASES[1]:
            base = 0.6 * float(box.size[0, 0])
        return Vehicle(float(front), float(rear), float(box.size[0, 1]), float(box.size[0, 2]), base)

    def reset(self, seed: int = 0) -> None:
        """Begin again: places, traffic and weather are drawn from this seed. A failure closes the world."""
        self._check_open()
        try:
            with _said("beginning a drive"):
                self._begin(seed)
        except BaseException:
            self.close()
            raise

    def sensors(self) -> SensorFrame:
        """What the sensors say now; None for one that gave nothing in time. The same object until the next tick."""
        self._check_open()
        if self._frame is None:
            stamp_ns, rig = self.stamp_ns, self._rig
            cameras = {
                camera.model.name: None if data is None else camera.frame(data, stamp_ns)
                for camera in rig.cameras
                for data in (self._data.get(camera.model.name),)
            }
            sweep = None
            if rig.lidar is not None:
                parts = [self._data.get(order.name) for order in rig.lidar.orders()]
                if all(part is not None for part in parts):
                    sweep = rig.lidar.sweep(parts, stamp_ns, self._present.own)
            self._frame = SensorFrame(stamp_ns, cameras, sweep, self._ego)
        return self._frame

    def truth(self) -> Truth:
        """What is true now."""
        if self._truth is None:
            sweep = self.sensors().lidar
            with _said("asking for the truth"):
                actors = self._world.get_actors()
                self._truth = tell_truth(
                    self._present, actors, self._snapshot, self._ego, sweep, self._data, self._rig,
                    self.settings.truth_range,
                )  # fmt: skip
        return self._truth

    def apply(self, command: Command, delay: float = 0.0) -> None:
        """What the vehicle is to do from now on, or, with a delay, from the next tick on: it takes one a tick."""
        self._check_open()
        if delay > 0.0:
            self._next_command = command
        else:
            self._command = command

    def tick(self) -> None:
        """One step of time. Raises CarlaError where the server no longer answers."""
        episode = self._present
        with _said("ticking"):
            if self._command is not None:
                self._controller.apply(episode.ego, self._command, self._ego.speed)
            if self._next_command is not None:
                self._command, self._next_command = self._next_command, None
            frame = self._world.tick(self.settings.timeout)
            self._ticks += 1
            self._look(int(frame))

    def close(self) -> None:
        """Destroy what was spawned, restore the server's settings; harmless a second time."""
        if self._closed:
            return
        self._closed = True
        try:
            self._drive.run()
        finally:
            try:
                self._undo.run()
            finally:
                exit_guard.release(self.close)

    def __enter__(self) -> CarlaWorld:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Beginning

    def _connect(self) -> None:
        settings = self.settings
        self._client = connect(self._carla, settings.host, settings.port, settings.timeout)
        world = self._client.get_world()
        if settings.town and world.get_map().name.rsplit("/", 1)[-1] != settings.town:
            world = self._client.load_world(settings.town)
        self._world = world
        before, weather = world.get_settings(), world.get_weather()
        self._undo.add("weather", lambda: self._world.set_weather(weather))
        self._undo.add("settings of the world", lambda: self._world.apply_settings(before))
        world.apply_settings(self._in_step(world.get_settings()))

    def _in_step(self, settings: Any) -> Any:
        """Synchronous, at a fixed step, with physics that repeat."""
        step = self.settings.step_s
        settings.synchronous_mode = True
        settings.fixed_delta_seconds = step
        settings.substepping = True
        # CARLA wants step <= max_substeps * max_substep_delta_time, with 16 substeps at most.
        settings.max_substeps = max(1, math.ceil(step / _SUBSTEP - 1e-9))
        settings.max_substep_delta_time = _SUBSTEP
        settings.no_rendering_mode = not self._rig.cameras
        if hasattr(settings, "deterministic_ragdolls"):
            settings.deterministic_ragdolls = True
        return settings

    def _begin(self, seed: int) -> None:
        self._drive.run()
        self._episode = None
        if self.settings.reload:
            self._world = self._client.reload_world(False)  # keeps the settings
        if self.settings.weather:
            weather = self.weather or Weather.draw(np.random.default_rng([seed, 1]))
            self._world.set_weather(weather_to_carla(self._carla, weather))
        self._episode = episode = begin_episode(
            self._carla, self._client, self._world, self._drive, self.settings, self._rig, self._lanes(), seed,
            self._role,
        )  # fmt: skip
        self._controller: Controller = make_controller(
            self._carla, episode.ego, self.settings.step_s, self.settings.control
        )
        self._command: Command | None = None
        self._next_command: Command | None = None
        self._ticks = 0
        self._look(int(self._world.tick(self.settings.timeout)))

    def _lanes(self) -> RoadMap:
        """The lanes of the loaded map, read once."""
        carla_map = self._world.get_map()
        if self._road_map is None or self._road_map[0] != carla_map.name:
            self._road_map = (carla_map.name, road_map_of(carla_map, self.settings.speed_limit))
        return self._road_map[1]

    # One moment

    def _look(self, frame: int) -> None:
        """Take in what the server says about a frame."""
        self._data = self._present.collect(frame, self.settings.sensor_timeout)
        self._snapshot = self._world.get_snapshot()
        state = self._snapshot.find(self._present.ego.id)
        if state is None:
            raise CarlaError("the vehicle under test is gone: something else has destroyed it")
        self._ego = ego_state(state, self.stamp_ns)
        self._frame: SensorFrame | None = None
        self._truth: Truth | None = None

    @property
    def _present(self) -> Episode:
        self._check_open()
        assert self._episode is not None  # an open world has begun
        return self._episode

    def _check_open(self) -> None:
        if self._closed:
            raise CarlaError("this world has been closed; make a new one")

    def _answers(self) -> bool:
        """Whether the server does, within a short time."""
        if self._client is None:
            return False
        try:
            self._client.set_timeout(_GOODBYE)
            self._client.get_server_version()
        except RuntimeError:
            return False
        self._client.set_timeout(self.settings.timeout)
        return True


@contextmanager
def _said(doing: str) -> Iterator[None]:
    """Errors of CARLA's client, which are RuntimeErrors of any text, as one line."""
    try:
        yield
    except RuntimeError as error:
        text = next(iter(str(error).splitlines()), type(error).__name__)
        raise CarlaError(f"CARLA failed while {doing}: {text}") from error
