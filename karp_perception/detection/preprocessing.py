"""A sensor frame as the arrays that the network takes: images cut to size, the lidar as a bird's-eye canvas.

Shapes are static, whatever the sensors deliver; what is missing is zeros and marked absent.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np
from scipy import sparse

from karp_perception.core import CameraFrame, DistortionModel, InvalidInput, LidarSweep, SensorFrame
from karp_perception.detection.model.config import ModelConfig

PIXEL_MEAN = np.array([0.485, 0.456, 0.406], np.float32)  # of ImageNet's pixels, the custom of the field
PIXEL_SPREAD = np.array([0.229, 0.224, 0.225], np.float32)
_REDUNDANT_RAD = np.radians(15.0)  # cameras whose axes are closer than this see much the same
_LEVEL = 0.2  # forward part of a level direction in the optical frame below which an image has no horizon
_SAMPLING = 2.0  # source pixels between samples: bilinear sampling sees two of them
MOST_COUNTED = 255  # points in a bin of a cell; more say nothing new
_COUNTS = np.log1p(np.arange(MOST_COUNTED + 1, dtype=np.float32))


@dataclass(frozen=True)
class Rig:
    """The cameras of one frame in the network's slots.

    Attributes:
        names: of the cameras in the slots that are taken, in order.
        intrinsics: (1, C, 3, 3) float32 of the cut images, pixels.
        T_base_camera: (1, C, 4, 4) float32.
        present: (1, C) float32, 1 or 0.
    """

    names: tuple[str, ...]
    intrinsics: np.ndarray
    T_base_camera: np.ndarray
    present: np.ndarray

    @property
    def calibration(self) -> dict[str, np.ndarray]:
        """Inputs of the position graph."""
        return {"intrinsics": self.intrinsics, "T_base_camera": self.T_base_camera, "camera_present": self.present}

    def key(self) -> bytes:
        """Equal for equal calibrations of equal cameras, whatever their names."""
        return self.intrinsics.tobytes() + self.T_base_camera.tobytes() + self.present.tobytes()


@dataclass(frozen=True)
class ImageCut:
    """How a camera's image becomes the network's: a band of rows, scaled onto the first `rows` rows.

    Attributes:
        top, bottom: rows of the source, half open.
        rows: of the result that are filled; the rest are padding.
        intrinsics: (3, 3) of the result.
    """

    top: int
    bottom: int
    rows: int
    intrinsics: np.ndarray


def network_arrays(frame: SensorFrame, config: ModelConfig) -> tuple[Rig, dict[str, np.ndarray]]:
    """The rig, and the network's inputs but for the embeddings: images, camera_present, canvas, lidar_present."""
    rig, images = place_cameras(frame.cameras, config)
    if frame.lidar is not None and has_lidar(frame):
        canvas = canvas_of(frame.lidar, config)[None]
    else:
        canvas = np.zeros((1, config.canvas_channels, *config.canvas_cells), np.float32)
    lidar_present = np.full((1, 1), float(has_lidar(frame)), np.float32)
    inputs = {"images": images, "camera_present": rig.present, "canvas": canvas, "lidar_present": lidar_present}
    return rig, inputs


def has_lidar(frame: SensorFrame) -> bool:
    """A sweep without a single point is a blind lidar, not an empty street."""
    return frame.lidar is not None and len(frame.lidar.points) > 0


def choose_cameras(cameras: Mapping[str, CameraFrame | None], slots: int) -> tuple[str, ...]:
    """Names of the cameras to use, in an order that depends on where they are and not on what they are called.

    Those that deliver are ordered by how far they look away from straight ahead, left before right, then by position.
    Where there are more than slots, one whose axis lies within 15 degrees of a chosen one's comes after all others.
    """
    axes = {name: _heading(camera) for name, camera in cameras.items() if camera is not None}

    def place(name: str) -> tuple[object, ...]:
        camera, heading = cameras[name], axes[name]
        assert camera is not None
        x, y, z = camera.T_base_camera[:3, 3]
        away = (round(abs(heading), 3), round(-heading, 3))
        return (*away, -y, -x, z, camera.intrinsics.tobytes(), camera.T_base_camera.tobytes(), name)

    ordered = sorted(axes, key=place)
    chosen: list[str] = []
    for name in ordered:
        gaps = [abs((axes[name] - axes[other] + np.pi) % (2 * np.pi) - np.pi) for other in chosen]
        if not gaps or min(gaps) > _REDUNDANT_RAD:
            chosen.append(name)
    first = chosen[:slots]
    rest = [name for name in ordered if name not in chosen][: slots - len(first)]
    return tuple(name for name in ordered if name in first or name in rest)


