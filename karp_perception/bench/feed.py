"""What a measurement is fed with: the bytes of sensor messages, as they come out of the middleware."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from karp_perception.core import CameraFrame, SensorFrame
from karp_perception.core.geometry import invert_pose, transform_points
from karp_perception.ros.sensor_messages import (
    camera_info_message,
    compressed_image_message,
    image_message,
    pointcloud_message,
    transforms_message,
)
from karp_perception.sensing.assembler import LIDAR
from karp_perception.sensing.message_types import default_message, serialize

_BASE = "base_link"
_STAMP_AT = 4  # behind the encapsulation: a Header comes first in sensor messages, and its stamp first in it
_LIDAR_HEIGHT_M = 1.8
_NS = 10**9


@dataclass(frozen=True)
class SerialisedMessage:
    """A message on the wire.

    Attributes:
        input: `lidar`, or the name of a camera.
        type_name: such as sensor_msgs/msg/Image.
        data: CDR, little endian.
    """

    input: str
    type_name: str
    data: bytes

    def stamped(self, stamp_ns: int) -> SerialisedMessage:
        """The same in memory of its own and with another stamp, as the next message of a sensor would be."""
        stamp = struct.pack("<iI", *divmod(stamp_ns, _NS))
        data = b"".join((self.data[:_STAMP_AT], stamp, self.data[_STAMP_AT + len(stamp) :]))
        return SerialisedMessage(self.input, self.type_name, data)


@dataclass(frozen=True)
class Feed:
    """Moments of a drive as messages, and what holds throughout it.

    Attributes:
        cameras: names.
        transforms: where the sensors are (tf2_msgs/TFMessage, serialised).
        camera_infos: by camera.
        moments: messages of each moment, cameras first: lidars take their time to turn.
        about: in words and numbers, for reports.
    """

    cameras: tuple[str, ...]
    transforms: bytes
    camera_infos: dict[str, bytes]
    moments: tuple[tuple[SerialisedMessage, ...], ...]
    about: dict[str, Any]

    def at(self, number: int, stamp_ns: int) -> tuple[SerialisedMessage, ...]:
        """The messages of moment `number`, in turn, stamped."""
        return tuple(message.stamped(stamp_ns) for message in self.moments[number % len(self.moments)])


def feed_of(frames: Sequence[SensorFrame], *, compressed: bool = False, source: str = "") -> Feed:
    """Frames of one calibration as messages.

    Args:
        frames: one or more; all cameras rectified, the lidar is the anchor where there is one.
        compressed: JPEG instead of raw images.
        source: where the frames come from, for reports.
    """
    first = frames[0]
    cameras = {name: camera for name, camera in first.cameras.items() if camera is not None}
    T_base_lidar = np.eye(4)
    T_base_lidar[2, 3] = _LIDAR_HEIGHT_M
    mounts = [(_BASE, LIDAR, T_base_lidar), *((_BASE, name, camera.T_base_camera) for name, camera in cameras.items())]
    infos = {name: _camera_info(name, camera) for name, camera in cameras.items()}
    return Feed(
        tuple(cameras),
        serialize(transforms_message(mounts, 0, default_message)),
        infos,
        tuple(tuple(_messages(frame, T_base_lidar, compressed)) for frame in frames),
        {
            "source": source,
            "frames": len(frames),
            "cameras": len(cameras),
            "images": [[camera.image.shape[1], camera.image.shape[0]] for camera in cameras.values()],
            "encoding": "jpeg" if compressed else "rgb8",
            "points": [0 if frame.lidar is None else len(frame.lidar.points) for frame in frames],
        },
    )


def with_points(frame: SensorFrame, count: int, seed: int = 0) -> SensorFrame:
    """The frame with so many points: thinned at random, or some of them twice, 2 cm (1 sigma) apart.

    A denser lidar of the same make sees the same surfaces: cells that are empty stay empty.
    """
    sweep = frame.lidar
    if sweep is None or len(sweep.points) in (0, count):
        return frame
    rng = np.random.default_rng(seed)
    have = len(sweep.points)
    chosen = np.sort(rng.permutation(have)[:count]) if count < have else np.arange(count) % have
    points = sweep.points[chosen]
    points[have:, :3] += rng.normal(0.0, 0.02, (max(0, count - have), 3)).astype(np.float32)
    time = None if sweep.time is None else sweep.time[chosen]
    return SensorFrame(frame.stamp_ns, frame.cameras, type(sweep)(points, sweep.stamp_ns, time), frame.ego)


def with_cameras(frame: SensorFrame, count: int) -> SensorFrame:
    """The frame with its first `count` cameras only."""
    kept = dict(list(frame.cameras.items())[:count])
    return SensorFrame(frame.stamp_ns, kept, frame.lidar, frame.ego)


def _messages(frame: SensorFrame, T_base_lidar: np.ndarray, compressed: bool) -> list[SerialisedMessage]:
    build: Callable[..., Any] = compressed_image_message if compressed else image_message
    kind = "CompressedImage" if compressed else "Image"
    found = []
    for name, camera in frame.cameras.items():
        if camera is not None:
            message = build(camera.image, frame.stamp_ns, name, default_message)
            found.append(SerialisedMessage(name, f"sensor_msgs/msg/{kind}", serialize(message)))
    if frame.lidar is not None:
        points = frame.lidar.points.copy()
        points[:, :3] = transform_points(invert_pose(T_base_lidar), points[:, :3].astype(np.float64))
        message = pointcloud_message(points, frame.stamp_ns, LIDAR, default_message, frame.lidar.time)
        found.append(SerialisedMessage(LIDAR, "sensor_msgs/msg/PointCloud2", serialize(message)))
    return found


def _camera_info(name: str, camera: CameraFrame) -> bytes:
    height, width = camera.image.shape[:2]
    return serialize(camera_info_message(camera.intrinsics, (width, height), 0, name, default_message))
