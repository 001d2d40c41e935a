"""Frames to measure with: what a sensor sees in the embedded world, a recorded frame, or noise."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import numpy as np

from karp_perception.core import CameraFrame, ConfigurationError, LidarSweep, SensorFrame

WORLD, NOISE = "world", "noise"
_SEED = 1_000_000_000  # places of evaluation, never of training
_FAMILIES = ("intersection",)
_YAWS_RAD = (0.0, 1.0, -1.0, 2.0, -2.0, 3.1)
_NOISE_POINTS = 120_000


def input_frames(source: str, rig: str, count: int) -> list[SensorFrame]:
    """Frames without lens distortion.

    Args:
        source: "world", "noise", or a folder with frame.json.
        rig: sensors of the world.
        count: frames; a folder has one.

    Raises ConfigurationError for a folder that is none, InvalidInput for one that holds no frame.
    """
    if source == NOISE:
        return [noise_frame(number) for number in range(count)]
    if source == WORLD:
        return _world_frames(rig, count)
    folder = Path(source)
    if not folder.is_dir():
        raise ConfigurationError(f"input: expected {WORLD}, {NOISE} or a folder with frame.json, got {source!r}")
    from karp_perception.sensing.labelled_frame import load_labelled_frame
    from karp_perception.sensing.rectified import rectified

    return [rectified(load_labelled_frame(folder)).sensors]


def noise_frame(seed: int, cameras: int = len(_YAWS_RAD), points: int = _NOISE_POINTS) -> SensorFrame:
    """Noise in images of 1280x720, and points as dense as a spinning lidar's: most of them near.

    Nothing is empty in it, so it costs more than what sensors see.
    """
    rng = np.random.default_rng(seed)
    intrinsics = np.array([[900.0, 0, 640], [0, 900, 360], [0, 0, 1]])
    frames: dict[str, CameraFrame | None] = {}
    for number, yaw in enumerate(_YAWS_RAD[:cameras]):
        c, s = np.cos(yaw), np.sin(yaw)
        pose = np.array([[s, 0, c, 0], [-c, 0, s, 0], [0, -1, 0, 1.6], [0, 0, 0, 1]])
        image = rng.integers(0, 256, (720, 1280, 3), dtype=np.uint8)
        frames[f"camera{number}"] = CameraFrame(image, intrinsics, pose, 0)
    distance, angle = 2 + 70 * rng.random(points) ** 2, rng.uniform(-np.pi, np.pi, points)
    z = np.where(rng.random(points) < 0.6, 0.0, rng.uniform(0, 4, points))
    columns = (distance * np.cos(angle), distance * np.sin(angle), z, rng.random(points))
    return SensorFrame(0, frames, LidarSweep(np.column_stack(columns).astype(np.float32), 0))


def _world_frames(rig: str, count: int) -> list[SensorFrame]:
    from karp_perception.world.rig import make_rig
    from karp_perception.world.world_frames import WorldFrames

    make_rig(rig)  # one that does not exist is told before a world is built
    return [sensors for sensors, _ in islice(WorldFrames(_SEED, _FAMILIES, rig, per_drive=count), count)]
