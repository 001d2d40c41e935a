"""Augmentation: one labelled frame made into another that could have been recorded, with all sensors consistent."""

from __future__ import annotations

import numpy as np

from karp_perception.detection.training.augmentation import cameras, geometric, sweeps
from karp_perception.detection.training.augmentation import paste as pasting
from karp_perception.detection.training.augmentation.paste_bank import PasteBank
from karp_perception.detection.training.augmentation.settings import AugmentationSettings, PlaceSettings
from karp_perception.sensing.corruptions import corrupt
from karp_perception.sensing.delays import with_late_images
from karp_perception.sensing.label_upkeep import recounted, with_seen
from karp_perception.sensing.labelled_frame import LabelledFrame

_WEATHER = ("fog", "rain", "low_light", "overexposure", "dirt")
_LARGEST_TILT = 3.0  # standard deviations, beyond which chance is cut off


def augment(
    frame: LabelledFrame,
    rng: np.random.Generator,
    settings: AugmentationSettings = AugmentationSettings(),
    paste: PasteBank | None = None,
    *,
    lidar_origin: np.ndarray | None = None,
) -> LabelledFrame:
    """A changed copy of the frame: the frame itself where nothing is to change.

    In this order: objects of the bank are pasted; the sweep becomes another lidar's; weather; calibration and time
    errors; place (mirrored, turned, scaled, shifted, tilted); what images show. `points_inside` says what is left on
    each object, and what no sensor shows any more gets visibility 0. Sensors are taken away by `drop_sensors`, which
    comes last.

    Args:
        frame: any of its sensors may be missing.
        rng: all chance: the same state gives the same frame.
        settings: what is done, how often and how much.
        paste: objects to put into the frame, from frames of the same sensors; None for none.
        lidar_origin: (3,) where the lidar's beams start, m in `base_link`; None to find it where it is needed.
    """
    given = frame
    if paste is not None:
        frame = pasting.paste(frame, paste, rng, settings.paste, lidar_origin=lidar_origin)
    before = frame
    frame = sweeps.changed(frame, rng, settings.sweep, lidar_origin)
    if frame is not before:
        frame = recounted(frame, before)
    if rng.random() < settings.image.weather:
        name, strength = _WEATHER[int(rng.integers(len(_WEATHER)))], int(rng.integers(1, 3))
        frame = corrupt(frame, name, strength, rng, lidar_origin=lidar_origin)
    if settings.calibration.delay > 0 and any(camera is not None for camera in frame.sensors.cameras.values()):
        frame = with_late_images(frame, rng.normal(0.0, settings.calibration.delay))
    frame = cameras.miscalibrated(frame, rng, settings.calibration)
    frame = placed(frame, rng, settings.place)
    frame = cameras.zoomed(frame, rng, settings.image)
    frame = cameras.recolored(frame, rng, settings.image)
    return frame if frame is given else with_seen(frame)


def placed(frame: LabelledFrame, rng: np.random.Generator, settings: PlaceSettings) -> LabelledFrame:
    """The frame mirrored, turned, scaled, shifted and tilted at random."""
    mirrored, anywhere, turn, size = rng.random(4)
    shifts = rng.standard_normal(5).clip(-_LARGEST_TILT, _LARGEST_TILT)
    if mirrored < settings.flip:
        frame = geometric.flip(frame)
    largest = np.pi if anywhere < settings.any_rotation else settings.rotation
    yaw = (2.0 * turn - 1.0) * largest
    scale = 1.0 + (2.0 * size - 1.0) * settings.scale
    spread = (settings.shift, settings.shift, settings.height, settings.tilt, settings.tilt)
    x, y, z, roll, pitch = (float(v) for v in shifts * spread)
    if not any((yaw, scale - 1.0, x, y, z, roll, pitch)):
        return frame
    return geometric.moved(frame, geometric.pose_change(yaw, roll, pitch, (x, y, z)), scale)
