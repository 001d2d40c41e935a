"""One case from beginning to end: its world, who drives, the record, and a video where one is wanted."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from karp_perception.core import SensorFrame
from karp_perception.core.errors import ConfigurationError
from karp_perception.drive.baselines import PLANNERS
from karp_perception.drive.drivers import PERCEPTIONS, make_driver
from karp_perception.drive.faults import SensorFaults
from karp_perception.drive.loop import OnTick, Setting, drive
from karp_perception.evaluation.drive_record import DriveRecord, route_progress
from karp_perception.pipeline import PipelineSettings, Result
from karp_perception.world.embedded import EmbeddedWorld, WorldSettings
from karp_perception.world.geometry.ground import Ground, Surface, surfaces
from karp_perception.world.interface import Truth
from karp_perception.world.rig import Rig, make_rig
from karp_perception.world.route_driver import RouteDriver
from karp_perception.world.scenarios.case import Case
from karp_perception.world.scenarios.opening import open_world
from karp_perception.world.scenarios.staging import Staged, stage
from karp_perception.world.world_frames import surroundings

_RIG = "nano"  # where perception is the model and nothing else is asked for
_FILMED = "demo"  # what a video shows of a drive with perfect perception
_EYE_HEIGHT = 1.73  # m
LATENCY_MS = {"truth": 0.0, "model": 100.0}
"""What a plan is late by in simulated time, by perception, unless something else is asked for.

