"""The KITTI object detection benchmark (Geiger et al. 2012), unpacked: training/{velodyne,image_2,calib,label_2}.

`base_link` is the lidar's frame lowered by the height of its mount, so that its origin lies on the ground: x forward, y
left, z up. Labels stand upright in the camera's rectified frame, which is tilted to the lidar's by less than a degree;
here they stand upright in `base_link`, at the same place and with the same heading.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from karp_perception.core import Boxes, CameraFrame, LidarSweep, ObjectClass, SensorFrame, class_from_name
from karp_perception.core.errors import ConfigurationError, InvalidInput
from karp_perception.core.geometry import invert_pose, project_points, transform_points
from karp_perception.core.validation import as_pose
from karp_perception.sensing.datasets.dataset import index_of
from karp_perception.sensing.image_files import read_image
from karp_perception.sensing.labelled_frame import LabelledFrame, check_labels, naming, points_in_labels
from karp_perception.sensing.point_files import read_points

LIDAR_HEIGHT_M = 1.73
"""Of the lidar above the ground, from the drawing of the sensor setup."""

CAMERA = "front"
"""What the left colour camera (number 2) is called."""

DONT_CARE = "DontCare"

SHARE_SEEN = {0: 1.0, 1: 0.6, 2: 0.25, 3: 0.2}
"""Visibility for KITTI's `occluded`: fully visible, partly and largely occluded, unknown. Truncation lowers it."""

_IMAGES = (".png", ".jpg", ".jpeg")
_FIELDS = 15  # of a line of label_2; a 16th is a detector's score
_LOWEST_M, _TALLEST_M = 1.0, 4.5  # objects that an area without labels may show
_FARTHEST_PLACE_M = 100.0
_SMALLEST_PLACE_M = 2.0
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Calibration:
    """Of a frame.

    Attributes:
        intrinsics: (3, 3) of camera 2, rectified.
        T_base_camera: (4, 4) of camera 2.
        T_base_rectified: (4, 4) of the rectified camera 0, which labels are given in.
    """

    intrinsics: np.ndarray
    T_base_camera: np.ndarray
    T_base_rectified: np.ndarray


@dataclass(frozen=True)
class LabelColumns:
    """Lines of a label file, as they stand there (camera coordinates: x right, y down, z forward).

    Attributes:
        kind: N names.
        truncated, occluded: (N,).
        rectangle: (N, 4) left, top, right, bottom, pixels.
        size: (N, 3) height, width, length, m.
        bottom: (N, 3) middle of the box's bottom, m.
        rotation_y: (N,) rad.
    """

    kind: tuple[str, ...]
    truncated: np.ndarray
    occluded: np.ndarray
    rectangle: np.ndarray
    size: np.ndarray
    bottom: np.ndarray
    rotation_y: np.ndarray


class KittiObject:
    """Frames of a KITTI object folder that have labels, in order of their names.

    Labels cover the camera's view. Where the images were not unpacked, sweeps are cut to that view, so that labels
    cover all that there is.

    Objects of classes that are none of ours (Misc) carry the label UNKNOWN. Areas marked DontCare become places without
    labels: the part of the ground where an object of 1 to 4.5 m height would be as tall in the image as the area is.

    Args:
        path: the folder that holds `training`, or that itself.
        height: of the lidar above the ground, m.

    Raises InvalidInput for a folder that lacks a part.
    """

    format = "kitti"

    def __init__(self, path: Path | str, height: float = LIDAR_HEIGHT_M) -> None:
        if not 0 <= height <= 10:
            raise ConfigurationError(f"height of the lidar: expected 0 to 10 m, got {height}")
        self.name, self.height = str(path), height
        root = Path(path)
        self._root = root / "training" if (root / "training").is_dir() else root
        for part in ("label_2", "calib"):
            if not (self._root / part).is_dir():
                raise InvalidInput(str(self._root), f"a folder {part}", "none", "unpack KITTI's archives side by side")
        self._names = sorted(f.name[:-4] for f in (self._root / "label_2").iterdir() if f.name.endswith(".txt"))
        self._sensors = [part for part in ("velodyne", "image_2") if (self._root / part).is_dir()]
        if not self._sensors:
            raise InvalidInput(str(self._root), "a folder velodyne or image_2, or both", "neither")
        if not self._names:
            raise InvalidInput(str(self._root / "label_2"), "label files (000000.txt and so on)", "none")

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, i: int) -> LabelledFrame:
        name = self._names[index_of(i, len(self))]
        calibration = read_calibration(self._root / "calib" / f"{name}.txt", self.height)
        lidar = self._sweep(name) if "velodyne" in self._sensors else None
        cameras = {CAMERA: self._camera(name, calibration)} if "image_2" in self._sensors else {}
        if lidar is not None and not cameras:
            lidar = LidarSweep(lidar.points[_in_image(lidar.points, calibration)], lidar.stamp_ns)
        file = self._root / "label_2" / f"{name}.txt"
        columns = read_labels(file)
        with naming(file):
            boxes, visibility = labels_in_base(columns, calibration)
        inside = points_in_labels(boxes, np.zeros((0, 4)) if lidar is None else lidar.points)
        places = unlabelled_places(columns, calibration)
        sensors = SensorFrame(0, cameras, lidar)
        return LabelledFrame(sensors, boxes, inside, places, sector=bool(cameras), visibility=visibility)

    def _sweep(self, name: str) -> LidarSweep:
        file = self._root / "velodyne" / f"{name}.bin"
        points = read_points(file, 4)
        points[:, 2] += self.height
        return LidarSweep(points, 0)

    def _camera(self, name: str, calibration: Calibration) -> CameraFrame:
        folder = self._root / "image_2"
        file = next(
            (f for f in (folder / f"{name}{suffix}" for suffix in _IMAGES) if f.exists()), folder / f"{name}.png"
        )
        return CameraFrame(read_image(file), calibration.intrinsics, calibration.T_base_camera, 0)