def place_cameras(cameras: Mapping[str, CameraFrame | None], config: ModelConfig) -> tuple[Rig, np.ndarray]:
    """Cut the images of the chosen cameras and place them in the network's slots.

    Returns:
        the rig, and images (1, C, 3, H, W) float32, normalised, zeros where there is none.

    Raises InvalidInput for an image whose lens distortion has not been taken out.
    """
    rig, cuts = rig_of(cameras, config)
    images = np.zeros((1, config.cameras, 3, config.image_height, config.image_width), np.float32)
    for slot, (name, cut) in enumerate(zip(rig.names, cuts, strict=True)):
        camera = cameras[name]
        assert camera is not None
        _fill_image(images[0, slot], camera.image, cut)
    return rig, images


def rig_of(cameras: Mapping[str, CameraFrame | None], config: ModelConfig) -> tuple[Rig, tuple[ImageCut, ...]]:
    """The rig of the chosen cameras, and how the image of each becomes the network's.

    Raises InvalidInput for an image whose lens distortion has not been taken out.
    """
    slots = config.cameras
    names = choose_cameras(cameras, slots)
    intrinsics = np.tile(np.eye(3, dtype=np.float32), (1, slots, 1, 1))
    poses = np.tile(np.eye(4, dtype=np.float32), (1, slots, 1, 1))
    present = np.zeros((1, slots), np.float32)
    cuts = []
    for slot, name in enumerate(names):
        camera = cameras[name]
        assert camera is not None
        if camera.distortion.model is not DistortionModel.NONE:
            raise InvalidInput(
                f"camera {name!r}",
                "a rectified image",
                f"distortion {camera.distortion.model.value}",
                "undistort it first",
                reason="distorted_image",
            )
        cut = image_cut(camera, config)
        intrinsics[0, slot], poses[0, slot], present[0, slot] = cut.intrinsics, camera.T_base_camera, 1.0
        cuts.append(cut)
    return Rig(names, intrinsics, poses, present), tuple(cuts)


def image_cut(camera: CameraFrame, config: ModelConfig) -> ImageCut:
    """The part of an image that the network sees: all columns, and rows around the horizon.

    The width is scaled to the network's. A taller image is cut so that the horizon comes to `horizon_fraction` of the
    height, as far as there are rows; a lower one is padded below. Pixel centres have whole numbers, as in OpenCV.
    """
    height, width = camera.image.shape[:2]
    scale = config.image_width / width
    band = round(config.image_height / scale)
    if band >= height:
        top, bottom, rows = 0, height, min(config.image_height, max(1, round(height * scale)))
    else:
        horizon = _horizon_row(camera)
        top = int(np.clip(round(horizon - config.horizon_fraction * band), 0, height - band))
        bottom, rows = top + band, config.image_height
    vertical = rows / (bottom - top)
    to_cut = np.array([[scale, 0, 0.5 * scale - 0.5], [0, vertical, (0.5 - top) * vertical - 0.5], [0, 0, 1]])
    return ImageCut(top, bottom, rows, to_cut @ camera.intrinsics)