For `model` it is a period of the frames: a frame of the rig "nano" took 70 ms (median) on two CPU cores that others
kept busy as well; `karp drive --perception model` says what it took where it ran (`took_ms`).
"""
MEASURED = -1.0
"""Latency as measured, frame by frame."""
_LONGEST_MS = 2000.0
_DRIVABLE = (
    Surface.ASPHALT, Surface.MARKING, Surface.COBBLE, Surface.MANHOLE, Surface.PUDDLE, Surface.ASPHALT_OLD,
    Surface.CONCRETE, Surface.GRAVEL,
)  # fmt: skip
_SIGHT = 150.0  # m, how far perfect perception sees: at 130 km/h one stops within 120 m (8 m/s², 1 s)


@dataclass(frozen=True)
class DriveOptions:
    """How cases are driven.

    Attributes:
        perception: one of PERCEPTIONS.
        planner: one of PLANNERS.
        seed: of traffic and noise, beside what a case fixes.
        rig: sensors by name; None takes few for `model` and none that costs anything for `truth`.
        latency_ms: from a frame to what comes of it, in simulated time; None takes `LATENCY_MS` of the perception, and
            MEASURED what each frame takes here, which no two runs have alike.
    """

    perception: str = "truth"
    planner: str = "karp"
    seed: int = 0
    rig: str | None = None
    latency_ms: float | None = None

    def __post_init__(self) -> None:
        for name, known in (("perception", PERCEPTIONS), ("planner", PLANNERS)):
            if getattr(self, name) not in known:
                raise ConfigurationError(f"{name}: expected one of {', '.join(known)}, got {getattr(self, name)!r}")
        latency = self.latency_ms
        if latency is not None and latency != MEASURED and not 0.0 <= latency <= _LONGEST_MS:
            raise ConfigurationError(f"latency_ms: expected 0 to {_LONGEST_MS:g} ms, got {latency:g}")

    @property
    def latency(self) -> float | None:
        """In s; None for what is measured."""
        if self.latency_ms == MEASURED:
            return None
        return 1e-3 * (LATENCY_MS[self.perception] if self.latency_ms is None else self.latency_ms)


def drive_case(
    case: Case,
    options: DriveOptions = DriveOptions(),
    settings: PipelineSettings = PipelineSettings(),
    video: Path | None = None,
) -> DriveRecord:
    """Drive a case through the embedded world.

    Args:
        case: what to drive.
        options: how it is driven.
        settings: of the pipeline and the vehicle.
        video: MP4 to write.

    Raises:
        ConfigurationError: where the place cannot hold what the case asks for.
    """
    staged, model = stage(case, settings.vehicle), options.perception == "model"
    rig = options.rig or (_RIG if model else _FILMED if video is not None else None)
    sensors = sight() if rig is None else make_rig(rig)
    with ExitStack() as stack:
        world = stack.enter_context(make_world(staged, sensors, options.seed, settings))
        height = float(sensors.T_base_lidar[2, 3])
        faults = SensorFaults(case.faults, options.seed, height)
        settings = settings.for_cameras(len(sensors.cameras))
        driver = make_driver(options.perception, settings, faults, options.planner)
        stack.callback(driver.close)
        on_tick = None if video is None else _film(stack, video, settings, world, options.perception)
        setting = Setting(
            staged.limit,
            names_of(staged),
            staged.places,
            lambda points: drivable(staged.layout.ground, points),
            faults.clock,
            options.latency,
            perceived=model,
        )
        return drive(world, driver, settings.vehicle, case.duration, setting, on_tick, settings.control)


def expert_way(case: Case, seed: int = 0, settings: PipelineSettings = PipelineSettings()) -> np.ndarray:
    """How far the world's own driver gets in a case: (T,) m along the route of the vehicle's middle, tick by tick.

    That is `world.route_driver.RouteDriver`: a driver who knows where everything is, keeps distance by the Intelligent
    Driver Model and stops at red lights, at the speed limit where nothing is in the way.
    """
    staged, vehicle = stage(case, settings.vehicle), settings.vehicle
    middle = 0.5 * (vehicle.front - vehicle.rear)
    with make_world(staged, sight(), seed, settings) as world:
        places, driver, limit = [], None, None
        for _ in range(max(2, round(case.duration / world.step_s))):
            ego, boxes = surroundings(world)
            if driver is None or world.route.speed_limit != limit:
                limit = world.route.speed_limit
                driver = RouteDriver(world.route, vehicle)
            T = ego.T_odom_base
            places.append(T[:2, :2] @ (middle, 0.0) + T[:2, 3])
            world.apply(driver.command(ego, boxes, world.lights()))
            world.tick()
        return route_progress(world.route.points, np.array(places))


def make_world(
    staged: Staged, rig: Rig, seed: int = 0, settings: PipelineSettings = PipelineSettings()
) -> EmbeddedWorld:
    """The world of a case, for one process of several."""
    view = max(_SIGHT, WorldSettings().view)
    # One thread: cases run side by side in processes.
    how = WorldSettings(vehicle=settings.vehicle, threads=1, truth_range=_SIGHT, view=view)
    return open_world(staged, rig, how, seed)


def sight() -> Rig:
    """An eye on the roof: what it could see is worked out, nothing is measured."""
    return Rig("sight", None, np.eye(4), eye=(0.0, 0.0, _EYE_HEIGHT))


def drivable(ground: Ground, points: np.ndarray) -> np.ndarray:
    """(N,) whether places (N, 2) m lie on a surface that is made for vehicles."""
    return np.isin(surfaces(ground, points), _DRIVABLE)


def names_of(staged: Staged) -> dict[str, int]:
    """Object ids of the case's own actors by their names: traffic numbers scripted actors first, from 1 on."""
    return {part.name: number for number, part in enumerate(staged.case.actors, 1)}


def _film(stack: ExitStack, video: Path, settings: PipelineSettings, world: EmbeddedWorld, perception: str) -> OnTick:
    from karp_perception.view.drive_view import DriveView
    from karp_perception.view.video import VideoWriter

    view = DriveView(settings.vehicle)
    writer = stack.enter_context(VideoWriter(video, 1.0 / world.step_s, view.size))
    notes = {"perception": "perfect: true boxes of what is in sight"} if perception == "truth" else {}

    def on_tick(frame: SensorFrame, result: Result, truth: Truth) -> None:
        del truth
        seen = world.sensors() if perception == "truth" else frame
        writer.write(view.draw(seen, result, notes))

    return on_tick
