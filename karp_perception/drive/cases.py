"""One case from beginning to end: its world, who drives, the record, and a video where one is wanted."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import numpy as np

from karp_perception.core import SensorFrame
from karp_perception.drive.drivers import make_driver
from karp_perception.drive.faults import SensorFaults
from karp_perception.drive.loop import OnTick, drive
from karp_perception.evaluation.drive_record import DriveRecord
from karp_perception.pipeline import PipelineSettings, Result
from karp_perception.world.embedded import EmbeddedWorld, WorldSettings
from karp_perception.world.interface import Truth
from karp_perception.world.rig import Rig, make_rig
from karp_perception.world.scenarios.case import Case
from karp_perception.world.scenarios.opening import open_world
from karp_perception.world.scenarios.staging import Staged, stage
from karp_perception.world.sensors.lidar_models import LidarModel

_RIG = "nano"  # where perception is the model and nothing else is asked for
_FILMED = "demo"  # what a video shows of a drive with perfect perception
_EYE_HEIGHT = 1.73  # m
_SIGHT = 150.0  # m, how far perfect perception sees: at 130 km/h one stops within 120 m (8 m/s², 1 s)


def drive_case(
    case: Case,
    perception: str = "truth",
    seed: int = 0,
    rig: str | None = None,
    settings: PipelineSettings = PipelineSettings(),
    video: Path | None = None,
) -> DriveRecord:
    """Drive a case through the embedded world.

    Args:
        case: what to drive.
        perception: `truth` or `model`.
        seed: of traffic and noise, beside the case's own.
        rig: sensors by name; None takes few for `model` and none that costs anything for `truth`.
        settings: of the pipeline and the vehicle.
        video: MP4 to write.

    Raises:
        ConfigurationError: where the place cannot hold what the case asks for.
    """
    staged = stage(case, settings.vehicle)
    if rig is None:
        rig = _RIG if perception == "model" else _FILMED if video is not None else None
    sensors = make_rig(rig) if rig is not None else sight()
    with ExitStack() as stack:
        world = stack.enter_context(make_world(staged, sensors, seed, settings))
        height = float(sensors.T_base_lidar[2, 3])
        driver = make_driver(
            perception, settings.for_cameras(len(sensors.cameras)), SensorFaults(case.faults, seed, height)
        )
        stack.callback(driver.close)
        on_tick = None if video is None else _film(stack, video, settings, world, perception)
        return drive(
            world,
            driver,
            settings.vehicle,
            case.duration,
            staged.limit,
            names=names_of(staged),
            places=staged.places,
            lanes=tuple(lane.center[:, :2] for lane in staged.layout.lanes.values()),
            on_tick=on_tick,
        )


def make_world(
    staged: Staged, rig: Rig, seed: int = 0, settings: PipelineSettings = PipelineSettings()
) -> EmbeddedWorld:
    """The world of a case, for one process of several."""
    view = max(_SIGHT, WorldSettings().view)
    # One thread: cases run side by side in processes.
    how = WorldSettings(vehicle=settings.vehicle, threads=1, truth_range=_SIGHT, view=view)
    return open_world(staged, rig, how, seed)


def sight() -> Rig:
    """An eye on the roof that costs next to nothing: what it could see is worked out, nothing is measured."""
    pose = np.eye(4)
    pose[2, 3] = _EYE_HEIGHT
    return Rig("sight", LidarModel("sight", (0.0,), (0.0,), 8, max_range=120.0), pose)


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
