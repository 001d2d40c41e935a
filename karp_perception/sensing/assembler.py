"""Messages in, sensor frames out: decoding, calibration, placing in `base_link`, and synchronising, with every message
accounted for.

The nodes feed it from subscriptions, the replayer from a bag; both get the same frames.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from karp_perception.core import (
    CameraFrame,
    InvalidInput,
    LidarSweep,
    MissingTransform,
    SensorFrame,
    Settings,
    nested,
    setting,
)
from karp_perception.core.counters import Counters
from karp_perception.core.geometry import invert_pose, pose_from_rotation, transform_points
from karp_perception.sensing.calibration import CameraModel, decode_camera_info
from karp_perception.sensing.camera_mending import CameraMender
from karp_perception.sensing.ego_motion import EgoMotion, decode_odometry
from karp_perception.sensing.images import decode_compressed_image, decode_image
from karp_perception.sensing.messages import header_stamp_ns
from karp_perception.sensing.pointclouds import PointCloud, decode_pointcloud
from karp_perception.sensing.synchronizer import Synchronizer, SynchronizerSettings
from karp_perception.sensing.transforms import TransformBuffer
from karp_perception.sensing.undistortion import Undistorter

log = logging.getLogger(__name__)

LIDAR = "lidar"
_END_OF_TIME = 1 << 62
_INTENSITY_SCALES = (1.0, 255.0, 65535.0)  # of drivers: relative, 8 bits, photon counts in 16 bits


@dataclass(frozen=True)
class SensingSettings(Settings):
    """How messages become sensor frames."""

    base_frame: str = setting("base_link", "frame everything is expressed in: x forward, y left, z up, on the ground")
    rectified: str = setting(
        "auto",
        "whether images come rectified; auto: where the topic is called so (image_rect)",
        choices=("auto", "yes", "no"),
    )
    camera_frames: str = setting(
        "optical",
        "axes of the frames that images name; auto: body axes (x forward, z up) are found out, told and turned",
        choices=("optical", "body", "auto"),
    )
    camera_info: str = setting(
        "trust",
        "mend: focal lengths that CARLA's own ROS 2 interface gets wrong are found out, told and computed anew",
        choices=("trust", "mend"),
    )
    camera_fov: float = setting(
        0.0,
        "horizontal field of view for cameras that are mended; 0: read back from the wrong number",
        unit="deg",
        low=0.0,
        high=175.0,
    )
    intensity_full_scale: float = setting(
        0.0,
        "what the lidar writes for full intensity; 0: 1, 255 or 65535, the least that the first sweep fits in",
        low=0.0,
        high=1e6,
    )
    calibration_wait: float = setting(
        0.5, "how long a message waits for its transform or camera_info", unit="s", low=0.0, high=10.0
    )
    transform_history: float = setting(10.0, "how long moving transforms are kept", unit="s", low=0.5, high=600.0)
    odometry_gap: float = setting(0.3, "odometry is carried on for this long", unit="s", low=0.0, high=2.0)
    synchronizer: SynchronizerSettings = nested(SynchronizerSettings)


@dataclass(frozen=True)
class _Waiting:
    """A decoded message that has not been placed yet, because its transform or calibration may still come."""

    stamp_ns: int
    arrival_ns: int
    frame_id: str
    payload: np.ndarray | PointCloud


class FrameAssembler:
    """Turns messages of one lidar and any number of cameras into sensor frames. Thread-safe.

    Args:
        settings: see SensingSettings.
        cameras: names; the value says whether that camera's topic is rectified by its name.
        lidar: whether there is one; it is the anchor, else the first camera.
        offsets: expected stamp offset of a camera to the anchor, s.

    Raises:
        InvalidInput: where there is neither a lidar nor a camera.
    """

    def __init__(
        self,
        settings: SensingSettings = SensingSettings(),
        cameras: Mapping[str, bool] | Sequence[str] = (),
        lidar: bool = True,
        offsets: Mapping[str, float] | None = None,
    ) -> None:
        by_name = dict(cameras) if isinstance(cameras, Mapping) else dict.fromkeys(cameras, False)
        if not by_name and not lidar:
            raise InvalidInput("FrameAssembler", "a lidar or a camera", "neither")
        if LIDAR in by_name:
            raise InvalidInput("FrameAssembler", f"no camera called {LIDAR!r}", LIDAR)
        forced = {"yes": True, "no": False}.get(settings.rectified)
        self.settings = settings
        self.transforms = TransformBuffer(settings.transform_history)
        self.ego_motion = EgoMotion(settings.transform_history, settings.odometry_gap)
        self.camera_frames: dict[str, str] = {}
        """The frame that the images of each camera named, as soon as one could be placed."""
        self._rectified = {name: by if forced is None else forced for name, by in by_name.items()}
        self._lidar = lidar
        names = [LIDAR, *by_name] if lidar else list(by_name)
        self.anchor = names[0]
        self._synchronizer = Synchronizer(names[0], names[1:], settings.synchronizer, offsets or {})
        self.input_counters: dict[str, Counters] = self._synchronizer.counters
        """Of messages, by input: `lidar` and the cameras' names, `odometry` and `tf`."""
        self.input_counters |= {"odometry": Counters(), "tf": Counters()}
        self.counters = Counters(upstream=self.input_counters[self.anchor])
        """Of frames. An anchor message is one frame; whoever takes frames from here says which were used or dropped."""
        self._mender = CameraMender(settings.camera_frames, settings.camera_info, settings.camera_fov)
        self._models: dict[str, CameraModel] = {}
        self._undistorters: dict[str, Undistorter] = {}
        self._full_scale = settings.intensity_full_scale
        self._waiting: dict[str, deque[_Waiting]] = {name: deque() for name in names}
        self._lock = threading.RLock()

    @property
    def intensity_full_scale(self) -> float:
        """What is taken for full intensity of the lidar; 0 while nothing is known of it."""
        return self._full_scale

    # What comes in. Each of these counts and drops a message it cannot read; none raises for bad data.

    def add_points(self, message: Any, arrival_ns: int) -> None:
        """A sensor_msgs/PointCloud2 of the lidar."""
        self._receive(LIDAR, message, arrival_ns, decode_pointcloud)

    def add_image(self, name: str, message: Any, arrival_ns: int) -> None:
        """A sensor_msgs/Image or CompressedImage of a camera."""
        decode = decode_compressed_image if hasattr(message, "format") else decode_image
        self._receive(name, message, arrival_ns, decode)

    def add_camera_info(self, name: str, message: Any) -> None:
        """A sensor_msgs/CameraInfo of a camera; a changed one takes effect with the next image."""
        try:
            model = decode_camera_info(self._mender.camera_info(name, message))
        except InvalidInput as error:
            log.warning("camera %s: %s", name, error)
            self.input_counters[name].drop(error.reason)
            return
        with self._lock:
            if not _same(self._models.get(name), model):
                self._models[name] = model
                self._undistorters.pop(name, None)

    def add_transforms(self, message: Any, static: bool) -> None:
        """A tf2_msgs/TFMessage."""
        try:
            self.transforms.add_message(message, static)
            self.input_counters["tf"].use()
        except InvalidInput as error:
            log.warning("%s: %s", "/tf_static" if static else "/tf", error)
            self.input_counters["tf"].drop(error.reason)

    def add_odometry(self, message: Any) -> None:
        """A nav_msgs/Odometry of the vehicle."""
        try:
            self.ego_motion.add(decode_odometry(message))
            self.input_counters["odometry"].use()
        except InvalidInput as error:
            log.warning("%s", error)
            self.input_counters["odometry"].drop(error.reason)

    # What comes out.

    def poll(self, now_ns: int) -> list[SensorFrame]:
        """Frames that are complete, or whose time is over, at `now_ns` on the clock of the arrivals."""
        with self._lock:
            for name in self._waiting:
                self._place(name, now_ns)
            bundles = self._synchronizer.poll(now_ns)
        return [self._frame(bundle) for bundle in bundles]

    def flush(self) -> list[SensorFrame]:
        """The frames still under way at the end of a recording."""
        with self._lock:
            for name in self._waiting:
                self._place(name, _END_OF_TIME)
            bundles = self._synchronizer.flush()
        return [self._frame(bundle) for bundle in bundles]

    def _receive(self, name: str, message: Any, arrival_ns: int, decode: Any) -> None:
        try:
            stamp_ns = header_stamp_ns(message, name)
            waiting = _Waiting(stamp_ns, arrival_ns, message.header.frame_id, decode(message))
        except InvalidInput as error:
            log.warning("%s: dropped: %s", name, error)
            self.input_counters[name].drop(error.reason)
            return
        with self._lock:
            self._waiting[name].append(waiting)
            self._place(name, arrival_ns)

    def _place(self, name: str, now_ns: int) -> None:
        """Move what has its transform and calibration on to the synchroniser, in order of arrival."""
        waiting = self._waiting[name]
        while waiting:
            head = waiting[0]
            try:
                payload = self._lidar_sweep(head) if name == LIDAR else self._camera_frame(name, head)
                self._synchronizer.add(name, head.stamp_ns, payload, head.arrival_ns)
            except (MissingTransform, _NoCalibration) as error:
                if now_ns - head.arrival_ns <= self.settings.calibration_wait * 1e9:
                    return
                log.warning("%s: dropped: %s", name, error)
                reason = "no_camera_info" if isinstance(error, _NoCalibration) else "missing_transform"
                self.input_counters[name].drop(reason)
            except InvalidInput as error:
                log.warning("%s: dropped: %s", name, error)
                self.input_counters[name].drop(error.reason)
            waiting.popleft()

    def _lidar_sweep(self, waiting: _Waiting) -> LidarSweep:
        cloud = waiting.payload
        T = self.transforms.lookup(self.settings.base_frame, waiting.frame_id, waiting.stamp_ns)
        points = np.empty_like(cloud.points)
        points[:, :3] = transform_points(T, cloud.points[:, :3])
        points[:, 3] = self._unit_intensity(cloud.points[:, 3])
        return LidarSweep(points, waiting.stamp_ns, cloud.time)

    def _unit_intensity(self, intensity: np.ndarray) -> np.ndarray:
        """Intensity in 0..1. No message says what full intensity is: the first sweep with any tells the usual ones."""
        highest = 0.0 if self._full_scale else float(intensity.max(initial=0.0))
        if highest > 0:
            self._full_scale = next((scale for scale in _INTENSITY_SCALES if highest <= scale), highest)
            log.info("lidar intensity: %g is taken for full", self._full_scale)
        return np.clip(intensity / (self._full_scale or 1.0), 0.0, 1.0)

    def _camera_frame(self, name: str, waiting: _Waiting) -> CameraFrame:
        model, image = self._models.get(name), waiting.payload
        if model is None:
            raise _NoCalibration(f"no camera_info has come within {self.settings.calibration_wait} s")
        undistorter = self._undistorters.get(name)
        if undistorter is None or undistorter.image_size != (image.shape[1], image.shape[0]):
            scaled = model.scaled(image.shape[1], image.shape[0])
            undistorter = self._undistorters[name] = Undistorter(scaled, rectified=self._rectified[name])
        T = self.transforms.lookup(self.settings.base_frame, waiting.frame_id, waiting.stamp_ns)
        T = self._mender.pose(name, T)
        self.camera_frames[name] = waiting.frame_id
        # A stereo pair's rectified images look along other axes than the optical frame that tf knows.
        T = T @ invert_pose(pose_from_rotation(undistorter.model.rectification, np.zeros(3)))
        return CameraFrame(undistorter(image), undistorter.intrinsics, T, waiting.stamp_ns)

    def _frame(self, bundle: Any) -> SensorFrame:
        payloads = dict(bundle.payloads)
        lidar = payloads.pop(LIDAR, None)
        return SensorFrame(bundle.stamp_ns, payloads, lidar, self.ego_motion.at(bundle.stamp_ns))


def _same(model: CameraModel | None, other: CameraModel) -> bool:
    return model is not None and all(
        np.array_equal(getattr(model, field.name), getattr(other, field.name)) for field in fields(CameraModel)
    )


class _NoCalibration(LookupError):
    """An image whose camera_info has not come yet."""
