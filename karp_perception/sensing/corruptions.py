"""Things that go wrong with sensors, by name and in three strengths: what robustness is measured with.

Each corruption changes what it says and nothing else: labels stay, `points_inside` says what is left, and what no
sensor shows any more gets visibility 0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import cv2
import numpy as np

from karp_perception.core import CameraFrame, InvalidInput, LidarSweep, SensorFrame
from karp_perception.core.geometry import invert_pose, pose_from_rotation
from karp_perception.sensing import image_changes, sweep_changes
from karp_perception.sensing.beams import DEFAULT_ORIGIN, find_beams
from karp_perception.sensing.delays import with_late_points
from karp_perception.sensing.label_upkeep import recounted
from karp_perception.sensing.labelled_frame import LabelledFrame

STRENGTHS = (1, 2, 3)
_CELL_SHARE = 0.023  # side of the squares that distances in an image are estimated in, of its width
_TALL_M = 1.8  # over `base_link`: houses and trees go on above the highest beam
_FOG_DAMPING = 0.012  # spread of the distances of fog, as a share of the image's width: no edges where squares meet


@dataclass(frozen=True)
class Corruption:
    """One thing that goes wrong.

    Attributes:
        name: as it is asked for.
        about: what happens, in a few words.
        levels: what the three strengths mean, one number each.
        unit: of these numbers; "" for a share.
        sensors: which of "cameras" and "lidar" it changes.
        apply: frame, level, chance and origin of the lidar's beams to frame.
    """

    name: str
    about: str
    levels: tuple[float, float, float]
    unit: str
    sensors: frozenset[str]
    apply: Callable[[LabelledFrame, float, np.random.Generator, np.ndarray], LabelledFrame]

    @property
    def graded(self) -> bool:
        """Whether its strengths differ."""
        return len(set(self.levels)) > 1


def corrupt(
    frame: LabelledFrame,
    name: str,
    strength: int,
    rng: np.random.Generator,
    *,
    lidar_origin: np.ndarray | None = None,
) -> LabelledFrame:
    """A frame with one corruption.

    Args:
        frame: sensors that it lacks stay missing.
        name: of CORRUPTIONS.
        strength: 1, 2 or 3.
        rng: all chance.
        lidar_origin: (3,) m in `base_link`, where the beams start; DEFAULT_ORIGIN where it is not known.

    Raises InvalidInput for a name or a strength that does not exist.
    """
    if name not in CORRUPTIONS:
        raise InvalidInput("corruption", f"one of {', '.join(CORRUPTIONS)}", repr(name))
    if strength not in STRENGTHS:
        raise InvalidInput(f"strength of corruption {name}", "1, 2 or 3", repr(strength))
    corruption = CORRUPTIONS[name]
    origin = np.asarray(DEFAULT_ORIGIN if lidar_origin is None else lidar_origin, np.float64)
    return recounted(corruption.apply(frame, corruption.levels[strength - 1], rng, origin), frame)


ImageChange = Callable[[np.ndarray, float, np.random.Generator], np.ndarray]
SweepChange = Callable[[LidarSweep, float, np.random.Generator, np.ndarray], LidarSweep]


def _on_images(change: ImageChange) -> Callable[..., LabelledFrame]:
    def apply(frame: LabelledFrame, level: float, rng: np.random.Generator, _: np.ndarray) -> LabelledFrame:
        return _with_cameras(frame, lambda _, camera: replace(camera, image=change(camera.image, level, rng)))

    return apply


def _on_sweep(change: SweepChange) -> Callable[..., LabelledFrame]:
    def apply(frame: LabelledFrame, level: float, rng: np.random.Generator, origin: np.ndarray) -> LabelledFrame:
        lidar = frame.sensors.lidar
        return frame if lidar is None else _with_lidar(frame, change(lidar, level, rng, origin))

    return apply


def _with_cameras(frame: LabelledFrame, change: Callable[[str, CameraFrame], CameraFrame | None]) -> LabelledFrame:
    sensors = frame.sensors
    cameras = {name: None if camera is None else change(name, camera) for name, camera in sensors.cameras.items()}
    masks = {name: mask for name, mask in frame.masks.items() if cameras.get(name) is not None}
    changed = SensorFrame(sensors.stamp_ns, cameras, sensors.lidar, sensors.ego)
    return replace(frame, sensors=changed, masks=masks)


def _with_lidar(frame: LabelledFrame, sweep: LidarSweep | None) -> LabelledFrame:
    sensors = frame.sensors
    return replace(frame, sensors=SensorFrame(sensors.stamp_ns, sensors.cameras, sweep, sensors.ego))


def _no_camera(frame: LabelledFrame, *_: object) -> LabelledFrame:
    return _with_cameras(frame, lambda *_: None)


def _one_camera(frame: LabelledFrame, *_: object) -> LabelledFrame:
    ahead = {n: float(c.T_base_camera[0, 2]) for n, c in frame.sensors.cameras.items() if c is not None}
    kept = max(ahead, key=lambda name: ahead[name], default="")
    return _with_cameras(frame, lambda name, camera: camera if name == kept else None)


def _no_lidar(frame: LabelledFrame, *_: object) -> LabelledFrame:
    return _with_lidar(frame, None)


def _few_beams(frame: LabelledFrame, step: float, _: np.random.Generator, origin: np.ndarray) -> LabelledFrame:
    lidar = frame.sensors.lidar
    if lidar is None or not len(lidar.points):
        return frame
    beams = find_beams(lidar.points, None if tuple(origin) == DEFAULT_ORIGIN else origin)
    return _with_lidar(frame, sweep_changes.chosen(lidar, beams.every(int(step))))


def _miscalibration(frame: LabelledFrame, degrees: float, rng: np.random.Generator, _: np.ndarray) -> LabelledFrame:
    def shaken(_: str, camera: CameraFrame) -> CameraFrame:
        axis, offset = rng.standard_normal(3), rng.standard_normal(3)
        turn = cv2.Rodrigues(np.radians(degrees) * axis / np.linalg.norm(axis))[0]
        # As many times five centimetres as degrees.
        error = pose_from_rotation(turn, 0.05 * degrees * offset / np.linalg.norm(offset))
        return replace(camera, T_base_camera=camera.T_base_camera @ error)

    return _with_cameras(frame, shaken)


def _delay(frame: LabelledFrame, milliseconds: float, *_: object) -> LabelledFrame:
    return with_late_points(frame, 1e-3 * milliseconds)


def _fog(frame: LabelledFrame, visibility_m: float, rng: np.random.Generator, origin: np.ndarray) -> LabelledFrame:
    def foggy(name: str, camera: CameraFrame) -> CameraFrame:
        distance = image_distance(frame, name)
        return replace(camera, image=image_changes.foggy(camera.image, distance, visibility_m))

    lidar = frame.sensors.lidar
    hazy = _with_cameras(frame, foggy)
    return hazy if lidar is None else _with_lidar(hazy, sweep_changes.in_fog(lidar, visibility_m, rng, origin))


def _rain(frame: LabelledFrame, lost: float, rng: np.random.Generator, origin: np.ndarray) -> LabelledFrame:
    wet = _with_cameras(frame, lambda _, camera: replace(camera, image=image_changes.rainy(camera.image, lost, rng)))
    lidar = wet.sensors.lidar
    return wet if lidar is None else _with_lidar(wet, sweep_changes.in_rain(lidar, lost, rng, origin))


def _motion_blur(image: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    return image_changes.motion_blurred(image, share * image.shape[1], rng.normal(0.0, 0.3))


def _blind_sector(sweep: LidarSweep, degrees: float, rng: np.random.Generator, _: np.ndarray) -> LidarSweep:
    return sweep_changes.without_sector(sweep, rng.uniform(-np.pi, np.pi), np.radians(degrees))


def image_distance(frame: LabelledFrame, name: str) -> np.ndarray:
    """(H, W) float32 m, about how far away what each pixel of a camera's image shows is.

    Level ground to the horizon; where there are lidar points, the nearest in each of about 44 x 16 squares, and above
    the highest of them what it belongs to, if that is tall; labelled objects with a mask at their box's distance.
    """
    camera = frame.sensors.cameras[name]
    assert camera is not None
    height, width = camera.image.shape[:2]
    distance = image_changes.flat_distance((height, width), camera.intrinsics, camera.T_base_camera)
    lidar = frame.sensors.lidar
    if lidar is not None and len(lidar.points):
        seen = lidar.points[sweep_changes.view_mask(lidar, camera), :3].astype(np.float64)
        T = invert_pose(camera.T_base_camera)
        optical = seen @ T[:3, :3].T + T[:3, 3]
        u, v = ((optical @ camera.intrinsics.T)[:, :2] / optical[:, 2:]).T
        side = max(4, round(_CELL_SHARE * width))
        columns, rows = -(-width // side), -(-height // side)
        cell = (v / side).astype(int).clip(0, rows - 1) * columns + (u / side).astype(int).clip(0, columns - 1)
        nearest, highest = np.full(rows * columns, np.inf, np.float32), np.full(rows * columns, -np.inf)
        np.minimum.at(nearest, cell, np.linalg.norm(optical, axis=1).astype(np.float32))
        np.maximum.at(highest, cell, seen[:, 2])
        nearest, highest = nearest.reshape(rows, columns), highest.reshape(rows, columns)
        top = np.isfinite(nearest).argmax(axis=0)
        column = np.arange(columns)
        goes_on = (np.arange(rows)[:, None] < top) & (highest[top, column] > _TALL_M)
        nearest = np.where(goes_on, nearest[top, column], nearest)
        square = np.repeat(np.repeat(nearest, side, 0), side, 1)[:height, :width]
        distance = np.where(np.isfinite(square), square, distance)
    # Its logarithm is smoothed, so that the sky does not weigh more than what stands before it.
    distance = np.exp(cv2.GaussianBlur(np.log(distance), (0, 0), max(0.5, _FOG_DAMPING * width)))
    mask = frame.masks.get(name)
    if mask is not None and frame.object_id is not None:
        away = np.linalg.norm(frame.labels.center - camera.T_base_camera[:3, 3], axis=1)
        for number in np.flatnonzero(np.isin(frame.object_id, np.unique(mask))):
            distance[mask == frame.object_id[number]] = away[number]
    return distance


_CAMERAS, _LIDAR, _BOTH = frozenset({"cameras"}), frozenset({"lidar"}), frozenset({"cameras", "lidar"})

_ALL = (
    Corruption("no_camera", "no image at all", (1, 1, 1), "", _CAMERAS, _no_camera),
    Corruption("one_camera", "only the camera that looks most ahead", (1, 1, 1), "", _CAMERAS, _one_camera),
    Corruption("no_lidar", "no points at all", (1, 1, 1), "", _LIDAR, _no_lidar),
    Corruption("few_beams", "one ring of so many", (2, 4, 8), "rings", _LIDAR, _few_beams),
    Corruption(
        "lidar_noise", "noise on ranges", (0.03, 0.1, 0.2), "m", _LIDAR, _on_sweep(sweep_changes.with_range_noise)
    ),
    Corruption(
        "point_dropout",
        "share of points lost",
        (0.3, 0.6, 0.85),
        "",
        _LIDAR,
        _on_sweep(lambda sweep, share, rng, _: sweep_changes.dropped(sweep, share, rng)),
    ),
    Corruption(
        "blind_sector", "nothing in a sector of the lidar", (45, 90, 180), "deg", _LIDAR, _on_sweep(_blind_sector)
    ),
    Corruption("miscalibration", "every camera's pose off by an angle", (0.5, 1, 2), "deg", _CAMERAS, _miscalibration),
    Corruption("delay", "points older than images and truth", (50, 100, 200), "ms", _LIDAR, _delay),
    Corruption("fog", "how far one sees", (150, 75, 35), "m", _BOTH, _fog),
    Corruption("rain", "share of pulses to 40 m that are lost", (0.2, 0.45, 0.7), "", _BOTH, _rain),
    Corruption(
        "motion_blur", "length of the smear, of the width", (0.01, 0.025, 0.05), "", _CAMERAS, _on_images(_motion_blur)
    ),
    Corruption(
        "defocus",
        "spread, of the width",
        (0.003, 0.007, 0.014),
        "",
        _CAMERAS,
        _on_images(lambda image, share, _: image_changes.blurred(image, share * image.shape[1])),
    ),
    Corruption(
        "low_light", "share of the light", (0.2, 0.06, 0.015), "", _CAMERAS, _on_images(image_changes.in_low_light)
    ),
    Corruption(
        "overexposure",
        "times the light",
        (2, 4, 8),
        "",
        _CAMERAS,
        _on_images(lambda image, gain, _: image_changes.overexposed(image, gain)),
    ),
    Corruption(
        "image_noise", "standard deviation", (8, 18, 36), "grey levels", _CAMERAS, _on_images(image_changes.noisy)
    ),
    Corruption(
        "jpeg",
        "quality of JPEG",
        (30, 12, 4),
        "",
        _CAMERAS,
        _on_images(lambda image, quality, _: image_changes.jpeg(image, int(quality))),
    ),
    Corruption(
        "dirt", "share of the image behind dirt", (0.1, 0.25, 0.5), "", _CAMERAS, _on_images(image_changes.dirty)
    ),
)

CORRUPTIONS: Mapping[str, Corruption] = {corruption.name: corruption for corruption in _ALL}
"""By name, in the order in which they are reported."""
