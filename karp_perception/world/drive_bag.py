"""A synthetic drive as a recording: topics, frames and QoS as a vehicle's own recording has them, and the truth."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from karp_perception.core.geometry import pose_from_rotation
from karp_perception.ros import messages as ros
from karp_perception.sensing.bags import LATCHED, BagWriter, Qos, default_message
from karp_perception.world.synthetic_drive import SyntheticDrive, SyntheticFrame

LIDAR_FRAME, CAMERA_FRAME = "lidar", "camera_front_optical"
_SENSOR = Qos(reliability="best_effort", depth=5)


def write_bag(
    path: Path,
    drive: SyntheticDrive,
    progress: Callable[[int, int], None] | None = None,
    *,
    compressed: bool = True,
    jpeg_quality: int = 92,
) -> None:
    """Writes a rosbag2 directory (MCAP) of a drive; it appears under its name when it is complete.

    Topics: `/camera/front/image_raw/compressed` (or `/camera/front/image_raw` as rgb8), `/camera/front/camera_info`,
    `/lidar/points` (x y z intensity time), `/odometry`, `/tf`, `/truth` (vision_msgs/Detection3DArray in base_link,
    ids of the actors); once and transient_local `/tf_static` and `/route` (in odom).

    Args:
        path: of the directory.
        progress: called with (frames written, frames in all).
        compressed: JPEG images instead of raw ones, about a tenth of the size.
        jpeg_quality: 0..100.
    """
    mounts = [
        ("base_link", LIDAR_FRAME, pose_from_rotation(np.eye(3), drive.lidar.origin)),
        ("base_link", CAMERA_FRAME, drive.camera.T_base_camera),
    ]
    with BagWriter(path) as bag:

        def write(topic: str, stamp_ns: int, message: Any, qos: Qos = Qos()) -> None:
            bag.write(topic, message.__msgtype__, stamp_ns, message, qos=qos)

        start = drive.start_ns
        write("/tf_static", start, ros.transforms_message(mounts, start, default_message), LATCHED)
        bag.write("/route", "nav_msgs/msg/Path", start, ros.route_bytes(drive.route(), start), qos=LATCHED)
        for count, frame in enumerate(drive.frames(), start=1):
            _write_sensors(write, frame, drive.lidar.origin, jpeg_quality if compressed else None)
            truth = ros.detections_bytes(frame.truth, frame.stamp_ns, frame.truth_id)
            bag.write("/truth", "vision_msgs/msg/Detection3DArray", frame.stamp_ns, truth)
            if progress is not None:
                progress(count, len(drive))


def _write_sensors(
    write: Callable[..., None], frame: SyntheticFrame, lidar_origin: np.ndarray, jpeg_quality: int | None
) -> None:
    stamp_ns, sensors = frame.stamp_ns, frame.sensors
    ego, camera, lidar = sensors.ego, sensors.cameras["front"], sensors.lidar
    write("/tf", stamp_ns, ros.transforms_message([("odom", "base_link", ego.T_odom_base)], stamp_ns, default_message))
    write("/odometry", stamp_ns, ros.odometry_message(ego, default_message))
    height, width = camera.image.shape[:2]
    info = ros.camera_info_message(camera.intrinsics, (width, height), stamp_ns, CAMERA_FRAME, default_message)
    write("/camera/front/camera_info", stamp_ns, info, _SENSOR)
    if jpeg_quality is None:
        image = ros.image_message(camera.image, stamp_ns, CAMERA_FRAME, default_message)
        write("/camera/front/image_raw", stamp_ns, image, _SENSOR)
    else:
        image = ros.compressed_image_message(camera.image, stamp_ns, CAMERA_FRAME, default_message, jpeg_quality)
        write("/camera/front/image_raw/compressed", stamp_ns, image, _SENSOR)
    points = lidar.points - np.array([*lidar_origin, 0.0], np.float32)
    cloud = ros.pointcloud_message(points, stamp_ns, LIDAR_FRAME, default_message, lidar.time)
    write("/lidar/points", stamp_ns, cloud, _SENSOR)