def read_calibration(file: Path, height: float = LIDAR_HEIGHT_M) -> Calibration:
    """A calib file (lines `P2: 12 numbers`, `R0_rect: 9`, `Tr_velo_to_cam: 12`).

    Raises InvalidInput, naming the file, where a line is missing or says the impossible.
    """
    rows = {}
    for line in _lines(file):
        key, colon, numbers = line.partition(":")
        if colon:
            rows[key.strip()] = numbers.split()

    def matrix(key: str, shape: tuple[int, int]) -> np.ndarray:
        count = shape[0] * shape[1]
        try:
            values = np.array([float(word) for word in rows[key]])
        except KeyError:
            raise InvalidInput(str(file), f"a line {key}", f"only {', '.join(rows) or 'none'}") from None
        except ValueError as error:
            raise InvalidInput(f"{file}: {key}", f"{count} numbers", error) from None
        if len(values) != count or not np.isfinite(values).all():
            raise InvalidInput(f"{file}: {key}", f"{count} finite numbers", " ".join(rows[key])[:80])
        return values.reshape(shape)

    P, R, V = matrix("P2", (3, 4)), matrix("R0_rect", (3, 3)), matrix("Tr_velo_to_cam", (3, 4))
    with naming(file):
        T_rectified_camera0, T_camera0_velodyne = np.eye(4), np.eye(4)
        T_rectified_camera0[:3, :3], T_camera0_velodyne[:3] = R, V
        as_pose("R0_rect", T_rectified_camera0)
        as_pose("Tr_velo_to_cam", T_camera0_velodyne)
        K = P[:, :3]
        if not (K[0, 0] > 0 and K[1, 1] > 0 and np.allclose(K[[1, 2, 2], [0, 0, 1]], 0) and np.isclose(K[2, 2], 1)):
            raise InvalidInput("P2", "focal lengths above 0 and a last row of 0 0 1", P.tolist())
        T_base_velodyne = np.eye(4)
        T_base_velodyne[2, 3] = height
        T_base_rectified = T_base_velodyne @ invert_pose(_orthonormal(T_rectified_camera0 @ T_camera0_velodyne))
        # P2 = K [I | t]: camera 2 has the axes of the rectified camera 0 and stands at -t in its frame.
        T_rectified_camera2 = np.eye(4)
        T_rectified_camera2[:3, 3] = -np.linalg.solve(K, P[:, 3])
        return Calibration(K.copy(), T_base_rectified @ T_rectified_camera2, T_base_rectified)


def read_labels(file: Path) -> LabelColumns:
    """A label_2 file. Raises InvalidInput, naming the file and the line, for one that cannot be read."""
    kinds, rows = [], []
    for number, line in enumerate(_lines(file), 1):
        words = line.split()
        if not words:
            continue
        if len(words) not in (_FIELDS, _FIELDS + 1):
            raise InvalidInput(f"{file} line {number}", f"{_FIELDS} words", f"{len(words)}: {line[:80]}")
        try:
            values = [float(word) for word in words[1:_FIELDS]]
        except ValueError as error:
            raise InvalidInput(f"{file} line {number}", "a class and 14 numbers", error) from None
        if not np.isfinite(values).all():
            raise InvalidInput(f"{file} line {number}", "finite numbers", line[:80])
        if words[0] != DONT_CARE and min(values[7:10]) <= 0:
            raise InvalidInput(f"{file} line {number}", "height, width and length above 0", words[8:11])
        kinds.append(words[0])
        rows.append(values)
    table = np.reshape(np.array(rows, float), (-1, _FIELDS - 1))
    return LabelColumns(
        tuple(kinds), table[:, 0], table[:, 1], table[:, 3:7], table[:, 7:10], table[:, 10:13], table[:, 13]
    )


