"""Changes to the cameras of a frame: other lenses, other light, calibration that is a little wrong."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np

from karp_perception.core import CameraFrame, SensorFrame
from karp_perception.core.geometry import pose_from_rotation
from karp_perception.detection.training.augmentation.settings import CalibrationSettings, ImageSettings
from karp_perception.sensing import image_changes
from karp_perception.sensing.labelled_frame import LabelledFrame

_COLOR_BLUR_SHARE = 0.5  # of blurred images, those out of focus; the others are smeared


def with_cameras(frame: LabelledFrame, cameras: dict[str, CameraFrame | None]) -> LabelledFrame:
    """The frame with other cameras; itself where they are the same ones."""
    sensors = frame.sensors
    if all(camera is sensors.cameras[name] for name, camera in cameras.items()):
        return frame
    return replace(frame, sensors=SensorFrame(sensors.stamp_ns, cameras, sensors.lidar, sensors.ego))


def zoomed(frame: LabelledFrame, rng: np.random.Generator, settings: ImageSettings) -> LabelledFrame:
    """Some images enlarged about a random place: masks and camera matrices follow."""
    cameras, masks = dict(frame.sensors.cameras), dict(frame.masks)
    for name, camera in cameras.items():
        if camera is None or rng.random() >= settings.zoom:
            continue
        factor = rng.uniform(1.0, settings.most_zoom)
        place = rng.random(2)
        cameras[name] = enlarged(camera, factor, place)
        if name in masks:
            # Rounds as a picture of numbers must: to the nearest.
            matrix = enlargement(camera, factor, place)[:2]
            size = masks[name].shape[::-1]
            whole = cv2.warpAffine(masks[name].astype(np.float32), matrix, size, flags=cv2.INTER_NEAREST)
            masks[name] = whole.astype(np.int32)
    changed = with_cameras(frame, cameras)
    return frame if changed is frame else replace(changed, masks=masks)


def enlargement(camera: CameraFrame, factor: float, place: np.ndarray) -> np.ndarray:
    """(3, 3) from pixels to pixels of the image enlarged by `factor`; `place` (2,), 0..1, says which part stays.

    Borders, not pixel centres, keep their places: 0 keeps the left or upper one, 1 the right or lower one.
    """
    size = np.array(camera.image.shape[1::-1])
    corner = place * size * (1.0 - 1.0 / factor)
    shift = factor * (0.5 - corner) - 0.5
    return np.array([[factor, 0, shift[0]], [0, factor, shift[1]], [0, 0, 1.0]])


def enlarged(camera: CameraFrame, factor: float, place: np.ndarray) -> CameraFrame:
    """The camera with a longer lens, see `enlargement`."""
    matrix = enlargement(camera, factor, place)
    size = camera.image.shape[1::-1]
    image = cv2.warpAffine(camera.image, matrix[:2], size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return replace(camera, image=image, intrinsics=matrix @ camera.intrinsics)


def shrunk(frame: LabelledFrame, width: int) -> LabelledFrame:
    """The frame with images of at most `width` columns, their camera matrices and masks alike.

    What a network of that width sees stays the same, and every later change of the images costs less.
    """
    cameras, masks = dict(frame.sensors.cameras), dict(frame.masks)
    for name, camera in cameras.items():
        if camera is None or camera.image.shape[1] <= width:
            continue
        old = np.array(camera.image.shape[1::-1])
        size = (width, max(1, round(old[1] * width / old[0])))
        factor = np.array(size) / old
        K = camera.intrinsics.copy()
        K[:2] *= factor[:, None]
        K[:2, 2] += 0.5 * factor - 0.5  # borders keep their places, not the middles of pixels
        image = cv2.resize(camera.image, size, interpolation=cv2.INTER_AREA)
        cameras[name] = replace(camera, image=image, intrinsics=K)
        if name in masks:
            rows, columns = (
                ((np.arange(n) + 0.5) / f).astype(int) for n, f in zip(size[::-1], factor[::-1], strict=True)
            )
            masks[name] = masks[name][rows[:, None], columns]
    changed = with_cameras(frame, cameras)
    return frame if changed is frame else replace(changed, masks=masks)


def miscalibrated(frame: LabelledFrame, rng: np.random.Generator, settings: CalibrationSettings) -> LabelledFrame:
    """Every camera's pose with a small error of its own; images stay."""
    if settings.rotation == 0 and settings.translation == 0:
        return frame
    cameras = dict(frame.sensors.cameras)
    for name, camera in cameras.items():
        if camera is not None:
            angles = rng.normal(0.0, settings.rotation, 3)
            error = pose_from_rotation(cv2.Rodrigues(angles)[0], rng.normal(0.0, settings.translation, 3))
            cameras[name] = replace(camera, T_base_camera=camera.T_base_camera @ error)
    return with_cameras(frame, cameras)


def recolored(frame: LabelledFrame, rng: np.random.Generator, settings: ImageSettings) -> LabelledFrame:
    """Every image with colours, noise, blur, resolution and gaps of its own."""
    cameras = dict(frame.sensors.cameras)
    for name, camera in cameras.items():
        if camera is not None:
            image = _changed(camera.image, rng, settings)
            if image is not camera.image:
                cameras[name] = replace(camera, image=image)
    return with_cameras(frame, cameras)


def _changed(image: np.ndarray, rng: np.random.Generator, settings: ImageSettings) -> np.ndarray:
    width = image.shape[1]
    color, coarser, blur, noise, jpeg, hidden = rng.random(6) < (
        settings.color,
        settings.coarser,
        settings.blur,
        settings.noise,
        settings.jpeg,
        settings.cut_out,
    )
    # In the order in which light, lens, sensor and file change an image.
    if hidden:
        image = image_changes.cut_out(image, rng.uniform(0.0, settings.most_cut_out), rng)
    if blur:
        spread = rng.uniform(0.0, settings.blur_width) * width
        if rng.random() < _COLOR_BLUR_SHARE:
            image = image_changes.blurred(image, spread)
        else:
            image = image_changes.motion_blurred(image, 3.5 * spread, rng.uniform(0.0, np.pi))
    if color:
        grey = rng.random() < settings.grey
        image = image_changes.colored(
            image,
            np.exp(rng.uniform(-settings.brightness, settings.brightness)),
            np.exp(rng.uniform(-settings.contrast, settings.contrast)),
            0.0 if grey else 1.0 + rng.uniform(-settings.saturation, settings.saturation),
            rng.uniform(-settings.hue, settings.hue),
        )
    if noise:
        image = image_changes.noisy(image, rng.uniform(0.0, settings.noise_levels), rng, rng.random())
    if coarser:
        image = image_changes.coarser(image, rng.uniform(1.0, settings.most_coarser))
    if jpeg:
        image = image_changes.jpeg(image, int(rng.integers(settings.lowest_jpeg, 96)))
    return image
