"""Sensors that are missing: one network has to serve every subset of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from karp_perception.core import SensorFrame
from karp_perception.detection.preprocessing import has_lidar
from karp_perception.detection.training.augmentation.settings import DropSettings
from karp_perception.sensing.label_upkeep import ended_with_view, with_seen
from karp_perception.sensing.labelled_frame import LabelledFrame

_POINTS_OF_VISIBLE = 10  # lidar points on an object that is taken to be seen whole: four, which prove it, are enough


def drop_sensors(
    frame: LabelledFrame, rng: np.random.Generator, settings: DropSettings = DropSettings()
) -> LabelledFrame:
    """The frame without its images, or without its lidar, or without some of its cameras; never without any sensor.

    What is taken away is None. Labels stay all; what no sensor shows any longer has visibility 0 and no points. Where
    nobody knows the visibility of objects and the lidar goes, the points that it had on them tell. Labels that end with
    a camera's view (`sector`) end with the sweep instead where that camera goes: the sweep is cut to the view, and the
    labels hold all around.
    """
    kind, kept_place = rng.random(2)
    sensors = frame.sensors
    present = [name for name, camera in sensors.cameras.items() if camera is not None]
    chance = rng.random(len(present))
    lidar = sensors.lidar if sensors.lidar is not None and len(sensors.lidar.points) else None
    if not present or (lidar is None and len(present) == 1):
        return frame
    if kind < settings.no_images and lidar is not None:
        return without(frame, set(present))
    gone = {name for name, value in zip(present, chance, strict=True) if value < settings.camera}
    if len(gone) == len(present):
        gone.remove(present[int(kept_place * len(present))])
    no_lidar = settings.no_images <= kind < settings.no_images + settings.no_lidar
    return without(frame, gone, lidar=no_lidar)


def without(frame: LabelledFrame, cameras: set[str], lidar: bool = False) -> LabelledFrame:
    """The frame without the images of `cameras` and, if `lidar` says so, without its points; see `drop_sensors`."""
    sensors = frame.sensors
    if not cameras and (not lidar or sensors.lidar is None):
        return frame
    left = {name: None if name in cameras else camera for name, camera in sensors.cameras.items()}
    masks = {name: mask for name, mask in frame.masks.items() if name not in cameras}
    if not lidar and not any(left.values()):
        frame = ended_with_view(frame)
    sweep, inside, visibility = frame.sensors.lidar, frame.points_inside, frame.visibility
    if lidar:
        if visibility is None and has_lidar(frame.sensors):
            # Nobody told what cameras see. What the lidar met was not hidden from them either, most likely.
            visibility = np.minimum(inside / _POINTS_OF_VISIBLE, 1.0)
        sweep, inside = None, np.zeros(len(frame.labels), np.int64)
    changed = replace(
        frame,
        sensors=SensorFrame(sensors.stamp_ns, left, sweep, sensors.ego),
        points_inside=inside,
        visibility=visibility,
        masks=masks,
    )
    return with_seen(changed)