def labels_in_base(columns: LabelColumns, calibration: Calibration) -> tuple[Boxes, np.ndarray]:
    """Boxes in `base_link` and the visibility of each, (N,); areas marked DontCare are left out."""
    rows = np.array([kind != DONT_CARE for kind in columns.kind], bool)
    size, bottom, turn = columns.size[rows], columns.bottom[rows], columns.rotation_y[rows]
    n = len(size)
    if n == 0:
        return Boxes.empty(), np.zeros(0)
    middle = bottom - np.array([0.0, 0.5, 0.0]) * size[:, :1]
    # A box of rotation_y 0 points along the camera's x, positive turns are about its y, which points down.
    heading = np.column_stack([np.cos(turn), np.zeros(n), -np.sin(turn)]) @ calibration.T_base_rectified[:3, :3].T
    kinds = [kind for kind in columns.kind if kind != DONT_CARE]
    label = [int(_class_of(kind)) for kind in kinds]
    center = transform_points(calibration.T_base_rectified, middle)
    yaw = np.arctan2(heading[:, 1], heading[:, 0])
    boxes = Boxes(center, size[:, [2, 1, 0]], yaw, np.full((n, 2), np.nan), label, np.ones(n))
    seen = np.array([SHARE_SEEN.get(int(level), SHARE_SEEN[3]) for level in columns.occluded[rows]])
    visibility = seen * (1.0 - np.clip(columns.truncated[rows], 0.0, 1.0))
    check_labels(boxes, visibility=visibility)
    return boxes, visibility


def unlabelled_places(columns: LabelColumns, calibration: Calibration) -> np.ndarray:
    """(M, 3) x, y, radius, m in `base_link`: where objects may stand that the areas marked DontCare show."""
    focal, cx = calibration.intrinsics[0, 0], calibration.intrinsics[0, 2]
    places = []
    for kind, (left, top, right, bottom) in zip(columns.kind, columns.rectangle, strict=True):
        if kind != DONT_CARE or not (right > left and bottom > top):
            continue
        focal_y = calibration.intrinsics[1, 1]
        nearest = min(focal_y * _LOWEST_M / (bottom - top), _FARTHEST_PLACE_M)
        farthest = min(focal_y * _TALLEST_M / (bottom - top), _FARTHEST_PLACE_M)
        sideways, half = (0.5 * (left + right) - cx) / focal, 0.5 * (right - left) / focal
        depth = nearest
        while True:
            radius = max(half * depth, _SMALLEST_PLACE_M)
            places.append((sideways * depth, 0.0, depth, radius))
            if depth >= farthest:
                break
            depth = min(depth + radius, farthest)
    if not places:
        return np.zeros((0, 3))
    table = np.array(places)
    return np.column_stack([transform_points(calibration.T_base_camera, table[:, :3])[:, :2], table[:, 3]])


def _in_image(points: np.ndarray, calibration: Calibration) -> np.ndarray:
    """(N,) whether points (N, 3 or more) lie in the view of camera 2, whose principal point is nearly its middle."""
    T_camera_base = invert_pose(calibration.T_base_camera)
    pixels, depth = project_points(transform_points(T_camera_base, points[:, :3]), calibration.intrinsics)
    with np.errstate(invalid="ignore"):
        return (depth > 0) & (pixels >= 0).all(axis=1) & (pixels <= 2 * calibration.intrinsics[:2, 2]).all(axis=1)


_unknown_kinds: set[str] = set()


def _class_of(kind: str) -> ObjectClass:
    label = class_from_name(kind)
    if label is ObjectClass.UNKNOWN and kind.lower() != "misc" and kind not in _unknown_kinds:
        _unknown_kinds.add(kind)
        _log.warning("class %r is none that is known: its objects are neither to be found nor false alarms", kind)
    return label


def _orthonormal(T: np.ndarray) -> np.ndarray:
    """The nearest rigid transform: printed digits leave rotations a little off."""
    U, _, V = np.linalg.svd(T[:3, :3])
    nearest = T.copy()
    nearest[:3, :3] = U @ V
    return nearest


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(str(file), "a text file", f"{type(error).__name__}", "is it there and whole?") from None