def canvas_of(sweep: LidarSweep, config: ModelConfig) -> np.ndarray:
    """The bird's-eye canvas of a sweep.

    Args:
        sweep: points in `base_link`.
        config: range, cell size and height bins.

    Returns:
        (channels, X, Y) float32, x forward and y left, zeros in cells without points. Channels: log(1 + count) for
        each height bin above ground; highest and mean height above ground (m / 2); height of the ground over
        `base_link` (m / 2); mean intensity (0..1); mean offset from the cell's middle along x and y (cells, doubled:
        -1..1); mean time (tenths of a second). Points outside the range, or below or above all bins, are left out.
    """
    nx, ny = config.canvas_cells
    edges = np.asarray(config.height_edges_m, np.float32)
    bins, cells = len(edges) - 1, nx * ny
    # In units of cells, from the corner of the canvas.
    across = (sweep.points[:, 0] - np.float32(config.x_range_m[0])) * np.float32(1 / config.cell_m)
    along = (sweep.points[:, 1] - np.float32(config.y_range_m[0])) * np.float32(1 / config.cell_m)
    inside = np.flatnonzero((across >= 0) & (across < nx) & (along >= 0) & (along < ny))
    cell = across.take(inside).astype(np.int32)
    cell *= ny
    cell += along.take(inside).astype(np.int32)
    points = sweep.points.take(inside, axis=0)
    ground = ground_height(cell, points[:, 2], config).ravel()
    height = points[:, 2] - ground.take(cell)
    level = _bin_of(height, edges)
    index = cell * np.intp(bins + 2)
    index += level
    counts = np.bincount(index, minlength=cells * (bins + 2)).reshape(cells, bins + 2)
    # Points below and above all bins go to a cell of their own, which is not read.
    cell[(level == 0) | (level > bins)] = cells
    highest = np.full(cells + 1, -np.inf, np.float32)
    np.maximum.at(highest, cell, height)
    filled = np.flatnonzero(highest[:-1] > -np.inf)
    counts = counts[filled, 1:-1]
    total, ground = counts.sum(axis=1), ground[filled].astype(np.float64)
    values = points.astype(np.float64)
    np.clip(values[:, 3], 0.0, 1.0, out=values[:, 3])
    x, y, z, intensity = (_sums(cell, values, cells + 1)[filled] / total[:, None]).T

    canvas = np.zeros((config.canvas_channels, cells), np.float32)
    canvas[:bins, filled] = _COUNTS.take(np.minimum(counts, MOST_COUNTED)).T
    canvas[bins, filled] = 0.5 * highest[filled]
    canvas[bins + 1, filled] = 0.5 * (z - ground)
    canvas[bins + 2, filled] = 0.5 * ground
    canvas[bins + 3, filled] = intensity
    canvas[bins + 4, filled] = 2.0 * ((x - config.x_range_m[0]) / config.cell_m - filled // ny) - 1.0
    canvas[bins + 5, filled] = 2.0 * ((y - config.y_range_m[0]) / config.cell_m - filled % ny) - 1.0
    if sweep.time is not None:
        seconds = np.bincount(cell, sweep.time.take(inside).clip(-1.0, 1.0), cells + 1)
        canvas[bins + 6, filled] = 10.0 * seconds[filled] / total
    return canvas.reshape(-1, nx, ny)


def _sums(group: np.ndarray, rows: np.ndarray, groups: int) -> np.ndarray:
    """(groups, K) sums of the rows (N, K) of each group (N,).

    A product with the sparse matrix that has a one for each row: all columns in one pass, where `bincount` takes one
    pass for each.
    """
    count = len(group)
    ones = sparse.csc_array((np.ones(count), group, np.arange(count + 1, dtype=group.dtype)), shape=(groups, count))
    return ones @ rows


GROUND_COARSE_M = 3.2
GROUND_LOW_M, GROUND_HIGH_M, GROUND_STEP_M = -4.0, 6.0, 0.1
GROUND_SHARE = 0.02  # of a square's points that may lie below its ground: single reflections
# Of ground that is seen, a tenth of the points and no fewer than twenty lie within half a metre.
GROUND_NEAR_M, GROUND_SUPPORT, GROUND_POINTS = 0.5, 0.1, 20
GROUND_SLOPE = 0.12  # rise per metre that a road can have; what is steeper stands on it
GROUND_REACH = 12  # squares over which that limit is carried


def ground_height(cell: np.ndarray, z: np.ndarray, config: ModelConfig) -> np.ndarray:
    """Height of the ground under every cell of the canvas, m over `base_link`.

    In each square of 3.2 m the low end of the points' heights; then no higher than the slope of a road allows from
    the squares around, so that a lorry's roof or a wall that hides the ground does not count as ground.

    Args:
        cell: (N,) cell of each point, row by row.
        z: (N,) m.
        config: of the canvas.

    Returns:
        (X, Y) float32.
    """
    nx, ny = config.canvas_cells
    coarse = coarse_cells(config)
    mx, my = -(-nx // coarse), -(-ny // coarse)
    levels = round((GROUND_HIGH_M - GROUND_LOW_M) / GROUND_STEP_M)
    level = ((z - np.float32(GROUND_LOW_M)) * np.float32(1 / GROUND_STEP_M)).clip(0, levels - 1).astype(np.intp)
    first_of = (((np.arange(nx) // coarse)[:, None] * my + np.arange(ny) // coarse) * levels).ravel()
    index = first_of.take(cell)
    index += level
    count = np.bincount(index, minlength=mx * my * levels).reshape(-1, levels)
    running = count.cumsum(axis=1)
    total = running[:, -1]
    low = (running > GROUND_SHARE * total[:, None]).argmax(axis=1)
    known = total > 0
    lowest = np.where(known, GROUND_LOW_M + (low + 0.5) * GROUND_STEP_M, np.inf).astype(np.float32).reshape(mx, my)

    # `base_link` lies on the ground: the square below it is known even where the sensor cannot look.
    x0 = int(-config.x_range_m[0] / config.cell_m) // coarse
    y0 = int(-config.y_range_m[0] / config.cell_m) // coarse
    if 0 <= x0 < mx and 0 <= y0 < my:
        lowest[x0, y0] = min(lowest[x0, y0], GROUND_STEP_M / 2)
    rise = np.float32(GROUND_SLOPE * coarse * config.cell_m)
    # A low end that few points share, far below most of its neighbours, is reflections, not ground. One of them taken
    # for ground would pull down all that the slope of a road allows around it, which is half of the canvas.
    near = np.minimum(low + round(GROUND_NEAR_M / GROUND_STEP_M), levels - 1)[:, None]
    shared = np.take_along_axis(running, near, axis=1)[:, 0] >= np.maximum(GROUND_SUPPORT * total, GROUND_POINTS)
    around = _median_around(lowest)
    reflected = (lowest < around - 2 * rise) & ~shared.reshape(mx, my)
    surface = np.minimum(np.where(reflected, around, lowest), GROUND_HIGH_M)
    for _ in range(GROUND_REACH):
        lower = cv2.erode(surface, np.ones((3, 3), np.uint8), borderType=cv2.BORDER_REPLICATE)
        surface = np.minimum(surface, lower + rise)
    fine = cv2.resize(surface, (my * coarse, mx * coarse), interpolation=cv2.INTER_LINEAR)
    return fine[:nx, :ny]


def _median_around(lowest: np.ndarray) -> np.ndarray:
    """(X, Y) median of the finite values in 5 x 5 squares; infinite where there are none."""
    padded = np.pad(lowest, 2, constant_values=np.inf)
    around = np.lib.stride_tricks.sliding_window_view(padded, (5, 5)).reshape(*lowest.shape, 25)
    ordered = np.sort(around, axis=-1)
    middle = np.maximum(np.isfinite(ordered).sum(axis=-1) - 1, 0) // 2
    return np.take_along_axis(ordered, middle[..., None], axis=-1)[..., 0]


def _bin_of(height: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """(N,) number of edges at or below each height: 0 below all bins, len(edges) above."""
    level = np.zeros(len(height), np.uint8)
    for edge in edges:
        level += height >= edge
    return level


def coarse_cells(config: ModelConfig) -> int:
    """Cells along a square of the ground estimate."""
    return max(1, round(GROUND_COARSE_M / config.cell_m))


def _heading(camera: CameraFrame) -> float:
    """Direction of the optical axis about z of `base_link`, rad."""
    axis = camera.T_base_camera[:3, 2]
    return float(np.arctan2(axis[1], axis[0]))


def _horizon_row(camera: CameraFrame) -> float:
    """Row of the horizon in the middle of the image; the principal point's where the camera looks up or down."""
    axis = camera.T_base_camera[:3, 2]
    _, y, z = camera.T_base_camera[:3, :3].T @ np.array([axis[0], axis[1], 0.0])
    if z < _LEVEL:
        return float(camera.intrinsics[1, 2])
    return float(camera.intrinsics[1, 1] * y / z + camera.intrinsics[1, 2])


def supersampling(source_width: int, width: int) -> int:
    """Multiple of the network's size, a power of two, to which an image is sampled before 2 x 2 pixels are averaged.

    Bilinear sampling first, then averages: within a grey level or two of averaging over areas, and several times as
    fast.
    """
    multiple = 1
    while source_width > _SAMPLING * multiple * width:
        multiple *= 2
    return multiple


def _fill_image(target: np.ndarray, image: np.ndarray, cut: ImageCut) -> None:
    """Write one camera's normalised channels into (3, H, W) zeros."""
    width = target.shape[2]
    band = image[cut.top : cut.bottom]
    multiple = supersampling(band.shape[1], width)
    small = cv2.resize(band, (multiple * width, multiple * cut.rows), interpolation=cv2.INTER_LINEAR)
    while multiple > 1:
        multiple //= 2
        small = cv2.resize(small, (multiple * width, multiple * cut.rows), interpolation=cv2.INTER_AREA)
    for channel in range(3):
        plane = target[channel, : cut.rows]
        np.copyto(plane, small[:, :, channel])
        plane *= 1.0 / (255.0 * PIXEL_SPREAD[channel])
        plane -= PIXEL_MEAN[channel] / PIXEL_SPREAD[channel]
