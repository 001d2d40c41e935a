"""nuScenes (Caesar et al. 2020) from the folder it is unpacked to: v1.0-*/, samples/ and sweeps/.

`base_link` is nuScenes' own vehicle frame at the moment of the lidar sweep: the middle of the rear axle, on the ground,
x forward, y left, z up. Every sensor of a sample recorded at a time of its own, up to 50 ms apart: a camera's pose is
given relative to where the vehicle was at the sweep's time, so that what stands still is in its place in the image.
The same holds for earlier sweeps. `odom` is the map's frame.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from karp_perception.core import Boxes, CameraFrame, EgoState, LidarSweep, SensorFrame
from karp_perception.core.errors import ConfigurationError, InvalidInput
from karp_perception.core.geometry import invert_pose, pose_from_quaternion, transform_points, wrap_angle, yaw_of
from karp_perception.sensing.datasets.dataset import index_of
from karp_perception.sensing.datasets.nuscenes_tables import LIDAR, Recording, Tables, read_tables
from karp_perception.sensing.image_files import read_image
from karp_perception.sensing.labelled_frame import LabelledFrame, check_labels, naming, points_in_labels
from karp_perception.sensing.point_files import read_points

SHARE_SEEN = np.array([1.0, 0.2, 0.5, 0.7, 0.9])
"""Visibility by level: not told; then the middles of 0-40, 40-60, 60-80 and 80-100 %."""

_COLUMNS = 5  # x y z intensity (0..255) and ring
_FULL_INTENSITY = 255.0
_OWN_BODY_M = 1.0  # half the square around the lidar in which an earlier sweep shows the roof that it stands on
_LONGEST_GAP_S = 0.3  # between sweeps, for the vehicle's speed
_US = 1e-6
_log = logging.getLogger(__name__)


class NuScenes:
    """Samples of nuScenes that have labels and whose lidar sweep is there, scene by scene, in order of time.

    Labels reach all around; `object_id` numbers the instances. Objects of classes that are none of the ten carry the
    label UNKNOWN. Points have no times of their own; with several sweeps each has its sweep's. Cameras that were not
    unpacked (there is no folder of their images) give nothing.

    Args:
        path: the folder with `samples/` and `v1.0-*`, or one of the latter.
        version: name of the tables' folder; None where there is one.
        scenes: names, such as those of an official split; None for all.
        sweeps: of the lidar that are joined, the sample's own and those before it.

    Raises InvalidInput for a folder that lacks a part, ConfigurationError for a version or number that cannot be.
    """

    format = "nuscenes"

    def __init__(
        self, path: Path | str, version: str | None = None, scenes: Sequence[str] | None = None, sweeps: int = 1
    ) -> None:
        if sweeps < 1:
            raise ConfigurationError(f"sweeps: expected at least 1, got {sweeps}")
        self.name, self._joined = str(path), sweeps
        self._root, self._tables_folder = _find_tables(Path(path), version)
        self._tables: Tables = read_tables(self._tables_folder, scenes)
        self._samples = self._usable_samples()
        self._without = self._cameras_without_images()

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, i: int) -> LabelledFrame:
        sample = self._samples[index_of(i, len(self))]
        of_sample = self._tables.recordings[sample]
        lidar = of_sample[LIDAR]
        with naming(self._tables_folder / "ego_pose.json"):
            T_odom_base = _pose(lidar)
            T_base_odom = invert_pose(T_odom_base)
            ego = self._ego(sample, T_odom_base)
        sweep, own = self._sweep(sample, T_base_odom)
        cameras = {
            _camera_name(channel): None if channel in self._without else self._camera(recording, T_base_odom)
            for channel, recording in of_sample.items()
            if channel != LIDAR
        }
        with naming(self._tables_folder / "sample_annotation.json"):
            labels, object_id, visibility = self._labels(sample, T_base_odom)
        inside = points_in_labels(labels, sweep.points[:own])
        sensors = SensorFrame(sweep.stamp_ns, cameras, sweep, ego)
        return LabelledFrame(
            sensors, labels, inside, np.zeros((0, 3)), sector=False, object_id=object_id, visibility=visibility
        )

    def _usable_samples(self) -> np.ndarray:
        """Numbers of the samples whose lidar file is there: those who unpack a part of the data set have a part."""
        there: dict[str, set[str]] = {}
        usable = []
        for number, of_sample in enumerate(self._tables.recordings):
            if LIDAR not in of_sample:
                continue
            folder, _, name = of_sample[LIDAR].file.rpartition("/")
            if folder not in there:
                full = self._root / folder
                there[folder] = set(os.listdir(full)) if full.is_dir() else set()
            if name in there[folder]:
                usable.append(number)
        total = len(self._tables.recordings)
        if not usable:
            raise InvalidInput(
                str(self._root),
                f"the {LIDAR} files of {total} samples",
                "none of them",
                "unpack samples/ beside v1.0-*",
            )
        if len(usable) < total:
            lacking = total - len(usable)
            _log.warning("%s: %d of %d samples have no %s file and are left out", self._root, lacking, total, LIDAR)
        if not len(self._tables.annotations.center):
            file = self._tables_folder / "sample_annotation.json"
            raise InvalidInput(str(file), "labels", "none", "v1.0-test has none: use v1.0-trainval or v1.0-mini")
        return np.array(usable)

    def _cameras_without_images(self) -> frozenset[str]:
        """Channels of cameras whose folder is not there: many unpack the lidar's archives alone."""
        folder_of = {
            channel: Path(recording.file).parent
            for of_sample in self._tables.recordings
            for channel, recording in of_sample.items()
            if channel != LIDAR
        }
        lacking = frozenset(channel for channel, folder in folder_of.items() if not (self._root / folder).is_dir())
        if lacking:
            _log.warning("%s: no images of %s: used without", self._root, ", ".join(sorted(lacking)))
        return lacking

    def _ego(self, sample: int, T_odom_base: np.ndarray) -> EgoState | None:
        """Motion by differences between the sweeps before and after; None where there is no other near enough."""
        lidar, sweeps = self._tables.recordings[sample][LIDAR], self._tables.sweeps[self._tables.scene[sample]]
        at = sweeps.index(lidar)
        before, after = sweeps[max(at - 1, 0)], sweeps[min(at + 1, len(sweeps) - 1)]
        near = [s for s in (before, lidar, after) if abs(s.time_us - lidar.time_us) * _US <= _LONGEST_GAP_S]
        seconds = (near[-1].time_us - near[0].time_us) * _US
        if seconds <= 0:
            return None
        T0, T1 = _pose(near[0]), _pose(near[-1])
        velocity = T_odom_base[:3, :3].T @ (T1[:3, 3] - T0[:3, 3]) / seconds
        turn = float(wrap_angle(yaw_of(T1) - yaw_of(T0))) / seconds
        return EgoState(_stamp_ns(lidar), T_odom_base, velocity[:2], turn)

    def _sweep(self, sample: int, T_base_odom: np.ndarray) -> tuple[LidarSweep, int]:
        """The sweep, earlier ones behind it, and how many points are its own."""
        lidar, of_scene = self._tables.recordings[sample][LIDAR], self._tables.sweeps[self._tables.scene[sample]]
        at = of_scene.index(lidar)
        parts, times = [], []
        for recording in of_scene[max(0, at + 1 - self._joined) : at + 1][::-1]:
            points = read_points(self._root / recording.file, _COLUMNS)[:, :4].copy()
            if recording is not lidar:
                points = points[(np.abs(points[:, :2]) >= _OWN_BODY_M).any(axis=1)]
            with naming(self._tables_folder / "calibrated_sensor.json"):
                T_base_lidar = T_base_odom @ _pose(recording) @ _mount(recording)
            points[:, :3] = transform_points(T_base_lidar, points[:, :3].astype(np.float64))
            points[:, 3] = np.clip(points[:, 3] / _FULL_INTENSITY, 0.0, 1.0)
            parts.append(points)
            times.append(np.full(len(points), (recording.time_us - lidar.time_us) * _US, np.float32))
        time = np.concatenate(times) if self._joined > 1 else None
        return LidarSweep(np.concatenate(parts), _stamp_ns(lidar), time), len(parts[0])

    def _camera(self, recording: Recording, T_base_odom: np.ndarray) -> CameraFrame:
        image = read_image(self._root / recording.file)
        with naming(self._tables_folder / "calibrated_sensor.json"):
            T_base_camera = T_base_odom @ _pose(recording) @ _mount(recording)
            return CameraFrame(image, np.array(recording.sensor.intrinsics), T_base_camera, _stamp_ns(recording))

    def _labels(self, sample: int, T_base_odom: np.ndarray) -> tuple[Boxes, np.ndarray, np.ndarray]:
        """Boxes in `base_link`, (N,) numbers of the objects and (N,) visibility."""
        annotations = self._tables.annotations
        rows = slice(annotations.first[sample], annotations.first[sample + 1])
        center = transform_points(T_base_odom, annotations.center[rows])
        n = len(center)
        if n == 0:
            return Boxes.empty(), np.zeros(0, np.int64), np.zeros(0)
        T = [pose_from_quaternion(np.zeros(3), (x, y, z, w)) for w, x, y, z in annotations.rotation[rows]]
        heading = np.stack(T)[:, :3, 0] @ T_base_odom[:3, :3].T
        velocity = annotations.velocity[rows] @ T_base_odom[:3, :3].T
        labels = Boxes(
            center,
            annotations.size[rows][:, [1, 0, 2]],
            np.arctan2(heading[:, 1], heading[:, 0]),
            velocity[:, :2],
            annotations.label[rows],
            np.ones(n),
        )
        visibility = SHARE_SEEN[annotations.visibility[rows]]
        check_labels(labels, visibility=visibility)
        return labels, annotations.instance[rows].copy(), visibility


