"""Changes to the sweep of a frame: as another lidar, a worse one or one behind something would give it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from karp_perception.core import LidarSweep, SensorFrame
from karp_perception.detection.training.augmentation.settings import SweepSettings
from karp_perception.sensing import sweep_changes
from karp_perception.sensing.beams import DEFAULT_ORIGIN, find_beams
from karp_perception.sensing.labelled_frame import LabelledFrame

# Beams of lidars that are not far denser than those trained with, rad: VLP-16, HDL-32E, and 32 and 40 beams about the
# horizon as Hesai's and Robosense's have them.
OTHER_LIDARS: tuple[np.ndarray, ...] = (
    np.radians(np.linspace(-15.0, 15.0, 16)),
    np.radians(np.linspace(-92.0 / 3, 32.0 / 3, 32)),
    np.radians(np.concatenate([np.arange(-16.0, -6.0), np.linspace(-6.0, 2.0, 25), np.arange(3.0, 8.0)])),
    np.radians(np.concatenate([np.linspace(-25.0, -8.0, 8), np.linspace(-7.0, 3.0, 20), np.linspace(5.0, 15.0, 4)])),
)
_FEWEST = 200  # points that must be left: a sweep is thinned, not blinded


def with_lidar(frame: LabelledFrame, sweep: LidarSweep | None) -> LabelledFrame:
    """The frame with another sweep."""
    sensors = frame.sensors
    return replace(frame, sensors=SensorFrame(sensors.stamp_ns, sensors.cameras, sweep, sensors.ego))


def changed(
    frame: LabelledFrame, rng: np.random.Generator, settings: SweepSettings, origin: np.ndarray | None = None
) -> LabelledFrame:
    """The frame with its sweep changed; counts of points in boxes are the caller's business.

    Args:
        frame: any.
        rng: all chance.
        settings: what is done how often.
        origin: (3,) where the lidar's beams start, m in `base_link`; None to find it.
    """
    sweep = frame.sensors.lidar
    # The same draws whatever there is, so that what follows does not depend on it.
    names = ("thin_rings", "thin_columns", "dropout", "noise", "intensity", "constant_intensity", "camera_view")
    chance = dict(zip((*names, "blind_sector"), rng.random(8), strict=True))
    does = {name: bool(value < getattr(settings, name)) for name, value in chance.items()}
    if sweep is None or not len(sweep.points) or not any(does.values()):
        return frame
    if does["camera_view"]:
        cameras = [camera for camera in frame.sensors.cameras.values() if camera is not None]
        if cameras:
            sweep = sweep_changes.in_view_of(sweep, cameras[int(rng.integers(len(cameras)))])
    if does["thin_rings"] or does["thin_columns"]:
        sweep = _thinned(sweep, rng, does["thin_rings"], does["thin_columns"], origin)
    if does["dropout"]:
        sweep = sweep_changes.dropped(sweep, rng.uniform(0.0, settings.most_dropped), rng)
    if does["blind_sector"]:
        sweep = sweep_changes.without_sector(sweep, rng.uniform(-np.pi, np.pi), rng.uniform(0.2, 1.5))
    if does["noise"]:
        start = DEFAULT_ORIGIN if origin is None else origin
        sweep = sweep_changes.with_range_noise(sweep, rng.uniform(0.0, settings.noise_m), rng, start)
    if does["constant_intensity"]:
        sweep = sweep_changes.with_constant_intensity(sweep, 0.0 if rng.random() < 0.7 else rng.random())
    elif does["intensity"]:
        sweep = sweep_changes.with_intensity(sweep, np.exp(rng.uniform(-0.9, 0.9)), np.exp(rng.uniform(-0.7, 0.7)))
    return with_lidar(frame, sweep)


def _thinned(
    sweep: LidarSweep, rng: np.random.Generator, rings: bool, columns: bool, origin: np.ndarray | None
) -> LidarSweep:
    beams = find_beams(sweep.points, origin)
    kept = np.ones(len(sweep.points), bool)
    if rings:
        kind = int(rng.integers(3 + len(OTHER_LIDARS)))
        if kind < 3:  # every second ring is asked for twice as often as every fourth
            step = (2, 2, 4)[kind]
            kept &= beams.every(step, int(rng.integers(step)))
        else:
            kept &= beams.like(OTHER_LIDARS[kind - 3])
    if columns:
        step = int(rng.integers(2, 4))
        kept &= beams.columns() % step == int(rng.integers(step))
    return sweep_changes.chosen(sweep, kept) if kept.sum() >= _FEWEST else sweep