def _pose(recording: Recording) -> np.ndarray:
    """T_odom_base (4, 4) at the time of a recording."""
    w, x, y, z = recording.rotation
    return pose_from_quaternion(recording.translation, (x, y, z, w))


def _mount(recording: Recording) -> np.ndarray:
    """T_base_sensor (4, 4)."""
    w, x, y, z = recording.sensor.rotation
    return pose_from_quaternion(recording.sensor.translation, (x, y, z, w))


def _stamp_ns(recording: Recording) -> int:
    return recording.time_us * 1000


def _camera_name(channel: str) -> str:
    """CAM_FRONT_LEFT -> front_left."""
    return channel.lower().removeprefix("cam_")


def _find_tables(path: Path, version: str | None) -> tuple[Path, Path]:
    """The folder with the sensor data, and that with the tables."""
    if (path / "sample.json").is_file():
        return path.parent, path
    found = sorted(folder.parent for folder in path.glob("v1.0-*/sample.json"))
    names = ", ".join(folder.name for folder in found)
    if version is not None:
        found = [folder for folder in found if folder.name == version]
        if not found:
            raise ConfigurationError(f"{path}: expected tables in {version}/, got {names or 'none at all'}")
    if not found:
        raise InvalidInput(str(path), "tables in v1.0-*/ (sample.json and others)", "none", "unpack the metadata there")
    if len(found) > 1:
        raise ConfigurationError(f"{path}: expected one version of the tables, got {names}; say which (version=)")
    return path, found[0]
